use std::sync::Arc;

use sconce::engine::{
    Sampling,
    logprobs::logprob,
    random::uniform,
    sampler::{Sampler, Scratch, Undrawable},
};

use crate::{
    dice::Dice,
    plain_sampler::{adjusted, distribution, draw},
};

const DRAWS: usize = 100_000;

fn settings() -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::greedy(usize::MAX) }
}

fn row(dice: &mut Dice, vocabulary: usize) -> Vec<f32> {
    (0..vocabulary).map(|_| (dice.fraction() * 5.0 - 2.5) as f32).collect()
}

/// Pearson's statistic stays below its quantile at 1 - 10^-6 (Wilson and Hilferty's approximation).
fn assert_follows(counts: &[usize], probabilities: &[f64], what: &str) {
    let draws: usize = counts.iter().sum();
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut rare_expected, mut rare_seen) = (0.0, 0.0);
    for (count, probability) in counts.iter().zip(probabilities) {
        let (seen, expected) = (*count as f64, probability * draws as f64);
        if *probability == 0.0 {
            assert_eq!(*count, 0, "{what}: a token that is ruled out was drawn");
        } else if expected < 10.0 {
            rare_expected += expected;
            rare_seen += seen;
        } else {
            statistic += (seen - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    if rare_expected > 0.0 {
        statistic += (rare_seen - rare_expected).powi(2) / rare_expected.max(1.0);
        cells += 1.0;
    }
    let freedom: f64 = cells - 1.0;
    if freedom == 0.0 {
        return;
    }
    let spread = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - spread + 4.753_4 * spread.sqrt()).powi(3);
    assert!(statistic < limit, "{what}: {statistic} is not below {limit} at {freedom} degrees of freedom");
}

fn assert_settings_hold(settings: Sampling) {
    let row = row(&mut Dice(7), 20);
    let probabilities = distribution(&adjusted(&row, &[], &[], &settings), &settings);
    let what = format!("{settings:?}");
    let mut sampler = Sampler::new(Arc::new(settings), 20_240_229, 0, &[]);
    let mut scratch = Scratch::default();
    let mut counts = vec![0; row.len()];
    for _ in 0..DRAWS {
        counts[sampler.sample(&row, &mut scratch).unwrap().id as usize] += 1;
    }
    assert_follows(&counts, &probabilities, &what);
}

#[test]
fn draws_follow_the_temperature() {
    for temperature in [0.0, 0.3, 0.7, 1.0, 2.0] {
        assert_settings_hold(Sampling { temperature, ..settings() });
    }
}

#[test]
fn draws_follow_top_k() {
    for top_k in [1, 2, 5, 19, 50] {
        assert_settings_hold(Sampling { top_k, ..settings() });
    }
}

#[test]
fn draws_follow_top_p() {
    for top_p in [0.0, 0.1, 0.5, 0.9, 0.999] {
        assert_settings_hold(Sampling { top_p, ..settings() });
    }
}

#[test]
fn draws_follow_min_p() {
    for min_p in [0.02, 0.2, 0.6, 1.0] {
        assert_settings_hold(Sampling { min_p, ..settings() });
    }
}

#[test]
fn draws_follow_combinations() {
    assert_settings_hold(Sampling { temperature: 0.6, top_k: 10, top_p: 0.8, ..settings() });
    assert_settings_hold(Sampling { temperature: 1.5, top_p: 0.95, min_p: 0.1, ..settings() });
    assert_settings_hold(Sampling { temperature: 0.9, top_k: 8, min_p: 0.05, top_p: 0.9, ..settings() });
    let logit_bias = vec![(3, 4.0), (5, -100.0), (6, 1.5)];
    assert_settings_hold(Sampling { logit_bias, top_k: 12, ..settings() });
}

/// As a server sees them: many requests, each with a seed of its own, and many choices of one request.
#[test]
fn first_tokens_of_seeds_and_of_choices_follow_too() {
    let row = row(&mut Dice(9), 20);
    let settings = Arc::new(settings());
    let probabilities = distribution(&adjusted(&row, &[], &[], &settings), &settings);
    let mut scratch = Scratch::default();
    let (mut seeds, mut choices) = (vec![0; 20], vec![0; 20]);
    for number in 0..100_000u32 {
        let mut first = |seed, choice| {
            Sampler::new(Arc::clone(&settings), seed, choice, &[]).sample(&row, &mut scratch).unwrap().id
                as usize
        };
        seeds[first(u64::from(number), 0)] += 1;
        choices[first(0, number)] += 1;
    }
    assert_follows(&seeds, &probabilities, "seeds");
    assert_follows(&choices, &probabilities, "choices");
}

fn random_settings(dice: &mut Dice) -> Sampling {
    Sampling {
        temperature: dice.pick(&[0.0, 0.2, 0.8, 1.0, 1.7]),
        top_k: dice.pick(&[0, 0, 1, 3, 40, 300]),
        // No fractions that equal tokens could add up to: there the last place of a sum decides.
        top_p: dice.pick(&[1.0, 1.0, 0.313_7, 0.907_1, 0.991_3]),
        min_p: dice.pick(&[0.0, 0.0, 0.05, 0.5]),
        repetition_penalty: dice.pick(&[1.0, 1.0, 1.3, 0.8]),
        frequency_penalty: dice.pick(&[0.0, 0.0, 0.7, -0.4]),
        presence_penalty: dice.pick(&[0.0, 0.0, 1.1, -0.6]),
        logit_bias: (0..dice.below(4))
            .map(|_| (dice.below(30) as u32, dice.fraction() * 10.0 - 5.0))
            .collect(),
        min_tokens: dice.below(8),
        eos: vec![2],
        stop_tokens: vec![5, 6],
        ignore_eos: dice.chance(20),
        logprobs: dice.chance(50).then(|| dice.below(7)),
        ..settings()
    }
}

/// Token for token: every setting together, rows from tiny to larger than the sampler's partial sorts.
#[test]
fn tokens_equal_those_of_a_plain_implementation() {
    let mut dice = Dice(11);
    let mut scratch = Scratch::default();
    let mut compared = 0;
    for _ in 0..400 {
        let settings = Arc::new(random_settings(&mut dice));
        let vocabulary = dice.pick(&[30, 30, 200, 3_000]);
        let count = dice.below(40);
        let prompt = dice.tokens(count, 30);
        let (seed, choice) = (dice.next(), dice.below(5) as u32);
        let mut sampler = Sampler::new(Arc::clone(&settings), seed, choice, &prompt);
        let mut answer = Vec::new();
        for position in 0..12 {
            // A few values only: ties must be broken alike.
            let coarse = dice.chance(30);
            let shape = |value: f32| if coarse { value.round() } else { value };
            let row: Vec<f32> = row(&mut dice, vocabulary).into_iter().map(shape).collect();
            let probabilities = distribution(&adjusted(&row, &prompt, &answer, &settings), &settings);
            let (expected, margin) = draw(&probabilities, uniform(seed, choice, position));
            let sampled = sampler.sample(&row, &mut scratch).unwrap();
            // The plain one sums in another order; where the number falls on a border the last place decides.
            if margin > 1e-12 {
                assert_eq!(sampled.id, expected, "{settings:?}, {vocabulary} tokens");
                compared += 1;
            }
            assert_logprobs(&row, &settings, &sampled);
            answer.push(sampled.id);
        }
    }
    assert!(compared > 4_700, "{compared} comparisons");
}

/// Of the raw row: no bias, no penalty, no temperature.
fn assert_logprobs(row: &[f32], settings: &Sampling, sampled: &sconce::engine::sampler::Sampled) {
    let Some(logprob) = &sampled.logprob else { return assert_eq!(settings.logprobs, None) };
    let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
    let expected = |id: usize| f64::from(row[id]) - sum.ln();
    assert!((logprob.value - expected(sampled.id as usize)).abs() < 1e-12);
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].partial_cmp(&row[*a]).unwrap().then(a.cmp(b)));
    order.truncate(settings.logprobs.unwrap());
    assert_eq!(logprob.top.iter().map(|(id, _)| *id as usize).collect::<Vec<_>>(), order);
    for (id, value) in &logprob.top {
        assert!((value - expected(*id as usize)).abs() < 1e-12);
    }
}

