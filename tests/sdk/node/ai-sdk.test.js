// The Vercel AI SDK, by both of its providers for servers such as this.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { collect, failure } from './client.js';
import { DIMENSIONS } from './echo.js';
import { ARGUMENTS, MODEL, expected, testOfEcho } from './served.js';
import { startServer } from '../../harness/server.js';

// The older completions API knows no tools, and the SDK would say so at each call.
globalThis.AI_SDK_LOG_WARNINGS = false;

const Report = z.object({ title: z.string(), pages: z.number() });
const EMPTY = { title: '', pages: 0 };

const providers = {
  '@ai-sdk/openai-compatible': (baseURL) => {
    const provider = createOpenAICompatible({
      name: 'sconce',
      baseURL,
      apiKey: 'any-key',
      includeUsage: true,
      supportsStructuredOutputs: true,
    });
    return { chat: provider.chatModel, embedding: provider.embeddingModel, completion: provider.completionModel };
  },
  '@ai-sdk/openai': (baseURL) => {
    const provider = createOpenAI({ baseURL, apiKey: 'any-key' });
    return { chat: provider.chat, embedding: provider.embedding, completion: provider.completion };
  },
};

for (const [name, make] of Object.entries(providers)) {
  describe(name, () => {
    let provider, model;
    before(async () => {
      provider = make(`${await startServer(...ARGUMENTS)}/v1`);
      model = provider.chat(MODEL);
    });

    test('generateText', async () => {
      const { text, finishReason, usage } = await generateText({ model, maxRetries: 0, prompt: 'hi' });
      assert.equal(text, expected('hi').text);
      assert.equal(finishReason, 'stop');
      assert.equal(usage.outputTokens, expected('hi').completion_tokens);
    });

    test('streamText', async () => {
      const result = streamText({ model, maxRetries: 0, prompt: 'hi' });
      const pieces = await collect(result.textStream);
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(''), expected('hi').text);
      assert.equal(await result.finishReason, 'stop');
      assert.equal((await result.usage).outputTokens, expected('hi').completion_tokens);
    });

    testOfEcho('a completion', async () => {
      const { text } = await generateText({ model: provider.completion(MODEL), maxRetries: 0, prompt: 'hi' });
      assert.ok(text.startsWith('Echo from'), text);
    });

    testOfEcho('a structured answer', async () => {
      const output = Output.object({ schema: Report });
      assert.deepEqual((await generateText({ model, maxRetries: 0, prompt: 'hi', output })).output, EMPTY);
      const result = streamText({ model, maxRetries: 0, prompt: 'hi', output });
      await result.consumeStream();
      assert.deepEqual(await result.output, EMPTY);
    });

    for (const stream of [false, true]) {
      testOfEcho(`a tool call, stream: ${stream}`, async () => {
        const calls = [];
        const execute = (input) => calls.push(input) && 'done';
        const tools = { remember: tool({ description: 'Remembers', inputSchema: Report, execute }) };
        // One step: with `required` the echo would call again for ever.
        const request = { model, maxRetries: 0, prompt: 'hi', tools, toolChoice: 'required', stopWhen: stepCountIs(1) };
        const result = stream ? streamText(request) : await generateText(request);
        if (stream) await result.consumeStream();
        assert.equal(await result.finishReason, 'tool-calls');
        assert.deepEqual((await result.toolCalls).map((call) => [call.toolName, call.input]), [['remember', EMPTY]]);
        assert.deepEqual(calls, [EMPTY]);
      });
    }

    testOfEcho('embedMany', async () => {
      const request = { model: provider.embedding(MODEL), maxRetries: 0, values: ['one', 'two'] };
      const { embeddings } = await embedMany(request);
      assert.deepEqual(embeddings.map((vector) => vector.length), [DIMENSIONS, DIMENSIONS]);
      assert.notDeepEqual(embeddings[0], embeddings[1]);
    });

    test('an error is understood', async () => {
      const error = await failure(generateText({ model: provider.chat('nobody'), maxRetries: 0, prompt: 'hi' }));
      assert.ok(APICallError.isInstance(error), error);
      assert.equal(error.statusCode, 404);
      // Its own message comes through only where the error's shape is the documented one.
      assert.ok(error.message.includes(MODEL), error.message);
      assert.equal(error.data.error.code, 'model_not_found');
    });
  });
}
