//! `sconce bench`: how fast a model runs here, without tokens, sampling or HTTP.
//!
//! The tests have llama-bench's names: `pp512` is a prompt of 512 tokens in one step, `tg128` are 128 tokens one by one.
//! `tg128 x16` decodes sixteen sequences in each step and counts the tokens of all.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;

pub use crate::model::Device;
use crate::model::{self, BLOCK, Chunk, Forward, ForwardError, Isa, LoadError, Rows};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory or a GGUF file.
    pub model: PathBuf,
    /// Tokens of the prompt; 0 leaves that test out.
    pub prompt: usize,
    /// Tokens decoded; 0 leaves those tests out.
    pub generate: usize,
    /// Sequences decoded together, one test for each number.
    pub sequences: Vec<usize>,
    /// Times that each test runs. The tests take turns.
    pub rounds: usize,
    /// Where it runs.
    pub device: Device,
    /// Threads that compute; None: one for each core.
    pub threads: Option<usize>,
    /// Name of the instructions that compute; None: the fastest.
    pub instructions: Option<String>,
}

/// Figures of one machine at one time.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    /// Bytes of the model's files.
    bytes: u64,
    device: String,
    /// The CPU's threads and instructions; on another device they convert the weights.
    threads: usize,
    instructions: &'static str,
    /// Seconds from the open to the loaded model.
    load_seconds: f64,
    tests: Vec<Figures>,
}

/// Tokens a second.
#[derive(Debug, Serialize)]
struct Figures {
    test: String,
    median: f64,
    lowest: f64,
    highest: f64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
    #[error("{0}")]
    Options(String),
}

/// One line of the table.
enum Test {
    Prefill(usize),
    Decode { sequences: usize, tokens: usize },
}

impl Test {
    fn name(&self) -> String {
        match self {
            Self::Prefill(tokens) => format!("pp{tokens}"),
            Self::Decode { sequences: 1, tokens } => format!("tg{tokens}"),
            Self::Decode { sequences, tokens } => format!("tg{tokens} x{sequences}"),
        }
    }

    /// Tokens that one run computes, for all sequences.
    fn tokens(&self) -> usize {
        match self {
            Self::Prefill(tokens) => *tokens,
            Self::Decode { sequences, tokens } => sequences * tokens,
        }
    }

    /// Blocks of the KV cache.
    fn blocks(&self) -> usize {
        match self {
            Self::Prefill(tokens) => tokens.div_ceil(BLOCK),
            Self::Decode { sequences, tokens } => sequences * tokens.div_ceil(BLOCK),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Prefill(tokens) | Self::Decode { tokens, .. } => *tokens,
        }
    }
}

/// Loads the model, runs each test once to warm up, then all of them in turn.
///
/// # Errors
/// When the model cannot be loaded or does not take as many tokens as are asked for.
pub fn run(options: &Options) -> Result<Report, Error> {
    let started = Instant::now();
    let isa = Isa::choose(options.instructions.as_deref())
        .map_err(|lacking| Error::Options(lacking.to_string()))?;
    let threads = options.threads.unwrap_or_else(model::cores).max(1);
    let settings = model::Options { threads, isa, device: options.device, ..model::Options::default() };
    let opened = model::open(&options.model)?;
    let memory = opened.memory(&settings)?;
    let mut model = opened.load(&settings)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let decode =
        options.sequences.iter().map(|&sequences| Test::Decode { sequences, tokens: options.generate });
    let tests = std::iter::once(Test::Prefill(options.prompt)).chain(decode);
    let tests: Vec<Test> = tests.filter(|test| test.tokens() > 0).collect();
    let limit = model.shape().context_length;
    if let Some(test) = tests.iter().find(|test| test.length() > limit) {
        let message = format!("{}: the model's context has {limit} tokens, ask for fewer", test.name());
        return Err(Error::Options(message));
    }
    model.allocate(tests.iter().map(Test::blocks).max().unwrap_or(0))?;
    let mut speeds = vec![Vec::new(); tests.len()];
    for round in 0..=options.rounds {
        for (test, speeds) in tests.iter().zip(&mut speeds) {
            let started = Instant::now();
            measure(&mut *model, test)?;
            let speed = test.tokens() as f64 / started.elapsed().as_secs_f64();
            // The first round warms up.
            if round > 0 {
                speeds.push(speed);
            }
        }
    }
    let figures = |(test, mut speeds): (&Test, Vec<f64>)| {
        speeds.sort_by(f64::total_cmp);
        let (lowest, highest) = (speeds[0], speeds[speeds.len() - 1]);
        Figures { test: test.name(), median: speeds[speeds.len() / 2], lowest, highest }
    };
    Ok(Report {
        model: name(&options.model),
        bytes: memory.mapped,
        device: options.device.to_string(),
        threads,
        instructions: isa.name(),
        load_seconds,
        tests: tests.iter().zip(speeds).map(figures).collect(),
    })
}

fn measure(model: &mut dyn Forward, test: &Test) -> Result<(), ForwardError> {
    let vocabulary = model.shape().vocabulary;
    // Any tokens do; different ones, so that an embedding table is not read from the cache alone.
    let token = |sequence: usize, i: usize| ((sequence * 7919 + i * 104_729 + 1) % vocabulary) as u32;
    match *test {
        Test::Prefill(tokens) => {
            let prompt: Vec<u32> = (0..tokens).map(|i| token(0, i)).collect();
            let blocks: Vec<u32> = (0..test.blocks() as u32).collect();
            model.forward(&[Chunk {
                tokens: &prompt,
                start: 0,
                blocks: &blocks,
                rows: Rows::Last,
                adapter: None,
            }])?;
        }
        Test::Decode { sequences, tokens } => {
            let each = tokens.div_ceil(BLOCK) as u32;
            let blocks: Vec<Vec<u32>> = (0..sequences as u32)
                .map(|sequence| (sequence * each..(sequence + 1) * each).collect())
                .collect();
            for i in 0..tokens {
                let next: Vec<u32> = (0..sequences).map(|sequence| token(sequence, i)).collect();
                let chunk = |(token, blocks)| Chunk {
                    tokens: std::slice::from_ref(token),
                    start: i,
                    blocks,
                    rows: Rows::Last,
                    adapter: None,
                };
                let chunks: Vec<Chunk<'_>> =
                    next.iter().zip(blocks.iter().map(Vec::as_slice)).map(chunk).collect();
                model.forward(&chunks)?;
            }
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Report {
    /// For people: tokens a second, medians first.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}, {:.1} MB, {}, {} threads, {}, loaded in {:.2} s\n\n| test | tokens/s | lowest–highest |\n| --- | ---: | ---: |\n",
            self.model,
            self.bytes as f64 / 1e6,
            self.device,
            self.threads,
            self.instructions,
            self.load_seconds
        );
        for Figures { test, median, lowest, highest } in &self.tests {
            // Writing to a string does not fail.
            let _ = writeln!(out, "| {test} | {median:.1} | {lowest:.1}–{highest:.1} |");
        }
        out
    }

    /// For machines.
    ///
    /// # Errors
    /// Never, for these figures.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
