//! The cases of tests/fixtures/golden.json as directories that can be loaded.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use sconce::model::{self, BLOCK, Chunk, Forward, Options, Rows};
use serde::Deserialize;
use serde_json::Value;

use crate::weights::weights;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// What transformers answered for one tiny model.
#[derive(Deserialize, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// As transformers 5 writes it, and for some as transformers 4 did.
    pub(crate) configs: Vec<Value>,
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
    pub(crate) input: Vec<u32>,
    /// Of the last token of the input.
    pub(crate) logits: Vec<f32>,
    pub(crate) greedy: Vec<u32>,
}

pub(crate) fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden.json");
    let golden: Golden = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    golden.cases
}

pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    /// Options under which transformers' answer is meant: it takes LongRoPE's short factors for a short sequence.
    pub(crate) fn options(&self, threads: usize) -> Options {
        let context_length = (self.name == "phi3_longrope_short").then_some(64);
        Options { threads, context_length, ..Options::default() }
    }

    /// Writes the model into a directory.
    pub(crate) fn write(&self, directory: &Path, config: &Value) {
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        write_safetensors(&directory.join("model.safetensors"), self.tensors.iter());
    }

    pub(crate) fn load(&self, config: &Value, options: &Options) -> Box<dyn Forward> {
        let directory = tempfile::tempdir().unwrap();
        self.write(directory.path(), config);
        model::open(directory.path()).unwrap().load(options).unwrap()
    }
}

/// Made tensors of those names and shapes, in f32.
pub(crate) fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a String, &'a Vec<usize>)>,
) {
    let made: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape)| {
            (name, shape, weights(name, shape).iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = made
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A sequence that runs through a model.
pub(crate) struct Run {
    pub(crate) tokens: Vec<u32>,
    pub(crate) done: usize,
    pub(crate) blocks: Vec<u32>,
    pub(crate) adapter: Option<u32>,
}

impl Run {
    pub(crate) fn new(tokens: &[u32], blocks: &[u32]) -> Self {
        Self { tokens: tokens.to_vec(), done: 0, blocks: blocks.to_vec(), adapter: None }
    }

    /// The next `count` tokens.
    pub(crate) fn chunk(&self, count: usize, rows: Rows) -> Chunk<'_> {
        let tokens = &self.tokens[self.done..self.done + count];
        Chunk { tokens, start: self.done, blocks: &self.blocks, rows, adapter: self.adapter }
    }
}

/// Logits of the input's last row, then greedy tokens one by one.
pub(crate) fn answer(model: &mut dyn Forward, input: &[u32], count: usize) -> (Vec<f32>, Vec<u32>) {
    answer_through(model, None, input, count)
}

/// The same through an adapter.
pub(crate) fn answer_through(
    model: &mut dyn Forward,
    adapter: Option<u32>,
    input: &[u32],
    count: usize,
) -> (Vec<f32>, Vec<u32>) {
    let blocks: Vec<u32> = (0..(input.len() + count).div_ceil(BLOCK) as u32).collect();
    model.allocate(blocks.len()).unwrap();
    let mut run = Run { adapter, ..Run::new(input, &blocks) };
    let first = model.forward(&[run.chunk(input.len(), Rows::Last)]).unwrap();
    run.done = input.len();
    let mut logits = first.clone();
    for _ in 0..count {
        run.tokens.push(argmax(&logits));
        logits = model.forward(&[run.chunk(1, Rows::Last)]).unwrap();
        run.done += 1;
    }
    (first, run.tokens[input.len()..].to_vec())
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });
    best.unwrap() as u32
}
