//! Tokenizers from bare vocabularies: what they refuse. `tests/gguf.rs` holds what they give against others.

use sconce::text::{
    Tokenizer,
    tokenizer::{Algorithm, Roles, TokenKind, Vocabulary},
};

fn scores() -> Vocabulary {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "▁", "<0x41>"];
    let kinds = [
        TokenKind::Unknown,
        TokenKind::Control,
        TokenKind::Normal,
        TokenKind::Normal,
        TokenKind::Normal,
        TokenKind::Normal,
        TokenKind::Normal,
        TokenKind::Byte,
    ];
    Vocabulary {
        algorithm: Algorithm::Scores {
            scores: (0u8..8).map(|n| -f32::from(n)).collect(),
            space_prefix: true,
        },
        tokens: tokens.map(str::to_owned).to_vec(),
        kinds: kinds.to_vec(),
        roles: Roles { bos: Some(1), eos: Some(2), unknown: Some(0), ..Roles::default() },
        add_bos: None,
        add_eos: None,
    }
}

fn merges(merges: &[&str]) -> Vocabulary {
    let merges = merges.iter().map(|merge| (*merge).to_owned()).collect();
    Vocabulary { algorithm: Algorithm::Characters { merges }, ..scores() }
}

fn refusal(vocabulary: &Vocabulary) -> String {
    Tokenizer::from_vocabulary(vocabulary).err().unwrap()
}

#[test]
fn a_small_vocabulary_speaks() {
    let tokenizer = Tokenizer::from_vocabulary(&scores()).unwrap();
    // The end is a control token by its role, though the file calls it normal; A has a byte and no token.
    assert_eq!(tokenizer.encode("abA</s>", true).unwrap(), [1, 6, 5, 7, 2]);
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(3));
    assert_eq!(tokenizer.decode(&[6, 5, 7], false).unwrap(), "abA");
    let around = Vocabulary { add_bos: Some(false), add_eos: Some(true), ..scores() };
    assert_eq!(Tokenizer::from_vocabulary(&around).unwrap().encode("ab", true).unwrap(), [6, 5, 2]);
    let merged = Tokenizer::from_vocabulary(&merges(&["a b"])).unwrap();
    assert_eq!(merged.encode("ab a", true).unwrap(), [5, 6, 3]);
}

#[test]
fn answers_end_at_the_tokens_that_have_the_role_or_are_known_to() {
    let mut vocabulary = scores();
    assert_eq!(vocabulary.ends(), [2]);
    for token in ["<|im_end|>", "<|end|>", "<|return|>"] {
        vocabulary.tokens.push(token.to_owned());
        vocabulary.kinds.push(TokenKind::Control);
    }
    vocabulary.tokens.push("<|eot_id|>".to_owned());
    vocabulary.kinds.push(TokenKind::Normal);
    vocabulary.roles.eom = Some(3);
    // Where there is `<|return|>`, `<|end|>` goes on; a normal token is text.
    assert_eq!(vocabulary.ends(), [2, 3, 8, 10]);
}

#[test]
fn malformed_vocabularies_are_refused_in_words() {
    let mut twice = scores();
    twice.tokens[4] = "a".to_owned();
    let mut far = scores();
    far.roles.eos = Some(8);
    let mut short = scores();
    short.kinds.pop();
    let mut long = scores();
    long.tokens[3] = "a".repeat(5000);
    let mut nan = scores();
    nan.algorithm = Algorithm::Scores { scores: vec![f32::NAN; 8], space_prefix: true };
    let mut few = scores();
    few.algorithm = Algorithm::Scores { scores: vec![0.0; 7], space_prefix: true };
    let mut cut = scores();
    cut.algorithm = Algorithm::ByteLevel { pre_tokenizer: "no-such".to_owned(), merges: vec![] };
    for (vocabulary, told) in [
        (twice, "tokens 3 and 4 are both 'a'"),
        (far, "eos token is 8, but it has 8 tokens"),
        (short, "7 token types for 8 tokens"),
        (few, "7 scores for 8 tokens"),
        (long, "token 3 has 5000 bytes; 4096 are the limit"),
        (nan, "the score of its token 0 is no number"),
        (cut, "'no-such' is not known"),
        (merges(&["a b", "a"]), "merge 1, 'a', is not"),
        (merges(&["a c"]), "merge 0, 'a c', is not"),
        (merges(&["b a"]), "merge 0, 'b a', is not"),
        (merges(&["", "a b"]), "merge 0, '', is not"),
    ] {
        let error = refusal(&vocabulary);
        assert!(error.contains(told), "{error}");
    }
}
