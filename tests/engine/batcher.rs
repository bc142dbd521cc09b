//! Vectors of texts, on a model whose vector is what it was given.

use std::sync::mpsc::{Receiver, Sender, channel};

use sconce::{
    engine::{Batcher, Failure, SubmitError, Text, Vectors},
    model::{Encode, EncodeShape, ForwardError, Sequence},
};

use crate::answers::block_on;

const VOCABULARY: usize = 100;
const CONTEXT: usize = 64;
const LAYERS: u64 = 3;
const PANIC: u32 = 98;
const FAIL: u32 = 99;

struct Fake {
    shape: EncodeShape,
    /// The lengths of each batch, told before it runs; it then waits to be let go.
    gate: Option<(Sender<Vec<usize>>, Receiver<()>)>,
}

impl Encode for Fake {
    fn shape(&self) -> &EncodeShape {
        &self.shape
    }

    fn encode(
        &mut self,
        sequences: &[Sequence<'_>],
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<Vec<f32>>, ForwardError> {
        if let Some((entered, go)) = &self.gate {
            entered.send(sequences.iter().map(|sequence| sequence.tokens.len()).collect()).unwrap();
            go.recv().unwrap();
        }
        let any = |token| sequences.iter().any(|sequence| sequence.tokens.contains(&token));
        assert!(!any(PANIC), "a token that nobody survives");
        if any(FAIL) {
            return Err(ForwardError("no more of these".to_owned()));
        }
        (0..LAYERS).for_each(|_| alive());
        Ok(sequences.iter().map(vector).collect())
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn vector(sequence: &Sequence<'_>) -> Vec<f32> {
    let mut vector: Vec<f32> = sequence.tokens.iter().map(|token| *token as f32).collect();
    vector.push(sequence.types.iter().sum::<u32>() as f32);
    vector.push(sequence.prompt as f32);
    vector.push(sequence.dimensions.unwrap_or(0) as f32);
    vector
}

fn batcher(max_batch_tokens: usize, max_waiting: usize) -> Batcher {
    Batcher::start(Box::new(Fake { shape: shape(), gate: None }), max_batch_tokens, max_waiting).unwrap()
}

fn shape() -> EncodeShape {
    EncodeShape { vocabulary: VOCABULARY, context_length: CONTEXT, width: 4, normalised: false }
}

/// A batcher whose batches are seen, and let go one by one.
fn gated(max_batch_tokens: usize, max_waiting: usize) -> (Batcher, Receiver<Vec<usize>>, Sender<()>) {
    let ((entered, seen), (go, wait)) = (channel(), channel());
    let model = Box::new(Fake { shape: shape(), gate: Some((entered, wait)) });
    (Batcher::start(model, max_batch_tokens, max_waiting).unwrap(), seen, go)
}

fn text(length: usize, token: u32) -> Text {
    Text { tokens: vec![token; length], ..Text::default() }
}

fn answer(vectors: Vectors) -> Result<Vec<Vec<f32>>, Failure> {
    block_on(vectors).unwrap()
}

#[test]
fn each_text_has_its_vector_in_its_place() {
    let batcher = batcher(20, 4);
    let texts: Vec<Text> = (1..30)
        .map(|i| Text {
            tokens: (0..i).collect(),
            types: vec![1; i as usize / 2],
            prompt: i as usize % 3,
            dimensions: (i % 2 == 0).then_some(2),
        })
        .collect();
    let expected: Vec<Vec<f32>> = texts
        .iter()
        .map(|Text { tokens, types, prompt, dimensions }| {
            vector(&Sequence { tokens, types, prompt: *prompt, dimensions: *dimensions })
        })
        .collect();
    assert_eq!(answer(batcher.submit(texts).unwrap()).unwrap(), expected);
    let stats = batcher.stats();
    assert_eq!((stats.tokens_run, stats.vectors, stats.waiting), ((1..30).sum(), 29, 0));
    assert!(stats.steps > 10 && stats.steps < 29, "{stats:?}");
    assert_eq!(stats.beats, stats.steps * (1 + LAYERS), "a sign of life with each layer");
}

#[test]
fn requests_take_turns_and_share_batches() {
    let (batcher, seen, go) = gated(10, 8);
    let first = batcher.submit(vec![text(1, 1)]).unwrap();
    assert_eq!(seen.recv().unwrap(), [1]);
    let many = batcher.submit((0..6).map(|_| text(3, 2)).collect()).unwrap();
    let one = batcher.submit(vec![text(4, 3)]).unwrap();
    let long = batcher.submit(vec![text(60, 4), text(2, 5)]).unwrap();
    go.send(()).unwrap();
    assert_eq!(answer(first).unwrap(), [vec![1.0, 0.0, 0.0, 0.0]]);
    let mut batches = Vec::new();
    while batches.iter().flatten().count() < 9 {
        batches.push(seen.recv().unwrap());
        go.send(()).unwrap();
    }
    assert_eq!(answer(many).unwrap().len(), 6);
    assert_eq!(answer(one).unwrap()[0].len(), 7);
    assert_eq!(answer(long).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [63, 5]);
    // The single text was not behind all the others of the big request, nor was the one that fills a batch forgotten.
    let place = |length| batches.iter().position(|batch: &Vec<usize>| batch.contains(&length)).unwrap();
    assert!(place(4) <= 1, "{batches:?}");
    assert!(batches[place(60)].len() == 1 && place(60) <= 3, "{batches:?}");
    assert!(batches.iter().any(|batch| batch.contains(&3) && batch.contains(&4)), "{batches:?}");
    for batch in &batches {
        assert!(batch.len() == 1 || batch.iter().sum::<usize>() <= 10, "{batches:?}");
    }
}

#[test]
fn a_failure_fails_its_batch_and_nothing_else() {
    for (token, expected) in [
        (FAIL, Failure::Forward("no more of these".to_owned())),
        (PANIC, Failure::Panic("a token that nobody survives".to_owned())),
    ] {
        let (batcher, seen, go) = gated(10, 8);
        let first = batcher.submit(vec![text(1, 1)]).unwrap();
        seen.recv().unwrap();
        let bad = batcher.submit(vec![text(2, token), text(9, 1)]).unwrap();
        let beside = batcher.submit(vec![text(3, 1), text(8, 2)]).unwrap();
        let behind = batcher.submit(vec![text(9, 2)]).unwrap();
        go.send(()).unwrap();
        answer(first).unwrap();
        let mut beside = Some(beside);
        for batch in seen.iter().take(2) {
            go.send(()).unwrap();
            if batch.contains(&2) {
                assert!(batch.contains(&3), "{batch:?}");
            }
        }
        assert_eq!(answer(bad).unwrap_err(), expected);
        assert_eq!(answer(beside.take().unwrap()).unwrap_err(), expected);
        assert_eq!(answer(behind).unwrap()[0].len(), 12);
        assert!(!batcher.is_stopped());
        let again = batcher.submit(vec![text(5, 6)]).unwrap();
        seen.recv().unwrap();
        go.send(()).unwrap();
        assert_eq!(answer(again).unwrap()[0].len(), 8);
    }
}

#[test]
fn what_nobody_waits_for_is_not_run() {
    let (batcher, seen, go) = gated(10, 8);
    let first = batcher.submit(vec![text(1, 1)]).unwrap();
    seen.recv().unwrap();
    drop(batcher.submit((0..50).map(|_| text(10, 2)).collect()).unwrap());
    let last = batcher.submit(vec![text(3, 3)]).unwrap();
    go.send(()).unwrap();
    assert_eq!(seen.recv().unwrap(), [3]);
    go.send(()).unwrap();
    answer(first).unwrap();
    answer(last).unwrap();
    assert_eq!(batcher.stats().vectors, 2);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_queued() {
    let (batcher, seen, go) = gated(10, 1);
    let refused = |texts: Vec<Text>| batcher.submit(texts).unwrap_err();
    assert_eq!(refused(vec![text(1, 1), text(0, 1)]), SubmitError::EmptyPrompt);
    let too_long = SubmitError::ContextLengthExceeded { limit: CONTEXT, prompt: CONTEXT + 1, completion: 0 };
    assert_eq!(refused(vec![text(CONTEXT + 1, 1)]), too_long);
    assert_eq!(refused(vec![text(1, 100)]), SubmitError::UnknownToken { id: 100, vocabulary: VOCABULARY });
    let running = batcher.submit(vec![text(1, 1)]).unwrap();
    seen.recv().unwrap();
    let waiting = batcher.submit(vec![text(1, 1)]).unwrap();
    assert_eq!(refused(vec![text(1, 1)]), SubmitError::QueueFull { waiting: 1 });
    go.send(()).unwrap();
    seen.recv().unwrap();
    go.send(()).unwrap();
    answer(running).unwrap();
    answer(waiting).unwrap();
    // Dropped at once, it might be cancelled before it began.
    let last = batcher.submit(vec![text(1, 1)]).unwrap();
    seen.recv().unwrap();
    go.send(()).unwrap();
    answer(last).unwrap();
}
