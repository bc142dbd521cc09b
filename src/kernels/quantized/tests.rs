use half::f16;

use super::*;
use crate::kernels::{
    Dtype, Isa, Matrix, Row,
    reference::{all_ways, bits, numbers},
};

/// Noise in blocks, with scales of either sign that are finite.
fn noise(kind: Quantization, n: usize, k: usize, seed: u64) -> Vec<u8> {
    let (elements, size) = kind.block();
    let count = n * k / elements;
    let random = numbers(count * size, seed);
    let mut bytes: Vec<u8> = random.iter().map(|x| ((x + 1.0) * 127.99) as u8).collect();
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        let scale = f16::from_f32(random[i] * 0.05).to_le_bytes();
        let minimum = f16::from_f32(random[i + 1] * 0.3).to_le_bytes();
        match kind {
            Quantization::Q4_0 | Quantization::Q5_0 | Quantization::Q8_0 => {
                block[..2].copy_from_slice(&scale)
            }
            Quantization::Q4_1 | Quantization::Q5_1 | Quantization::Q4K | Quantization::Q5K => {
                block[..2].copy_from_slice(&scale);
                block[2..4].copy_from_slice(&minimum);
            }
            Quantization::Q6K => block[208..].copy_from_slice(&scale),
            // Now and then the smallest, which are no normal numbers.
            Quantization::Mxfp4 => block[0] = if i % 7 == 0 { block[0] % 3 } else { 120 + block[0] % 8 },
        }
    }
    bytes
}

fn rows(data: &[u8], kind: Quantization, n: usize, k: usize) -> Vec<Row<'_>> {
    (0..n).map(|row| Row { data, dtype: Dtype::Quantized(kind), first: row * k, step: 1 }).collect()
}

/// Shapes with panels that are not full and records that are not.
fn shapes(kind: Quantization) -> [(usize, usize); 3] {
    if kind.block().0 == 256 { [(16, 256), (7, 512), (37, 768)] } else { [(16, 32), (7, 288), (37, 672)] }
}

fn widened(kind: Quantization, data: &[u8]) -> Vec<f32> {
    let (elements, size) = kind.block();
    let mut values = vec![0.0; data.len() / size * elements];
    Dtype::Quantized(kind).widen(data, 0, &mut values);
    values
}

#[test]
fn the_same_bits_whatever_runs_and_however_many_rows() {
    const M: usize = 70;
    for kind in Quantization::ALL {
        for (n, k) in shapes(kind) {
            let data = noise(kind, n, k, 1);
            let (x, bias) = (numbers(M * k, 2), numbers(n, 3));
            let mut expected: Option<Vec<u32>> = None;
            for cpu in all_ways() {
                let matrix = Matrix::pack(&cpu, k, &rows(&data, kind, n, k));
                let multiply = |m: usize| {
                    let mut out = vec![0.0; m * n];
                    matrix.matmul(&cpu, &x[..m * k], Some(&bias), &mut out);
                    bits(&out)
                };
                let expected = expected.get_or_insert_with(|| multiply(M));
                for m in [1, 2, 3, 5, 7, 13, 65] {
                    assert!(multiply(m) == expected[..m * n], "{kind:?} {n}×{k} m={m} {}", cpu.isa.name());
                }
            }
        }
    }
}

/// More rows than the matrix unit takes before it unpacks weights again.
#[test]
fn the_same_bits_for_many_rows() {
    const M: usize = 530;
    for kind in [Quantization::Q8_0, Quantization::Q4K, Quantization::Q6K] {
        let (n, k) = shapes(kind)[1];
        let data = noise(kind, n, k, 20);
        let (x, bias) = (numbers(M * k, 21), numbers(n, 22));
        let mut expected: Option<Vec<u32>> = None;
        for cpu in all_ways() {
            let mut out = vec![0.0; M * n];
            Matrix::pack(&cpu, k, &rows(&data, kind, n, k)).matmul(&cpu, &x, Some(&bias), &mut out);
            let expected = expected.get_or_insert_with(|| bits(&out));
            assert!(bits(&out) == *expected, "{kind:?} {}", cpu.isa.name());
        }
    }
}

