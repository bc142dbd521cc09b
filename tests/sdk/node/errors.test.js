// What a client is told when a request is refused: the error's class, and the four keys of its body.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { collect, connect, failure } from './client.js';
import { ARGUMENTS, BACKEND, MODEL, expected, hi, user } from './served.js';
import { startServer } from '../../harness/server.js';

function check(error, kind, code) {
  assert.equal(error.constructor, kind, error);
  assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
  if (code) assert.equal(error.code, code);
}

describe('refused requests', () => {
  let create;
  before(async () => {
    const client = connect(await startServer(...ARGUMENTS));
    create = (parameters) => client.chat.completions.create(hi(parameters));
  });

  for (const stream of [false, true]) {
    test(`an unknown model, stream: ${stream}`, async () => {
      const error = await failure(create({ model: 'nobody', stream }));
      check(error, OpenAI.NotFoundError, 'model_not_found');
      assert.ok(error.message.includes(MODEL));
    });
  }

  const bad = {
    temperature: 3,
    top_p: -1,
    n: 0,
    messages: [],
    modalities: ['text', 'audio'],
    audio: { voice: 'alloy', format: 'mp3' },
    web_search_options: {},
    moderation: { model: 'omni-moderation-latest' },
  };
  for (const [param, value] of Object.entries(bad)) {
    test(`a bad or unsupported ${param}`, async () => {
      const error = await failure(create({ [param]: value }));
      check(error, OpenAI.BadRequestError);
      assert.equal(error.param, param);
    });
  }

  test('a prompt too long', async () => {
    const client = connect(await startServer(...ARGUMENTS, '--set', `${BACKEND}.context_length=64`));
    const request = hi({ messages: [user('word '.repeat(100))] });
    check(await failure(client.chat.completions.create(request)), OpenAI.BadRequestError, 'context_length_exceeded');
  });
});

test('keys', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sconce-keys-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'keys');
  await writeFile(file, 'alice:key-of-alice\n', { mode: 0o600 });
  const url = await startServer(...ARGUMENTS, '--api-key-file', file);
  const opened = connect(url, { apiKey: 'key-of-alice' });
  assert.equal((await opened.chat.completions.create(hi())).choices[0].message.content, expected('hi').text);
  const shut = connect(url, { apiKey: 'wrong' });
  check(await failure(shut.chat.completions.create(hi())), OpenAI.AuthenticationError, 'invalid_api_key');
  check(await failure(collect(shut.models.list())), OpenAI.AuthenticationError, 'invalid_api_key');
});
