// Tools, the runner that calls them, and structured answers.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { LengthFinishReasonError } from 'openai/error';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { connect, failure } from './client.js';
import { answer } from './echo.js';
import { hi } from './served.js';
import { startServer } from '../../harness/server.js';

const Weather = z.object({ city: z.string(), unit: z.enum(['celsius', 'fahrenheit']), days: z.number().int().min(2) });
const SMALLEST = { city: '', unit: 'celsius', days: 2 };
const weather = zodFunction({ name: 'weather', parameters: Weather });
const now = { type: 'function', function: { name: 'now' } };
const named = (name) => ({ type: 'function', function: { name } });

describe('tools', () => {
  let completions;
  before(async () => {
    completions = connect(await startServer()).chat.completions;
  });

  for (const tool_choice of [undefined, 'auto', 'none']) {
    test(`no call: ${tool_choice}`, async () => {
      const { choices } = await completions.create(hi({ tools: [weather], tool_choice }));
      assert.equal(choices[0].message.content, answer('hi'));
      assert.equal(choices[0].finish_reason, 'stop');
    });
  }

  for (const [tool_choice, name] of [['required', 'weather'], [named('now'), 'now']]) {
    test(`a call: ${JSON.stringify(tool_choice)}`, async () => {
      const { choices } = await completions.create(hi({ tools: [weather, now], tool_choice }));
      assert.equal(choices[0].finish_reason, 'tool_calls');
      assert.equal(choices[0].message.content, null);
      assert.equal(choices[0].message.tool_calls.length, 1);
      const { function: called } = choices[0].message.tool_calls[0];
      assert.equal(called.name, name);
      assert.deepEqual(JSON.parse(called.arguments), name === 'weather' ? SMALLEST : {});
    });
  }

  for (const stream of [false, true]) {
    test(`runTools, stream: ${stream}`, async () => {
      const calls = [];
      const tool = zodFunction({
        name: 'weather',
        parameters: Weather,
        function: (parameters) => {
          calls.push(parameters);
          return 'rain';
        },
      });
      // A named tool is called once and ends the run; `required` would be called for ever.
      const runner = completions.runTools(hi({ stream, tools: [tool], tool_choice: named('weather') }));
      assert.equal(await runner.finalFunctionToolCallResult(), 'rain');
      assert.deepEqual(calls, [SMALLEST]);
      assert.deepEqual(runner.messages.map((message) => message.role), ['user', 'assistant', 'tool']);
    });
  }

  test('runTools sends a result and gets the last answer', async () => {
    const tool = zodFunction({ name: 'weather', parameters: Weather, function: () => 'rain' });
    const history = [
      ...hi().messages,
      { role: 'assistant', content: null, tool_calls: [{ id: 'call_1', ...named('weather') }] },
      { role: 'tool', tool_call_id: 'call_1', content: 'rain' },
    ];
    history[1].tool_calls[0].function.arguments = '{}';
    const runner = completions.runTools(hi({ messages: history, tools: [tool] }));
    assert.equal(await runner.finalContent(), answer('hi'));
  });

  test('parse with zod', async () => {
    const { choices } = await completions.parse(hi({ response_format: zodResponseFormat(Weather, 'weather') }));
    assert.deepEqual(choices[0].message.parsed, SMALLEST);
  });

  test('parse with a strict tool', async () => {
    const { choices } = await completions.parse(hi({ tools: [weather], tool_choice: 'required' }));
    assert.deepEqual(choices[0].message.tool_calls[0].function.parsed_arguments, SMALLEST);
  });

  test('json_object', async () => {
    const { choices } = await completions.create(hi({ response_format: { type: 'json_object' } }));
    assert.deepEqual(JSON.parse(choices[0].message.content), {});
  });

  test('a cut answer is said to be cut', async () => {
    const format = zodResponseFormat(Weather, 'weather');
    const error = await failure(completions.parse(hi({ response_format: format, max_tokens: 2 })));
    assert.ok(error instanceof LengthFinishReasonError, error);
  });
});
