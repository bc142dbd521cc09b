//! LoRA adapters (Hu et al. 2021) in PEFT's layout: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! A linear layer with an adapter gives `W x + scale · B (A x)`: `A` [rank, inputs], `B` [outputs, rank], and `scale` is
//! `lora_alpha / r`, or `lora_alpha / √r` (Kalajdzievski 2023) where `use_rslora` says so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    builder::{Linear, Pack},
    error::LoadError,
    safetensors::Directory,
    tensors::Tensors,
};
use crate::kernels::{Aligned, Cpu, Dtype, Matrix, Row, vector::add_row};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of a causal model's modules.
const PREFIX: &str = "base_model.model.";

/// Keys that say how the adapter was trained, or that its tensors say themselves.
const OF_NO_EFFECT: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
];

/// Ways to begin that leave the base's weights as they are; the others change them.
const BEGINNINGS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

#[derive(Debug, Deserialize)]
struct Config {
    peft_type: String,
    task_type: Option<String>,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Config {
    /// What of it is not honoured here.
    fn refusal(&self) -> Option<String> {
        if self.peft_type != "LORA" {
            return Some(format!("`peft_type` is {}; LORA is what can be served", self.peft_type));
        }
        if let Some(task) = self.task_type.as_deref().filter(|task| *task != "CAUSAL_LM") {
            return Some(format!("`task_type` is {task}; CAUSAL_LM is what can be served"));
        }
        if self.r == 0 {
            return Some("`r` is 0".to_owned());
        }
        if let Some(bias) = self.bias.as_deref().filter(|bias| *bias != "none") {
            return Some(format!("`bias` is {bias:?}; adapters with biases are not supported"));
        }
        let way = self.init_lora_weights.as_str();
        if let Some(way) = way.filter(|way| !BEGINNINGS.contains(way)) {
            return Some(format!(
                "`init_lora_weights` is {way:?}, which changes the base's weights; convert it to a plain LoRA (PEFT's \
                 `path_initial_model_for_weight_conversion`)"
            ));
        }
        let means_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let asked = self
            .rest
            .iter()
            .find(|(key, value)| !OF_NO_EFFECT.contains(&key.as_str()) && !means_nothing(value));
        asked.map(|(key, _)| format!("`{key}` is set, which is not supported"))
    }

    fn scale(&self) -> f32 {
        let rank = f64::from(self.r);
        (self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }
}

/// An adapter whose headers have been read.
pub struct Adapter {
    directory: PathBuf,
    rank: usize,
    scale: f32,
    tensors: Directory,
}

impl Adapter {
    /// # Errors
    /// When a file is missing or malformed, or asks for what is not supported.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join(CONFIG);
        let wrong = |reason: String| LoadError::Format { path: path.clone(), reason };
        let text = fs::read(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
        let config: Config = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if let Some(refusal) = config.refusal() {
            return Err(wrong(refusal));
        }
        Ok(Self {
            directory: directory.to_owned(),
            rank: config.r as usize,
            scale: config.scale(),
            tensors: Directory::file(&directory.join(WEIGHTS))?,
        })
    }

    /// The files that one in this directory consists of.
    #[must_use]
    pub fn files(directory: &Path) -> [PathBuf; 2] {
        [CONFIG, WEIGHTS].map(|name| directory.join(name))
    }

    /// Bytes that it takes once it is packed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let packed = |name: String| match self.tensors.shape(&name) {
            Some((_, [n, k])) => Matrix::bytes(*n, *k, Dtype::F32) as u64,
            _ => 0,
        };
        self.tensors.names().into_iter().map(packed).sum()
    }

    /// What it adds to a linear layer. The names of the tensors that it took are put into `used`.
    ///
    /// # Errors
    /// When one of the two tensors is missing or of another shape.
    pub(super) fn term<P: Pack>(
        &self,
        packer: &P,
        layer: &Layer<'_>,
        used: &mut Vec<String>,
    ) -> Result<Option<Term<P::Matrix>>, LoadError> {
        let Layer { name, outputs, inputs, first, order } = *layer;
        let names = ["A", "B"].map(|side| format!("{PREFIX}{name}.lora_{side}.weight"));
        if names.iter().all(|name| self.tensors.shape(name).is_none()) {
            return Ok(None);
        }
        let values = |name: &String, shape: [usize; 2]| {
            let tensor = self.tensors.tensor(name)?;
            let tensor = tensor.ok_or_else(|| self.wrong(format!("it has no tensor {name}")))?;
            if tensor.shape != shape {
                let found = tensor.shape;
                return Err(self.wrong(format!("tensor {name} is {found:?}, but must be {shape:?}")));
            }
            Ok(tensor.values())
        };
        let a = values(&names[0], [self.rank, inputs])?;
        let b = values(&names[1], [outputs, self.rank])?;
        used.extend(names);
        let in_order: Vec<usize> = (0..self.rank).collect();
        Ok(Some(Term {
            a: pack(packer, &a, inputs, &in_order)?,
            b: pack(packer, &b, self.rank, order)?,
            scale: self.scale,
            first,
        }))
    }

