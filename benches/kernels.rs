//! How fast each kernel is, beside what the machine can do: `cargo bench --bench kernels`.
//!
//! GB/s are of the bytes that have to be read, Gelem/s of floating-point operations (a multiplication and an addition are two),
//! so they stand for GFLOP/s. The group `machine` has the limits: reading memory, and the lanes' own arithmetic without memory.
//! Weights are larger than caches where one row is multiplied, as a model's are.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sconce::kernels::{
    Cpu, Dtype, Isa, Matrix, Quantization, Row,
    activation::Activation,
    attention::{Attention, KvLayer, KvType, Place},
    isa::Kernel,
    norm::{Norm, NormKind},
    pool,
    simd::{LANES, Simd},
    softmax::Softmax,
};

/// Inputs of a product.
const K: usize = 2048;
/// Outputs: a vocabulary's worth for one row, a layer's for many.
const HEAD: usize = 32_768;
const LAYER: usize = 5632;
const PROMPT: usize = 512;

/// Numbers of both signs without a pattern that matters, all small.
fn numbers(count: usize) -> Vec<f32> {
    let hash = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 8;
    (0..count).map(|i| hash(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Steps of independent multiply-adds, enough of them to fill the pipelines.
struct MultiplyAdd {
    steps: usize,
}

const SUMS: usize = 12;

impl Kernel for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (a, b) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
        let mut sums = [simd.splat(0.0); SUMS];
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| simd.sum(sum)).sum()
    }
}

/// Steps of integer dot products of four bytes a lane.
struct Dot {
    steps: usize,
}

impl Kernel for Dot {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (weights, x) = (black_box([3; 4 * LANES]), black_box([1, -2, 3, -4]));
        let mut sums = [simd.ints(0); SUMS];
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = simd.dot(*sum, &weights, x);
            }
        }
        sums.into_iter().map(|sum| simd.sum(simd.floats(sum))).sum()
    }
}

fn machine(c: &mut Criterion) {
    let cpu = Cpu::new(Isa::detect(), pool::cores());
    let mut group = c.benchmark_group("machine");
    let memory: Vec<u64> = (0..64 << 20).collect();
    let parts: Vec<&[u64]> = memory.chunks(1 << 18).collect();
    group.throughput(Throughput::BytesDecimal(size_of_val(memory.as_slice()) as u64));
    group.bench_function("read", |b| {
        b.iter(|| {
            cpu.pool.run(parts.len(), &|part| {
                black_box(parts[part].iter().fold(0, |sum: u64, x| sum.wrapping_add(*x)));
            });
        });
    });
    let steps = 1 << 16;
    let tasks = cpu.pool.threads() * 4;
    group.throughput(Throughput::Elements((tasks * steps * SUMS * LANES * 2) as u64));
    group.bench_function("multiply-add", |b| {
        b.iter(|| {
            cpu.pool.run(tasks, &|_| {
                black_box(cpu.isa.run(MultiplyAdd { steps }));
            })
        });
    });
    group.throughput(Throughput::Elements((tasks * steps * SUMS * LANES * 8) as u64));
    group.bench_function("dot of bytes", |b| {
        b.iter(|| {
            cpu.pool.run(tasks, &|_| {
                black_box(cpu.isa.run(Dot { steps }));
            })
        });
    });
    group.finish();
}

/// Weights of one type, `n` outputs by [`K`] inputs: the bytes of one row again and again.
fn matrix(cpu: &Cpu, n: usize, dtype: Dtype) -> Matrix {
    let (elements, bytes) = dtype.block();
    let data: Vec<u8> = match dtype {
        Dtype::F32 => numbers(K).into_iter().flat_map(f32::to_le_bytes).collect(),
        // Exponents near one: no infinities, no subnormal numbers.
        Dtype::F16 | Dtype::Bf16 => (0..K).flat_map(|i| [(i * 37) as u8, 0x3c]).collect(),
        // The first byte of MXFP4 is an exponent; the first two of others are half floats, or quants.
        Dtype::Quantized(Quantization::Mxfp4) => {
            (0..K / elements * bytes).map(|i| if i % bytes == 0 { 120 } else { (i * 37) as u8 }).collect()
        }
        Dtype::Quantized(_) => (0..K / elements * bytes).map(|i| (i * 37 % 61) as u8).collect(),
    };
    let rows = vec![Row { data: &data, dtype, first: 0, step: 1 }; n];
    Matrix::pack(cpu, K, &rows)
}

