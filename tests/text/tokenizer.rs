//! Tokenizers against the Python package: `tests/fixtures/train_tokenizers.py` wrote what it gives.

use sconce::{
    generation::Error,
    text::{Detokenizer, Tokenizer},
};
use serde_json::Value;

use crate::{fixture, json, random::Random};

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_file(&fixture(&format!("tokenizers/{name}.json"))).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Everything that the fixture of this name tells.
fn check(name: &str) {
    let tokenizer = load(name);
    let expected = json(&format!("tokenizers/{name}.expected.json"));
    let size = expected["size"].as_u64().unwrap() as u32;
    assert_eq!(tokenizer.vocabulary(), size);
    assert_eq!(tokenizer.special_ids().collect::<Vec<_>>(), ids(&expected["special"]));
    for (id, bytes) in (0..).zip(expected["bytes"].as_array().unwrap()) {
        assert_eq!(tokenizer.token_bytes(id).unwrap(), crate::bytes(bytes.as_str().unwrap()), "{id}");
    }
    assert_eq!(tokenizer.token_bytes(size), None);
    for case in expected["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&case["with_special"]), "{text:?}");
    }
    let cases = ["texts", "sequences"].map(|key| expected[key].as_array().unwrap()).into_iter().flatten();
    for case in cases {
        let ids = ids(&case["ids"]);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"], "{ids:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["skipped"], "{ids:?}");
        streams_as_it_decodes(&tokenizer, &ids);
    }
}

/// An answer's text, token by token behind a prompt, is what the whole decodes to without the prompt.
fn streams_as_it_decodes(tokenizer: &Tokenizer, ids: &[u32]) {
    let prompt = Random(ids.len() as u64).below(ids.len() + 1);
    let bytes = |ids: &[u32]| -> Vec<u8> {
        ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).copied().collect()
    };
    let mut detokenizer = Detokenizer::new();
    let mut text = String::new();
    for id in &ids[prompt..] {
        detokenizer.push_to(tokenizer.token_bytes(*id).unwrap(), &mut text);
    }
    text.push_str(&detokenizer.finish());
    assert_eq!(text, String::from_utf8_lossy(&bytes(&ids[prompt..])));
}

#[test]
fn byte_level() {
    check("byte_level");
}

#[test]
fn sentence_piece_with_byte_fallback() {
    check("sentence_piece_bpe");
}

#[test]
fn unigram_with_metaspace() {
    check("unigram");
}

#[test]
fn text_with_bos_gets_no_second_one() {
    for name in ["byte_level", "sentence_piece_bpe", "unigram"] {
        let tokenizer = load(name);
        let bos = tokenizer.id("<s>").unwrap();
        let count = |special| {
            let ids = tokenizer.encode("<s>Hello", special).unwrap();
            ids.into_iter().filter(|id| *id == bos).count()
        };
        assert_eq!((count(false), count(true)), (1, 2), "{name}");
        assert!(tokenizer.is_special(bos) && !tokenizer.is_special(tokenizer.id("<tool>").unwrap()));
    }
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    let tokenizer = load("byte_level");
    let error = tokenizer.decode(&[1, 100_000], false).unwrap_err();
    let Error::InvalidParameter { param, message } = error else { panic!("{error:?}") };
    assert_eq!(param, "[1]");
    assert!(message.contains("100000") && message.contains("502"), "{message}");
}

#[test]
fn padding_and_truncation_in_the_file_change_nothing() {
    let mut description = json("tokenizers/byte_level.json");
    description["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    });
    description["padding"] = serde_json::json!({
        "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"
    });
    let limited = Tokenizer::from_json(description.to_string().as_bytes()).unwrap();
    let text = "The quick brown fox jumps over the lazy dog.";
    assert_eq!(limited.encode(text, true).unwrap(), load("byte_level").encode(text, true).unwrap());
}

#[test]
fn other_decoders_decode_whole_texts_alone() {
    let mut description = json("tokenizers/byte_level.json");
    description["decoder"] = serde_json::json!({ "type": "WordPiece", "prefix": "##", "cleanup": false });
    let tokenizer = Tokenizer::from_json(description.to_string().as_bytes()).unwrap();
    let ids = [tokenizer.id("T").unwrap(), tokenizer.id("h").unwrap()];
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "T h");
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let whole = std::fs::read(fixture("tokenizers/byte_level.json")).unwrap();
    for length in (0..whole.len()).step_by(97) {
        assert!(Tokenizer::from_json(&whole[..length]).is_err(), "cut off at {length}");
    }
    for wrong in ["{}", "[]", "null", r#"{"decoder": "ByteLevel"}"#] {
        assert!(Tokenizer::from_json(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let mut huge = json("tokenizers/byte_level.json");
    huge["model"]["vocab"]["!"] = 4_000_000_000u32.into();
    assert!(Tokenizer::from_json(huge.to_string().as_bytes()).is_err());
    let missing = Tokenizer::from_file(&fixture("tokenizers/nothing.json")).err().unwrap();
    assert!(missing.to_string().contains("nothing.json"), "{missing}");
}

#[test]
fn added_tokens_stand_for_their_own_characters() {
    let mut description = json("tokenizers/byte_level.json");
    // In GPT-2's alphabet each "é" is the byte 0xe9; in an added token it is the letter.
    let letter = serde_json::json!({
        "id": 502, "content": "éé", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": false,
    });
    description["added_tokens"].as_array_mut().unwrap().push(letter);
    let tokenizer = Tokenizer::from_json(description.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("néée", false).unwrap()[1], 502);
    assert_eq!(tokenizer.token_bytes(502), Some("éé".as_bytes()));
}
