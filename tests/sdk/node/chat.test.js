// Chat completions, answered as a whole.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { connect, failure } from './client.js';
import { answer } from './echo.js';
import { ARGUMENTS, DEMO, MODEL, expected, hi, testOfDemo, testOfEcho, user } from './served.js';
import { startServer } from '../../harness/server.js';

describe('chat completions', () => {
  let create;
  before(async () => {
    const client = connect(await startServer(...ARGUMENTS));
    create = (parameters) => client.chat.completions.create(hi(parameters));
  });

  test('an answer', async () => {
    const completion = await create({ messages: [user('grüße 世界')] });
    assert.equal(completion.object, 'chat.completion');
    assert.equal(completion.model, MODEL);
    assert.equal(completion.choices.length, 1);
    const [choice] = completion.choices;
    assert.equal(choice.message.role, 'assistant');
    assert.equal(choice.message.content, expected('grüße 世界').text);
    assert.equal(choice.finish_reason, 'stop');
    assert.equal(completion.usage.prompt_tokens, expected('grüße 世界').prompt_tokens);
    assert.equal(completion.usage.completion_tokens, expected('grüße 世界').completion_tokens);
  });

  testOfEcho('content parts, the developer role, a tool call with null content, a tool result', async () => {
    const call = { id: 'call_1', type: 'function', function: { name: 'now', arguments: '{}' } };
    const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } };
    const messages = [
      { role: 'developer', content: [{ type: 'text', text: 'Be brief.' }] },
      user([{ type: 'text', text: 'see ' }, image]),
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: 'call_1', content: 'noon' },
    ];
    const completion = await create({ messages });
    assert.equal(completion.choices[0].message.content, answer('see [image_url]'));
  });

  test('unknown fields are accepted', async () => {
    const completion = await create({ repetition_penalty: 1, no_such_field: { a: [1] } });
    assert.equal(completion.choices[0].message.content, expected('hi').text);
  });

  test('several choices', async () => {
    const { choices } = await create({ n: 3 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
    assert.deepEqual([...new Set(choices.map((choice) => choice.message.content))], [expected('hi').text]);
  });

  for (const limits of [{ max_tokens: 3 }, { max_completion_tokens: 3 }, { max_tokens: 9, max_completion_tokens: 3 }]) {
    test(`a limit: ${JSON.stringify(limits)}`, async () => {
      const { choices, usage } = await create(limits);
      assert.equal(choices[0].message.content, expected('hi').tokens.slice(0, 3).join(''));
      assert.equal(choices[0].finish_reason, 'length');
      assert.equal(usage.completion_tokens, 3);
    });
  }

  test('a stop string', async () => {
    const whole = expected('hi').text;
    for (const start of [1, 2, 3, 4, 5]) {
      const stop = whole.slice(start, start + 5);
      const { choices } = await create({ stop: [stop, 'absent'] });
      assert.equal(choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
      assert.equal(choices[0].finish_reason, 'stop');
    }
  });

  test('log probabilities', async () => {
    const { choices } = await create({ messages: [user('hello')], logprobs: true, top_logprobs: 2 });
    const { content } = choices[0].logprobs;
    assert.deepEqual(content.map((entry) => entry.token), expected('hello').tokens);
    for (const entry of content) {
      assert.ok(DEMO ? entry.logprob < 0 : entry.logprob === 0, entry.logprob);
      assert.deepEqual(entry.bytes, [...Buffer.from(entry.token)]);
      assert.equal(entry.top_logprobs.length, 2);
      assert.equal(entry.top_logprobs[0].token, entry.token);
    }
  });

  test('one seed, one answer', async () => {
    const ask = async () => ({ ...(await create({ seed: 7, temperature: 1, n: 2 })), id: null, created: null });
    assert.deepEqual(await ask(), await ask());
  });

  testOfDemo('what it cannot do is refused', async () => {
    const tools = [{ type: 'function', function: { name: 'now' } }];
    for (const [param, value] of Object.entries({ tools, response_format: { type: 'json_object' } })) {
      for (const stream of [false, true]) {
        const error = await failure(create({ [param]: value, stream }));
        assert.deepEqual([error.status, error.param, error.code], [400, param, 'unsupported_value']);
      }
    }
  });
});
