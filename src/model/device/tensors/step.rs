//! A ragged batch as the device gets it.
//!
//! Rows of sequences that have one in this batch come first, by length, so that those of like lengths attend together,
//! their contexts filled up to the longest. Other chunks attend one by one. Nothing but attention looks at the order.

use candle_core::{Device, Result, Tensor};

use super::ops::Angles;
use crate::{
    kernels::rotary::Rotary,
    model::{BLOCK, Chunk, decoder},
};

/// Positions that a group of sequences gathers together, those that fill up among them.
pub(super) const POSITIONS: usize = 1 << 16;

/// Scores of a group in all heads.
pub(super) const SCORES: usize = 1 << 26;

/// The rows in the device's order.
pub(super) struct Rows<'a> {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<usize>,
    /// Where each row's keys and values go in the cache.
    slots: Vec<u32>,
    /// The rows that logits are wanted of, in the caller's order.
    pub(super) wanted: Vec<u32>,
    pub(super) groups: Vec<Group<'a>>,
}

/// Sequences with equally many rows, one sequence's after the other's.
pub(super) struct Group<'a> {
    pub(super) first: usize,
    pub(super) length: usize,
    pub(super) sequences: Vec<Sequence<'a>>,
}

#[derive(Clone, Copy)]
pub(super) struct Sequence<'a> {
    /// Position of its first row.
    pub(super) start: usize,
    blocks: &'a [u32],
}

impl Sequence<'_> {
    fn slot(&self, position: usize) -> u32 {
        self.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
    }
}

impl<'a> Rows<'a> {
    /// `heads` is the most that a layer has.
    pub(super) fn new(chunks: &[Chunk<'a>], heads: usize) -> Self {
        let mut order: Vec<usize> = (0..chunks.len()).filter(|i| !chunks[*i].tokens.is_empty()).collect();
        order.sort_by_key(|&i| (chunks[i].tokens.len() > 1, chunks[i].start));
        let mut rows = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            slots: Vec::new(),
            wanted: Vec::new(),
            groups: Vec::new(),
        };
        let mut first_rows = vec![0; chunks.len()];
        for i in order {
            let chunk = &chunks[i];
            first_rows[i] = rows.tokens.len();
            rows.group(chunk, heads);
            let sequence = Sequence { start: chunk.start, blocks: chunk.blocks };
            let positions = chunk.start..chunk.start + chunk.tokens.len();
            rows.slots.extend(positions.clone().map(|position| sequence.slot(position)));
            rows.positions.extend(positions);
            rows.tokens.extend(chunk.tokens);
        }
        let number = |i: usize| (first_rows[i]..first_rows[i] + chunks[i].tokens.len()).map(|row| row as u32);
        let numbers: Vec<u32> = (0..chunks.len()).flat_map(number).collect();
        rows.wanted = decoder::wanted(chunks).into_iter().map(|row| numbers[row]).collect();
        rows
    }

    /// Adds the chunk's rows, which come next, to the last group or to new ones.
    fn group(&mut self, chunk: &Chunk<'a>, heads: usize) {
        let first = self.tokens.len();
        let count = chunk.tokens.len();
        let sequence = |start| Sequence { start, blocks: chunk.blocks };
        let end = chunk.start + count;
        if count == 1 {
            match self.groups.last_mut() {
                Some(group) if (group.sequences.len() + 1) * end <= POSITIONS => {
                    group.sequences.push(sequence(chunk.start));
                }
                _ => self.groups.push(Group { first, length: 1, sequences: vec![sequence(chunk.start)] }),
            }
            return;
        }
        let most = (SCORES / (heads * end)).max(1);
        for done in (0..count).step_by(most) {
            let length = most.min(count - done);
            let sequences = vec![sequence(chunk.start + done)];
            self.groups.push(Group { first: first + done, length, sequences });
        }
    }
}

/// What all layers of a step share, on the device.
pub(super) struct Step {
    pub(super) rows: usize,
    /// [rows].
    pub(super) slots: Tensor,
    /// For each rotary table.
    pub(super) angles: Vec<Angles>,
    /// For each window that a layer has, what each group sees.
    spans: Vec<(Option<usize>, Vec<Span>)>,
}

