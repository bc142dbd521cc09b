//! Models that make vectors of texts answer as transformers and sentence-transformers do, and always alike.

use std::{collections::BTreeMap, fs, path::Path};

use sconce::model::{self, Encode, Isa, Options, Sequence, Task};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cases::write_safetensors;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// What was answered for one tiny model.
#[derive(Deserialize, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// As transformers 5 writes it, and for some as others did.
    pub(crate) configs: Vec<Value>,
    tensors: BTreeMap<String, Vec<usize>>,
    sequences: Vec<Tokens>,
    /// By the mode of pooling, for each sequence.
    #[serde(default)]
    vectors: BTreeMap<String, Vec<Vec<f32>>>,
    #[serde(default)]
    pub(crate) scores: Vec<Vec<f32>>,
}

#[derive(Deserialize, Clone)]
struct Tokens {
    tokens: Vec<u32>,
    types: Vec<u32>,
}

impl Tokens {
    fn sequence(&self) -> Sequence<'_> {
        Sequence { tokens: &self.tokens, types: &self.types, prompt: 0, dimensions: None }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders.json");
    let golden: Golden = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    golden.cases
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    pub(crate) fn write(&self, directory: &Path, config: &Value) {
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        write_safetensors(&directory.join("model.safetensors"), self.tensors.iter());
    }

    /// With sentence-transformers' files: `pooling` is that of the module.
    fn write_modules(&self, directory: &Path, pooling: &Value, more: &[&str]) {
        self.write(directory, &self.configs[0]);
        let modules = ["Transformer", "Pooling"].iter().chain(more).enumerate().map(|(idx, name)| {
            let path = if idx == 0 { String::new() } else { format!("{idx}_{name}") };
            fs::create_dir_all(directory.join(&path)).unwrap();
            json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{name}") })
        });
        let modules: Vec<Value> = modules.collect();
        fs::write(directory.join("modules.json"), Value::from(modules).to_string()).unwrap();
        fs::write(directory.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    }

    fn encode(&self, model: &mut dyn Encode) -> Vec<Vec<f32>> {
        let sequences: Vec<Sequence<'_>> = self.sequences.iter().map(Tokens::sequence).collect();
        model.encode(&sequences, &|| ()).unwrap()
    }

    /// Vectors of all sequences by this pooling.
    fn pooled(&self, pooling: &Value) -> Vec<Vec<f32>> {
        let directory = tempdir().unwrap();
        self.write_modules(directory.path(), pooling, &[]);
        let model = model::open(directory.path()).unwrap();
        assert_eq!(model.task(&Options::default()).unwrap(), Task::Embed);
        self.encode(&mut *model.load_encoder(&Options::default()).unwrap())
    }
}

fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), b.iter().map(Vec::len).collect::<Vec<_>>());
    let each = a.iter().flatten().zip(b.iter().flatten());
    each.map(|(a, b)| (a - b).abs()).fold(0.0, |most, next| if next <= most { most } else { next })
}

fn normalised(vectors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let each = |vector: &Vec<f32>| {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / length).collect()
    };
    vectors.iter().map(each).collect()
}

