//! A row's bits depend on its own sequence alone.

use sconce::model::{BLOCK, Forward, KvType, Options, Rows};

use crate::cases::{Run, answer, case, cases};

const SPARE: u32 = 12;

/// Logits of all the sequence's rows, alone and in one piece.
pub(crate) fn alone(model: &mut dyn Forward, tokens: &[u32]) -> Vec<u32> {
    model.allocate(SPARE as usize).unwrap();
    let run = Run::new(tokens, &[0, 1, 2]);
    bits(&model.forward(&[run.chunk(tokens.len(), Rows::All)]).unwrap())
}

/// The same in pieces, among strangers that come and go, in other blocks, one of them copied in the middle.
pub(crate) fn busy(model: &mut dyn Forward, tokens: &[u32]) -> Vec<u32> {
    model.allocate(SPARE as usize).unwrap();
    let vocabulary = model.shape().vocabulary as u32;
    let mut mine = Run::new(tokens, &[9, 2, 7]);
    let mut first = Run::new(&(0..40).map(|i| (i * 7 + 3) % vocabulary).collect::<Vec<u32>>(), &[1, 11, 4]);
    let mut second = Run::new(&(0..30).map(|i| (i * 5 + 90) % vocabulary).collect::<Vec<u32>>(), &[8, 0]);
    let mut logits = Vec::new();
    for (step, count) in [5, 1, 8, 2, 1, 3, 7, 1].into_iter().cycle().enumerate() {
        let count = count.min(tokens.len() - mine.done);
        if count == 0 {
            break;
        }
        if step == 3 {
            let block = &mut mine.blocks[mine.done / BLOCK];
            model.copy_block(*block, 5).unwrap();
            *block = 5;
        }
        let strangers = (step % 3, (step + 1) % 4);
        let chunks = [
            first.chunk(strangers.0, Rows::Last),
            mine.chunk(count, Rows::All),
            second.chunk(strangers.1, Rows::None),
        ];
        let out = model.forward(&chunks).unwrap();
        let vocabulary = model.shape().vocabulary;
        let before = if strangers.0 > 0 { vocabulary } else { 0 };
        logits.extend_from_slice(&out[before..]);
        mine.done += count;
        first.done += strangers.0;
        second.done += strangers.1;
    }
    bits(&logits)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn alone_in_pieces_in_a_crowd_and_on_any_number_of_threads() {
    for case in cases() {
        let tokens: Vec<u32> = case.input.iter().chain(&case.greedy).copied().collect();
        let mut expected: Option<Vec<u32>> = None;
        for threads in [1, 2, 4] {
            let mut model = case.load(&case.configs[0], &case.options(threads));
            let expected = expected.get_or_insert_with(|| alone(&mut *model, &tokens));
            assert!(*expected == alone(&mut *model, &tokens), "{} alone, {threads} threads", case.name);
            assert!(*expected == busy(&mut *model, &tokens), "{} in a crowd, {threads} threads", case.name);
        }
    }
}

#[test]
fn with_keys_and_values_in_bf16_too() {
    for name in ["llama", "gemma3", "gpt_oss"] {
        let case = case(name);
        let options = Options { kv: KvType::Bf16, ..case.options(2) };
        let mut model = case.load(&case.configs[0], &options);
        assert!(alone(&mut *model, &case.input) == busy(&mut *model, &case.input), "{name}");
        let (logits, _) = answer(&mut *model, &case.input, 0);
        let difference = logits.iter().zip(&case.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference > 0.0 && difference < 0.3, "{name} {difference}");
    }
}
