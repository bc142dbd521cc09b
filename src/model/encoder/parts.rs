//! A batch in parts, one for each thread: nobody waits for anybody before the end, and a part's rows stay in the caches of
//! its core from one layer to the next.

use std::cmp::Reverse;

/// Tokens that a part has on average at least: with fewer, threads that share a product read its weights less often.
const ENOUGH: usize = 96;

/// A part takes no longer than this many hundredths of what it would if all took the same.
const LONGEST: usize = 110;

/// The sequences of each of `count` parts, from the sequences' lengths; `None` where the threads had better share every
/// operation. `hidden` is the width of the model.
pub(super) fn divide(lengths: &[usize], hidden: usize, count: usize) -> Option<Vec<Vec<usize>>> {
    if count < 2 || lengths.iter().sum::<usize>() < ENOUGH * count {
        return None;
    }
    // Multiplications with weights grow with the length, attention with its square: 24 · hidden² and 4 · length · hidden
    // operations for each token, where the feed-forward is four times as wide as the model.
    let cost = |length: usize| length * (6 * hidden + length);
    let mut parts = vec![(0, Vec::new()); count];
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|sequence| Reverse(lengths[*sequence]));
    for sequence in order {
        let (total, part) = parts.iter_mut().min_by_key(|(total, _)| *total)?;
        *total += cost(lengths[sequence]);
        part.push(sequence);
    }
    let (longest, all) =
        parts.iter().fold((0, 0), |(longest, all), (total, _)| (longest.max(*total), all + total));
    (longest * count * 100 <= all * LONGEST).then(|| parts.into_iter().map(|(_, part)| part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_alike_long_and_all_sequences_once() {
        let lengths: Vec<usize> = (0..40).map(|i| 5 + i * 7 % 23).collect();
        for count in 2..5 {
            let parts = divide(&lengths, 384, count).expect("enough of them");
            let tokens = |part: &Vec<usize>| part.iter().map(|sequence| lengths[*sequence]).sum::<usize>();
            let (least, most) = (parts.iter().map(tokens).min(), parts.iter().map(tokens).max());
            assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 5, "{least:?} to {most:?}");
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_stays_whole() {
        for (why, lengths, count) in [
            ("one thread", &[200, 200][..], 1),
            ("too few tokens", &[90, 90], 2),
            ("one text", &[500], 2),
            ("one that is much longer", &[400, 20, 30], 2),
            ("fewer texts than threads", &[300, 300, 300], 4),
        ] {
            assert!(divide(lengths, 384, count).is_none(), "{why}");
        }
    }
}
