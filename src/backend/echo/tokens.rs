//! Echo's tokenizer: no vocabulary file, every text round-trips, counts near what models count for English.
//!
//! A token is one character outside ASCII, or up to four ASCII characters; a run of ASCII ends before a space, a
//! newline or a tab, so that a token may begin with one: `Echo from m` is `Echo`, ` fro`, `m`, ` m`. Four characters a token is OpenAI's own
//! rule of thumb for English.
//!
//! The id of a single character is its code point. Two to four ASCII characters are packed seven bits each, the first
//! one highest, above a base for each length, so ids are unique and fit in 29 bits.

const LONGEST: usize = 4;
const BASE: [u32; LONGEST + 1] = {
    let single = char::MAX as u32 + 1;
    [0, 0, single, single + (1 << 14), single + (1 << 14) + (1 << 21)]
};
/// One above the largest id.
pub(super) const VOCABULARY: u32 = BASE[LONGEST] + (1 << 28);

/// Cuts `text` into its tokens.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = if first.is_ascii() {
            let bytes = rest.as_bytes().iter().take(LONGEST);
            1 + bytes.skip(1).take_while(|b| b.is_ascii() && !b" \n\t".contains(b)).count()
        } else {
            first.len_utf8()
        };
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        Some(piece)
    })
}

/// The number of tokens in `text`. It is asked of whole conversations, so it looks at bytes and cuts nothing.
pub(super) fn count(text: &str) -> usize {
    let mut count = 0;
    // What the token that is being read can still take.
    let mut room = 0;
    for byte in text.bytes() {
        let begins = match byte {
            b' ' | b'\n' | b'\t' => true,
            0..0x80 => room == 0,
            // A byte that goes on with a character is in the token of the byte before it.
            _ => byte >= 0xc0,
        };
        room = match byte {
            0x80.. => 0,
            _ if begins => LONGEST - 1,
            _ => room - 1,
        };
        count += usize::from(begins);
    }
    count
}

/// The id of one piece, as [`pieces`] cuts them.
pub(super) fn id(piece: &str) -> u32 {
    let mut characters = piece.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) => u32::from(only),
        _ => {
            piece.bytes().fold(0, |packed, byte| packed << 7 | u32::from(byte))
                + BASE[piece.len().min(LONGEST)]
        }
    }
}

/// The text of one token, `None` where no token has this id.
pub(super) fn text(id: u32) -> Option<String> {
    if id < BASE[2] {
        return char::from_u32(id).map(String::from);
    }
    if id >= VOCABULARY {
        return None;
    }
    let length = (2..=LONGEST).rev().find(|length| id >= BASE[*length])?;
    let packed = id - BASE[length];
    Some((0..length).rev().map(|place| char::from((packed >> (7 * place) & 0x7f) as u8)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn pieces_end_before_white_space_and_after_four_characters() {
        assert_eq!(
            cut("Echo from gpt-oss-20b:\n hi"),
            ["Echo", " fro", "m", " gpt", "-oss", "-20b", ":", "\n", " hi"]
        );
        assert_eq!(cut("日本go語"), ["日", "本", "go", "語"]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn as_many_are_counted_as_are_cut() {
        for text in
            ["", "a", "日本go語", " \n\t x", "abcdefghi", "abcd\r\nefgh é😀ab cdefg", "\u{7f}\u{80}\0\0"]
        {
            assert_eq!(count(text), cut(text).len(), "{text:?}");
        }
    }

    #[test]
    fn every_token_has_an_id_of_its_own_and_comes_back() {
        let text = "a aa aaa aaaa \0\0\0\0 é 😀\u{10ffff}~~~~ tail";
        let ids: Vec<u32> = pieces(text).map(id).collect();
        assert_eq!(ids.iter().map(|id| super::text(*id).unwrap()).collect::<String>(), text);
        let mut of_zeros: Vec<u32> = (1..=4).map(|n| id(&"\0".repeat(n))).collect();
        of_zeros.dedup();
        assert_eq!(of_zeros.len(), 4);
        assert_eq!(id("\u{7f}\u{7f}\u{7f}\u{7f}"), VOCABULARY - 1);
    }

    #[test]
    fn ids_outside_the_vocabulary_have_no_text() {
        assert_eq!(text(0xd800), None, "surrogates are not characters");
        assert_eq!(text(VOCABULARY), None);
        assert_eq!(text(u32::MAX), None);
    }
}
