//! The CPU's arithmetic. `unsafe` lives in this room only.
//!
//! The promise of the house, same request, same bytes, begins here. Every kernel obeys one law:
//!
//! - a value of a row is computed from that row alone, by the same operations in the same order, however many rows there
//!   are, however they are shared out to threads and whichever instruction set runs them;
//! - vectors have 16 lanes everywhere. AVX-512 holds them in one register, AVX2 in two, the scalar fallback in an array;
//! - in a matrix product output columns are lanes: each output is one accumulator, `k` runs upwards, one fused
//!   multiply-add a step. Weights of bfloat16 have an order of their own, that of the matrix unit (`matrix::bf16`); of
//!   quantized weights a block is a step, whose own sum is exact in integers. Sums along a row put element `i` in lane
//!   `i % 16` and add the lanes in one fixed tree;
//! - operations are IEEE 754's correctly rounded ones (add, multiply, fused multiply-add, divide, square root).
//!   exp, tanh, sin, cos and logarithm are our own, since those of the C library differ between systems.
//!
//! Scalar, AVX2 and AVX-512, with VNNI and without, and AMX therefore agree bit for bit, which the tests here check.
//!
//! - [`isa`]: which instruction set runs, chosen at run time.
//! - [`simd`]: sixteen lanes, written once for each instruction set.
//! - [`pool`]: threads that fork and join in microseconds.
//! - [`cpu`]: both of them together, which every operation takes.
//! - [`matrix`]: packed weights and their product with rows. [`quantized`]: those in blocks of small integers.
//!   `matrix_unit`: tiles of bfloat16 (AMX).
//! - [`norm`], [`activation`], [`softmax`], [`rotary`], [`attention`]: the rest of a decoder.
//! - [`math`]: exp, tanh and erfc of sixteen lanes. [`precise`]: functions in f64 for tables.
//! - [`vector`]: sums of rows. [`mapped`]: files seen as memory.
//! - [`dtype`]: element types of weights, and of the KV cache.

pub mod activation;
pub mod aligned;
pub mod attention;
pub mod cpu;
pub mod dtype;
pub mod isa;
pub mod mapped;
pub mod math;
pub mod matrix;
#[cfg(target_arch = "x86_64")]
mod matrix_unit;
pub mod norm;
pub mod pool;
pub mod precise;
pub mod quantized;
pub mod rotary;
pub mod simd;
pub mod softmax;
mod split;
pub mod vector;

#[cfg(test)]
mod reference;

pub use aligned::Aligned;
pub use cpu::Cpu;
pub use dtype::Dtype;
pub use isa::Isa;
pub use matrix::{Matrix, Row};
pub use quantized::blocks::Quantization;
