//! What only larger models and GPUs reach otherwise.

use super::{
    decoder::Decoder,
    pack::{Kept, Packer},
    step::{POSITIONS, Rows, SCORES},
};
use crate::{
    kernels::{Cpu, Isa},
    model::{self, Chunk, Forward, Options},
};

/// Logits of some tokens in pieces, of the demo model with weights kept so.
fn logits(kept: Kept) -> Vec<f32> {
    let config = include_str!("../../../../assets/demo/config.json");
    let model =
        model::open_embedded(config, include_bytes!("../../../../assets/demo/model.safetensors")).unwrap();
    let packer = Packer { device: candle_core::Device::Cpu, cpu: Cpu::new(Isa::detect(), 1), kept };
    let description = model.describe(&Options::default()).unwrap();
    let mut decoder = Decoder::build(packer, &description, model.tensors(), &|_, _| {}).unwrap();
    decoder.allocate(2).unwrap();
    let tokens: Vec<u32> = (0..20).map(|i| i * 37 % 500).collect();
    let mut run = |from: usize, to: usize| {
        let chunk = Chunk {
            tokens: &tokens[from..to],
            start: from,
            blocks: &[1, 0],
            rows: model::Rows::All,
            adapter: None,
        };
        decoder.forward(&[chunk]).unwrap()
    };
    [run(0, 18), run(18, 19), run(19, 20)].concat()
}

/// A GPU keeps weights, keys and values in the half types of the file.
#[test]
fn half_types_answer_as_f32_does_but_for_rounding() {
    let whole = logits(Kept::F32);
    let size = whole.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
    for (kept, most) in [(Kept::F16, 2e-3), (Kept::Bf16, 2e-2)] {
        let half = logits(kept);
        let difference = half.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
        assert!(difference > 0.0 && difference < most, "{kept:?}: {difference:.1e}");
        assert_eq!(half.len(), whole.len());
    }
}

#[test]
fn groups_hold_every_row_once_and_are_bounded() {
    let heads = 64;
    let lengths = [(3000, 1), (9000, 512), (10, 1), (0, 300), (2999, 1)];
    let blocks: Vec<u32> = (0..1000).collect();
    let tokens = vec![7; 512];
    let chunk = |&(start, count): &(usize, usize)| Chunk {
        tokens: &tokens[..count],
        start,
        blocks: &blocks,
        rows: model::Rows::Last,
        adapter: None,
    };
    let chunks: Vec<Chunk<'_>> = lengths.iter().cycle().take(100).map(chunk).collect();
    let rows = Rows::new(&chunks, heads);
    let mut next = 0;
    for group in &rows.groups {
        assert_eq!(group.first, next);
        let starts = group.sequences.iter().map(|sequence| sequence.start);
        let longest = starts.map(|start| start + group.length).max().unwrap();
        let together = group.sequences.len() * longest;
        assert!(together <= POSITIONS && together * group.length * heads <= SCORES);
        for sequence in &group.sequences {
            let own = &rows.positions[next..next + group.length];
            assert!(own.iter().copied().eq(sequence.start..sequence.start + group.length));
            next += group.length;
        }
    }
    assert_eq!(next, rows.tokens.len());
    assert_eq!(next, chunks.iter().map(|chunk| chunk.tokens.len()).sum::<usize>());
    assert!(rows.groups.iter().any(|group| group.sequences.len() > 10), "those of one row attend together");
    // The last row of each chunk, in the caller's order.
    assert_eq!(rows.wanted.len(), chunks.len());
    for (row, chunk) in rows.wanted.iter().zip(&chunks) {
        assert_eq!(rows.positions[*row as usize], chunk.start + chunk.tokens.len() - 1);
    }
}
