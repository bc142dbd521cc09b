// The client under test. No retries unless a test asks for them: one that needs a second attempt has found something.
import OpenAI from 'openai';

export const connect = (url, options = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any-key', maxRetries: 0, ...options });

/** Everything an async iterable yields. */
export async function collect(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** The error a promise rejects with; failing to reject is a failure. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`this should have been refused: ${JSON.stringify(value)}`);
}
