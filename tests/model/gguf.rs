//! GGUF files that the public `gguf` package wrote answer as transformers does with the same numbers.

use std::{fs, path::PathBuf};

use sconce::model::{self, Forward, Isa, LoadError, Options};
use serde::Deserialize;
use tempfile::tempdir;

use crate::{
    cases::answer,
    invariance::{alone, busy},
};

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: Vec<u32>,
    /// Of transformers with the weights as they are in the file.
    pub(crate) exact: Vec<f32>,
    /// The same with the inputs of quantized matrices rounded to 8 bits, as here; and what then comes out.
    logits: Vec<f32>,
    pub(crate) greedy: Vec<u32>,
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(fixture("gguf.json")).unwrap()).unwrap()
}

impl Case {
    pub(crate) fn load(&self, isa: Isa, threads: usize) -> Result<Box<dyn Forward>, LoadError> {
        let options = Options { isa, threads, ..Options::default() };
        model::open(&fixture(&format!("gguf/{}.gguf", self.name)))?.load(&options)
    }
}

pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Where rounding is done alike, the logits agree as those of f32 models do (a value between two steps might go the other
/// way, and change much; here none does, and what we compute is the same on every machine). The difference stays far below that of rounding itself, which in these models is up to a tenth of the largest logit.
#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let mut model = match case.load(Isa::detect(), 2) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let (logits, greedy) = answer(&mut *model, &case.input, case.greedy.len());
        let size = case.exact.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
        let alike = largest_difference(&logits, &case.logits) / size;
        let exact = largest_difference(&logits, &case.exact) / size;
        let rounding = largest_difference(&case.logits, &case.exact) / size;
        println!("{:10} alike {alike:.1e} exact {exact:.1e} rounding {rounding:.1e}", case.name);
        let close = alike < 1e-5 && exact < 0.12;
        if !close || greedy != case.greedy || logits.len() != case.logits.len() {
            wrong.push(format!("{}: {alike:.2e} {exact:.2e} {greedy:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cases.len(), 30);
}

#[test]
fn the_same_bits_on_every_instruction_set_in_pieces_and_in_a_crowd() {
    for case in cases() {
        // Prompts and continuations of other architectures differ in nothing that matters here.
        if !["llama", "k_types", "qwen2moe", "gpt-oss", "ernie4_5", "bloom"].contains(&case.name.as_str()) {
            continue;
        }
        let tokens: Vec<u32> = case.input.iter().chain(&case.greedy).copied().collect();
        let mut expected: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut model = case.load(isa, threads).unwrap();
                let expected = expected.get_or_insert_with(|| alone(&mut *model, &tokens));
                let what = format!("{} {} {threads} threads", case.name, isa.name());
                assert!(*expected == alone(&mut *model, &tokens), "{what}");
                assert!(*expected == busy(&mut *model, &tokens), "{what} in a crowd");
            }
        }
    }
}

/// gpt-oss as it is published.
#[test]
fn experts_in_mxfp4_are_read_from_safetensors_too() {
    let case = cases().into_iter().find(|case| case.name == "gpt-oss").unwrap();
    let mut published = model::open(&fixture("mxfp4")).unwrap().load(&Options::default()).unwrap();
    // Experts are as in the GGUF file, all else is in f32.
    let (logits, _) = answer(&mut *published, &case.input, 0);
    let size = case.exact.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
    let difference = largest_difference(&logits, &case.exact) / size;
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
    let memory = model::open(&fixture("mxfp4")).unwrap().memory(&Options::default()).unwrap();
    assert!(memory.weights < memory.mapped * 5 / 4, "{memory:?}");
}

#[test]
fn packed_weights_take_what_the_estimate_says_which_is_little_more_than_the_file() {
    for case in cases() {
        let memory = model::open(&fixture(&format!("gguf/{}.gguf", case.name))).unwrap();
        let memory = memory.memory(&Options::default()).unwrap();
        let (weights, mapped) = (memory.weights as f64, memory.mapped as f64);
        // Routers of four outputs fill a quarter of a panel, and norms of two heads count as matrices.
        assert!(weights > 0.5 * mapped && weights < 1.3 * mapped, "{}: {memory:?}", case.name);
    }
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
