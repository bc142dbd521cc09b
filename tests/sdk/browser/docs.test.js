// The documentation page, used as its readers use it, on a server with a key.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startServer } from '../../harness/server.js';
import { launch, openPage, screenshot } from './browser.js';
import { authorize, operation, tryOut } from './swagger.js';

const KEY = 'key-of-the-reader';
const OPERATIONS = [
  'createChatCompletion',
  'createCompletion',
  'createEmbedding',
  'listModels',
  'retrieveModel',
  'tokenize',
  'detokenize',
];

const hello = (example) => ({ ...example, messages: [{ role: 'user', content: 'hello docs' }] });

describe('/docs', () => {
  let url, browser, folder;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sconce-docs-'));
    const keys = join(folder, 'keys');
    await writeFile(keys, `reader:${KEY}\n`, { mode: 0o600 });
    url = await startServer('--api-key-file', keys);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await rm(folder, { recursive: true });
  });

  /** A test on a page of its own. `expected` are the complaints that belong to what it does. */
  function onPage(name, act, expected = []) {
    test(name, async () => {
      const { page, requests, complaints, close } = await openPage(browser);
      try {
        await page.goto(`${url}/docs`);
        await operation(page, OPERATIONS[0]).waitFor();
        await act(page);
        const elsewhere = requests.filter((asked) => !asked.startsWith(`${url}/`) && !asked.startsWith('data:'));
        assert.deepEqual(elsewhere, [], 'the page asked other hosts');
        assert.ok(requests.includes(`${url}/docs`)); // or nothing was recorded
        assert.equal(complaints.length, expected.length, complaints.join('\n'));
        expected.forEach((pattern, index) => assert.match(complaints[index], pattern));
      } catch (error) {
        await screenshot(page, name);
        throw error;
      } finally {
        await close();
      }
    });
  }

  onPage('lists every operation', async (page) => {
    for (const id of OPERATIONS) assert.equal(await operation(page, id).count(), 1, id);
  });

  onPage('answers with a key', async (page) => {
    await authorize(page, KEY);
    const { status, body } = await tryOut(page, 'createChatCompletion', (example) => ({
      ...hello(example),
      stream: false,
    }));
    assert.equal(status, '200');
    const completion = JSON.parse(body);
    assert.equal(completion.object, 'chat.completion');
    assert.match(completion.choices[0].message.content, /^Echo from .*: hello docs$/);
  });

  onPage('shows the events of a stream', async (page) => {
    await authorize(page, KEY);
    const { status, body } = await tryOut(page, 'createChatCompletion', (example) => ({
      ...hello(example),
      stream: true,
    }));
    assert.equal(status, '200');
    const events = body.split('\n').filter((line) => line.startsWith('data: '));
    assert.equal(events.pop(), 'data: [DONE]');
    const chunks = events.map((event) => JSON.parse(event.slice('data: '.length)));
    assert.ok(chunks.length > 2);
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    assert.match(text, /^Echo from .*: hello docs$/);
  });

  onPage('sends the example body as it stands', async (page) => {
    await authorize(page, KEY);
    const { status } = await tryOut(page, 'createChatCompletion', (example) => example);
    assert.equal(status, '200');
  });

  onPage('lists the models', async (page) => {
    await authorize(page, KEY);
    const { status, body } = await tryOut(page, 'listModels');
    assert.equal(status, '200');
    assert.equal(JSON.parse(body).object, 'list');
  });

  const UNAUTHORIZED = [/401/];
  const refused = async (page) => {
    const { status, body } = await tryOut(page, 'createChatCompletion', hello);
    assert.equal(status, '401');
    assert.equal(JSON.parse(body).error.code, 'invalid_api_key');
  };

  onPage('refuses a wrong key', async (page) => {
    await authorize(page, 'wrong');
    await refused(page);
  }, UNAUTHORIZED);

  onPage('refuses a missing key', refused, UNAUTHORIZED);
});
