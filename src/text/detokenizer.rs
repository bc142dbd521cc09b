//! Tokens' bytes to text, as soon as the text is certain.

/// Turns the bytes of one answer's tokens into text.
///
/// All pieces together are what decoding all bytes at once gives: Python's `bytes.decode("utf-8", "replace")`, which
/// puts one U+FFFD for each maximal part of a broken sequence. The bytes may be cut anywhere.
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    /// The beginning of a character whose end has not come: at most three bytes.
    held: Vec<u8>,
    /// The next text is a text's first, and loses one leading space.
    strip_space: bool,
}

impl Detokenizer {
    /// For text that continues other text, such as an answer behind its prompt.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a text of its own. `strip_space` takes off the space that SentencePiece puts before every text.
    #[must_use]
    pub fn at_start(strip_space: bool) -> Self {
        Self { strip_space, ..Self::default() }
    }

    /// Adds the bytes of a token, or of several. Returns the text that they complete, often empty.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.push_to(bytes, &mut text);
        text
    }

    /// As [`Self::push`], appending to `text`.
    pub fn push_to(&mut self, bytes: &[u8], text: &mut String) {
        let mut bytes = bytes;
        if self.strip_space && !bytes.is_empty() {
            self.strip_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        if self.held.is_empty() {
            self.held.extend_from_slice(decode(bytes, text));
            return;
        }
        // What is held is at most a character's beginning, so this copies a token's bytes and never the answer's.
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        self.held.extend_from_slice(decode(&joined, text));
    }

    /// Ends the text: a character that was left unfinished becomes U+FFFD.
    #[must_use]
    pub fn finish(self) -> String {
        if self.held.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }
}

/// Appends what is certain of `bytes` to `text` and returns the rest: a character's beginning, or nothing.
fn decode<'a>(bytes: &'a [u8], text: &mut String) -> &'a [u8] {
    let mut seen = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let broken = chunk.invalid();
        seen += chunk.valid().len() + broken.len();
        if broken.is_empty() {
            continue;
        }
        // Only at the end can more bytes still complete it.
        if seen == bytes.len() && std::str::from_utf8(broken).is_err_and(|error| error.error_len().is_none())
        {
            return broken;
        }
        text.push(char::REPLACEMENT_CHARACTER);
    }
    &[]
}
