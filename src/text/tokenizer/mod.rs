//! Text to token ids, and token ids to the bytes that they stand for.

mod bytes;
mod pair;
mod pre_tokenizers;
mod scheme;
mod vocabulary;

use std::path::Path;

use serde_json::Value;

pub use self::pair::Encoded;
pub use self::vocabulary::{Algorithm, Roles, TokenKind, Vocabulary};
use self::{bytes::TokenBytes, scheme::Scheme};
use super::{Detokenizer, LoadError};
use crate::generation::Error;

/// A model's tokenizer, as its `tokenizer.json` or its bare vocabulary describes it. Cheap to share, never changed after loading.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    table: TokenBytes,
    scheme: Scheme,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be read or is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, LoadError> {
        let json = std::fs::read(path).map_err(|error| LoadError::new(path, error))?;
        Self::from_json(&json).map_err(|message| LoadError::new(path, message))
    }

    /// The tokenizer that the contents of a `tokenizer.json` describe.
    ///
    /// # Errors
    /// What is wrong with the contents.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        // First, because the library panics where a file breaks off inside its decoder.
        let description: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        // Both are for batches of training examples. A prompt is never cut silently nor filled up.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        let scheme = Scheme::of_decoder(&description["decoder"]);
        let table = TokenBytes::new(&inner, &scheme)?;
        Ok(Self { inner, table, scheme })
    }

    /// The ids of `text`. With `special_tokens` the tokenizer adds what it puts around a text of its own, such as BOS;
    /// a rendered chat template has them already and must be encoded without.
    ///
    /// # Errors
    /// The tokenizer fails on this text, which a sound tokenizer never does.
    pub fn encode(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, special_tokens);
        let encoding = encoding.map_err(|error| Error::Internal(format!("the tokenizer failed: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids` as a text of its own; special tokens appear as they are written, or not at all.
    ///
    /// # Errors
    /// An id that is not in the vocabulary, named by its place.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        if let Some(place) = ids.iter().position(|id| self.token_bytes(*id).is_none()) {
            let message =
                format!("{} is not a token id: this model's are below {}.", ids[place], self.vocabulary());
            return Err(Error::invalid(format!("[{place}]"), message));
        }
        if self.scheme == Scheme::Whole {
            let text = self.inner.decode(ids, skip_special);
            return text.map_err(|error| Error::Internal(format!("the tokenizer failed: {error}")));
        }
        let mut detokenizer = self.detokenizer_at_start();
        let mut text = String::new();
        for id in ids.iter().filter(|id| !(skip_special && self.is_special(**id))) {
            detokenizer.push_to(self.token_bytes(*id).unwrap_or_default(), &mut text);
        }
        text.push_str(&detokenizer.finish());
        Ok(text)
    }

    /// For text that begins here. An answer behind a prompt takes [`Detokenizer::new`]: it begins in the middle.
    #[must_use]
    pub fn detokenizer_at_start(&self) -> Detokenizer {
        Detokenizer::at_start(self.scheme.strips_space())
    }

    /// The bytes that a token stands for: often not a whole character. `None` where no token has this id.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.get(id)
    }

    /// Whether this is a control token, which is not part of an answer's text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.table.is_special(id)
    }

    /// The ids of all control tokens, lowest first.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        (0..self.vocabulary()).filter(|id| self.is_special(*id))
    }

    /// The algorithm's name.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        use tokenizers::ModelWrapper as M;
        match (self.inner.get_model(), &self.scheme) {
            (M::BPE(_), Scheme::ByteLevel) => "byte-level BPE",
            (M::BPE(_), Scheme::SentencePiece { .. }) => "SentencePiece BPE",
            (M::BPE(_), Scheme::Whole) => "BPE",
            (M::Unigram(_), _) => "unigram",
            (M::WordPiece(_), _) => "WordPiece",
            (M::WordLevel(_), _) => "word level",
        }
    }

    /// The id of a token by the tokenizer's own spelling, such as `<|im_end|>`.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One above the highest id. A model may have more logits than this, to fill up its last rows.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.table.len()
    }
}
