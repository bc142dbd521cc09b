// Reasoning and tool calls of local models, by the Vercel AI SDK, from a model that recites them
// (tests/fixtures/reciting.py).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { before, describe, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, streamText, tool } from 'ai';
import { DEMO } from './served.js';
import { startServer } from '../../harness/server.js';

const reciting = fileURLToPath(new URL('../../fixtures/reciting', import.meta.url));
const recitals = JSON.parse(readFileSync(`${reciting}/recitals.json`));
const tools = {
  get_weather: tool({ inputSchema: jsonSchema({ type: 'object', properties: {} }) }),
  get_time: tool({ inputSchema: jsonSchema({ type: 'object', properties: {} }) }),
};

// It brings its own models: one run is enough.
for (const name of DEMO ? ['harmony', 'think'] : []) {
  describe(name, () => {
    let model;
    before(async () => {
      const url = await startServer('--backend', 'candle', '--model-id', name, '--set', `candle.source=${reciting}/${name}`);
      model = createOpenAICompatible({ name: 'sconce', baseURL: `${url}/v1`, includeUsage: true }).chatModel(name);
    });

    for (const recital of recitals.filter((recital) => recital.model === name)) {
      const request = () => ({
        model,
        maxRetries: 0,
        temperature: 0,
        prompt: recital.text,
        ...(recital.request.tools && { tools }),
      });
      const check = ({ text, reasoningText, toolCalls }) => {
        assert.equal(text, recital.content ?? '');
        assert.equal(reasoningText ?? null, recital.reasoning);
        const called = toolCalls.map(({ toolName, input }) => [toolName, input]);
        assert.deepEqual(called, recital.calls.map(([name, text]) => [name, JSON.parse(text)]));
      };

      test(`generateText: ${recital.name}`, async () => check(await generateText(request())));

      test(`streamText: ${recital.name}`, async () => {
        const { text, reasoningText, toolCalls } = streamText(request());
        check({ text: await text, reasoningText: await reasoningText, toolCalls: await toolCalls });
      });
    }
  });
}
