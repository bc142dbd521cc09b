//! Text from bytes that are cut anywhere and may be no UTF-8.

use sconce::text::Detokenizer;

use crate::random::Random;

fn in_pieces(pieces: &[&[u8]]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new();
    let mut texts: Vec<String> = pieces.iter().map(|piece| detokenizer.push(piece)).collect();
    texts.push(detokenizer.finish());
    texts
}

#[test]
fn all_pieces_together_are_what_python_decodes_at_once() {
    let mut random = Random(1);
    let broken = crate::json("tokenizers/broken.json");
    let broken = broken.as_object().unwrap();
    assert!(broken.len() > 500);
    for (hexadecimal, decoded) in broken {
        let bytes = crate::bytes(hexadecimal);
        for longest in [1, 1, 2, 3, 5, 100] {
            let pieces = random.cut(&bytes, longest);
            assert_eq!(in_pieces(&pieces).concat(), decoded.as_str().unwrap(), "{pieces:x?}");
        }
    }
}

#[test]
fn random_bytes_decode_as_a_whole_does() {
    let mut random = Random(2);
    let alphabet: Vec<u8> =
        [&b"a \n"[..], "é€😀".as_bytes(), &[0xc0, 0xe0, 0xed, 0xa0, 0xf0, 0x90, 0xf4, 0xff]].concat();
    for round in 0..20_000 {
        let length = random.below(24);
        let any = round % 4 == 0;
        let bytes: Vec<u8> = (0..length)
            .map(|_| if any { random.below(256) as u8 } else { *random.pick(&alphabet) })
            .collect();
        let pieces = random.cut(&bytes, 4);
        assert_eq!(in_pieces(&pieces).concat(), String::from_utf8_lossy(&bytes), "{pieces:x?}");
    }
}

#[test]
fn a_character_comes_with_its_last_byte_and_what_is_broken_at_once() {
    let pieces: Vec<&[u8]> = vec![b"a\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"b", b"\xff", b"\xc3"];
    assert_eq!(in_pieces(&pieces), ["a", "", "€", "", "\u{fffd}b", "\u{fffd}", "", "\u{fffd}"]);
}

#[test]
fn a_text_of_its_own_loses_one_leading_space() {
    let text = |mut detokenizer: Detokenizer, pieces: &[&str]| -> String {
        pieces.iter().map(|piece| detokenizer.push(piece.as_bytes())).collect()
    };
    assert_eq!(text(Detokenizer::at_start(true), &["", "  a", " b"]), " a b");
    assert_eq!(text(Detokenizer::at_start(true), &["a", " b"]), "a b");
    assert_eq!(text(Detokenizer::at_start(false), &[" a"]), " a");
    assert_eq!(text(Detokenizer::new(), &[" a"]), " a", "an answer goes on where its prompt ended");
}

#[test]
fn the_work_grows_with_the_bytes_alone() {
    let begin = std::time::Instant::now();
    let mut detokenizer = Detokenizer::new();
    let mut characters = 0;
    for _ in 0..1_000_000 {
        characters += detokenizer.push(b"\xe2").chars().count();
    }
    characters += detokenizer.finish().chars().count();
    assert_eq!(characters, 1_000_000);
    assert!(begin.elapsed().as_secs() < 20, "a million broken bytes took {:?}", begin.elapsed());
}
