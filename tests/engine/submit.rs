use sconce::engine::{Engine, Memory, Request, Sampling, StartError, Stop, SubmitError};

use crate::{
    answers::{answers, block_on},
    fake::{CONTEXT, Fake, Gate, VOCABULARY, config, engine, request},
};

fn refusal(engine: &Engine, request: Request) -> SubmitError {
    engine.submit(request).map(|_| ()).unwrap_err()
}

#[test]
fn an_engine_is_shared_and_a_generation_sent_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Engine>();
    sent::<sconce::engine::Generation>();
}

#[test]
fn a_request_beyond_the_context_is_refused_with_the_numbers() {
    let engine = engine();
    let error = refusal(&engine, request(vec![1; 4_000], 97));
    assert_eq!(error, SubmitError::ContextLengthExceeded { limit: CONTEXT, prompt: 4_000, completion: 97 });
    assert!(engine.submit(request(vec![1; 4_000], 96)).is_ok());
    let error = refusal(&engine, request(vec![1], usize::MAX));
    assert!(matches!(error, SubmitError::ContextLengthExceeded { completion: usize::MAX, .. }));
}

#[test]
fn a_request_that_can_never_fit_is_refused_and_the_largest_that_fits_runs() {
    let config = sconce::engine::Config { memory: Memory::Blocks(4), ..config() };
    let engine = Engine::start(Box::new(Fake::new().0), config).unwrap();
    let error = refusal(&engine, request(vec![1; 60], 6));
    assert_eq!(error, SubmitError::NeverFits { needed: 65, limit: 64 });
    // The last token is drawn, not run: it needs no place.
    assert_eq!(answers(engine.submit(request(vec![1; 60], 5)).unwrap()).only().tokens.len(), 5);
    assert_eq!(answers(engine.submit(request(vec![1; 64], 1)).unwrap()).only().tokens.len(), 1);
    assert_eq!(answers(engine.submit(request(vec![1; 1], 64)).unwrap()).only().tokens.len(), 64);
}

#[test]
fn what_makes_no_sense_to_the_model_is_refused() {
    let engine = engine();
    assert_eq!(refusal(&engine, request(vec![], 1)), SubmitError::EmptyPrompt);
    assert_eq!(refusal(&engine, Request { choices: 0, ..request(vec![1], 1) }), SubmitError::NoChoices);
    let unknown = SubmitError::UnknownToken { id: 48, vocabulary: VOCABULARY };
    assert_eq!(refusal(&engine, request(vec![1, 48], 1)), unknown);
    let sampling = Sampling { logit_bias: vec![(48, 1.0)], ..Sampling::greedy(1) };
    assert_eq!(refusal(&engine, Request { sampling, ..request(vec![1], 1) }), unknown);
}

#[test]
fn a_full_queue_refuses_and_takes_again_when_one_has_started() {
    let (gate, hook) = Gate::new();
    let config = sconce::engine::Config { max_waiting: 2, max_sequences: 1, ..config() };
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config).unwrap();
    let first = engine.submit(request(vec![1], 1)).unwrap();
    gate.entered();
    let second = engine.submit(request(vec![2], 1)).unwrap();
    let third = engine.submit(request(vec![3], 1)).unwrap();
    assert_eq!(refusal(&engine, request(vec![4], 1)), SubmitError::QueueFull { waiting: 2 });
    gate.go();
    gate.entered();
    let fourth = engine.submit(request(vec![4], 1)).unwrap();
    assert_eq!(refusal(&engine, request(vec![5], 1)), SubmitError::QueueFull { waiting: 2 });
    // Who waits and goes away leaves a place too.
    drop(third);
    gate.go();
    gate.entered();
    let fifth = engine.submit(request(vec![5], 1)).unwrap();
    (0..2).for_each(|_| gate.go());
    for generation in [first, second, fourth, fifth] {
        assert_eq!(answers(generation).only().tokens.len(), 1);
    }
}

#[test]
fn memory_may_be_given_in_bytes() {
    let start = |bytes| {
        let config = sconce::engine::Config { memory: Memory::Bytes(bytes), ..config() };
        Engine::start(Box::new(Fake::new().0), config)
    };
    assert!(matches!(start(999), Err(StartError::NoBlocks { block_bytes: 1_000 })));
    let engine = start(2_999).unwrap();
    assert_eq!(refusal(&engine, request(vec![1; 33], 1)), SubmitError::NeverFits { needed: 33, limit: 32 });
}

#[test]
fn a_drain_finishes_what_it_has_and_takes_nothing_new() {
    let (gate, hook) = Gate::new();
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config()).unwrap();
    let running = engine.submit(request(vec![1, 2], 3)).unwrap();
    gate.entered();
    engine.stop(Stop::Drain);
    assert_eq!(refusal(&engine, request(vec![1], 1)), SubmitError::Stopped);
    assert!(!engine.is_stopped());
    (0..3).for_each(|_| gate.go());
    assert_eq!(answers(running).only().tokens.len(), 3);
    block_on(engine.stopped());
    assert!(engine.is_stopped());
    assert_eq!((engine.stats().blocks_used, engine.stats().running), (0, 0));
}

#[test]
fn an_abort_fails_what_runs_and_what_waits() {
    let (gate, hook) = Gate::new();
    let config = sconce::engine::Config { max_sequences: 1, ..config() };
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config).unwrap();
    let running = engine.submit(request(vec![1, 2], 30)).unwrap();
    let waiting = engine.submit(request(vec![1, 2], 30)).unwrap();
    gate.entered();
    // A drain may turn into an abort, and not back.
    engine.stop(Stop::Drain);
    engine.stop(Stop::Abort);
    engine.stop(Stop::Drain);
    gate.go();
    for generation in [running, waiting] {
        assert_eq!(answers(generation).failure, Some(sconce::engine::Failure::Stopped));
    }
    block_on(engine.stopped());
    assert_eq!(engine.stats().blocks_used, 0);
}

#[test]
fn a_generation_that_outlives_its_engine_ends() {
    let (gate, hook) = Gate::new();
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config()).unwrap();
    let generation = engine.submit(request(vec![1], 30)).unwrap();
    gate.entered();
    drop(engine);
    gate.go();
    assert_eq!(answers(generation).failure, Some(sconce::engine::Failure::Stopped));
}
