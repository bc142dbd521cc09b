//! Adapters against PEFT's merged weights, and against themselves.

use std::{collections::BTreeMap, fs, path::Path};

use sconce::model::{self, Adapter, Forward, LoadError, Rows};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cases::{Case, Run, answer, answer_through, case, write_safetensors};

#[derive(Deserialize)]
struct Golden {
    adapters: Vec<Made>,
}

/// What PEFT answered for an adapter merged into its base.
#[derive(Deserialize)]
pub(crate) struct Made {
    pub(crate) name: String,
    /// A case of golden.json.
    pub(crate) base: String,
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

impl Made {
    fn write(&self, config: &Value) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("adapter_config.json"), config.to_string()).unwrap();
        write_safetensors(&directory.path().join("adapter_model.safetensors"), self.tensors.iter());
        directory
    }

    fn open(&self) -> Adapter {
        Adapter::open(self.write(&self.config).path()).unwrap()
    }
}

pub(crate) fn golden() -> Vec<Made> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lora.json");
    let golden: Golden = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    golden.adapters
}

fn load(base: &Case, adapters: Vec<Adapter>, threads: usize) -> Result<Box<dyn Forward>, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    base.write(directory.path(), &base.configs[0]);
    model::open(directory.path())?.adapted(adapters)?.load(&base.options(threads))
}

#[test]
fn logits_and_greedy_tokens_are_those_of_pefts_merged_weights() {
    let mut wrong = Vec::new();
    for made in golden() {
        let base = case(&made.base);
        let mut model = load(&base, vec![made.open()], 1).unwrap();
        let (logits, greedy) = answer_through(&mut *model, Some(0), &base.input, made.greedy.len());
        let difference = logits.iter().zip(&made.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let moved = made.logits.iter().zip(&base.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{:20} difference {difference:.2e} of {moved:.2}", made.name);
        let fits = difference < 1e-4 && moved > 0.3 && logits.len() == made.logits.len();
        if !fits || greedy != made.greedy {
            wrong.push(format!("{}: {difference:.2e}, {greedy:?}", made.name));
        }
        // Beside it the base answers as it does without.
        let own = answer(&mut *model, &base.input, 4);
        assert_eq!(own, answer(&mut *load(&base, vec![], 1).unwrap(), &base.input, 4), "{}", made.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The base and two adapters in one batch, in pieces: each as alone.
#[test]
fn rows_of_a_batch_go_each_through_their_own() {
    let (base, all) = (case("llama"), golden());
    let of_llama = || all.iter().filter(|made| made.base == "llama").map(Made::open).collect::<Vec<_>>();
    let tokens: Vec<u32> = base.input.iter().chain(&base.greedy).copied().collect();
    let adapters = [None, Some(0), Some(1), Some(2)];
    let alone = |adapter| {
        let mut model = load(&base, of_llama(), 1).unwrap();
        model.allocate(3).unwrap();
        let run = Run { adapter, ..Run::new(&tokens, &[0, 1, 2]) };
        bits(&model.forward(&[run.chunk(tokens.len(), Rows::All)]).unwrap())
    };
    let expected = adapters.map(alone);
    for (i, one) in expected.iter().enumerate() {
        assert!(expected[..i].iter().all(|other| other != one), "they answer alike");
    }
    for threads in [1, 3] {
        let mut model = load(&base, of_llama(), threads).unwrap();
        model.allocate(12).unwrap();
        let mut runs: Vec<Run> = (0..4)
            .map(|n: u32| Run { adapter: adapters[n as usize], ..Run::new(&tokens, &[n, 4 + n, 8 + n]) })
            .collect();
        let mut found = vec![Vec::new(); 4];
        for step in 0.. {
            let counts: Vec<usize> =
                (0..4).map(|n| ((step * 5 + n * 3) % 4).min(tokens.len() - runs[n].done)).collect();
            if runs.iter().all(|run| run.done == tokens.len()) {
                break;
            }
            let chunks: Vec<_> = runs.iter().zip(&counts).map(|(run, n)| run.chunk(*n, Rows::All)).collect();
            let logits = model.forward(&chunks).unwrap();
            let mut rows = logits.chunks_exact(model.shape().vocabulary);
            for (n, count) in counts.into_iter().enumerate() {
                found[n].extend(rows.by_ref().take(count).flat_map(bits));
                runs[n].done += count;
            }
        }
        assert!(found == expected, "{threads} threads");
    }
}

#[test]
fn what_is_not_honoured_is_refused_by_its_name() {
    let made = golden().remove(0);
    for (key, value) in [
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("rank_pattern", json!({ "q_proj": 4 })),
        ("alpha_pattern", json!({ "q_proj": 4 })),
        ("peft_type", json!("IA3")),
        ("task_type", json!("SEQ_CLS")),
        ("init_lora_weights", json!("pissa")),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["experts.gate_up_proj"])),
        ("of_tomorrow", json!("something")),
        ("r", json!(0)),
    ] {
        let mut config = made.config.clone();
        config[key] = value;
        let error = Adapter::open(made.write(&config).path()).err().unwrap().to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("adapter_config.json"), "{error}");
    }
    let of = |base: &str| load(&case(base), vec![made.open()], 1).err().unwrap().to_string();
    let error = of("gpt2");
    assert!(error.contains("no place in the base model") && error.contains("down_proj"), "{error}");
    assert!(of("mixtral").contains("no place"), "its experts have no such adapter");
    let larger = made.config.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone()));
    let mut larger: serde_json::Map<String, Value> = larger.collect();
    larger["r"] = json!(9);
    let adapter = Adapter::open(made.write(&larger.into()).path()).unwrap();
    let error = load(&case("llama"), vec![adapter], 1).err().unwrap().to_string();
    assert!(error.contains("[8, 64], but must be [9, 64]"), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    let error = Adapter::open(nothing.path()).err().unwrap().to_string();
    assert!(error.contains("adapter_config.json"), "{error}");
}
