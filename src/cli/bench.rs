//! `sconce bench`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::bench::Device;

/// What is measured.
#[derive(Args)]
pub struct Bench {
    /// A directory in Hugging Face's layout, or a GGUF file.
    model: PathBuf,
    /// Tokens of the prompt that is run in one step; 0 leaves the test out.
    #[arg(short, long, value_name = "TOKENS", default_value_t = 512)]
    prompt: usize,
    /// Tokens that are generated one by one; 0 leaves the tests out.
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 128)]
    generate: usize,
    /// Sequences that are generated together; several numbers are several tests.
    #[arg(short, long, value_name = "NUMBER", value_delimiter = ',', default_values_t = [1])]
    sequences: Vec<usize>,
    /// Where it runs: cpu, cuda, cuda:1 or metal, where the build has it.
    #[arg(short, long, value_name = "NAME", default_value_t)]
    device: Device,
    /// Threads that compute. Unset: one for each core.
    #[arg(short, long)]
    threads: Option<usize>,
    /// Instructions that compute: scalar; avx2, avx-vnni, avx512, avx512-vnni or amx; neon or neon-dotprod. Unset: the fastest
    /// that the CPU has.
    #[arg(short, long, value_name = "NAME")]
    instructions: Option<String>,
    /// How often each test runs; the table has medians.
    #[arg(short, long, value_name = "ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Bench {
    fn options(&self) -> crate::bench::Options {
        crate::bench::Options {
            model: self.model.clone(),
            prompt: self.prompt,
            generate: self.generate,
            sequences: self.sequences.clone(),
            rounds: self.rounds.max(1),
            device: self.device,
            threads: self.threads,
            instructions: self.instructions.clone(),
        }
    }

    pub(super) fn run(&self) -> Result<String, Failure> {
        let report = crate::bench::run(&self.options()).map_err(|error| Failure::Model(error.to_string()))?;
        if self.json {
            report.json().map_err(|error| Failure::Output(error.into()))
        } else {
            Ok(report.table())
        }
    }
}
