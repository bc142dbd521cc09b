// What the echo backend answers, written a second time from its documentation, not from its source.
export const MODEL = 'gpt-oss-20b';
export const DIMENSIONS = 256;

export const answer = (text, model = MODEL) => `Echo from ${model}: ${text}`;

/** One non-ASCII character, or up to four ASCII characters that end before a space, a newline or a tab. */
export const tokens = (text) => text.match(/[^\x00-\x7f]|[\x00-\x7f][^\x80-\u{10ffff} \n\t]{0,3}/gu) ?? [];
