//! Requests that come, pause and go while others run.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sconce::engine::{Config, Engine, Event, Memory, Request, Stop};

use crate::{
    answers::{Answers, answers, block_on},
    fake::{Fake, Gate, config, engine, request},
};

#[test]
fn a_cancelled_prompt_frees_its_blocks_before_the_next_step() {
    let (gate, hook) = Gate::new();
    let engine =
        Engine::start(Box::new(Fake::with_hook(hook).0), Config { max_batch_tokens: 16, ..config() })
            .unwrap();
    let long = engine.submit(request(vec![1; 2_000], 5)).unwrap();
    for step in 0..3 {
        assert_eq!(gate.entered(), [(step * 16, 16)]);
        gate.go();
    }
    assert_eq!(gate.entered(), [(48, 16)]);
    assert_eq!(engine.stats().blocks_used, 125);
    let short = engine.submit(request(vec![2; 20], 2)).unwrap();
    drop(long);
    gate.go();
    assert_eq!(gate.entered(), [(0, 16)]);
    assert_eq!((engine.stats().blocks_used, engine.stats().running), (2, 1));
    (0..3).for_each(|_| gate.go());
    assert_eq!(answers(short).only().tokens.len(), 2);
}

#[test]
fn a_slow_consumer_pauses_itself_alone() {
    let config = Config { buffered_tokens: 4, ..config() };
    let engine = Engine::start(Box::new(Fake::new().0), config).unwrap();
    let slow = engine.submit(request(vec![1; 30], 100)).unwrap();
    let expected = |prompt| answers(self::engine().submit(request(prompt, 100)).unwrap()).only();
    // Each of these lasts far longer than the slow one's channel.
    for token in 2..5 {
        let fast = answers(engine.submit(request(vec![token; 30], 100)).unwrap());
        assert_eq!(fast.only(), expected(vec![token; 30]));
    }
    assert!(engine.stats().tokens_drawn < 320, "the slow one was not paused");
    assert_eq!(answers(slow).only(), expected(vec![1; 30]));
}

#[test]
fn an_engine_whose_consumers_are_all_slow_wakes_up_for_each() {
    let config = Config { buffered_tokens: 1, ..config() };
    let engine = Engine::start(Box::new(Fake::new().0), config).unwrap();
    let mut slow: Vec<_> = (0..6).map(|token| engine.submit(request(vec![token; 10], 40)).unwrap()).collect();
    let mut told = vec![Answers::default(); slow.len()];
    block_on(async {
        // One event of each in turn: whenever it is one's turn, all others are full.
        for _ in 0..42 {
            for (generation, answers) in slow.iter_mut().zip(&mut told) {
                answers.add(generation.next().await.unwrap());
            }
        }
        for generation in &mut slow {
            assert_eq!(generation.next().await, None);
        }
    });
    let engine = self::engine();
    for (token, told) in (0..).zip(told) {
        assert_eq!(told.only(), answers(engine.submit(request(vec![token; 10], 40)).unwrap()).only());
    }
}

#[test]
fn a_choice_that_is_finished_from_outside_ends_alone() {
    let engine = engine();
    let mut generation = engine.submit(Request { choices: 3, ..request(vec![1; 40], 2_000) }).unwrap();
    let counted = block_on(async {
        let mut tokens = [0; 3];
        while let Some(event) = generation.next().await {
            match event {
                Event::Token { choice, .. } => {
                    tokens[choice as usize] += 1;
                    if choice > 0 && tokens[choice as usize] == 10 {
                        generation.finish(choice);
                    }
                }
                Event::Finished { choice, .. } => assert_eq!(choice, 0),
                Event::Prompt { .. } => {}
                Event::Failed(failure) => panic!("{failure}"),
            }
        }
        tokens
    });
    assert_eq!(counted[0], 2_000);
    assert!(counted[1] < 1_000 && counted[2] < 1_000, "{counted:?}");
}

#[test]
fn a_generation_ends_when_its_last_choice_is_finished_from_outside() {
    let engine = engine();
    let mut generation = engine.submit(request(vec![1; 40], 2_000)).unwrap();
    block_on(async {
        while !matches!(generation.next().await, Some(Event::Token { .. })) {}
        generation.finish(0);
        generation.finish(0);
        while let Some(event) = generation.next().await {
            assert!(matches!(event, Event::Token { .. }), "{event:?}");
        }
        engine.stop(Stop::Drain);
        engine.stopped().await;
    });
    assert_eq!(engine.stats().blocks_used, 0);
}