#[test]
fn logprobs_of_large_logits_are_exact() {
    let row = [5_000.0, 4_999.0, -5_000.0, f32::NEG_INFINITY];
    let values = logprob(&row, 1, 4);
    let likeliest = -(1.0 + (-1.0_f64).exp()).ln();
    assert!((values.value - (likeliest - 1.0)).abs() < 1e-15);
    assert!((values.top[0].1 - likeliest).abs() < 1e-15);
    assert_eq!(values.top[3], (3, f64::NEG_INFINITY));
}

#[test]
fn equal_logits_give_the_lowest_id() {
    let mut scratch = Scratch::default();
    for settings in [Sampling::greedy(1), Sampling { top_k: 1, ..settings() }] {
        let mut sampler = Sampler::new(Arc::new(settings), 1, 0, &[]);
        assert_eq!(sampler.sample(&[-1.0, 0.0, -0.0, 0.0], &mut scratch).unwrap().id, 1);
    }
    let mut sampler = Sampler::new(Arc::new(Sampling { top_k: 2, ..settings() }), 1, 0, &[]);
    for _ in 0..100 {
        assert!(sampler.sample(&[0.0, -0.0, 0.0], &mut scratch).unwrap().id < 2);
    }
}

#[test]
fn rows_that_are_no_distribution_are_refused() {
    let mut scratch = Scratch::default();
    let bans = Sampling { logit_bias: vec![(0, f64::NEG_INFINITY), (1, f64::NEG_INFINITY)], ..settings() };
    let nan = f32::NAN;
    let cases = [
        (settings(), [0.0, nan]),
        (Sampling::greedy(1), [nan, nan]),
        (settings(), [0.0, f32::INFINITY]),
        (settings(), [f32::NEG_INFINITY; 2]),
        (bans, [0.0, 1.0]),
    ];
    for (settings, row) in cases {
        let mut sampler = Sampler::new(Arc::new(settings), 1, 0, &[]);
        assert_eq!(sampler.sample(&row, &mut scratch), Err(Undrawable));
    }
}

#[test]
fn extreme_settings_neither_overflow_nor_panic() {
    let mut scratch = Scratch::default();
    let row = [f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE, f32::NEG_INFINITY];
    for temperature in [f64::MIN_POSITIVE, 1e-300, 1e300, f64::MAX] {
        let mut sampler = Sampler::new(Arc::new(Sampling { temperature, ..settings() }), 1, 0, &[]);
        for _ in 0..200 {
            assert_ne!(sampler.sample(&row, &mut scratch).unwrap().id, 4);
        }
    }
}
