//! What GGUF's metadata say about text, in the words of [`crate::text`].
//!
//! Keys are those of ggml's `docs/gguf.md` and of the `gguf` package's `constants.py`.

use super::defaults::Defaults;
use crate::{
    model::{TextMetadata, WrongKind},
    text::tokenizer::{Algorithm, Roles, TokenKind, Vocabulary},
};

/// The file's vocabulary; the lists are taken out of the metadata.
///
/// # Errors
/// When there is none, when it is malformed, or of a kind that is not supported.
pub(super) fn vocabulary(metadata: &mut TextMetadata) -> Result<Vocabulary, String> {
    let malformed = |error: WrongKind| error.to_string();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let kind = metadata.text(&key("model")).map_err(malformed)?;
    let kind = kind.ok_or("it has no tokenizer (tokenizer.ggml.model)")?.to_owned();
    let merges = metadata.take_texts(&key("merges")).map_err(malformed)?;
    let merges =
        || merges.ok_or_else(|| format!("its tokenizer '{kind}' has no merges (tokenizer.ggml.merges)"));
    let mut roles = Roles::default();
    let algorithm = match kind.as_str() {
        "gpt2" => {
            let name = metadata.text(&key("pre")).map_err(malformed)?;
            let name = name.ok_or(
                "its tokenizer is byte-level and does not say how texts are cut (tokenizer.ggml.pre)",
            )?;
            Algorithm::ByteLevel { pre_tokenizer: name.to_owned(), merges: merges()? }
        }
        "llama" => {
            // What Llama's own files mean where they do not say.
            roles = Roles { bos: Some(1), eos: Some(2), unknown: Some(0), ..roles };
            let scores = metadata.take_numbers(&key("scores")).map_err(malformed)?;
            let scores = scores.ok_or("its tokenizer 'llama' has no scores (tokenizer.ggml.scores)")?;
            let space_prefix = metadata.flag(&key("add_space_prefix")).map_err(malformed)?.unwrap_or(true);
            Algorithm::Scores { scores, space_prefix }
        }
        "gemma4" => Algorithm::Characters { merges: merges()? },
        other => {
            let known = match other {
                "t5" => "t5 (unigram)",
                "bert" => "bert (WordPiece)",
                other => other,
            };
            return Err(format!(
                "its tokenizer is of the kind {known}, which is not supported; supported are gpt2 (byte-level BPE), \
                 llama (SentencePiece BPE) and gemma4"
            ));
        }
    };
    let role = |name: &str, default: Option<u32>| -> Result<Option<u32>, String> {
        Ok(metadata.id(&key(&format!("{name}_token_id"))).map_err(malformed)?.or(default))
    };
    roles = Roles {
        bos: role("bos", roles.bos)?,
        eos: role("eos", roles.eos)?,
        eot: role("eot", None)?,
        eom: role("eom", None)?,
        unknown: role("unknown", roles.unknown)?,
        padding: role("padding", None)?,
    };
    let add_bos = metadata.flag(&key("add_bos_token")).map_err(malformed)?;
    let add_eos = metadata.flag(&key("add_eos_token")).map_err(malformed)?;
    let tokens = metadata.take_texts(&key("tokens")).map_err(malformed)?;
    let tokens = tokens.ok_or("it has no tokens (tokenizer.ggml.tokens)")?;
    let kinds = metadata.take_integers(&key("token_type")).map_err(malformed)?.unwrap_or_default();
    let kinds = kinds.into_iter().map(|number| match number {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    });
    let kinds = kinds.collect();
    Ok(Vocabulary { algorithm, tokens, kinds, roles, add_bos, add_eos })
}

/// The file's chat templates by name.
pub(super) fn templates(metadata: &TextMetadata) -> Vec<(String, String)> {
    let named = metadata.texts_under("tokenizer.chat_template");
    named
        .filter_map(|(rest, source)| {
            let name = if rest.is_empty() { "default" } else { rest.strip_prefix('.')? };
            Some((name.to_owned(), source.to_owned()))
        })
        .collect()
}

/// How the file's makers draw tokens. Of its samplers those are read that a request can also ask for.
///
/// # Errors
/// When a value is no number.
pub(super) fn defaults(metadata: &TextMetadata) -> Result<Defaults, String> {
    let number = |name: &str| {
        let key = format!("general.sampling.{name}");
        metadata.number(&key).map_err(|error| error.to_string())
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 and below mean all")]
    let top_k = number("top_k")?.map(|top_k| top_k.max(0.0) as usize);
    Ok(Defaults {
        temperature: number("temp")?,
        top_p: number("top_p")?,
        top_k,
        min_p: number("min_p")?,
        repetition_penalty: number("penalty_repeat")?,
        eos: vec![],
    })
}
