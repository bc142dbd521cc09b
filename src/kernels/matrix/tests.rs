use half::bf16;

use super::*;
use crate::kernels::{
    isa::Isa,
    reference::{all_ways, bits, numbers},
};

fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let each = |&value: &f32| match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::Quantized(_) => panic!("not made of single numbers"),
    };
    values.iter().flat_map(each).collect()
}

fn rows(data: &[u8], dtype: Dtype, n: usize, k: usize) -> Vec<Row<'_>> {
    (0..n).map(|row| Row { data, dtype, first: row * k, step: 1 }).collect()
}

/// Rows of three tasks.
const ALL: usize = 131;

#[test]
fn the_same_bits_whatever_runs_and_however_many_rows() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for (n, k) in [(16, 8), (7, 5), (300, 67), (144, 256)] {
            let data = bytes(&numbers(n * k, 1), dtype);
            let (x, bias) = (numbers(ALL * k, 2), numbers(n, 3));
            let mut expected: Option<Vec<u32>> = None;
            for cpu in all_ways() {
                let matrix = Matrix::pack(&cpu, k, &rows(&data, dtype, n, k));
                for m in [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 21, 25, 61, 71, 121, ALL] {
                    let mut out = vec![0.0; m * n];
                    matrix.matmul(&cpu, &x[..m * k], Some(&bias), &mut out);
                    let expected = expected.get_or_insert_with(|| {
                        let mut all = vec![0.0; ALL * n];
                        matrix.matmul(&cpu, &x, Some(&bias), &mut all);
                        bits(&all)
                    });
                    assert_eq!(bits(&out), expected[..m * n], "{dtype:?} {n}×{k} m={m} {}", cpu.isa.name());
                }
            }
        }
    }
}

#[test]
fn close_to_f64() {
    let (n, k) = (50, 700);
    let weights = numbers(n * k, 5);
    let x = numbers(k, 6);
    let cpu = Cpu::new(Isa::detect(), 1);
    let data = bytes(&weights, Dtype::F32);
    let mut out = vec![0.0; n];
    Matrix::pack(&cpu, k, &rows(&data, Dtype::F32, n, k)).matmul(&cpu, &x, None, &mut out);
    for (n, out) in out.iter().enumerate() {
        let exact: f64 = (0..k).map(|i| f64::from(weights[n * k + i]) * f64::from(x[i])).sum();
        assert!((f64::from(*out) - exact).abs() < 1e-4, "{out} {exact}");
    }
}

#[test]
fn rows_come_back_as_they_went_in_and_columns_may_be_rows() {
    let (n, k) = (21, 9);
    let weights = numbers(n * k, 7);
    let data = bytes(&weights, Dtype::Bf16);
    let cpu = Cpu::new(Isa::detect(), 2);
    let transposed: Vec<Row<'_>> =
        (0..n).map(|column| Row { data: &data, dtype: Dtype::Bf16, first: column, step: n }).collect();
    let matrix = Matrix::pack(&cpu, k, &transposed);
    let mut row = vec![0.0; k];
    for column in 0..n {
        matrix.row(column, &mut row);
        let expected: Vec<f32> = (0..k).map(|i| bf16::from_f32(weights[i * n + column]).to_f32()).collect();
        assert_eq!(row, expected);
    }
}

/// What Intel's manual says of TDPBF16PS, in plain steps.
fn as_the_unit_does(weights: &[f32], x: &[f32]) -> f32 {
    let flushed = |x: f32| if x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
    let mut sum = 0.0;
    for (weights, x) in weights.chunks(32).zip(x.chunks(32)) {
        let mut parts = [0.0_f32; 2];
        for (i, (weight, x)) in weights.iter().zip(x).enumerate() {
            let x = bf16::from_f32(flushed(*x)).to_f32();
            parts[i % 2] = flushed(flushed(*weight).mul_add(x, parts[i % 2]));
        }
        sum = flushed(sum + flushed(parts[0] + parts[1]));
    }
    sum
}

#[test]
fn bfloat16_goes_the_way_of_the_matrix_unit() {
    let round = |x: f32| bf16::from_f32(x).to_f32();
    // The last scale makes products and sums subnormal, and some weights too.
    for (n, k, scale) in
        [(16, 32, 1.0), (7, 5, 1.0), (300, 67, 1e3), (65, 1100, 1.0), (33, 96, 3e-20), (17, 64, 1e-38)]
    {
        let weights: Vec<f32> = numbers(n * k, 1).into_iter().map(|x| round(x * scale)).collect();
        let x: Vec<f32> = numbers(40 * k, 2).into_iter().map(|x| x * scale.min(1.0)).collect();
        let (data, bias) = (bytes(&weights, Dtype::Bf16), numbers(n, 3));
        let plain = |row: usize, column: usize| {
            as_the_unit_does(&weights[column * k..][..k], &x[row * k..][..k]) + bias[column]
        };
        let all = (0..40).flat_map(|row| (0..n).map(move |column| (row, column)));
        let expected: Vec<u32> = all.map(|(row, column)| plain(row, column).to_bits()).collect();
        for cpu in all_ways() {
            let matrix = Matrix::pack(&cpu, k, &rows(&data, Dtype::Bf16, n, k));
            for m in [1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 40] {
                let mut out = vec![0.0; m * n];
                matrix.matmul(&cpu, &x[..m * k], Some(&bias), &mut out);
                let name = cpu.isa.name();
                assert_eq!(bits(&out), expected[..m * n], "{n}×{k} scale {scale} m={m} {name}");
            }
        }
    }
}

#[test]
fn a_gate_between_two_products_gives_the_bits_of_one_after_the_other() {
    let round = |x: Vec<f32>| bytes(&x, Dtype::Bf16);
    for (inner, k, n, activation) in [
        (64, 32, 16, Activation::Silu),
        (192, 100, 70, Activation::GeluTanh),
        (320, 1000, 33, Activation::Silu),
        (576, 4100, 40, Activation::GptOss),
        (96, 64, 32, Activation::Silu),
    ] {
        let (up, down) = (round(numbers(2 * inner * k, 1)), round(numbers(n * inner, 2)));
        let x: Vec<f32> = numbers(ALL * k, 3).into_iter().map(|x| x / 8.0).collect();
        for cpu in all_ways() {
            let up = Matrix::pack(&cpu, k, &rows(&up, Dtype::Bf16, 2 * inner, k));
            let down = Matrix::pack(&cpu, inner, &rows(&down, Dtype::Bf16, n, inner));
            for m in [63, 64, 65, 79, 80, 81, 96, 111, 112, ALL] {
                let x = &x[..m * k];
                let mut out = vec![0.0; m * n];
                let done = up.gated(&cpu, activation, &down, x, &mut out);
                let name = cpu.isa.name();
                assert_eq!(done, name == "amx" && m >= MANY && inner % 64 == 0, "{inner} m={m} {name}");
                if done {
                    let (mut pairs, mut between) = (vec![0.0; m * 2 * inner], vec![0.0; m * inner]);
                    let mut expected = vec![0.0; m * n];
                    up.matmul(&cpu, x, None, &mut pairs);
                    activation.gate(&cpu, &pairs, inner, &mut between);
                    down.matmul(&cpu, &between, None, &mut expected);
                    assert_eq!(bits(&out), bits(&expected), "{inner}×{k}, {n}, m={m}");
                }
            }
        }
    }
}