#[test]
fn each_row_is_what_it_is_alone() {
    for kind in Quantization::ALL {
        let (n, k) = shapes(kind)[2];
        let data = noise(kind, n, k, 4);
        let x = numbers(9 * k, 5);
        for cpu in all_ways() {
            let matrix = Matrix::pack(&cpu, k, &rows(&data, kind, n, k));
            let mut all = vec![0.0; 9 * n];
            matrix.matmul(&cpu, &x, None, &mut all);
            for (x, all) in x.chunks_exact(k).zip(all.chunks_exact(n)) {
                let mut alone = vec![0.0; n];
                matrix.matmul(&cpu, x, None, &mut alone);
                assert_eq!(bits(&alone), bits(all), "{kind:?} {}", cpu.isa.name());
            }
        }
    }
}

#[test]
fn close_to_f64() {
    for kind in Quantization::ALL {
        let (n, k) = shapes(kind)[2];
        let data = noise(kind, n, k, 6);
        let weights = widened(kind, &data);
        let x = numbers(3 * k, 7);
        let cpu = Cpu::new(Isa::detect(), 2);
        let quantized = Rows::quantize(&cpu, &x, k);
        let mut out = vec![0.0; 3 * n];
        Matrix::pack(&cpu, k, &rows(&data, kind, n, k)).matmul(&cpu, &x, None, &mut out);
        for (i, out) in out.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let terms: Vec<f64> =
                (0..k).map(|i| f64::from(weights[column * k + i]) * quantized.value(row, i)).collect();
            let (exact, size): (f64, f64) = (terms.iter().sum(), terms.iter().map(|term| term.abs()).sum());
            // Some roundings of 2^-24 a block, of partial sums no larger than all terms' sizes.
            let error = (f64::from(*out) - exact).abs() / size;
            assert!(error < 2e-6, "{kind:?} [{row}, {column}]: {out} {exact}");
        }
    }
}

/// The formula at the head of this room, step by step.
#[test]
fn as_the_formula_says() {
    for kind in [Quantization::Q8_0, Quantization::Q4K, Quantization::Q6K] {
        let (n, k) = shapes(kind)[1];
        let data = noise(kind, n, k, 8);
        let x = numbers(k, 9);
        let cpu = Cpu::new(Isa::detect(), 1);
        let quantized = Rows::quantize(&cpu, &x, k);
        let mut out = vec![0.0; n];
        Matrix::pack(&cpu, k, &rows(&data, kind, n, k)).matmul(&cpu, &x, None, &mut out);
        let (elements, size) = kind.block();
        let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        for (column, out) in out.iter().enumerate() {
            let mut sum = 0.0f32;
            for (index, row) in quantized.row(0).iter().enumerate() {
                let block = &data[(column * k + index * 32) / elements * size..][..size];
                let sub = index % (elements / 32);
                let quants = kind.quants(block, sub);
                let dot = |range: Range<usize>, zero: i32| -> f32 {
                    let xs = row.quants.as_flattened();
                    let terms = range.map(|i| (i32::from(quants[i]) - zero) * i32::from(xs[i]));
                    terms.sum::<i32>() as f32
                };
                match kind {
                    Quantization::Q8_0 => sum = dot(0..32, 128).mul_add(half(block) * row.scale, sum),
                    Quantization::Q6K => {
                        for part in 0..2 {
                            let own = f32::from(block[192 + 2 * sub + part].cast_signed());
                            let scale = half(&block[208..]) * own * row.scale;
                            sum = dot(part * 16..part * 16 + 16, 32).mul_add(scale, sum);
                        }
                    }
                    _ => {
                        let (scale, minimum) = blocks::sub_block(block, sub);
                        sum = dot(0..32, 0).mul_add(half(block) * f32::from(scale) * row.scale, sum);
                        sum = (half(&block[2..]) * f32::from(minimum)).mul_add(row.minus_sum, sum);
                    }
                }
            }
            assert_eq!(out.to_bits(), sum.to_bits(), "{kind:?} column {column}");
        }
    }
}

#[test]
fn rows_come_back_as_the_file_has_them() {
    for kind in Quantization::ALL {
        for (n, k) in shapes(kind) {
            let data = noise(kind, n, k, 10);
            let matrix = Matrix::pack(&Cpu::new(Isa::detect(), 2), k, &rows(&data, kind, n, k));
            let mut row = vec![0.0; k];
            for (i, expected) in widened(kind, &data).chunks_exact(k).enumerate() {
                matrix.row(i, &mut row);
                assert_eq!(row, expected, "{kind:?}");
            }
        }
    }
}

