//! What lies between the products.

use candle_core::{D, Result, Tensor};

use crate::kernels::{
    activation::Activation,
    rotary::{Pairing, Rotary},
};

/// Cosines and sines [rows, 1, pairs] of each row's position.
pub(super) struct Angles {
    pub(super) cosines: Tensor,
    pub(super) sines: Tensor,
}

/// Turns the heads of `x` [rows, heads, head dim].
pub(super) fn turn(rotary: &Rotary, angles: &Angles, x: &Tensor) -> Result<Tensor> {
    let (rows, heads, width) = x.dims3()?;
    let half = rotary.frequencies.len();
    let Angles { cosines, sines } = angles;
    let turned = |a: &Tensor, b: &Tensor| -> Result<[Tensor; 2]> {
        let first = (a.broadcast_mul(cosines)? - b.broadcast_mul(sines)?)?;
        Ok([first, (b.broadcast_mul(cosines)? + a.broadcast_mul(sines)?)?])
    };
    let mut parts = match rotary.pairing {
        Pairing::Halves => turned(&x.narrow(2, 0, half)?, &x.narrow(2, half, half)?)?.to_vec(),
        Pairing::Neighbours => {
            let pairs = x.narrow(2, 0, 2 * half)?.reshape((rows, heads, half, 2))?;
            let member = |i| pairs.narrow(3, i, 1)?.squeeze(3);
            let turned = turned(&member(0)?, &member(1)?)?;
            vec![Tensor::stack(&turned, 3)?.reshape((rows, heads, 2 * half))?]
        }
    };
    if 2 * half < width {
        parts.push(x.narrow(2, 2 * half, width - 2 * half)?);
    }
    Tensor::cat(&parts, 2)
}

/// cap · tanh(x / cap).
pub(super) fn soft_cap(x: &Tensor, cap: Option<f32>) -> Result<Tensor> {
    match cap.map(f64::from) {
        Some(cap) => (x / cap)?.tanh()? * cap,
        None => Ok(x.clone()),
    }
}

pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// The activation of each value.
pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
        Activation::GptOss => x * sigmoid(&(x * 1.702)?)?,
    }
}

/// activation(gate) · up of `pairs` [rows, 2 × width], whose rows hold the gates first.
pub(super) fn gate(activation: Activation, pairs: &Tensor) -> Result<Tensor> {
    let width = pairs.dim(D::Minus1)? / 2;
    let gate = pairs.narrow(1, 0, width)?.contiguous()?;
    let up = pairs.narrow(1, width, width)?.contiguous()?;
    if activation == Activation::GptOss {
        let gate = gate.minimum(7.0)?;
        let up = (up.clamp(-7.0, 7.0)? + 1.0)?;
        return activate(activation, &gate)? * up;
    }
    activate(activation, &gate)? * up
}
