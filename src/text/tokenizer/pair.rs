//! Texts as encoders take them: whole, or cut where that is asked for, alone or in pairs.

use tokenizers::{PostProcessor, TruncationParams, utils::truncation::truncate_encodings};

use super::Tokenizer;
use crate::generation::Error;

/// A text, or a pair of texts, with the special tokens that the tokenizer puts around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Which text a token belongs to, as the tokenizer's rules number them.
    pub types: Vec<u32>,
}

impl Tokenizer {
    /// The ids of `text`, or of the pair that it makes with `other`. With `longest` the texts are cut at their ends, the
    /// longer one first, until all has no more tokens than that.
    ///
    /// # Errors
    /// `longest` leaves no room for a text, or the tokenizer fails, which a sound one never does.
    pub fn encode_whole(
        &self,
        text: &str,
        other: Option<&str>,
        longest: Option<usize>,
    ) -> Result<Encoded, Error> {
        let failed = |error| Error::Internal(format!("the tokenizer failed: {error}"));
        let plain = |text| self.inner.encode_fast(text, false).map_err(failed);
        let (mut first, mut second) = (plain(text)?, other.map(plain).transpose()?);
        if let Some(longest) = longest {
            let added = self.added_tokens(other.is_some());
            if longest <= added {
                let message = format!(
                    "{longest} tokens leave no room for a text: the model puts {added} of its own around it."
                );
                return Err(Error::invalid("truncate_prompt_tokens", message));
            }
            let params = TruncationParams { max_length: longest - added, ..TruncationParams::default() };
            (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
        }
        let whole = self.inner.post_process(first, second, true).map_err(failed)?;
        Ok(Encoded { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec() })
    }

    /// Special tokens that are put around a text, or around a pair.
    fn added_tokens(&self, pair: bool) -> usize {
        self.inner.get_post_processor().map_or(0, |rules| rules.added_tokens(pair))
    }
}
