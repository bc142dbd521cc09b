//! A tokenizer from a bare vocabulary, such as a GGUF file holds in its metadata instead of a `tokenizer.json`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken,
    models::bpe::{BPE, Vocab},
};

use super::{Tokenizer, bytes::TokenBytes, pre_tokenizers::PreTokenizer, scheme::Scheme};

/// SentencePiece's mark for a space.
const SPACE: &str = "▁";

/// Longer than any token, and short enough that all ways to cut it are soon tried.
const LONGEST_TOKEN: usize = 4096;

/// Spellings of tokens that end a turn. Older files name the end of the text alone; these are told by the token's text,
/// as llama.cpp does (`llama-vocab.cpp`, "end-of-generation").
const TURN_ENDS: [&str; 13] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "[EOT]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
];

/// How characters or bytes become tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Algorithm {
    /// Merges over bytes in GPT-2's alphabet, within the pieces that the named pre-tokenizer cuts. A merge is its two
    /// halves with a space between, the strongest first.
    ByteLevel { pre_tokenizer: String, merges: Vec<String> },
    /// SentencePiece's BPE: of all neighbours those are joined first whose token has the highest score. Characters
    /// without a token become bytes.
    Scores { scores: Vec<f32>, space_prefix: bool },
    /// Merges over characters, a space written as `▁`; characters without a token become bytes.
    Characters { merges: Vec<String> },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Normal,
    Unknown,
    /// Found in a text as it is spelt; not part of an answer's text.
    Control,
    /// Found in a text as it is spelt, and text itself.
    UserDefined,
    Unused,
    /// Spelt `<0xNN>`.
    Byte,
}

/// Tokens with a role, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// End of turn.
    pub eot: Option<u32>,
    /// End of message: a tool is called, and the turn goes on.
    pub eom: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
}

/// A vocabulary and all that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    pub algorithm: Algorithm,
    /// Spellings by id. An empty one is no token.
    pub tokens: Vec<String>,
    /// One for each token; none at all: every token is normal.
    pub kinds: Vec<TokenKind>,
    pub roles: Roles,
    /// Whether BOS is put before a text. Unset: as the algorithm's models have it.
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
}

