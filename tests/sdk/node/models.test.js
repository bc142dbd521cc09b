// Models, and the headers that every answer has.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { collect, connect } from './client.js';
import { answer } from './echo.js';
import { ARGUMENTS, MODEL, hi } from './served.js';
import { startServer } from '../../harness/server.js';

describe('models', () => {
  test('list and retrieve', async () => {
    const client = connect(await startServer(...ARGUMENTS));
    const models = await collect(client.models.list());
    assert.deepEqual(models.map((model) => [model.id, model.object]), [[MODEL, 'model']]);
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  });

  test('an id with a slash', async () => {
    const client = connect(await startServer('--set', 'models."org/name".backend=echo'));
    assert.ok((await collect(client.models.list())).some((model) => model.id === 'org/name'));
    assert.equal((await client.models.retrieve('org/name')).id, 'org/name');
    const { choices } = await client.chat.completions.create(hi({ model: 'org/name' }));
    assert.equal(choices[0].message.content, answer('hi', 'org/name'));
  });
});

describe('headers', () => {
  let client;
  before(async () => {
    client = connect(await startServer(...ARGUMENTS));
  });

  test('withResponse', async () => {
    const headers = { 'x-request-id': 'outside-in-23' };
    const { data, response, request_id } = await client.chat.completions.create(hi(), { headers }).withResponse();
    assert.equal(request_id, 'outside-in-23');
    assert.equal(data._request_id, 'outside-in-23');
    assert.match(response.headers.get('openai-processing-ms'), /^\d+$/);
    assert.ok(response.headers.get('openai-version'));
  });

  test('request ids differ', async () => {
    const ids = await Promise.all([1, 2].map(async () => (await client.chat.completions.create(hi()))._request_id));
    assert.ok(ids[0] && ids[1] && ids[0] !== ids[1]);
  });
});
