//! GGUF files that the public `gguf` package wrote answer as transformers does with the same numbers.

use std::{fs, path::PathBuf};

use sconce::model::{self, Options};
use serde::Deserialize;
use tempfile::tempdir;

use crate::cases::answer;

#[derive(Deserialize)]
struct Case {
    name: String,
    input: Vec<u32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(&fs::read_to_string(fixture("gguf.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let path = fixture(&format!("gguf/{}.gguf", case.name));
        let options = Options { threads: 2, ..Options::default() };
        let mut model = model::open(&path).unwrap().load(&options).unwrap();
        let (logits, greedy) = answer(&mut *model, &case.input, case.greedy.len());
        let difference = logits.iter().zip(&case.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{:8} difference {difference:.2e}", case.name);
        if difference > 1e-4 || greedy != case.greedy || logits.len() != case.logits.len() {
            wrong.push(format!("{}: {difference:.2e} {greedy:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cases.len(), 8);
}

#[test]
fn quantized_weights_take_four_bytes_each_and_the_estimate_says_so() {
    let memory = model::open(&fixture("gguf/qwen2.gguf")).unwrap().memory(&Options::default()).unwrap();
    assert!(memory.weights > 3 * memory.mapped && memory.weights < 4 * memory.mapped, "{memory:?}");
}

#[test]
fn a_file_cut_anywhere_is_refused_in_words() {
    let bytes = fs::read(fixture("gguf/gpt2.gguf")).unwrap();
    let directory = tempdir().unwrap();
    let path = directory.path().join("cut.gguf");
    for length in (0..bytes.len()).step_by(997).chain([0, 3, 4, 8, 23, bytes.len() - 40]) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(model::open(&path).is_err(), "{length} of {} bytes", bytes.len());
    }
    fs::write(&path, b"GGML and more than four bytes").unwrap();
    let text = model::open(&path).err().unwrap().to_string();
    assert!(text.contains("GGUF") && text.contains("cut.gguf"), "{text}");
}
