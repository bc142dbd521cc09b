//! Numbers that a backend tells of itself, for those who watch it.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// One number, or one distribution, beside others of its name that differ in their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// In Prometheus's style: a counter's name ends in `_total`, and times are in seconds.
    pub name: &'static str,
    pub help: &'static str,
    /// What it is of, beside the model: names, and values that no client chooses.
    pub labels: Vec<(&'static str, Arc<str>)>,
    pub value: Value,
}

impl Metric {
    /// A number of the model as a whole.
    #[must_use]
    pub fn number(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, labels: Vec::new(), value: Value::Number(value) }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(u64),
    Times(Times),
}

/// How long something took, each time that it was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// Upper bounds in seconds, and how often it took no longer; the last one counts all.
    pub at_most: Vec<(f64, u64)>,
    /// Seconds, all together.
    pub sum: f64,
}

/// Bounds in milliseconds: from an answer out of a cache to a model that thinks.
const BOUNDS: [u64; 14] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000];

/// Counts times as they come.
#[derive(Debug)]
pub struct Histogram {
    /// One for each bound, and one for what is beyond them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: array::from_fn(|_| AtomicU64::new(0)), microseconds: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub fn add(&self, time: Duration) {
        let place = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < time);
        self.counts[place].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    #[must_use]
    pub fn times(&self) -> Times {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e3).chain([f64::INFINITY]);
        let mut so_far = 0;
        let at_most = bounds.zip(&self.counts).map(|(bound, count)| {
            so_far += count.load(Relaxed);
            (bound, so_far)
        });
        Times { at_most: at_most.collect(), sum: self.microseconds.load(Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for milliseconds in [0, 5, 6, 1000, 500_000] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let Times { at_most, sum } = histogram.times();
        let count = |bound: f64| at_most.iter().find(|(at, _)| *at == bound).unwrap().1;
        assert_eq!([0.005, 0.01, 0.5, 1.0, 120.0].map(count), [2, 3, 3, 4, 4]);
        assert_eq!(at_most.last(), Some(&(f64::INFINITY, 5)));
        assert_eq!(sum, 501.011);
    }
}