#[test]
fn several_types_in_one_matrix() {
    let k = 512;
    let parts = [
        (Dtype::Quantized(Quantization::Q4K), 40),
        (Dtype::F32, 3),
        (Dtype::Quantized(Quantization::Q6K), 17),
    ];
    let data: Vec<Vec<u8>> = parts
        .iter()
        .map(|(dtype, n)| match dtype {
            Dtype::Quantized(kind) => noise(*kind, *n, k, 11),
            _ => numbers(n * k, 12).iter().flat_map(|x| x.to_le_bytes()).collect(),
        })
        .collect();
    let of = |part: usize| {
        let (dtype, n) = parts[part];
        let data = &data[part];
        (0..n).map(move |row| Row { data, dtype, first: row * k, step: 1 }).collect::<Vec<_>>()
    };
    let all: Vec<Row<'_>> = (0..3).flat_map(of).collect();
    let (x, bias) = (numbers(5 * k, 13), numbers(60, 14));
    for cpu in all_ways() {
        let together = Matrix::pack(&cpu, k, &all);
        let mut out = vec![0.0; 5 * 60];
        together.matmul(&cpu, &x, Some(&bias), &mut out);
        let mut first = 0;
        for (part, (_, n)) in parts.iter().enumerate() {
            let alone = Matrix::pack(&cpu, k, &of(part));
            let mut expected = vec![0.0; 5 * n];
            alone.matmul(&cpu, &x, Some(&bias[first..first + n]), &mut expected);
            for (out, expected) in out.chunks_exact(60).zip(expected.chunks_exact(*n)) {
                assert_eq!(bits(&out[first..first + n]), bits(expected));
            }
            let (mut row, mut own) = (vec![0.0; k], vec![0.0; k]);
            together.row(first + 2, &mut row);
            alone.row(2, &mut own);
            assert_eq!(row, own);
            first += n;
        }
    }
}

#[test]
fn what_is_not_finite_gives_nan_in_its_own_row() {
    for kind in Quantization::ALL {
        let (n, k) = shapes(kind)[1];
        let data = noise(kind, n, k, 15);
        for cpu in all_ways() {
            let matrix = Matrix::pack(&cpu, k, &rows(&data, kind, n, k));
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for m in [3, 18] {
                    let mut x = numbers(m * k, 16);
                    x[k + k / 2] = odd;
                    let mut out = vec![0.0; m * n];
                    matrix.matmul(&cpu, &x, None, &mut out);
                    assert!(out[n..2 * n].iter().all(|out| out.is_nan()), "{kind:?} {odd}");
                    assert!(
                        out[..n].iter().chain(&out[2 * n..]).all(|out| out.is_finite()),
                        "{kind:?} {odd}"
                    );
                }
            }
        }
    }
}

#[test]
fn largest_quants_do_not_overflow() {
    let k = 256;
    for kind in Quantization::ALL {
        let (elements, size) = kind.block();
        for byte in [0, 0x7F, 0x80, 0xFF] {
            let mut data = vec![byte; 16 * k / elements * size];
            for block in data.chunks_exact_mut(size) {
                match kind {
                    Quantization::Mxfp4 => block[0] = 127,
                    Quantization::Q6K => block[208..].copy_from_slice(&f16::ONE.to_le_bytes()),
                    _ => block[..2].copy_from_slice(&f16::ONE.to_le_bytes()),
                }
                if matches!(
                    kind,
                    Quantization::Q4_1 | Quantization::Q5_1 | Quantization::Q4K | Quantization::Q5K
                ) {
                    block[2..4].copy_from_slice(&f16::ONE.to_le_bytes());
                }
            }
            let weights = widened(kind, &data);
            for x in [vec![1.0; k], vec![-1.0; k]] {
                let exact: f64 =
                    weights[..k].iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                for cpu in all_ways() {
                    let mut out = vec![0.0; 16];
                    Matrix::pack(&cpu, k, &rows(&data, kind, 16, k)).matmul(&cpu, &x, None, &mut out);
                    let error = (f64::from(out[0]) - exact).abs();
                    let message = format!("{kind:?} {byte} {} {}: {exact}", cpu.isa.name(), out[0]);
                    assert!(error <= 1e-5 * exact.abs(), "{message}");
                }
            }
        }
    }
}

#[test]
fn packed_weights_take_little_more_than_the_file() {
    for kind in Quantization::ALL {
        let (elements, size) = kind.block();
        for (n, k) in [(8192, 2048), (896, if elements == 32 { 896 } else { 4864 })] {
            let (packed, file) = (Matrix::bytes(n, k, Dtype::Quantized(kind)), n * k / elements * size);
            assert!(packed as f64 <= 1.03 * file as f64, "{kind:?} {packed} {file}");
        }
    }
}
