//! Which upstream gets a request. Pure.

use std::{
    cmp::Ordering,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What is known of an upstream that can take a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) weight: u32,
    pub(super) outstanding: u32,
}

impl Candidate<'_> {
    /// How its requests for its weight compare with the other's.
    fn load(&self, other: &Self) -> Ordering {
        // a / v against b / w without the division.
        let (of_self, of_other) = (u64::from(self.outstanding), u64::from(other.outstanding));
        (of_self * u64::from(other.weight)).cmp(&(of_other * u64::from(self.weight)))
    }

    /// Rendezvous hashing: the upstream with the highest score for a key gets it, and when one leaves, only its keys move.
    /// With weights: -w / ln(h) for a hash h in (0, 1); Schindelhauer and Schomaker, "Weighted distributed hash tables",
    /// SPAA 2005.
    fn score(&self, key: u64) -> f64 {
        let mut hasher = DefaultHasher::new();
        (key, self.name).hash(&mut hasher);
        // 53 bits fill a double; the half keeps it off both ends.
        let unit = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(self.weight) / unit.ln()
    }
}

/// Half as many again as its share, and this many more, is what an upstream may have before affinity passes it over.
const SLACK: u64 = 2;

/// The index of the one that gets the request; `None` when there is none. `turn` differs from call to call, so that equals
/// take turns, each as often as its weight says.
pub(super) fn choose(candidates: &[Candidate<'_>], affinity: Option<u64>, turn: usize) -> Option<usize> {
    if let Some(key) = affinity {
        let requests: u64 = candidates.iter().map(|candidate| u64::from(candidate.outstanding)).sum();
        let weights: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
        let fits = |candidate: &Candidate<'_>| {
            let share = (requests + 1) * u64::from(candidate.weight);
            2 * u64::from(candidate.outstanding) * weights <= 3 * share + 2 * SLACK * weights
        };
        let best = candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| fits(candidate))
            .max_by(|(_, a), (_, b)| a.score(key).total_cmp(&b.score(key)));
        if let Some((index, _)) = best {
            return Some(index);
        }
    }
    let least = candidates.iter().min_by(|a, b| a.load(b))?;
    let equals = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.load(least).is_eq());
    let weights: usize = equals().map(|(_, candidate)| candidate.weight as usize).sum();
    let mut place = turn % weights.max(1);
    let mut last = None;
    for (index, candidate) in equals() {
        last = Some(index);
        match place.checked_sub(candidate.weight as usize) {
            Some(rest) => place = rest,
            None => break,
        }
    }
    last
}

/// A number for a conversation or a header's value, the same in every process.
pub(super) fn key(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates<'a>(weights: &[(&'a str, u32)]) -> Vec<Candidate<'a>> {
        weights.iter().map(|&(name, weight)| Candidate { name, weight, outstanding: 0 }).collect()
    }

    /// How often each is chosen in `requests` that all stay.
    fn spread(mut candidates: Vec<Candidate<'_>>, requests: usize) -> Vec<u32> {
        for turn in 0..requests {
            let index = choose(&candidates, None, turn).unwrap();
            candidates[index].outstanding += 1;
        }
        candidates.iter().map(|candidate| candidate.outstanding).collect()
    }

    #[test]
    fn the_least_busy_for_its_weight() {
        assert_eq!(spread(candidates(&[("a", 1), ("b", 1), ("c", 1)]), 300), [100, 100, 100]);
        assert_eq!(spread(candidates(&[("a", 3), ("b", 1)]), 400), [300, 100]);
        let busy = [("a", 5), ("b", 4)].map(|(name, outstanding)| Candidate { name, weight: 1, outstanding });
        assert_eq!(choose(&busy, None, 0), Some(1));
        assert_eq!(choose(&[], None, 0), None);
    }

    #[test]
    fn equals_take_turns() {
        let idle = candidates(&[("a", 1), ("b", 1)]);
        let chosen: Vec<_> = (0..4).map(|turn| choose(&idle, None, turn).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
        let weighted = candidates(&[("a", 3), ("b", 1)]);
        let of_a = (0..400).filter(|&turn| choose(&weighted, None, turn) == Some(0)).count();
        assert_eq!(of_a, 300);
    }

    #[test]
    fn a_key_stays_where_it_is_when_another_upstream_leaves() {
        let all = candidates(&[("a", 1), ("b", 1), ("c", 1)]);
        let without_c = &all[..2];
        let mut of_c = 0;
        for key in 0..3000 {
            let before = choose(&all, Some(key), 0).unwrap();
            if before == 2 {
                of_c += 1;
            } else {
                assert_eq!(choose(without_c, Some(key), 0), Some(before));
            }
        }
        assert!((800..1200).contains(&of_c), "{of_c} of 3000");
    }

    #[test]
    fn keys_follow_the_weights() {
        let weighted = candidates(&[("a", 3), ("b", 1)]);
        let of_a = (0..4000).filter(|&key| choose(&weighted, Some(key), 0) == Some(0)).count();
        assert!((2800..3200).contains(&of_a), "{of_a} of 4000");
    }

    #[test]
    fn one_key_alone_does_not_drown_its_upstream() {
        let mut two = candidates(&[("a", 1), ("b", 1)]);
        for turn in 0..100 {
            let index = choose(&two, Some(7), turn).unwrap();
            two[index].outstanding += 1;
        }
        let fewest = two.iter().map(|candidate| candidate.outstanding).min().unwrap();
        assert!(fewest > 20, "{two:?}");
    }
}
