//! Sampling as one would write it to be read: whole distributions, sorted whole, no shortcuts.

use sconce::engine::{Sampling, math::exp};

/// The logits after bans, bias and penalties.
pub(crate) fn adjusted(row: &[f32], prompt: &[u32], answer: &[u32], settings: &Sampling) -> Vec<f64> {
    let adjust = |(id, logit): (u32, &f32)| {
        let mut logit = f64::from(*logit);
        let ends = settings.stop_tokens.contains(&id) || (settings.eos.contains(&id) && !settings.ignore_eos);
        if ends && answer.len() < settings.min_tokens {
            return f64::NEG_INFINITY;
        }
        logit +=
            settings.logit_bias.iter().filter(|(other, _)| *other == id).map(|(_, bias)| bias).sum::<f64>();
        let count = answer.iter().filter(|other| **other == id).count();
        if count > 0 || prompt.contains(&id) {
            logit = if logit > 0.0 {
                logit / settings.repetition_penalty
            } else {
                logit * settings.repetition_penalty
            };
        }
        logit -= settings.frequency_penalty * count as f64;
        logit - if count > 0 { settings.presence_penalty } else { 0.0 }
    };
    (0..).zip(row).map(adjust).collect()
}

/// Probability of each token.
pub(crate) fn distribution(logits: &[f64], settings: &Sampling) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if settings.temperature == 0.0 {
        let best = logits.iter().position(|logit| *logit == highest).unwrap();
        return (0..logits.len()).map(|id| if id == best { 1.0 } else { 0.0 }).collect();
    }
    let weights = logits.iter().map(|logit| exp((logit - highest) / settings.temperature));
    let mut probabilities = normalised(weights.collect());
    let likeliest = probabilities.iter().copied().fold(0.0, f64::max);
    for probability in &mut probabilities {
        if *probability < settings.min_p * likeliest {
            *probability = 0.0;
        }
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
    if settings.top_k > 0 {
        for id in order.iter().skip(settings.top_k) {
            probabilities[*id] = 0.0;
        }
    }
    probabilities = normalised(probabilities);
    let mut before = 0.0;
    for (place, id) in order.iter().enumerate() {
        let probability = probabilities[*id];
        if place > 0 && before >= settings.top_p {
            probabilities[*id] = 0.0;
        }
        before += probability;
    }
    normalised(probabilities)
}

fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The token whose stretch of the distribution function holds `uniform`, and how far from its borders that is.
pub(crate) fn draw(probabilities: &[f64], uniform: f64) -> (u32, f64) {
    let mut sum = 0.0;
    for (id, probability) in (0..).zip(probabilities) {
        let below = sum;
        sum += probability;
        if sum > uniform {
            return (id, (uniform - below).min(sum - uniform));
        }
    }
    (u32::MAX, 0.0)
}