impl Vocabulary {
    /// Ids of the tokens that end an answer, lowest first.
    #[must_use]
    pub fn ends(&self) -> Vec<u32> {
        let Roles { eos, eot, eom, .. } = self.roles;
        let mut ends: Vec<u32> = [eos, eot, eom].into_iter().flatten().collect();
        let harmony = self.tokens.iter().any(|token| token == "<|return|>");
        for (id, token) in (0..).zip(&self.tokens) {
            // In the format that has `<|return|>`, `<|end|>` only ends one of an answer's messages.
            let ends_turn = TURN_ENDS.contains(&token.as_str()) && !(harmony && token == "<|end|>");
            if ends_turn && self.kind(id) == TokenKind::Control {
                ends.push(id);
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// The variables that a chat template may write, such as `bos_token`.
    #[must_use]
    pub fn special_tokens(&self) -> Map<String, Value> {
        let Roles { bos, eos, unknown, padding, .. } = self.roles;
        [("bos_token", bos), ("eos_token", eos), ("unk_token", unknown), ("pad_token", padding)]
            .into_iter()
            .filter_map(|(name, id)| Some((name.to_owned(), self.tokens.get(id? as usize)?.as_str().into())))
            .collect()
    }

    fn kind(&self, id: u32) -> TokenKind {
        let Roles { bos, eos, eot, eom, .. } = self.roles;
        if [bos, eos, eot, eom].contains(&Some(id)) {
            // Some files call them normal.
            return TokenKind::Control;
        }
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Normal)
    }

    fn check(&self) -> Result<(), String> {
        let count = self.tokens.len();
        // Nothing is ever padded here, and some files name a padding token that they do not have.
        let Roles { bos, eos, eot, eom, unknown, padding: _ } = self.roles;
        for (name, id) in [("bos", bos), ("eos", eos), ("eot", eot), ("eom", eom), ("unknown", unknown)] {
            if let Some(id) = id.filter(|id| *id as usize >= count) {
                return Err(format!("its {name} token is {id}, but it has {count} tokens"));
            }
        }
        let scores = match &self.algorithm {
            Algorithm::Scores { scores, .. } => Some(scores.len()),
            Algorithm::ByteLevel { .. } | Algorithm::Characters { .. } => None,
        };
        let kinds = Some(self.kinds.len()).filter(|kinds| *kinds > 0);
        for (name, length) in [("token types", kinds), ("scores", scores)] {
            if let Some(length) = length.filter(|length| *length != count) {
                return Err(format!("it has {length} {name} for {count} tokens"));
            }
        }
        match self.tokens.iter().position(|token| token.len() > LONGEST_TOKEN) {
            Some(id) => Err(format!(
                "its token {id} has {} bytes; {LONGEST_TOKEN} are the limit",
                self.tokens[id].len()
            )),
            None => Ok(()),
        }
    }
}

impl Tokenizer {
    /// The tokenizer of a vocabulary.
    ///
    /// # Errors
    /// What is wrong with the vocabulary, or not known.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self, String> {
        vocabulary.check()?;
        let mut ids = HashMap::with_capacity(vocabulary.tokens.len());
        for (id, token) in (0u32..).zip(&vocabulary.tokens).filter(|(_, token)| !token.is_empty()) {
            if let Some(first) = ids.insert(token.as_str(), id) {
                return Err(format!("its tokens {first} and {id} are both '{token}'"));
            }
        }
        let mut add_bos = matches!(vocabulary.algorithm, Algorithm::Scores { .. });
        let mut whole_pieces = false;
        let mut pre_tokenizer = None;
        let (merges, space_prefix) = match &vocabulary.algorithm {
            Algorithm::ByteLevel { pre_tokenizer: name, merges } => {
                let named = PreTokenizer::named(name)?;
                (add_bos, whole_pieces) = (named.add_bos, named.whole_pieces);
                pre_tokenizer = Some(named.description());
                (halves(merges, &ids)?, false)
            }
            Algorithm::Scores { scores, space_prefix } => {
                (merges_of_scores(vocabulary, scores, &ids)?, *space_prefix)
            }
            Algorithm::Characters { merges } => (halves(merges, &ids)?, false),
        };
        let byte_level = pre_tokenizer.is_some();
        let scheme = if byte_level {
            Scheme::ByteLevel
        } else {
            Scheme::SentencePiece {
                replacements: vec![(SPACE.to_owned(), " ".to_owned())],
                byte_fallback: true,
                strips_space: space_prefix,
            }
        };
        let ids: Vocab = ids.into_iter().map(|(token, id)| (token.to_owned(), id)).collect();
        let mut model = BPE::builder()
            .vocab_and_merges(ids, merges)
            .ignore_merges(whole_pieces)
            .byte_fallback(!byte_level)
            .fuse_unk(!byte_level);
        if let Some(unknown) = vocabulary.roles.unknown {
            model = model.unk_token(vocabulary.tokens[unknown as usize].clone());
        }
        let error = |error: tokenizers::Error| error.to_string();
        let json = |error: serde_json::Error| error.to_string();
        let mut inner = tokenizers::Tokenizer::new(model.build().map_err(error)?);
        if !byte_level {
            let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
            let steps = if space_prefix {
                json!([{ "type": "Prepend", "prepend": SPACE }, spaces])
            } else {
                json!([spaces])
            };
            let normalizer = json!({ "type": "Sequence", "normalizers": steps });
            let normalizer: tokenizers::NormalizerWrapper =
                serde_json::from_value(normalizer).map_err(json)?;
            inner.with_normalizer(Some(normalizer)).map_err(error)?;
        }
        if let Some(description) = pre_tokenizer {
            let splitter: tokenizers::PreTokenizerWrapper =
                serde_json::from_value(description).map_err(json)?;
            inner.with_pre_tokenizer(Some(splitter));
        }
        let added = (0u32..).zip(&vocabulary.tokens).filter_map(|(id, token)| {
            let special = match vocabulary.kind(id) {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => false,
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
            };
            // SentencePiece finds them when spaces are marks already, so that a mark in the text is one too. Where a
            // space comes before each text, the library would put it before the token as well.
            let normalized = !special && !byte_level && !space_prefix;
            Some(AddedToken::from(token.as_str(), special).normalized(normalized))
        });
        inner.add_tokens(added).map_err(error)?;
        let bos = vocabulary.roles.bos.filter(|_| vocabulary.add_bos.unwrap_or(add_bos));
        let eos = vocabulary.roles.eos.filter(|_| vocabulary.add_eos.unwrap_or(false));
        if bos.is_some() || eos.is_some() {
            let around: tokenizers::PostProcessorWrapper =
                serde_json::from_value(around(vocabulary, bos, eos)).map_err(json)?;
            inner.with_post_processor(Some(around));
        }
        let table = TokenBytes::new(&inner, &scheme)?;
        Ok(Self { inner, table, scheme })
    }
}

/// A text with BOS before and EOS behind it, as `tokenizer.json` writes it.
fn around(vocabulary: &Vocabulary, bos: Option<u32>, eos: Option<u32>) -> Value {
    let spelt = |id: u32| vocabulary.tokens[id as usize].as_str();
    let token = |id| json!({ "SpecialToken": { "id": spelt(id), "type_id": 0 } });
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let single: Vec<Value> = bos.map(token).into_iter().chain([text("A")]).chain(eos.map(token)).collect();
    let used: Map<String, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|id| (spelt(id).to_owned(), json!({ "id": spelt(id), "ids": [id], "tokens": [spelt(id)] })))
        .collect();
    json!({
        "type": "TemplateProcessing", "single": single, "pair": [text("A"), text("B")], "special_tokens": used,
    })
}

