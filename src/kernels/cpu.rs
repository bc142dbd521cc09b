//! What every operation takes: the instruction set and the threads.

use super::{isa::Isa, pool::Pool, split::Split};

/// The CPU as the operations see it. Answers depend on neither part.
pub struct Cpu {
    pub isa: Isa,
    pub pool: Pool,
}

impl Cpu {
    /// `threads` threads, the caller among them.
    #[must_use]
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Pool::new(threads) }
    }

    /// Calls `each` with every row of `rows` (row-major, `width` values each) and its index.
    ///
    /// # Panics
    /// When `rows` holds no whole number of rows.
    pub fn for_rows<T: Send>(&self, rows: &mut [T], width: usize, each: impl Fn(usize, &mut [T]) + Sync) {
        assert_eq!(rows.len() % width, 0, "whole rows");
        let count = rows.len() / width;
        // A fork costs about as much as some thousand elements.
        let grain = (8192 / width).max(1);
        if count <= grain {
            return rows.chunks_exact_mut(width).enumerate().for_each(|(i, row)| each(i, row));
        }
        let rows = Split::new(rows);
        self.pool.run(count.div_ceil(grain), &|task| {
            for index in task * grain..((task + 1) * grain).min(count) {
                #[expect(unsafe_code, reason = "rows lent to several threads")]
                // SAFETY: each index comes up in one task, once.
                let row = unsafe { rows.part(index * width..(index + 1) * width) };
                each(index, row);
            }
        });
    }
}
