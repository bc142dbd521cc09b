// Streams: the chunks themselves, and the `.stream()` helper that folds them and emits events.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { collect, connect } from './client.js';
import { ARGUMENTS, expected, hi, testOfEcho, user } from './served.js';
import { startServer } from '../../harness/server.js';

const City = z.object({ name: z.string(), inhabitants: z.number() });
const NOBODY = { name: '', inhabitants: 0 };

describe('streams', () => {
  let client;
  before(async () => {
    client = connect(await startServer(...ARGUMENTS));
  });
  const chunksOf = async (parameters) =>
    collect(await client.chat.completions.create(hi({ stream: true, ...parameters })));

  test('for await', async () => {
    const chunks = await chunksOf();
    const deltas = chunks.map((chunk) => chunk.choices[0].delta);
    assert.ok(deltas.filter((delta) => delta.content).length > 1);
    assert.equal(deltas.map((delta) => delta.content ?? '').join(''), expected('hi').text);
    assert.deepEqual([...new Set(chunks.map((chunk) => chunk.id))].length, 1);
    assert.deepEqual(deltas.map((delta) => delta.role).filter(Boolean), ['assistant']);
    assert.deepEqual(chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean), ['stop']);
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    assert.ok(chunks.every((chunk) => !('usage' in chunk)));
  });

  test('usage in one last chunk', async () => {
    const chunks = await chunksOf({ stream_options: { include_usage: true } });
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, expected('hi').completion_tokens);
    assert.ok(chunks.every((chunk) => chunk.usage === null));
  });

  test('.tee() and .toReadableStream()', async () => {
    const [one, two] = (await client.chat.completions.create(hi({ stream: true }))).tee();
    assert.deepEqual(await collect(one), await collect(two));
    const readable = (await client.chat.completions.create(hi({ stream: true }))).toReadableStream();
    const lines = Buffer.concat(await collect(readable)).toString().trim().split('\n');
    assert.ok(lines.length > 2);
    assert.equal(JSON.parse(lines.at(-1)).choices[0].finish_reason, 'stop');
  });

  test('the helper: content', async () => {
    const stream = client.chat.completions.stream(hi());
    const seen = [];
    stream.on('content.delta', ({ delta, snapshot }) => seen.push([delta, snapshot]));
    const done = [];
    stream.on('content.done', ({ content }) => done.push(content));
    let chunks = 0;
    stream.on('chunk', () => (chunks += 1));
    assert.equal(await stream.finalContent(), expected('hi').text);
    assert.ok(chunks > seen.length);
    assert.equal(seen.map(([delta]) => delta).join(''), expected('hi').text);
    assert.equal(seen.at(-1)[1], expected('hi').text);
    assert.deepEqual(done, [expected('hi').text]);
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, 'stop');
    assert.equal(final.choices[0].message.role, 'assistant');
  });

  test('the helper: usage', async () => {
    const stream = client.chat.completions.stream(hi({ stream_options: { include_usage: true } }));
    assert.equal((await stream.totalUsage()).completion_tokens, expected('hi').completion_tokens);
  });

  test('the helper: several choices', async () => {
    const final = await client.chat.completions.stream(hi({ n: 3 })).finalChatCompletion();
    assert.deepEqual(final.choices.map((choice) => choice.message.content), Array(3).fill(expected('hi').text));
  });

  testOfEcho('the helper: structured content', async () => {
    const stream = client.chat.completions.stream(hi({ response_format: zodResponseFormat(City, 'city') }));
    const done = [];
    stream.on('content.done', ({ parsed }) => done.push(parsed));
    const final = await stream.finalChatCompletion();
    assert.deepEqual(done, [NOBODY]);
    assert.deepEqual(final.choices[0].message.parsed, NOBODY);
  });

  testOfEcho('the helper: tool calls', async () => {
    const tools = [zodFunction({ name: 'remember', parameters: City })];
    const stream = client.chat.completions.stream(hi({ tools, tool_choice: 'required' }));
    const deltas = [];
    stream.on('tool_calls.function.arguments.delta', (event) => deltas.push(event));
    const done = [];
    stream.on('tool_calls.function.arguments.done', (event) => done.push(event));
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, 'tool_calls');
    assert.equal(done.length, 1);
    assert.equal(done[0].name, 'remember');
    assert.deepEqual(done[0].parsed_arguments, NOBODY);
    assert.equal(deltas.map((event) => event.arguments_delta).join(''), done[0].arguments);
    assert.deepEqual(final.choices[0].message.tool_calls[0].function.parsed_arguments, NOBODY);
  });

  test('the helper: log probabilities', async () => {
    const request = { model: hi().model, messages: [user('hello')], logprobs: true, top_logprobs: 1 };
    const stream = client.chat.completions.stream(request);
    const done = [];
    stream.on('logprobs.content.done', ({ content }) => done.push(content.map((entry) => entry.token)));
    await stream.done();
    assert.deepEqual(done, [expected('hello').tokens]);
  });
});
