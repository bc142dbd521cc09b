//! Models that fail.

use std::sync::{Arc, Mutex};

use sconce::{
    engine::{Engine, Failure, SubmitError},
    model::{Chunk, Forward, ForwardError, Rows, Shape},
};

use crate::{
    answers::{answers, block_on},
    fake::{Fake, Gate, Hook, config, engine, request},
};

/// The token at which the models of these tests fail.
const BAD: u32 = 47;

fn is_bad(chunks: &[Chunk<'_>]) -> bool {
    chunks.iter().any(|chunk| chunk.tokens.contains(&BAD))
}

/// A gate before a hook.
fn behind_gate(mut hook: Hook) -> (Gate, Hook) {
    let (gate, mut wait) = Gate::new();
    let both = move |chunks: &[Chunk<'_>]| {
        wait(chunks)?;
        hook(chunks)
    };
    (gate, Box::new(both))
}

#[test]
fn a_failed_pass_fails_its_batch_and_nothing_else() {
    let fail = |chunks: &[Chunk<'_>]| {
        if is_bad(chunks) { Err(ForwardError("no more of these".to_owned())) } else { Ok(()) }
    };
    let (gate, hook) = behind_gate(Box::new(fail));
    let (model, faults) = Fake::with_hook(hook);
    let config = sconce::engine::Config { max_sequences: 2, ..config() };
    let engine = Engine::start(Box::new(model), config).unwrap();
    let first = engine.submit(request(vec![1; 40], 2)).unwrap();
    gate.entered();
    let bad = engine.submit(request(vec![BAD; 40], 5)).unwrap();
    let waiting = engine.submit(request(vec![2; 40], 3)).unwrap();
    gate.go();
    assert_eq!(gate.entered(), [(40, 1), (0, 40)]);
    gate.go();
    let failure = Some(Failure::Forward("no more of these".to_owned()));
    assert_eq!(answers(bad).failure, failure);
    let first = answers(first);
    assert_eq!((first.failure, first.choices[&0].tokens.len()), (failure, 1));
    (0..3).for_each(|_| gate.go());
    assert_eq!(
        answers(waiting).only(),
        answers(self::engine().submit(request(vec![2; 40], 3)).unwrap()).only()
    );
    faults.assert_none();
    engine.stop(sconce::engine::Stop::Drain);
    block_on(engine.stopped());
    assert_eq!(engine.stats().blocks_used, 0);
}

fn panicking(chunks: &[Chunk<'_>]) -> Result<(), ForwardError> {
    assert!(!is_bad(chunks), "a bad token");
    Ok(())
}

#[test]
fn a_panic_is_told_to_all_and_the_engine_goes_on_with_an_empty_cache() {
    let (gate, hook) = behind_gate(Box::new(panicking));
    let (model, faults) = Fake::with_hook(hook);
    let config = sconce::engine::Config { max_sequences: 1, ..config() };
    let engine = Engine::start(Box::new(model), config).unwrap();
    let good = engine.submit(request(vec![1; 40], 1)).unwrap();
    gate.entered();
    let bad = engine.submit(request(vec![BAD; 40], 5)).unwrap();
    let waiting = engine.submit(request(vec![2; 40], 3)).unwrap();
    gate.go();
    answers(good).only();
    assert_eq!(gate.entered(), [(0, 40)]);
    gate.go();
    for generation in [bad, waiting] {
        assert_eq!(answers(generation).failure, Some(Failure::Panic("a bad token".to_owned())));
    }
    let again = engine.submit(request(vec![1; 40], 1)).unwrap();
    gate.go();
    let again = answers(again);
    assert_eq!(again.prompt.clone().unwrap().cached, 0, "what the cache held is lost");
    assert_eq!(again.only(), answers(self::engine().submit(request(vec![1; 40], 1)).unwrap()).only());
    faults.assert_none();
}

#[test]
fn an_engine_whose_model_does_not_recover_stops() {
    let (model, _) = Fake::with_hook(Box::new(panicking));
    let engine = Engine::start(Box::new(model.that_does_not_recover()), config()).unwrap();
    let bad = engine.submit(request(vec![BAD], 5)).unwrap();
    assert!(matches!(answers(bad).failure, Some(Failure::Panic(_))));
    block_on(engine.stopped());
    assert_eq!(engine.submit(request(vec![1], 1)).map(|_| ()).unwrap_err(), SubmitError::Stopped);
}

/// Gives whatever rows a test wants.
struct Scripted {
    shape: Shape,
    rows: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Forward for Scripted {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn allocate(&mut self, _: usize) -> Result<(), ForwardError> {
        Ok(())
    }

    fn copy_block(&mut self, _: u32, _: u32) -> Result<(), ForwardError> {
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<f32>, ForwardError> {
        assert!(chunks.len() == 1 && chunks[0].rows == Rows::Last);
        Ok(self.rows.lock().unwrap().remove(0))
    }
}

#[test]
fn logits_that_are_not_numbers_or_too_few_fail_the_request() {
    let nan = vec![0.0, f32::NAN, 0.0];
    let rows = Arc::new(Mutex::new(vec![nan, vec![0.0, 1.0], vec![0.0, 1.0, 0.5]]));
    let shape = Shape { vocabulary: 3, context_length: 100, block_bytes: 1 };
    let engine = Engine::start(Box::new(Scripted { shape, rows }), config()).unwrap();
    let answer = || answers(engine.submit(request(vec![1], 1)).unwrap());
    assert!(matches!(answer().failure, Some(Failure::Sampling(_))));
    let few = "2 logits came where 3 were asked for".to_owned();
    assert_eq!(answer().failure, Some(Failure::Forward(few)));
    assert_eq!(answer().only().tokens, [1]);
}
