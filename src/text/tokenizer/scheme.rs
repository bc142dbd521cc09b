//! How a token's spelling in the vocabulary stands for bytes.

use serde_json::Value;

/// The spelling of a vocabulary, as the `decoder` of `tokenizer.json` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    /// GPT-2's: each byte is written as one printable character.
    ByteLevel,
    /// SentencePiece's: a mark, mostly `▁`, is a space, and `<0xNN>` may be a byte.
    SentencePiece {
        /// What is replaced in a token's spelling, in this order.
        replacements: Vec<(String, String)>,
        byte_fallback: bool,
        strips_space: bool,
    },
    /// Any other: tokens do not stand for bytes of their own, and only whole texts can be decoded.
    Whole,
}

impl Scheme {
    pub(super) fn of_decoder(decoder: &Value) -> Self {
        let steps = match decoder["decoders"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(decoder),
        };
        if let [step] = steps
            && step["type"] == "ByteLevel"
        {
            return Self::ByteLevel;
        }
        Self::sentence_piece(steps).unwrap_or(Self::Whole)
    }

    fn sentence_piece(steps: &[Value]) -> Option<Self> {
        let mut replacements = Vec::new();
        let (mut byte_fallback, mut strips_space) = (false, false);
        for step in steps {
            match step["type"].as_str()? {
                "Replace" => {
                    let (from, to) = (step["pattern"]["String"].as_str()?, step["content"].as_str()?);
                    replacements.push((from.to_owned(), to.to_owned()));
                }
                "Metaspace" => {
                    replacements.push((step["replacement"].as_str()?.to_owned(), " ".to_owned()));
                    // `add_prefix_space` is how older files say it.
                    let never = step["prepend_scheme"] == "never" || step["add_prefix_space"] == false;
                    strips_space |= !never;
                }
                "ByteFallback" => byte_fallback = true,
                "Fuse" => {}
                "Strip" => {
                    let spaces = step["content"] == " " && step["stop"] == 0;
                    if !spaces || step["start"].as_u64()? > 1 {
                        return None;
                    }
                    strips_space |= step["start"] == 1;
                }
                _ => return None,
            }
        }
        Some(Self::SentencePiece { replacements, byte_fallback, strips_space })
    }

    /// Whether a text's first space is not part of it.
    pub(super) fn strips_space(&self) -> bool {
        matches!(self, Self::SentencePiece { strips_space: true, .. })
    }

    /// The bytes of the token that is spelt `token`.
    pub(super) fn bytes(&self, token: String, added: bool) -> Vec<u8> {
        match self {
            // Added tokens are found in the text as they stand, and so are written as they stand.
            Self::ByteLevel if !added => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                bytes.unwrap_or_else(|| token.into_bytes())
            }
            Self::SentencePiece { byte_fallback: true, .. } if byte_of_fallback(&token).is_some() => {
                byte_of_fallback(&token).into_iter().collect()
            }
            Self::SentencePiece { replacements, .. } => {
                let spell = |token: String, (from, to): &(String, String)| token.replace(from, to);
                replacements.iter().fold(token, spell).into_bytes()
            }
            Self::ByteLevel | Self::Whole => token.into_bytes(),
        }
    }
}

/// The byte that GPT-2's alphabet writes as this character: printable Latin-1 is itself, and the others follow from
/// U+0100 on in their order.
fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(character) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(printable),
        code => (0..=u8::MAX).filter(|byte| !printable(byte)).nth((code - 0x100) as usize),
    }
}

/// The byte that `<0xNN>` stands for.
fn byte_of_fallback(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