/// The two halves of each merge.
fn halves(merges: &[String], ids: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, String> {
    let known = |token: &str| ids.contains_key(token);
    merges
        .iter()
        .enumerate()
        .map(|(number, merge)| {
            // A half may begin with a space, but is never nothing.
            let begin = merge.chars().next().map_or(0, char::len_utf8);
            let middle = merge[begin..].find(' ').map(|place| begin + place);
            let halves = middle.map(|middle| (&merge[..middle], &merge[middle + 1..]));
            // The library would panic on what is no token.
            match halves {
                Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => {
                    Ok((left.to_owned(), right.to_owned()))
                }
                _ => Err(format!("its merge {number}, '{merge}', is not of two tokens that make a third")),
            }
        })
        .collect()
}

/// The merges that scores stand for, as transformers makes them (`generate_merges`): all ways to put a token together
/// from two others, those of the highest score first, among equals those with the longer first half.
fn merges_of_scores(
    vocabulary: &Vocabulary,
    scores: &[f32],
    ids: &HashMap<&str, u32>,
) -> Result<Vec<(String, String)>, String> {
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(format!("the score of its token {id} is no number"));
    }
    // Control tokens and bytes are not made of characters, and user-defined ones are found before.
    let normal = |id: u32| vocabulary.kind(id) == TokenKind::Normal;
    let half = |token: &str| ids.get(token).copied().filter(|id| normal(*id));
    let mut merges = Vec::new();
    for ((id, token), score) in (0u32..).zip(&vocabulary.tokens).zip(scores) {
        if !normal(id) {
            continue;
        }
        let first = merges.len();
        let characters = token.chars().count();
        for (left_length, (middle, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(middle);
            if let (Some(left), Some(right)) = (half(left), half(right)) {
                // Adding zero makes one zero of the two.
                merges.push((score + 0.0, left_length, characters - left_length, left, right));
            }
        }
        merges[first..].sort_unstable_by_key(|merge| (merge.3, merge.4));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
    let spelt = |id: u32| vocabulary.tokens[id as usize].clone();
    Ok(merges.into_iter().map(|(_, _, _, left, right)| (spelt(left), spelt(right))).collect())
}
