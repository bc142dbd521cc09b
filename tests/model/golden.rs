//! Every architecture answers as Hugging Face transformers does.

use sconce::model::Options;

use crate::cases::{Case, answer, cases};

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    compare(|case| case.options(1));
}

pub(crate) fn compare(options: impl Fn(&Case) -> Options) {
    let mut wrong = Vec::new();
    for case in cases() {
        for (style, config) in case.configs.iter().enumerate() {
            let mut model = case.load(config, &options(&case));
            let (logits, greedy) = answer(&mut *model, &case.input, case.greedy.len());
            let difference = logits.iter().zip(&case.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let equal = greedy.iter().zip(&case.greedy).take_while(|(a, b)| a == b).count();
            println!(
                "{:20} config {style} difference {difference:.2e} greedy {equal}/{}",
                case.name,
                greedy.len()
            );
            if difference.is_nan()
                || difference > 1e-4
                || equal < case.greedy.len()
                || logits.len() != case.logits.len()
            {
                wrong.push(format!("{} config {style}: {difference:.2e}, {equal} tokens", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_architecture_has_a_case() {
    let cases = cases();
    let tested: Vec<&str> = cases.iter().filter_map(|case| case.configs[0]["model_type"].as_str()).collect();
    let untested: Vec<&str> =
        sconce::model::supported().into_iter().filter(|name| !tested.contains(name)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}
