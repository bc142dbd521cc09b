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

/// The number of tokens in `text`.
pub(super) fn count(text: &str) -> usize {
    let mut counter = Counter::default();
    counter.read(text);
    counter.count
}

const BLOCK: usize = 64;

/// Counts the tokens of a text that comes in parts. It is asked of whole conversations, so it cuts nothing: it takes 64
/// bytes at a time, one bit each.
///
/// A byte begins a token if it is white space, the first of a character outside ASCII, any other one behind such a
/// character or the text's first, or if another token began four bytes before, with none of these since. The last of
/// these depends on itself, and is found for all bits at once as the carries of an adder are (Kogge and Stone 1973, "A
/// parallel algorithm for the efficient solution of a general class of recurrence equations").
#[derive(Default)]
pub(super) struct Counter {
    pub(super) count: usize,
    /// Of the last four bytes, the last one highest: those that begin a token, those that may go on with one, and those of
    /// ASCII.
    begin: u64,
    go_on: u64,
    ascii: u64,
}

impl Counter {
    pub(super) fn read(&mut self, text: &str) {
        let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK>();
        for block in blocks {
            self.read_block(block, BLOCK);
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.read_block(&block, rest.len());
        }
    }

    /// The first `length` bytes of `block`, of which there is at least one.
    fn read_block(&mut self, block: &[u8; BLOCK], length: usize) {
        let valid = u64::MAX >> (BLOCK - length);
        let white = bits(block, |byte| matches!(byte, b' ' | b'\n' | b'\t'));
        let (ascii, first) = if block.is_ascii() {
            (u64::MAX, 0)
        } else {
            (bits(block, |byte| byte < 0x80), bits(block, |byte| byte >= 0xc0))
        };
        let behind = |now: u64, before: u64, by: usize| now << by | before >> (4 - by);
        let word = ascii & !white;
        let behind_ascii = behind(ascii, self.ascii, 1);
        let go_on = word & behind_ascii;
        let together = go_on
            & behind(go_on, self.go_on, 1)
            & behind(go_on, self.go_on, 2)
            & behind(go_on, self.go_on, 3);
        let mut begin = white | first | word & !behind_ascii | together & self.begin;
        let mut carry = together;
        for by in [4, 8, 16, 32] {
            begin |= carry & begin << by;
            carry &= carry << by;
        }
        self.count += (begin & valid).count_ones() as usize;
        let last =
            |now: u64, before: u64| ((u128::from(now) << 4 | u128::from(before)) >> length) as u64 & 0xf;
        self.begin = last(begin, self.begin);
        self.go_on = last(go_on, self.go_on);
        self.ascii = last(ascii, self.ascii);
    }
}

/// The bytes for which `is` holds, the first one lowest.
fn bits(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
    let flags = block.map(|byte| u8::from(is(byte)));
    // The product has the lowest bits of a word's eight bytes in its highest byte.
    let gathered = |flags: &[u8; 8]| u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let words = flags.as_chunks::<8>().0.iter().enumerate();
    words.fold(0, |bits, (place, flags)| bits | gathered(flags) << (8 * place))
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
    fn texts_of_several_blocks_are_counted_whole_and_in_parts() {
        let mut state = 1_u32;
        let mut below = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % bound
        };
        for kinds in (2..12).cycle().take(2000) {
            let characters: Vec<char> = (0..below(200))
                .map(|_| {
                    [' ', 'a', 'é', '\t', '日', 'b', 'c', 'd', '😀', 'e', 'f', 'g'][below(kinds) as usize]
                })
                .collect();
            let text: String = characters.iter().collect();
            let mut counter = Counter::default();
            let mut rest = &characters[..];
            while !rest.is_empty() {
                let (part, others) = rest.split_at(rest.len().min(below(90) as usize));
                counter.read(&part.iter().collect::<String>());
                rest = others;
            }
            let expected = cut(&text).len();
            assert_eq!((count(&text), counter.count), (expected, expected), "{text:?}");
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