#[test]
fn vectors_and_scores_are_those_of_transformers() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (style, config) in case.configs.iter().enumerate() {
            let directory = tempdir().unwrap();
            case.write(directory.path(), config);
            let task = if case.scores.is_empty() { Task::Embed } else { Task::Rerank };
            let opened = model::open(directory.path()).unwrap();
            let options = Options { task: Some(task), threads: 2, ..Options::default() };
            let mut model =
                opened.load_encoder(&options).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let found = case.encode(&mut *model);
            // Without files that say otherwise: the mean for encoders, the last token for decoders, both of length 1.
            let mode = if ["mistral", "qwen3"].contains(&&*case.name) { "lasttoken" } else { "mean" };
            let expected = match task {
                Task::Rerank => case.scores.clone(),
                _ => normalised(&case.vectors[mode]),
            };
            let difference = difference(&found, &expected);
            println!("{:28} config {style} difference {difference:.2e}", case.name);
            if difference.is_nan() || difference > 1e-5 {
                wrong.push(format!("{} config {style}: {difference:.2e}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_encoder_has_a_case() {
    let cases = cases();
    let tested: Vec<&str> = cases.iter().filter_map(|case| case.configs[0]["model_type"].as_str()).collect();
    let mut supported = model::supported_encoders();
    supported.retain(|name| !tested.contains(name));
    assert!(supported.is_empty(), "{supported:?}");
}

#[test]
fn pooling_is_as_the_models_files_say_in_either_style() {
    let case = case("bert");
    for (name, flag) in [
        ("cls", "pooling_mode_cls_token"),
        ("max", "pooling_mode_max_tokens"),
        ("mean", "pooling_mode_mean_tokens"),
        ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
        ("weightedmean", "pooling_mode_weightedmean_tokens"),
        ("lasttoken", "pooling_mode_lasttoken"),
    ] {
        let expected = &case.vectors[name];
        for pooling in
            [json!({ "pooling_mode": name }), json!({ flag: true, "word_embedding_dimension": 64 })]
        {
            let difference = difference(&case.pooled(&pooling), expected);
            assert!(difference < 1e-4, "{pooling}: {difference}");
        }
    }
    let both = case.pooled(&json!({ "pooling_mode": ["mean", "cls"] }));
    for (i, both) in both.iter().enumerate() {
        let expected = [case.vectors["mean"][i].clone(), case.vectors["cls"][i].clone()].concat();
        assert!(difference(std::slice::from_ref(both), &[expected]) < 1e-4);
    }
    for mode in ["lasttoken", "mean"] {
        let case = self::case("qwen3");
        assert!(difference(&case.pooled(&json!({ "pooling_mode": mode })), &case.vectors[mode]) < 1e-4);
    }
}

#[test]
fn a_prompt_may_be_left_out_of_the_pooling() {
    let case = case("bert");
    let tokens = &case.sequences[2];
    let made = |pooling: Value, prompt: usize| {
        let directory = tempdir().unwrap();
        case.write_modules(directory.path(), &pooling, &[]);
        let mut model = model::open(directory.path()).unwrap().load_encoder(&Options::default()).unwrap();
        model.encode(&[Sequence { prompt, ..tokens.sequence() }], &|| ()).unwrap().remove(0)
    };
    // The third row alone is what the first is once two are left out.
    let first = json!({ "pooling_mode": "cls", "include_prompt": false });
    assert_eq!(made(first.clone(), 0), made(json!({ "pooling_mode": "cls" }), 5));
    assert_ne!(made(first, 2), made(json!({ "pooling_mode": "cls" }), 2));
    let mean = |left_out| made(json!({ "pooling_mode": "mean", "include_prompt": false }), left_out);
    let count = tokens.tokens.len();
    let rows: Vec<Vec<f32>> =
        (0..count).map(|i| made(json!({ "pooling_mode": "cls", "include_prompt": false }), i)).collect();
    let of = |first: usize| -> Vec<f32> {
        let sum = |i: usize| rows[first..].iter().map(|row| row[i]).sum::<f32>() / (count - first) as f32;
        (0..64).map(sum).collect()
    };
    assert!(difference(&[mean(7)], &[of(7)]) < 1e-5);
    // A prompt and nothing else is pooled whole.
    assert_eq!(mean(count), mean(0));
}

#[test]
fn a_dense_layer_and_a_norm_follow_where_the_files_have_them() {
    let case = case("bert");
    let directory = tempdir().unwrap();
    case.write_modules(directory.path(), &json!({ "pooling_mode": "mean" }), &["Dense", "Normalize"]);
    let dense = directory.path().join("2_Dense");
    let config = json!({ "in_features": 64, "out_features": 24, "bias": true,
        "activation_function": "torch.nn.modules.activation.Tanh" });
    fs::write(dense.join("config.json"), config.to_string()).unwrap();
    let shapes =
        BTreeMap::from([("linear.weight".to_owned(), vec![24, 64]), ("linear.bias".to_owned(), vec![24])]);
    write_safetensors(&dense.join("model.safetensors"), shapes.iter());
    let (weight, bias) =
        (crate::weights::weights("linear.weight", &[24, 64]), crate::weights::weights("linear.bias", &[24]));
    let plain = |vector: &Vec<f32>| -> Vec<f32> {
        let output = |row: usize| {
            let dot: f32 = (0..64).map(|i| weight[row * 64 + i] * vector[i]).sum();
            (dot + bias[row]).tanh()
        };
        (0..24).map(output).collect()
    };
    let expected: Vec<Vec<f32>> = case.vectors["mean"].iter().map(plain).collect();
    let mut model = model::open(directory.path()).unwrap().load_encoder(&Options::default()).unwrap();
    assert_eq!((model.shape().width, model.shape().normalised), (24, true));
    assert!(difference(&case.encode(&mut *model), &normalised(&expected)) < 1e-5);
    let shorter: Vec<Vec<f32>> = expected.iter().map(|vector| vector[..5].to_vec()).collect();
    let sequences: Vec<Sequence<'_>> =
        case.sequences.iter().map(|tokens| Sequence { dimensions: Some(5), ..tokens.sequence() }).collect();
    assert!(difference(&model.encode(&sequences, &|| ()).unwrap(), &normalised(&shorter)) < 1e-5);
}

#[test]
fn the_same_bits_alone_in_a_crowd_on_any_number_of_threads_and_every_instruction_set() {
    let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for case in cases() {
        let directory = tempdir().unwrap();
        case.write(directory.path(), &case.configs[0]);
        let task = Some(if case.scores.is_empty() { Task::Embed } else { Task::Rerank });
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for isa in Isa::available() {
            for threads in [1, 3] {
                let options = Options { task, isa, threads, ..Options::default() };
                let mut model = model::open(directory.path()).unwrap().load_encoder(&options).unwrap();
                let mut alone = Vec::new();
                for tokens in &case.sequences {
                    alone.push(bits(&model.encode(&[tokens.sequence()], &|| ()).unwrap()[0]));
                }
                let crowd: Vec<Vec<u32>> = case.encode(&mut *model).iter().map(|v| bits(v)).collect();
                let what = format!("{} {} {threads} threads", case.name, isa.name());
                assert!(alone == crowd, "{what} in a crowd");
                assert!(alone == *expected.get_or_insert(alone.clone()), "{what}");
                if threads == 1 {
                    continue;
                }
                // So many that each thread has a part of its own.
                let many: Vec<Sequence<'_>> =
                    case.sequences.iter().cycle().take(36).map(Tokens::sequence).collect();
                assert!(many.iter().map(|sequence| sequence.tokens.len()).sum::<usize>() >= 288);
                let many = model.encode(&many, &|| ()).unwrap();
                for (own, expected) in many.iter().zip(alone.iter().cycle()) {
                    assert!(bits(own) == *expected, "{what} among many");
                }
            }
        }
    }
}

#[test]
fn memory_is_known_before_loading_and_tables_stay_where_they_lie() {
    let case = case("bert");
    let directory = tempdir().unwrap();
    case.write(directory.path(), &case.configs[0]);
    let memory = model::open(directory.path()).unwrap().memory(&Options::default()).unwrap();
    let bytes = |shape: &Vec<usize>| shape.iter().product::<usize>() * 4;
    let mapped: usize = case.tensors.values().map(bytes).sum();
    let left: usize = case
        .tensors
        .iter()
        .filter(|(name, _)| name.contains("_embeddings") || name.contains("pooler"))
        .map(|(_, shape)| bytes(shape))
        .sum();
    assert!(left > 0);
    assert_eq!((memory.mapped, memory.weights, memory.block), (mapped as u64, (mapped - left) as u64, 0));
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    let bert = case("bert");
    let directory = tempdir().unwrap();
    let refusal = |options: &Options| {
        let opened = model::open(directory.path()).unwrap();
        opened.task(options).and_then(|_| opened.load_encoder(options)).err().unwrap().to_string()
    };
    let options = Options::default();
    for (key, value, named) in [
        ("position_embedding_type", json!("relative_key"), "relative_key"),
        ("hidden_act", json!("mish"), "mish"),
        ("quantization_config", json!({ "quant_method": "gptq" }), "quantized checkpoint of bert"),
        ("num_attention_heads", json!(5), "5 heads of a width of 64"),
        ("hidden_size", json!(128), "[128, 64]"),
    ] {
        let mut config = bert.configs[0].clone();
        config[key] = value;
        bert.write(directory.path(), &config);
        let told = refusal(&options);
        assert!(told.contains(named) || named == "[128, 64]" && told.contains("128"), "{told}");
    }
    bert.write(directory.path(), &bert.configs[0]);
    let told = refusal(&Options { task: Some(Task::Generate), ..options });
    assert!(told.contains("\"generate\"") && told.contains("bert"), "{told}");
    let told = refusal(&Options { task: Some(Task::Rerank), ..options });
    assert!(told.contains("\"rerank\""), "{told}");

    for (pooling, named) in [
        (json!({ "pooling_mode": "average" }), "average"),
        (json!({ "word_embedding_dimension": 64 }), "no Pooling"),
    ] {
        bert.write_modules(directory.path(), &pooling, &[]);
        let told = refusal(&options);
        assert!(told.contains(named), "{told}");
    }
    for (modules, named) in [
        (json!([{ "type": "sentence_transformers.models.WordEmbeddings", "path": "0" }]), "WordEmbeddings"),
        (
            json!([{ "type": "a.Transformer", "path": "" }, { "type": "a.Pooling", "path": "../b" }]),
            "beside it",
        ),
        (json!([{ "type": "a.Transformer", "path": "0_Transformer" }]), "0_Transformer"),
        (json!({}), "modules.json"),
    ] {
        fs::write(directory.path().join("modules.json"), modules.to_string()).unwrap();
        let told = refusal(&options);
        assert!(told.contains(named), "{told}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_the_model_stays_usable() {
    for name in ["bert", "qwen3"] {
        let case = case(name);
        let directory = tempdir().unwrap();
        case.write(directory.path(), &case.configs[0]);
        let options = Options { task: Some(Task::Embed), context_length: Some(200), ..Options::default() };
        let mut model = model::open(directory.path()).unwrap().load_encoder(&options).unwrap();
        assert_eq!(model.shape().context_length, 200);
        let long = vec![5; 201];
        let right = case.sequences[1].sequence();
        for wrong in [
            Sequence { tokens: &long, ..right },
            Sequence { tokens: &[], ..right },
            Sequence { tokens: &[128], ..right },
            Sequence { dimensions: Some(65), ..right },
        ] {
            assert!(model.encode(&[right, wrong], &|| ()).is_err(), "{name}");
        }
        if name == "bert" {
            assert!(model.encode(&[Sequence { types: &[2], ..right }], &|| ()).is_err());
        }
        let again = model.encode(&[right], &|| ()).unwrap();
        assert!(again[0].iter().all(|x| x.is_finite()));
    }
}
