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
    fn run(&self, cpu: &Cpu, kv: KvType, blocks: &[u32]) -> Vec<f32> {
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
        self.attention.attend(cpu, &cache, &places, (&self.queries, heads * head_dim), &mut out);
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
            let out = self.run(&cpu, KvType::F32, &[0, 1, 2]);
            assert_eq!(bits(&out), bits(&self.run(&cpu, KvType::F32, &[7, 3, 5])), "{}", cpu.isa.name());
            assert_eq!(&bits(&out), expected.get_or_insert_with(|| bits(&out)), "{}", cpu.isa.name());
            let bf16 = self.run(&cpu, KvType::Bf16, &[4, 0, 8]);
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
fn sliding_windows() {
    for window in [1, 5, 16, 17, 100] {
        let mut case = case(4, 2, 16);
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
