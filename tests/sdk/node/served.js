// What is served in this run: `run` runs the suite once on the echo backend and once on the demo model, whose answers are
// those that Hugging Face transformers computed (tools/demo/reference.py).
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as echo from './echo.js';

export const DEMO = process.env.SERVED === 'demo';

export const BACKEND = DEMO ? 'candle' : 'echo';
export const MODEL = DEMO ? 'demo' : echo.MODEL;
// Greedy unless a request says otherwise, and as long as the reference is.
export const ARGUMENTS = DEMO ? ['--demo', '--set', 'temperature=0', '--set', 'max_tokens=64'] : [];

/** A test of what one of the two has alone. */
export const testOfEcho = DEMO ? test.skip : test;
export const testOfDemo = DEMO ? test : test.skip;

const fixture = DEMO && JSON.parse(readFileSync(new URL('../../fixtures/demo.json', import.meta.url)));

/** The answer to a text of the user: `text`, `tokens`, `prompt_tokens`, `completion_tokens`. */
export function expected(text) {
  if (DEMO) return fixture.chats.find(({ messages }) => messages.length === 1 && messages[0].content === text);
  const tokens = echo.tokens(echo.answer(text));
  return {
    text: echo.answer(text),
    tokens,
    prompt_tokens: echo.tokens(`user: ${text}`).length,
    completion_tokens: tokens.length,
  };
}

/** The same of the older API, where the prompt is the whole text. */
export function expectedCompletion(prompt) {
  if (DEMO) return fixture.completions.find((completion) => completion.prompt === prompt);
  return { text: echo.answer(prompt), finish_reason: 'stop' };
}

export const user = (content) => ({ role: 'user', content });

export const hi = (parameters = {}) => ({ model: MODEL, messages: [user('hi')], ...parameters });