#[test]
fn a_prompt_that_was_there_before_is_told_as_cached() {
    let engine = engine();
    let through = |prompt: Vec<u32>, cache_seed, adapter| {
        let request = Request { cache_seed, adapter, ..request(prompt, 3) };
        answers(engine.submit(request).unwrap()).prompt.unwrap().cached
    };
    let cached = |prompt, cache_seed| through(prompt, cache_seed, None);
    let prompt: Vec<u32> = (0..100).map(|place| place % 48).collect();
    assert_eq!(cached(prompt.clone(), 0), 0);
    assert_eq!(cached(prompt.clone(), 0), 96);
    assert_eq!(cached(prompt[..96].to_vec(), 0), 95);
    assert_eq!(cached([&prompt[..50], &[9; 50]].concat(), 0), 50);
    assert_eq!(cached(prompt.clone(), 1), 0, "another tenant's");
    assert_eq!(through(prompt.clone(), 0, Some(0)), 0, "an adapter's keys and values are others");
    assert_eq!(through(prompt.clone(), 0, Some(1)), 0);
    assert_eq!(through(prompt.clone(), 0, Some(0)), 96);
    assert_eq!(engine.stats().tokens_cached, 96 + 95 + 50 + 96);
}

#[test]
fn a_prompt_that_is_preempted_while_it_is_scored_is_scored_once() {
    let scored = |token| Request { prompt_logprobs: Some(1), ..request(vec![token; 70], 2) };
    let expected = answers(engine().submit(scored(2)).unwrap());
    let (gate, hook) = Gate::new();
    let config = Config { memory: Memory::Blocks(8), max_batch_tokens: 2, buffered_tokens: 100, ..config() };
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config).unwrap();
    let first = engine.submit(request(vec![1; 30], 40)).unwrap();
    gate.entered();
    let second = engine.submit(scored(2)).unwrap();
    (0..300).for_each(|_| gate.go());
    assert_eq!(answers(first).only().tokens.len(), 40);
    assert_eq!(answers(second), expected);
    assert_eq!(engine.stats().preemptions, 1);
}

#[test]
fn a_consumer_that_goes_wakes_an_engine_that_sleeps() {
    let engine = Engine::start(Box::new(Fake::new().0), Config { buffered_tokens: 1, ..config() }).unwrap();
    let generation = engine.submit(request(vec![1; 40], 100)).unwrap();
    // Both would never end if the engine did not do as it should.
    while engine.stats().paused == 0 {
        std::thread::yield_now();
    }
    assert!(engine.stats().blocks_used > 0);
    drop(generation);
    while engine.stats().blocks_used > 0 {
        std::thread::yield_now();
    }
    assert_eq!(engine.stats().running, 0);
}

#[test]
fn the_heartbeat_stands_still_in_a_step_that_hangs_and_nobody_is_busy_without_work() {
    let (gate, hook) = Gate::new();
    let engine = Engine::start(Box::new(Fake::with_hook(hook).0), config()).unwrap();
    assert!(!engine.stats().is_busy());
    let one = engine.submit(request(vec![1; 4], 1)).unwrap();
    gate.entered();
    let hung = engine.stats();
    assert!(hung.is_busy() && hung.steps == 1, "{hung:?}");
    gate.go();
    assert_eq!(answers(one).only().tokens.len(), 1);
    let until = Instant::now() + Duration::from_secs(30);
    while engine.stats().is_busy() {
        assert!(Instant::now() < until, "busy with nothing: {:?}", engine.stats());
        std::thread::yield_now();
    }
}

#[test]
fn an_engine_whose_consumers_all_pause_is_not_busy() {
    let config = Config { buffered_tokens: 1, ..config() };
    let engine = Engine::start(Box::new(Fake::new().0), config).unwrap();
    let slow = engine.submit(request(vec![1; 10], 40)).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while engine.stats().paused == 0 || engine.stats().is_busy() {
        assert!(Instant::now() < until, "{:?}", engine.stats());
        std::thread::yield_now();
    }
    assert_eq!(answers(slow).only().tokens.len(), 40);
}
