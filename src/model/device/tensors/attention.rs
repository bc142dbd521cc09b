//! Attention over keys and values that are gathered from the blocks of the cache.

use candle_core::{D, DType, Device, Result, Tensor};

use super::{
    ops::soft_cap,
    step::{Span, Step},
};
use crate::model::{BLOCK, description};

/// Keys and values of one layer, [kv heads, slots, head dim] each; a block is [`BLOCK`] slots.
pub(super) struct Cache {
    keys: Tensor,
    values: Tensor,
}

pub(super) struct Attention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f64,
    soft_cap: Option<f32>,
    window: Option<usize>,
    /// [kv heads, 1, group, 1, 1], as the slopes.
    sinks: Option<Tensor>,
    slopes: Option<Tensor>,
}

impl Cache {
    pub(super) fn copy_block(&self, from: usize, to: usize) -> Result<()> {
        let slots = (from * BLOCK) as u32..((from + 1) * BLOCK) as u32;
        let slots = Tensor::arange(slots.start, slots.end, self.keys.device())?;
        for plane in [&self.keys, &self.values] {
            plane.slice_set(&plane.index_select(&slots, 1)?, 1, to * BLOCK)?;
        }
        Ok(())
    }
}

impl Attention {
    pub(super) fn new(
        from: &description::Attention,
        sinks: Option<Vec<f32>>,
        device: &Device,
    ) -> Result<Self> {
        let description::Attention { heads, kv_heads, head_dim, scale, soft_cap, window, .. } = *from;
        let of_heads =
            |values: Vec<f32>| Tensor::from_vec(values, (kv_heads, 1, heads / kv_heads, 1, 1), device);
        Ok(Self {
            heads,
            kv_heads,
            head_dim,
            scale: f64::from(scale),
            soft_cap,
            window,
            sinks: sinks.map(of_heads).transpose()?,
            slopes: from.slopes.clone().map(of_heads).transpose()?,
        })
    }

    pub(super) fn cache(&self, blocks: usize, dtype: DType, device: &Device) -> Result<Cache> {
        let zeros = || Tensor::zeros((self.kv_heads, blocks * BLOCK, self.head_dim), dtype, device);
        Ok(Cache { keys: zeros()?, values: zeros()? })
    }

    /// Puts `keys` and `values` [rows, kv heads × head dim] into the rows' slots.
    pub(super) fn remember(&self, cache: &Cache, step: &Step, keys: &Tensor, values: &Tensor) -> Result<()> {
        let shape = (self.kv_heads, step.rows, self.head_dim);
        let slots = step.slots.reshape((1, step.rows, 1))?.broadcast_as(shape)?.contiguous()?;
        for (into, from) in [(&cache.keys, keys), (&cache.values, values)] {
            let by_head = from.reshape((step.rows, self.kv_heads, self.head_dim))?.transpose(0, 1)?;
            into.scatter_set(&slots, &by_head.to_dtype(into.dtype())?.contiguous()?, 1)?;
        }
        Ok(())
    }

    /// `queries` [rows, heads × head dim] to the same shape.
    pub(super) fn attend(&self, cache: &Cache, step: &Step, queries: &Tensor) -> Result<Tensor> {
        let group = |span: &Span| {
            let own = queries.narrow(0, span.first, span.sequences * span.length)?;
            self.attend_group(cache, span, &own)
        };
        let groups = step.spans(self.window).iter().map(group).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&groups, 0)
    }

    fn attend_group(&self, cache: &Cache, span: &Span, queries: &Tensor) -> Result<Tensor> {
        let Span { sequences, length, context, .. } = *span;
        let group = self.heads / self.kv_heads;
        // Queries that share a head of keys are rows of one product.
        let folded = |width| (self.kv_heads, sequences, group * length, width);
        let unfolded = |width| (self.kv_heads, sequences, group, length, width);
        let queries = queries
            .reshape((sequences, length, self.kv_heads, group, self.head_dim))?
            .permute((2, 0, 3, 1, 4))?
            .to_dtype(cache.keys.dtype())?
            .contiguous()?
            .reshape(folded(self.head_dim))?;
        let gather = |from: &Tensor| {
            let gathered = from.index_select(&span.slots, 1)?;
            gathered.reshape((self.kv_heads, sequences, context, self.head_dim))
        };
        let scores = queries.matmul(&gather(&cache.keys)?.t()?)?.to_dtype(DType::F32)?;
        let mut scores = soft_cap(&(scores * self.scale)?, self.soft_cap)?.reshape(unfolded(context))?;
        if let (Some(slopes), Some(distances)) = (&self.slopes, &span.distances) {
            scores = scores.broadcast_add(&slopes.broadcast_mul(distances)?)?;
        }
        if let Some(mask) = &span.mask {
            scores = scores.broadcast_add(mask)?;
        }
        let mut largest = scores.max_keepdim(D::Minus1)?;
        if let Some(sinks) = &self.sinks {
            largest = largest.broadcast_maximum(sinks)?;
        }
        let exponentials = scores.broadcast_sub(&largest)?.exp()?;
        let mut sum = exponentials.sum_keepdim(D::Minus1)?;
        if let Some(sinks) = &self.sinks {
            sum = (sum + sinks.broadcast_sub(&largest)?.exp()?)?;
        }
        let weights = exponentials.to_dtype(cache.values.dtype())?.reshape(folded(context))?;
        let weighted = weights.matmul(&gather(&cache.values)?)?.to_dtype(DType::F32)?;
        weighted
            .reshape(unfolded(self.head_dim))?
            .broadcast_div(&sum)?
            .permute((1, 3, 0, 2, 4))?
            .reshape((sequences * length, self.heads * self.head_dim))
    }
}
