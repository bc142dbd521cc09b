// The older completions API.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { collect, connect } from './client.js';
import { answer } from './echo.js';
import { ARGUMENTS, MODEL, expectedCompletion, testOfEcho } from './served.js';
import { startServer } from '../../harness/server.js';

describe('completions', () => {
  let client;
  before(async () => {
    client = connect(await startServer(...ARGUMENTS));
  });
  const texts = (completion) => completion.choices.map((choice) => choice.text);

  testOfEcho('prompts, suffix and echo', async () => {
    const request = { model: MODEL, prompt: ['one', 'two'], suffix: '!', echo: true };
    const completion = await client.completions.create(request);
    assert.deepEqual(texts(completion), ['one' + answer('one!'), 'two' + answer('two!')]);
  });

  test('prompts and echo', async () => {
    const completion = await client.completions.create({ model: MODEL, prompt: ['one', 'two'], echo: true });
    assert.deepEqual(texts(completion), ['one', 'two'].map((prompt) => prompt + expectedCompletion(prompt).text));
  });

  test('token ids', async () => {
    const { tokens } = await client.post('/tokenize', { body: { model: MODEL, prompt: 'grüße 世界' } });
    const completion = await client.completions.create({ model: MODEL, prompt: tokens });
    assert.deepEqual(texts(completion), [expectedCompletion('grüße 世界').text]);
  });

  test('a stream', async () => {
    const request = { model: MODEL, prompt: 'Once upon a time', stream: true, stream_options: { include_usage: true } };
    const chunks = await collect(await client.completions.create(request));
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 1);
    assert.ok(chunks.length > 2);
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), expectedCompletion('Once upon a time').text);
    assert.equal(chunks.at(-1).choices[0].finish_reason, expectedCompletion('Once upon a time').finish_reason);
  });
});
