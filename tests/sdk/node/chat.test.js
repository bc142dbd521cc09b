// Chat completions, answered as a whole.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { connect } from './client.js';
import { MODEL, answer, hi, tokens, user } from './echo.js';
import { startServer } from '../../harness/server.js';

describe('chat completions', () => {
  let create;
  before(async () => {
    const client = connect(await startServer());
    create = (parameters) => client.chat.completions.create(hi(parameters));
  });

  test('an answer', async () => {
    const completion = await create({ messages: [user('grüße 世界')] });
    assert.equal(completion.object, 'chat.completion');
    assert.equal(completion.model, MODEL);
    assert.equal(completion.choices.length, 1);
    const [choice] = completion.choices;
    assert.equal(choice.message.role, 'assistant');
    assert.equal(choice.message.content, answer('grüße 世界'));
    assert.equal(choice.finish_reason, 'stop');
    assert.equal(completion.usage.prompt_tokens, tokens('user: grüße 世界').length);
    assert.equal(completion.usage.completion_tokens, tokens(answer('grüße 世界')).length);
  });

  test('content parts, the developer role, a tool call with null content, a tool result', async () => {
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
    const completion = await create({ repetition_penalty: 1.1, no_such_field: { a: [1] } });
    assert.equal(completion.choices[0].message.content, answer('hi'));
  });

  test('several choices', async () => {
    const { choices } = await create({ n: 3 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
    assert.deepEqual([...new Set(choices.map((choice) => choice.message.content))], [answer('hi')]);
  });

  for (const limits of [{ max_tokens: 3 }, { max_completion_tokens: 3 }, { max_tokens: 9, max_completion_tokens: 3 }]) {
    test(`a limit: ${JSON.stringify(limits)}`, async () => {
      const { choices, usage } = await create(limits);
      assert.equal(choices[0].message.content, tokens(answer('hi')).slice(0, 3).join(''));
      assert.equal(choices[0].finish_reason, 'length');
      assert.equal(usage.completion_tokens, 3);
    });
  }

  test('a stop string', async () => {
    const { choices } = await create({ messages: [user('one two three')], stop: ['wo th', 'absent'] });
    assert.equal(choices[0].message.content, answer('one t'));
    assert.equal(choices[0].finish_reason, 'stop');
  });

  test('log probabilities', async () => {
    const { choices } = await create({ messages: [user('é')], logprobs: true, top_logprobs: 2 });
    const { content } = choices[0].logprobs;
    assert.deepEqual(content.map((entry) => entry.token), tokens(answer('é')));
    for (const entry of content) {
      assert.equal(entry.logprob, 0);
      assert.deepEqual(entry.bytes, [...Buffer.from(entry.token)]);
      assert.equal(entry.top_logprobs.length, 2);
      assert.equal(entry.top_logprobs[0].token, entry.token);
    }
  });

  test('one seed, one answer', async () => {
    const ask = async () => ({ ...(await create({ seed: 7, temperature: 1, n: 2 })), id: null, created: null });
    assert.deepEqual(await ask(), await ask());
  });
});