fn products(c: &mut Criterion) {
    let cpu = Cpu::new(Isa::detect(), pool::cores());
    let types = [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter();
    let types: Vec<Dtype> = types.chain(Quantization::ALL.map(Dtype::Quantized)).collect();
    for (name, n, m) in [("one row", HEAD, 1), ("16 rows", LAYER, 16), ("512 rows", LAYER, PROMPT)] {
        let mut group = c.benchmark_group(format!("product, {name}"));
        for &dtype in &types {
            let weights = matrix(&cpu, n, dtype);
            let x = numbers(m * K);
            let mut out = vec![0.0; m * n];
            let bytes = Matrix::bytes(n, K, dtype);
            group.throughput(if m == 1 {
                Throughput::BytesDecimal(bytes as u64)
            } else {
                Throughput::Elements((2 * m * n * K) as u64)
            });
            group.bench_function(dtype.name(), |b| b.iter(|| weights.matmul(&cpu, &x, None, &mut out)));
        }
        group.finish();
    }
}

fn attention(c: &mut Criterion) {
    const HEAD_DIM: usize = 64;
    let cpu = Cpu::new(Isa::detect(), pool::cores());
    let attention =
        Attention { heads: 32, kv_heads: 4, head_dim: HEAD_DIM, scale: 0.125, ..Attention::default() };
    let mut group = c.benchmark_group("attention");
    for (name, kv) in [("f32", KvType::F32), ("bf16", KvType::Bf16)] {
        for (what, context, rows) in [("decode at 4096", 4096, 1), ("prefill of 512", PROMPT, PROMPT)] {
            let blocks: Vec<u32> = (0..(context / LANES) as u32).collect();
            let mut cache = KvLayer::new(kv, blocks.len(), attention.kv_heads, HEAD_DIM);
            let keys = numbers(attention.kv_heads * HEAD_DIM);
            for position in 0..context {
                cache.put(position / LANES, position % LANES, &keys, &keys);
            }
            let places: Vec<Place<'_>> =
                (context - rows..context).map(|position| Place { position, blocks: &blocks }).collect();
            let width = attention.heads * HEAD_DIM;
            let queries = numbers(rows * width);
            let mut out = vec![0.0; rows * width];
            let seen: usize = places.iter().map(|place| place.position + 1).sum();
            // A score and its share of the values, for each head, position seen and element.
            group.throughput(Throughput::Elements((4 * seen * width) as u64));
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| attention.attend(&cpu, &cache, &places, (&queries, width), &mut out));
            });
        }
    }
    group.finish();
}

fn rows(c: &mut Criterion) {
    let cpu = Cpu::new(Isa::detect(), pool::cores());
    let mut group = c.benchmark_group("rows");
    let x = numbers(PROMPT * K);
    let bytes = |values: usize| Throughput::BytesDecimal((4 * values) as u64);
    let mut out = vec![0.0; PROMPT * K];
    let norm = Norm { kind: NormKind::Rms, eps: 1e-5, weight: Some(vec![1.0; K]), bias: None, width: K };
    group.throughput(bytes(2 * PROMPT * K));
    group.bench_function("RMSNorm", |b| b.iter(|| norm.apply(&cpu, &x, &mut out)));
    group.throughput(bytes(PROMPT * K + PROMPT * K / 2));
    group.bench_function("SiLU gate", |b| {
        b.iter(|| Activation::Silu.gate(&cpu, &x, K / 2, &mut out[..PROMPT * K / 2]));
    });
    let mut scores = numbers(PROMPT * K);
    group.throughput(bytes(2 * PROMPT * K));
    group.bench_function("softmax", |b| {
        b.iter(|| cpu.for_rows(&mut scores, K, |_, row| cpu.isa.run(Softmax(row))));
    });
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = machine, products, attention, rows
}
criterion_main!(kernels);