/// What the rows of a group see.
pub(super) struct Span {
    /// The first of its rows.
    pub(super) first: usize,
    pub(super) sequences: usize,
    /// Rows of each sequence.
    pub(super) length: usize,
    /// Positions of each sequence, filled up.
    pub(super) context: usize,
    /// Slots of the positions [sequences × context].
    pub(super) slots: Tensor,
    /// [1, sequences, 1, length, context]: 0 where a row sees a position, else minus infinity. `None`: it sees all.
    pub(super) mask: Option<Tensor>,
    /// As `mask`, the position of the key less that of the query, for ALiBi.
    pub(super) distances: Option<Tensor>,
}

impl Step {
    pub(super) fn new(
        rows: &Rows<'_>,
        rotary: &[Rotary],
        windows: &[Option<usize>],
        with_distances: bool,
        device: &Device,
    ) -> Result<Self> {
        let count = rows.tokens.len();
        let angles = |rotary: &Rotary| {
            let pairs = rotary.frequencies.len();
            let mut both = vec![0.0; rotary.width()];
            let (mut cosines, mut sines) = (Vec::new(), Vec::new());
            for &position in &rows.positions {
                rotary.angles(position, &mut both);
                cosines.extend_from_slice(&both[..pairs]);
                sines.extend_from_slice(&both[pairs..]);
            }
            let upload = |values| Tensor::from_vec(values, (count, 1, pairs), device);
            Ok(Angles { cosines: upload(cosines)?, sines: upload(sines)? })
        };
        let spans = |window: &Option<usize>| {
            let span = |group: &Group<'_>| Span::new(group, *window, with_distances, device);
            Ok((*window, rows.groups.iter().map(span).collect::<Result<_>>()?))
        };
        Ok(Self {
            rows: count,
            slots: Tensor::new(&rows.slots[..], device)?,
            angles: rotary.iter().map(angles).collect::<Result<_>>()?,
            spans: windows.iter().map(spans).collect::<Result<_>>()?,
        })
    }

    /// Those of a layer with this window.
    pub(super) fn spans(&self, window: Option<usize>) -> &[Span] {
        self.spans.iter().find(|(own, _)| *own == window).map_or(&[], |(_, spans)| spans)
    }
}

impl Span {
    fn new(group: &Group<'_>, window: Option<usize>, with_distances: bool, device: &Device) -> Result<Self> {
        let begin = |start: usize| window.map_or(0, |window| (start + 1).saturating_sub(window));
        let (sequences, length) = (group.sequences.len(), group.length);
        let lengths = group.sequences.iter().map(|it| it.start + length - begin(it.start));
        let context = lengths.max().unwrap_or(0);
        let mut slots = Vec::with_capacity(sequences * context);
        let mut mask = Vec::with_capacity(sequences * length * context);
        let mut distances = Vec::new();
        for sequence in &group.sequences {
            let first = begin(sequence.start);
            let end = sequence.start + length;
            let positions = first..first + context;
            // What fills up must be a place of the sequence's own: others may hold anything.
            slots.extend(positions.clone().map(|it| sequence.slot(if it < end { it } else { first })));
            for query in sequence.start..end {
                let seen = |key: usize| key <= query && window.is_none_or(|window| query - key < window);
                mask.extend(positions.clone().map(|it| if seen(it) { 0.0 } else { f32::NEG_INFINITY }));
                if with_distances {
                    distances.extend(positions.clone().map(|key| key as f32 - query as f32));
                }
            }
        }
        let upload = |values: Vec<f32>| Tensor::from_vec(values, (1, sequences, 1, length, context), device);
        let sees_all = mask.iter().all(|value| *value == 0.0);
        Ok(Self {
            first: group.first,
            sequences,
            length,
            context,
            slots: Tensor::new(slots, device)?,
            mask: (!sees_all).then(|| upload(mask)).transpose()?,
            distances: with_distances.then(|| upload(distances)).transpose()?,
        })
    }
}
