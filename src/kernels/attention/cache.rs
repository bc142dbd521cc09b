//! Keys and values of one layer, in blocks.
//!
//! A block holds as many positions as a vector has lanes. Keys lie as `[block][kv head][head dim][16 positions]`, so that
//! sixteen scores are computed at once with positions as lanes; values as `[block][kv head][16 positions][head dim]`,
//! filled up to whole vectors, so that the output's elements are lanes. Neither needs a sum across lanes.

use std::ops::Range;

use half::bf16;

use crate::kernels::{aligned::Aligned, dtype::Element, simd::LANES};

/// What keys and values are kept as. It is fixed for a model, since the answers depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    #[default]
    F32,
    Bf16,
}

impl KvType {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Keys and values of one layer.
pub struct KvLayer {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) store: Store,
}

pub(super) enum Store {
    F32(Planes<f32>),
    Bf16(Planes<bf16>),
}

pub(super) struct Planes<T> {
    pub(super) keys: Aligned<T>,
    pub(super) values: Aligned<T>,
}

impl KvLayer {
    /// Room for `blocks` blocks of sixteen positions.
    #[must_use]
    pub fn new(kv: KvType, blocks: usize, kv_heads: usize, head_dim: usize) -> Self {
        let store = match kv {
            KvType::F32 => Store::F32(Planes::new(blocks * kv_heads, head_dim)),
            KvType::Bf16 => Store::Bf16(Planes::new(blocks * kv_heads, head_dim)),
        };
        Self { kv_heads, head_dim, store }
    }

    /// Whether it is for such heads.
    #[must_use]
    pub fn fits(&self, kv_heads: usize, head_dim: usize) -> bool {
        (self.kv_heads, self.head_dim) == (kv_heads, head_dim)
    }

    /// Bytes that a block of sixteen positions takes.
    #[must_use]
    pub fn block_bytes(kv: KvType, kv_heads: usize, head_dim: usize) -> usize {
        (head_dim + head_dim.next_multiple_of(LANES)) * LANES * kv_heads * kv.size()
    }

    /// Stores the keys and values (`kv_heads * head_dim` each) of the position in `slot` of `block`.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn put(&mut self, block: usize, slot: usize, keys: &[f32], values: &[f32]) {
        assert!(slot < LANES, "sixteen positions a block");
        let heads = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim));
        for (head, (key, value)) in heads.enumerate() {
            let page = block * self.kv_heads + head;
            match &mut self.store {
                Store::F32(planes) => planes.put(page, slot, key, value),
                Store::Bf16(planes) => planes.put(page, slot, key, value),
            }
        }
    }

    /// Makes block `to` hold what block `from` does.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let pages = from * self.kv_heads..(from + 1) * self.kv_heads;
        match &mut self.store {
            Store::F32(planes) => planes.copy(pages, to * self.kv_heads, self.head_dim),
            Store::Bf16(planes) => planes.copy(pages, to * self.kv_heads, self.head_dim),
        }
    }
}

impl<T: Element> Planes<T> {
    fn new(pages: usize, head_dim: usize) -> Self {
        let keys = Aligned::zeroed(pages * head_dim * LANES);
        Self { keys, values: Aligned::zeroed(pages * head_dim.next_multiple_of(LANES) * LANES) }
    }

    fn copy(&mut self, from: Range<usize>, to: usize, head_dim: usize) {
        let planes = [(&mut self.keys, head_dim), (&mut self.values, head_dim.next_multiple_of(LANES))];
        for (plane, width) in planes {
            let page = width * LANES;
            plane.copy_within(from.start * page..from.end * page, to * page);
        }
    }

    fn put(&mut self, page: usize, slot: usize, key: &[f32], value: &[f32]) {
        let keys = &mut self.keys[page * key.len() * LANES..(page + 1) * key.len() * LANES];
        for (place, &key) in keys[slot..].iter_mut().step_by(LANES).zip(key) {
            *place = T::narrow(key);
        }
        let width = value.len().next_multiple_of(LANES);
        let first = (page * LANES + slot) * width;
        for (place, &value) in self.values[first..first + value.len()].iter_mut().zip(value) {
            *place = T::narrow(value);
        }
    }
}
