//! The bytes of every token of a vocabulary.

use super::scheme::Scheme;

/// A hundred times what models have; memory is taken for every id below the highest.
const MOST_TOKENS: usize = 1 << 24;

/// For each id its bytes, one behind the other, and whether it is a control token.
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    tokens: Vec<Option<Token>>,
}

#[derive(Clone, Copy)]
struct Token {
    begin: u32,
    end: u32,
    special: bool,
}

impl TokenBytes {
    pub(super) fn new(tokenizer: &tokenizers::Tokenizer, scheme: &Scheme) -> Result<Self, String> {
        let vocabulary = tokenizer.get_vocab(false);
        let added = tokenizer.get_added_tokens_decoder();
        let highest = vocabulary.values().chain(added.keys()).max();
        let length = highest.map_or(0, |id| *id as usize + 1);
        if length > MOST_TOKENS {
            return Err(format!("its highest token id is {}, beyond any model's", length - 1));
        }
        let mut spellings: Vec<Option<String>> = vec![None; length];
        for (token, id) in vocabulary {
            spellings[id as usize] = Some(token);
        }
        // Some added tokens are in the vocabulary too; what they are as added tokens counts.
        for (id, token) in &added {
            spellings[*id as usize] = Some(token.content.clone());
        }
        let mut table = Self { bytes: Vec::new(), tokens: Vec::with_capacity(spellings.len()) };
        for (id, spelling) in (0..).zip(spellings) {
            let added = added.get(&id);
            let special = added.is_some_and(|token| token.special);
            table.push(spelling.map(|spelling| scheme.bytes(spelling, added.is_some())), special);
        }
        Ok(table)
    }

    fn push(&mut self, token: Option<Vec<u8>>, special: bool) {
        let begin = self.bytes.len() as u32;
        let token = token.map(|bytes| {
            self.bytes.extend(bytes);
            Token { begin, end: self.bytes.len() as u32, special }
        });
        self.tokens.push(token);
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let token = (*self.tokens.get(id as usize)?)?;
        self.bytes.get(token.begin as usize..token.end as usize)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.tokens.get(id as usize).copied().flatten().is_some_and(|token| token.special)
    }

    pub(super) fn len(&self) -> u32 {
        self.tokens.len() as u32
    }
}
