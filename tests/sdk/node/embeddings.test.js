// Embeddings. openai-node asks for base64 unless told otherwise, and decodes it.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { connect } from './client.js';
import { DIMENSIONS, MODEL, tokens } from './echo.js';
import { startServer } from '../../harness/server.js';

const close = (one, other) => one.length === other.length && one.every((x, i) => Math.abs(x - other[i]) < 1e-6);
const length = (vector) => Math.hypot(...vector);

describe('embeddings', () => {
  let client;
  before(async () => {
    client = connect(await startServer());
  });
  const embed = async (input, parameters) =>
    (await client.embeddings.create({ model: MODEL, input, ...parameters })).data.map((row) => row.embedding);
  const ids = async (prompt) => (await client.post('/tokenize', { body: { model: MODEL, prompt } })).tokens;

  test('a unit vector, deterministic, in both encodings', async () => {
    const [one] = await embed('hello');
    assert.equal(one.length, DIMENSIONS);
    assert.ok(Math.abs(length(one) - 1) < 1e-4);
    assert.ok(close(one, (await embed('hello'))[0]));
    assert.ok(close(one, (await embed('hello', { encoding_format: 'float' }))[0]));
    assert.ok(!close(one, (await embed('goodbye'))[0]));
  });

  test('dimensions', async () => {
    const [vector] = await embed('hello', { dimensions: 12 });
    assert.equal(vector.length, 12);
    assert.ok(Math.abs(length(vector) - 1) < 1e-4);
  });

  test('the four shapes of input', async () => {
    const [[one], [two]] = [await embed('one'), await embed('two')];
    for (const pair of [await embed(['one', 'two']), await embed([await ids('one'), await ids('two')])]) {
      assert.equal(pair.length, 2);
      assert.ok(close(pair[0], one) && close(pair[1], two));
    }
    assert.ok(close((await embed(await ids('one')))[0], one));
  });

  test('usage', async () => {
    const { usage } = await client.embeddings.create({ model: MODEL, input: 'hello world' });
    assert.equal(usage.prompt_tokens, tokens('hello world').length);
  });
});