    /// # Errors
    /// When it has tensors that nothing took: the answers would not be those that it was trained for.
    pub(super) fn finish(&self, used: &[String]) -> Result<(), LoadError> {
        let names = self.tensors.names();
        let left: Vec<&str> =
            names.iter().filter(|name| !used.contains(name)).map(String::as_str).take(5).collect();
        if left.is_empty() {
            return Ok(());
        }
        let left = left.join(", ");
        Err(self.wrong(format!(
            "tensors have no place in the base model, among them {left}; adapters of the projections of attention and of \
             dense feed-forwards are supported"
        )))
    }

    fn wrong(&self, reason: String) -> LoadError {
        LoadError::Format { path: self.directory.join(WEIGHTS), reason }
    }
}

/// Rows of `values` [rows, width] in that order, packed in f32 whatever the file had: they are few.
fn pack<P: Pack>(packer: &P, values: &[f32], width: usize, order: &[usize]) -> Result<P::Matrix, LoadError> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let row = |&row: &usize| Row { data: &data, dtype: Dtype::F32, first: row * width, step: 1 };
    packer.pack(width, &order.iter().map(row).collect::<Vec<_>>())
}

/// A linear layer as a part of a product.
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Its first column in the product.
    pub(super) first: usize,
    /// Which of its rows each of its columns is.
    pub(super) order: &'a [usize],
}

/// One adapter's part in one product.
pub(super) struct Term<M = Matrix> {
    a: M,
    b: M,
    scale: f32,
    /// The first of the columns that it adds to.
    first: usize,
}

/// The rows of a step that have an adapter, and room for what it computes.
#[derive(Default)]
pub(super) struct Adapted {
    /// For each adapter that occurs its number, and the rows that have it.
    groups: Vec<(usize, Vec<usize>)>,
    input: Aligned<f32>,
    inner: Aligned<f32>,
    output: Aligned<f32>,
}

impl Adapted {
    /// `adapters` has each row's adapter.
    pub(super) fn group(&mut self, adapters: impl Iterator<Item = Option<u32>>) {
        self.groups.clear();
        for (row, adapter) in adapters.enumerate() {
            let Some(adapter) = adapter.map(|adapter| adapter as usize) else { continue };
            match self.groups.iter_mut().find(|(other, _)| *other == adapter) {
                Some((_, rows)) => rows.push(row),
                None => self.groups.push((adapter, vec![row])),
            }
        }
    }

    /// Adds to `out` [rows, outputs], the product of `x` [rows, inputs], what the rows' adapters add to it. A row's sum is
    /// its own: the others of its group run beside it.
    pub(super) fn add(&mut self, cpu: &Cpu, linear: &Linear, x: &[f32], out: &mut [f32]) {
        let Self { groups, input, inner, output } = self;
        let (inputs, outputs) = (linear.matrix.k(), linear.matrix.n());
        for (adapter, rows) in groups {
            let Some(terms) = linear.adapters.get(*adapter).filter(|terms| !terms.is_empty()) else {
                continue;
            };
            input.resize(rows.len() * inputs);
            for (input, row) in input.chunks_exact_mut(inputs).zip(rows.iter()) {
                input.copy_from_slice(&x[row * inputs..(row + 1) * inputs]);
            }
            for Term { a, b, scale, first } in terms {
                inner.resize(rows.len() * a.n());
                a.matmul(cpu, input, None, inner);
                output.resize(rows.len() * b.n());
                b.matmul(cpu, inner, None, output);
                for (output, row) in output.chunks_exact(b.n()).zip(rows.iter()) {
                    let first = row * outputs + first;
                    add_row(cpu.isa, &mut out[first..first + b.n()], output, *scale);
                }
            }
        }
    }
}
