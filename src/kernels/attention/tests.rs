use super::*;
use crate::kernels::reference::{all_ways, bits, numbers};

struct Case {
    attention: Attention,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    rows: usize,
}

fn case(heads: usize, kv_heads: usize, head_dim: usize) -> Case {
    let rows = 45;
    let attention = Attention { heads, kv_heads, head_dim, scale: 0.3, ..Attention::default() };
    let kv = rows * kv_heads * head_dim;
    Case {
        attention,
        queries: numbers(rows * heads * head_dim, 1),
        keys: numbers(kv, 2),
        values: numbers(kv, 3),
        rows,
    }
}

impl Case {
    /// `together`: rows that are asked for at once.
    fn run(&self, cpu: &Cpu, kv: KvType, blocks: &[u32], together: usize) -> Vec<f32> {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let mut cache = KvLayer::new(kv, 9, kv_heads, head_dim);
        let width = kv_heads * head_dim;
        for row in 0..self.rows {
            let part = row * width..(row + 1) * width;
            let block = blocks[row / LANES] as usize;
            cache.put(block, row % LANES, &self.keys[part.clone()], &self.values[part]);
        }
        let places: Vec<Place<'_>> = (0..self.rows).map(|position| Place { position, blocks }).collect();
        let mut out = vec![0.0; self.rows * heads * head_dim];
        let width = heads * head_dim;
        let parts = places.chunks(together).zip(self.queries.chunks(together * width));
        for ((places, queries), out) in parts.zip(out.chunks_mut(together * width)) {
            self.attention.attend(cpu, &cache, places, (queries, width), out);
        }
        out
    }

    /// The textbook's formula in f64.
    fn exact(&self, row: usize, head: usize) -> Vec<f64> {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let kv_head = head / (heads / kv_heads);
        let at = |x: &[f32], row: usize, i: usize| f64::from(x[(row * kv_heads + kv_head) * head_dim + i]);
        let first = self.attention.window.map_or(0, |window| (row + 1).saturating_sub(window));
        let score = |position: usize| {
            let query = &self.queries[(row * heads + head) * head_dim..];
            let dot: f64 = (0..head_dim).map(|i| f64::from(query[i]) * at(&self.keys, position, i)).sum();
            let score = dot * f64::from(self.attention.scale);
            let score =
                self.attention.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
            let slope = self.attention.slopes.as_ref().map_or(0.0, |slopes| f64::from(slopes[head]));
            score + slope * (position as f64 - row as f64)
        };
        let sink = self.attention.sinks.as_ref().map_or(0.0, |sinks| f64::from(sinks[head]).exp());
        let sum = (first..=row).map(|position| score(position).exp()).sum::<f64>() + sink;
        let value = |i| {
            (first..=row).map(|position| score(position).exp() / sum * at(&self.values, position, i)).sum()
        };
        (0..head_dim).map(value).collect()
    }

    fn check(&self) {
        let Attention { heads, head_dim, .. } = self.attention;
        let exact: Vec<f64> = (0..self.rows * heads).flat_map(|i| self.exact(i / heads, i % heads)).collect();
        let mut expected: Option<Vec<u32>> = None;
        for cpu in all_ways() {
            let out = self.run(&cpu, KvType::F32, &[0, 1, 2], 45);
            for together in [1, 7, 30] {
                let others = self.run(&cpu, KvType::F32, &[7, 3, 5], together);
                assert_eq!(bits(&out), bits(&others), "{}, {together} together", cpu.isa.name());
            }
            assert_eq!(&bits(&out), expected.get_or_insert_with(|| bits(&out)), "{}", cpu.isa.name());
            let bf16 = self.run(&cpu, KvType::Bf16, &[4, 0, 8], 45);
            assert_eq!(out.len(), exact.len(), "{heads} heads of {head_dim}");
            for ((exact, out), rough) in exact.iter().zip(&out).zip(&bf16) {
                assert!((exact - f64::from(*out)).abs() < 2e-6, "{exact} {out}");
                assert!((exact - f64::from(*rough)).abs() < 2e-2, "{exact} {rough}");
            }
        }
    }
}

#[test]
fn grouped_queries() {
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (8, 1, 32), (6, 2, 20), (7, 1, 80), (10, 2, 8)] {
        case(heads, kv_heads, head_dim).check();
    }
}

#[test]
fn sequences_of_one_batch() {
    let case = case(6, 2, 20);
    let Attention { heads, kv_heads, head_dim, .. } = case.attention;
    let (width, kv) = (heads * head_dim, kv_heads * head_dim);
    let sequences: [(&[u32], usize); 3] = [(&[0, 4, 2], 45), (&[1, 3], 20), (&[5, 6, 7], 33)];
    let mut cache = KvLayer::new(KvType::F32, 8, kv_heads, head_dim);
    for (blocks, rows) in sequences {
        for row in 0..rows {
            let part = row * kv..(row + 1) * kv;
            cache.put(
                blocks[row / LANES] as usize,
                row % LANES,
                &case.keys[part.clone()],
                &case.values[part],
            );
        }
    }
    let rows: Vec<(Place<'_>, usize)> = sequences
        .iter()
        .flat_map(|&(blocks, rows)| (0..rows).map(move |position| (Place { position, blocks }, position)))
        .collect();
    let places: Vec<Place<'_>> = rows.iter().map(|(place, _)| *place).collect();
    let queries: Vec<f32> =
        rows.iter().flat_map(|(_, row)| &case.queries[row * width..(row + 1) * width]).copied().collect();
    for cpu in all_ways() {
        let alone = case.run(&cpu, KvType::F32, &[0, 1, 2], 1);
        let expected: Vec<f32> =
            rows.iter().flat_map(|(_, row)| &alone[row * width..(row + 1) * width]).copied().collect();
        let mut out = vec![0.0; expected.len()];
        case.attention.attend(&cpu, &cache, &places, (&queries, width), &mut out);
        assert_eq!(bits(&out), bits(&expected), "{}", cpu.isa.name());
    }
}

#[test]
fn sliding_windows() {
    for (window, heads) in [(1, 4), (5, 4), (16, 4), (17, 4), (100, 4), (1, 24), (3, 24), (40, 24)] {
        let mut case = case(heads, 2, 16);
        case.attention.window = Some(window);
        case.check();
    }
}

#[test]
fn soft_caps_sinks_and_slopes() {
    let mut case = case(4, 2, 16);
    case.attention.soft_cap = Some(0.8);
    case.check();
    case.attention.sinks = Some(vec![0.5, -1.0, 3.0, 0.0]);
    case.check();
    case.attention.slopes = Some(vec![0.25, 0.06, 0.01, 0.0]);
    case.check();
}
