//! From named tensors to packed weights.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use super::{
    adapter::{Adapter, Layer, Term},
    description::{FusedOrder, HeadLayout, HeadNorm, Linear as LinearName, Norm as NormName, Projections},
    error::LoadError,
    tensors::{Tensor, Tensors},
};
use crate::kernels::{Cpu, Matrix, Row, norm::Norm};

/// Endings of tensors that checkpoints carry and nobody needs: masks and tables that are computed here.
const IGNORED: [&str; 5] =
    [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];

/// What keeps matrices, in a form of its own.
pub(super) trait Pack {
    type Matrix;
    /// A matrix of `k` inputs, each of its outputs a row of as many weights.
    fn pack(&self, k: usize, rows: &[Row<'_>]) -> Result<Self::Matrix, LoadError>;
}

impl Pack for Cpu {
    type Matrix = Matrix;

    fn pack(&self, k: usize, rows: &[Row<'_>]) -> Result<Matrix, LoadError> {
        Ok(Matrix::pack(self, k, rows))
    }
}

/// A packed matrix and its bias.
pub(super) struct Linear<M = Matrix> {
    pub(super) matrix: M,
    pub(super) bias: Option<Vec<f32>>,
    /// What each adapter adds, by its number; empty where there is none.
    pub(super) adapters: Vec<Vec<Term<M>>>,
}

impl<M> Linear<M> {
    pub(super) fn new(matrix: M, bias: Option<Vec<f32>>) -> Self {
        Self { matrix, bias, adapters: Vec::new() }
    }
}

impl Linear {
    /// `x` [rows, inputs] into `out` [rows, outputs].
    pub(super) fn apply(&self, cpu: &Cpu, x: &[f32], out: &mut [f32]) {
        self.matrix.matmul(cpu, x, self.bias.as_deref(), out);
    }
}

/// Takes tensors by name, checks their shapes and remembers which were used.
pub(super) struct Builder<'a, P: Pack = Cpu> {
    packer: &'a P,
    tensors: &'a dyn Tensors,
    adapters: &'a [Adapter],
    prefix: &'static str,
    /// Taken off the names that the description gives.
    strip: &'static str,
    transposed: bool,
    used: RefCell<BTreeSet<String>>,
    /// By each adapter.
    used_by_adapters: RefCell<Vec<Vec<String>>>,
    adapts: Cell<bool>,
}

impl<'a, P: Pack> Builder<'a, P> {
    /// Checkpoints of the bare decoder lack `prefix`: names go without it when no tensor has it.
    pub(super) fn new(
        packer: &'a P,
        tensors: &'a dyn Tensors,
        adapters: &'a [Adapter],
        prefix: &'static str,
        transposed: bool,
    ) -> Self {
        let bare = !tensors.names().iter().any(|name| name.starts_with(prefix));
        let strip = if bare { prefix } else { "" };
        Self {
            packer,
            tensors,
            adapters,
            prefix,
            strip,
            transposed,
            used: RefCell::default(),
            used_by_adapters: RefCell::new(vec![Vec::new(); adapters.len()]),
            adapts: Cell::new(true),
        }
    }

    /// What is built by `build` has no adapters, so that those for it are refused in the end.
    pub(super) fn unadapted<T>(&self, build: impl FnOnce() -> T) -> T {
        let before = self.adapts.replace(false);
        let built = build();
        self.adapts.set(before);
        built
    }

    /// A stored name without the prefix that checkpoints of more than the bare model have.
    fn bare<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }

    /// The tensor of that shape.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let name = name.strip_prefix(self.strip).unwrap_or(name);
        let tensor = self.tensors.tensor(name)?.ok_or_else(|| LoadError::MissingTensor(name.to_owned()))?;
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape, shape.to_vec());
            return Err(LoadError::Shape { name: name.to_owned(), found, expected });
        }
        self.used.borrow_mut().insert(name.to_owned());
        Ok(tensor)
    }

    /// A table of at least so many rows; learned positions may be more than are served.
    pub(super) fn table(&self, name: &str, rows: usize, width: usize) -> Result<Tensor, LoadError> {
        let stored = name.strip_prefix(self.strip).unwrap_or(name);
        let found = self.tensors.tensor(stored)?.map(|tensor| tensor.shape);
        match found.as_deref() {
            Some(&[stored_rows, stored_width]) if stored_rows >= rows && stored_width == width => {
                self.tensor(name, &[stored_rows, width])
            }
            _ => self.tensor(name, &[rows, width]),
        }
    }

    /// The head's matrix lies as [vocabulary, hidden] also where the others are transposed.
    pub(super) fn head(
        &self,
        head: &LinearName,
        vocabulary: usize,
        hidden: usize,
    ) -> Result<Linear<P::Matrix>, LoadError> {
        let table = self.tensor(&format!("{}.weight", head.name), &[vocabulary, hidden])?;
        let bias = head.bias.then(|| self.vector(&format!("{}.bias", head.name), vocabulary)).transpose()?;
        Ok(Linear::new(self.pack(&table, vocabulary, hidden)?, bias))
    }

    /// A matrix of a table's rows.
    pub(super) fn pack(&self, table: &Tensor, rows: usize, width: usize) -> Result<P::Matrix, LoadError> {
        let row = |i| Row { data: &table.bytes, dtype: table.dtype, first: i * width, step: 1 };
        let packed = self.packer.pack(width, &(0..rows).map(row).collect::<Vec<_>>());
        table.bytes.release();
        packed
    }

    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        Ok(self.tensor(name, &[len])?.values())
    }

    /// One product of several linear layers of the same input; each comes with its number of outputs.
    pub(super) fn linear(
        &self,
        parts: &[(&LinearName, usize)],
        inputs: usize,
    ) -> Result<Linear<P::Matrix>, LoadError> {
        let outputs = parts.iter().map(|(_, outputs)| outputs).sum();
        self.permuted(parts, inputs, (0..outputs).collect())
    }

    /// As [`Builder::linear`], with output `i` taken from row `order[i]` of the parts together.
    fn permuted(
        &self,
        parts: &[(&LinearName, usize)],
        inputs: usize,
        order: Vec<usize>,
    ) -> Result<Linear<P::Matrix>, LoadError> {
        let mut tensors = Vec::new();
        let mut biases = Vec::new();
        for (linear, outputs) in parts {
            let shape = if self.transposed { [inputs, *outputs] } else { [*outputs, inputs] };
            tensors.push((self.tensor(&format!("{}.weight", linear.name), &shape)?, *outputs));
            if linear.bias {
                biases.extend(self.vector(&format!("{}.bias", linear.name), *outputs)?);
            } else {
                biases.extend(std::iter::repeat_n(0.0, *outputs));
            }
        }
        let row = |(tensor, outputs): &'_ (Tensor, usize), i: usize| {
            let (first, step) = if self.transposed { (i, *outputs) } else { (i * inputs, 1) };
            (tensor.dtype, first, step)
        };
        let all: Vec<Row<'_>> = tensors
            .iter()
            .flat_map(|part| {
                (0..part.1).map(move |i| {
                    let (dtype, first, step) = row(part, i);
                    Row { data: &part.0.bytes, dtype, first, step }
                })
            })
            .collect();
        let rows: Vec<Row<'_>> = order.iter().map(|&i| all[i]).collect();
        let bias = parts.iter().any(|(linear, _)| linear.bias);
        let bias = bias.then(|| order.iter().map(|&i| biases[i]).collect());
        let adapters = self.adapted(parts, inputs, &order)?;
        let matrix = self.packer.pack(inputs, &rows)?;
        tensors.iter().for_each(|(tensor, _)| tensor.bytes.release());
        Ok(Linear { adapters, ..Linear::new(matrix, bias) })
    }

    /// What each adapter adds to a product of these parts. Parts stay in one piece, in whatever order within.
    fn adapted(
        &self,
        parts: &[(&LinearName, usize)],
        inputs: usize,
        order: &[usize],
    ) -> Result<Vec<Vec<Term<P::Matrix>>>, LoadError> {
        if !self.adapts.get() {
            return Ok(Vec::new());
        }
        let mut used = self.used_by_adapters.borrow_mut();
        let each = |(adapter, used): (&Adapter, &mut Vec<String>)| {
            let mut terms = Vec::new();
            let mut first = 0;
            for (linear, outputs) in parts {
                let own: Vec<usize> = order[first..first + outputs].iter().map(|row| row - first).collect();
                let layer = Layer { name: &linear.name, outputs: *outputs, inputs, first, order: &own };
                terms.extend(adapter.term(self.packer, &layer, used)?);
                first += outputs;
            }
            Ok(terms)
        };
        self.adapters.iter().zip(&mut *used).map(each).collect()
    }

    /// Queries, keys and values of all heads, in this order.
    pub(super) fn projections(
        &self,
        projections: &Projections,
        HeadLayout { heads, kv_heads, head_dim }: HeadLayout,
        hidden: usize,
    ) -> Result<Linear<P::Matrix>, LoadError> {
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        match projections {
            Projections::Separate { query, key, value } => {
                self.linear(&[(query, queries), (key, keys), (value, keys)], hidden)
            }
            Projections::Fused { linear, order: FusedOrder::Sections } => {
                self.linear(&[(linear, queries + 2 * keys)], hidden)
            }
            Projections::Fused { linear, order: FusedOrder::Groups } => {
                let group = heads / kv_heads;
                let head = |kv: usize, member: usize| {
                    let first = (kv * (group + 2) + member) * head_dim;
                    first..first + head_dim
                };
                let queries_of = (0..heads).flat_map(|h| head(h / group, h % group));
                let keys_of = (0..kv_heads).flat_map(|kv| head(kv, group));
                let values_of = (0..kv_heads).flat_map(|kv| head(kv, group + 1));
                let order = queries_of.chain(keys_of).chain(values_of).collect();
                self.permuted(&[(linear, queries + 2 * keys)], hidden, order)
            }
        }
    }

    /// The two products of each of gpt-oss's experts. It keeps all in one tensor, with the rows of gate and up in turn;
    /// here the gate's come first.
    pub(super) fn stacked_experts(
        &self,
        name: &str,
        [count, hidden, inner]: [usize; 3],
        outputs_first: bool,
    ) -> Result<Vec<[Linear<P::Matrix>; 2]>, LoadError> {
        let tensor = |part: &str, [outputs, inputs]: [usize; 2]| {
            let shape = if outputs_first { [count, outputs, inputs] } else { [count, inputs, outputs] };
            self.tensor(&format!("{name}.{part}"), &shape)
        };
        let up = tensor("gate_up_proj", [2 * inner, hidden])?;
        let down = tensor("down_proj", [hidden, inner])?;
        let up_bias = self.tensor(&format!("{name}.gate_up_proj_bias"), &[count, 2 * inner])?.values();
        let down_bias = self.tensor(&format!("{name}.down_proj_bias"), &[count, hidden])?.values();
        let gates_first: Vec<usize> =
            (0..inner).map(|i| 2 * i).chain((0..inner).map(|i| 2 * i + 1)).collect();
        let in_order: Vec<usize> = (0..hidden).collect();
        let linear = |tensor: &Tensor, bias: &[f32], expert: usize, order: &[usize], inputs: usize| {
            let outputs = order.len();
            let row = |&row: &usize| {
                let within = if outputs_first { row * inputs } else { row };
                let step = if outputs_first { 1 } else { outputs };
                let first = expert * outputs * inputs + within;
                Row { data: &tensor.bytes, dtype: tensor.dtype, first, step }
            };
            let matrix = self.packer.pack(inputs, &order.iter().map(row).collect::<Vec<_>>())?;
            let bias = order.iter().map(|row| bias[expert * outputs + row]).collect();
            Ok::<_, LoadError>(Linear::new(matrix, Some(bias)))
        };
        let expert = |e: usize| {
            let up = linear(&up, &up_bias, e, &gates_first, hidden)?;
            Ok([up, linear(&down, &down_bias, e, &in_order, inner)?])
        };
        let experts = (0..count).map(expert).collect();
        [up, down].iter().for_each(|tensor| tensor.bytes.release());
        experts
    }

    pub(super) fn norm(&self, norm: &NormName, width: usize) -> Result<Norm, LoadError> {
        let read = |ending: &str| -> Result<Option<Vec<f32>>, LoadError> {
            norm.name.as_ref().map(|name| self.vector(&format!("{name}.{ending}"), width)).transpose()
        };
        let bias = if norm.bias { read("bias")? } else { None };
        Ok(parameters(norm, read("weight")?, bias, width))
    }

    pub(super) fn optional_norm(
        &self,
        norm: Option<&NormName>,
        width: usize,
    ) -> Result<Option<Norm>, LoadError> {
        norm.map(|norm| self.norm(norm, width)).transpose()
    }

    /// A norm of `heads` heads.
    pub(super) fn head_norm(
        &self,
        norm: Option<&HeadNorm>,
        heads: usize,
        head_dim: usize,
    ) -> Result<Option<Norm>, LoadError> {
        let Some(norm) = norm else { return Ok(None) };
        Ok(Some(match norm {
            HeadNorm::Head(norm) => self.norm(norm, head_dim)?,
            HeadNorm::Whole(norm) => self.norm(norm, heads * head_dim)?,
            HeadNorm::EachHead(norm) => {
                let name = norm.name.as_deref().unwrap_or_default();
                let weight = self.tensor(&format!("{name}.weight"), &[heads, head_dim])?.values();
                parameters(norm, Some(weight), None, head_dim)
            }
            HeadNorm::TensorEachHead(norm) => {
                let name = norm.name.as_deref().unwrap_or_default();
                let mut weight = Vec::new();
                for head in 0..heads {
                    weight.extend(self.vector(&format!("{name}.{head}.weight"), head_dim)?);
                }
                parameters(norm, Some(weight), None, head_dim)
            }
        }))
    }

    /// Fails when tensors are left over: the model would not be what its file says. Those that begin as one of `unused`
    /// do, behind the prefix, are known to be of no use.
    pub(super) fn finish(self, unused: &[&str]) -> Result<(), LoadError> {
        for (adapter, used) in self.adapters.iter().zip(&*self.used_by_adapters.borrow()) {
            adapter.finish(used)?;
        }
        let used = self.used.borrow();
        let known = |name: &String| {
            used.contains(name)
                || IGNORED.iter().any(|ending| name.ends_with(ending))
                || unused.iter().any(|start| self.bare(name).starts_with(start))
        };
        let extra: Vec<String> = self.tensors.names().into_iter().filter(|name| !known(name)).collect();
        if extra.is_empty() {
            return Ok(());
        }
        Err(LoadError::ExtraTensors { count: extra.len(), examples: extra.into_iter().take(5).collect() })
    }
}

fn parameters(norm: &NormName, weight: Option<Vec<f32>>, bias: Option<Vec<f32>>, width: usize) -> Norm {
    let offset = if norm.unit_offset { 1.0 } else { 0.0 };
    let weight = weight.map(|weight| weight.into_iter().map(|weight| weight + offset).collect());
    Norm { kind: norm.kind, eps: norm.eps, weight, bias, width }
}
