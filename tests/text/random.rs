//! Numbers that look random and are the same in every run (splitmix64).

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Cuts `whole` into pieces of up to `longest` items, some of them empty.
    pub(crate) fn cut<'a, T>(&mut self, whole: &'a [T], longest: usize) -> Vec<&'a [T]> {
        let mut pieces = Vec::new();
        let mut rest = whole;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(self.below(longest + 1).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }
}
