// A server that takes one request at a time: refusals, retries, and clients that go away.
// No test measures time: the long answer takes minutes to the end, and every test is over long before that.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import OpenAI from 'openai';
import { connect, failure } from './client.js';
import { MODEL } from './echo.js';
import { user } from './served.js';
import { startServer } from '../../harness/server.js';

const LONG = { model: MODEL, messages: [user('word '.repeat(3000))] };
const SHORT = { model: MODEL, messages: [user('hi')], max_tokens: 1 };

describe('a busy server', () => {
  let url, client;
  beforeEach(async () => {
    const settings = ['echo.delay_ms=500', 'limits.max_concurrent_requests=1', 'limits.max_queued_requests=0'];
    url = await startServer(...settings.flatMap((setting) => ['--set', setting]));
    client = connect(url);
  });

  /** A stream that has begun and so holds the server's only place. */
  async function hold(options) {
    const stream = await client.chat.completions.create({ ...LONG, stream: true }, options);
    const pieces = stream[Symbol.asyncIterator]();
    await pieces.next();
    return { stream, pieces };
  }

  async function placeIsFree() {
    const { choices } = await client.chat.completions.create(SHORT, { maxRetries: 10 });
    assert.equal(choices[0].finish_reason, 'length');
  }

  /** A client that keeps what it sent and was told; `act` runs at each refusal. */
  function watched(options, act = () => {}) {
    const attempts = [];
    const fetchAndNote = async (input, init) => {
      const response = await fetch(input, init);
      const retryCount = new Headers(init.headers).get('x-stainless-retry-count');
      attempts.push({ status: response.status, retryCount, retryAfter: response.headers.get('retry-after') });
      if (response.status === 429) act();
      return response;
    };
    return { attempts, client: connect(url, { fetch: fetchAndNote, ...options }) };
  }

  test('full for all attempts', async () => {
    const { stream } = await hold();
    const { attempts, client: eager } = watched({ maxRetries: 2 });
    const error = await failure(eager.chat.completions.create(SHORT));
    stream.controller.abort();
    assert.equal(error.constructor, OpenAI.RateLimitError, error);
    assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
    assert.deepEqual(attempts.map((attempt) => [attempt.status, attempt.retryCount]), [[429, '0'], [429, '1'], [429, '2']]);
    assert.ok(attempts.every((attempt) => Number(attempt.retryAfter) >= 1), JSON.stringify(attempts));
  });

  test('a place that becomes free', async () => {
    const { stream } = await hold();
    const { attempts, client: patient } = watched({ maxRetries: 5 }, () => stream.controller.abort());
    const { choices } = await patient.chat.completions.create(SHORT);
    assert.equal(choices[0].finish_reason, 'length');
    assert.equal(attempts[0].status, 429);
  });

  test('a stream is left', async () => {
    for await (const _ of await client.chat.completions.create({ ...LONG, stream: true })) break;
    await placeIsFree();
  });

  test('a stream is aborted', async () => {
    const abort = new AbortController();
    const { pieces } = await hold({ signal: abort.signal });
    abort.abort();
    // What had arrived may still come; then the stream is over, and no error is made of it.
    while (!(await pieces.next()).done);
    await placeIsFree();
  });

  test('the helper is aborted', async () => {
    const stream = client.chat.completions.stream(LONG);
    stream.once('content', () => stream.abort());
    assert.equal((await failure(stream.done())).constructor, OpenAI.APIUserAbortError);
    await placeIsFree();
  });

  test('a whole answer is aborted', async () => {
    const abort = new AbortController();
    const pending = failure(client.chat.completions.create(LONG, { signal: abort.signal, maxRetries: 10 }));
    let over = false;
    pending.finally(() => (over = true));
    // Once another is refused the long request is at work. Those that are not refused may keep its place from it: it asks
    // again a second later, so they leave the place alone for longer than that.
    const refused = (error) => error instanceof OpenAI.RateLimitError;
    while (!refused(await client.chat.completions.create(SHORT).catch((error) => error))) {
      assert.ok(!over, 'the long request ended by itself');
      await setTimeout(2000);
    }
    abort.abort();
    assert.equal((await pending).constructor, OpenAI.APIUserAbortError);
    await placeIsFree();
  });

  test('a timeout', async () => {
    const error = await failure(client.chat.completions.create(LONG, { timeout: 1000 }));
    assert.equal(error.constructor, OpenAI.APIConnectionTimeoutError);
    await placeIsFree();
  });
});
