//! The forward pass on candle's tensors, by candle's CPU device: the same code that runs on a GPU.

use sconce::model::{self, Device, Options, Rows};

use crate::{
    cases::{Run, answer, case, cases},
    gguf::{self, fixture, largest_difference},
    golden,
    invariance::{alone, busy},
};

fn options() -> Options {
    Options { device: Device::Tensors, ..Options::default() }
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    golden::compare(|case| Options { device: Device::Tensors, ..case.options(1) });
}

/// Quantized weights are widened when they are loaded, so that nothing is rounded but them.
#[test]
fn gguf_files_answer_as_transformers_with_the_same_numbers() {
    let cases = gguf::cases();
    for case in &cases {
        let path = fixture(&format!("gguf/{}.gguf", case.name));
        let mut model = model::open(&path).unwrap().load(&options()).unwrap();
        let (logits, _) = answer(&mut *model, &case.input, 0);
        let size = case.exact.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
        let difference = largest_difference(&logits, &case.exact) / size;
        assert!(difference < 1e-5, "{}: {difference:.2e}", case.name);
        assert_eq!(logits.len(), case.exact.len());
    }
    assert_eq!(cases.len(), 30);
    let gpt_oss = cases.iter().find(|case| case.name == "gpt-oss").unwrap();
    let mut published = model::open(&fixture("mxfp4")).unwrap().load(&options()).unwrap();
    let (logits, _) = answer(&mut *published, &gpt_oss.input, 0);
    let size = gpt_oss.exact.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
    let difference = largest_difference(&logits, &gpt_oss.exact) / size;
    assert!(difference < 1e-5, "mxfp4: {difference:.2e}");
}

fn floats(bits: Vec<u32>) -> Vec<f32> {
    bits.into_iter().map(f32::from_bits).collect()
}

#[test]
fn in_pieces_in_a_crowd_and_in_used_blocks_as_alone() {
    for case in cases() {
        let tokens: Vec<u32> = case.input.iter().chain(&case.greedy).copied().collect();
        let options = Options { device: Device::Tensors, ..case.options(1) };
        let mut model = case.load(&case.configs[0], &options);
        let expected = floats(alone(&mut *model, &tokens));
        let crowd = floats(busy(&mut *model, &tokens));
        assert_eq!(expected.len(), crowd.len(), "{}", case.name);
        let difference = largest_difference(&expected, &crowd);
        assert!(difference < 1e-4, "{} in a crowd: {difference:.2e}", case.name);
        // The crowd's keys and values are still there.
        let again = Run::new(&tokens, &[11, 1, 8]);
        let again = model.forward(&[again.chunk(tokens.len(), Rows::All)]).unwrap();
        let difference = largest_difference(&expected, &again);
        assert!(difference < 1e-4, "{} in used blocks: {difference:.2e}", case.name);
    }
}

/// Sequences of one row attend together, filled up to the longest, and still each sees its own positions alone.
#[test]
fn decoding_together_is_decoding_one_by_one() {
    for name in ["llama", "bloom", "gemma3", "gpt_oss", "mistral", "qwen2_moe"] {
        let case = case(name);
        let options = Options { device: Device::Tensors, ..case.options(1) };
        let mut model = case.load(&case.configs[0], &options);
        model.allocate(9).unwrap();
        let text = |seed: u32, length| (0..length).map(|i| (i * 7 + seed) % 100).collect::<Vec<u32>>();
        let mut runs = [
            Run::new(&text(1, 40), &[4, 0, 6]),
            Run::new(&text(2, 3), &[1]),
            Run::new(&text(3, 20), &[8, 2]),
        ];
        let one_by_one: Vec<f32> = runs
            .iter_mut()
            .flat_map(|run| {
                let last = run.tokens.len() - 1;
                model.forward(&[run.chunk(last, Rows::None)]).unwrap();
                run.done = last;
                model.forward(&[run.chunk(1, Rows::Last)]).unwrap()
            })
            .collect();
        let chunks: Vec<_> = runs.iter().map(|run| run.chunk(1, Rows::Last)).collect();
        let together = model.forward(&chunks).unwrap();
        let difference = largest_difference(&one_by_one, &together);
        assert!(difference < 1e-4, "{name}: {difference:.2e}");
        assert_eq!(one_by_one.len(), together.len(), "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_model_stays_usable() {
    let case = case("qwen2");
    let mut model = case.load(&case.configs[0], &options());
    model.allocate(1).unwrap();
    let run = Run::new(&[1; 17], &[0, 1]);
    assert!(model.forward(&[run.chunk(17, Rows::Last)]).is_err());
    assert!(model.forward(&[]).unwrap().is_empty());
    let nothing = Run::new(&[], &[]);
    assert!(model.forward(&[nothing.chunk(0, Rows::Last)]).unwrap().is_empty());
    let difference = largest_difference(&answer(&mut *model, &case.input, 0).0, &case.logits);
    assert!(difference < 1e-4, "{difference:.2e}");
}

#[test]
fn memory_is_known_before_loading() {
    let case = case("llama");
    let directory = tempfile::tempdir().unwrap();
    case.write(directory.path(), &case.configs[0]);
    let opened = model::open(directory.path()).unwrap();
    let memory = opened.memory(&options()).unwrap();
    let all: usize = case.tensors.values().map(|shape| shape.iter().product::<usize>() * 4).sum();
    assert_eq!(memory.weights, all as u64);
    let model = opened.load(&options()).unwrap();
    assert_eq!(memory.block, model.shape().block_bytes as u64);
    assert!(memory.row > 0 && memory.step > 0);
}
