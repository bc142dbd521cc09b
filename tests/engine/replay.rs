//! The promise: an answer is the same alone and among others, whatever happens to it there.

use futures_util::StreamExt;
use sconce::engine::{Config, Engine, Generation, Memory, Request, Sampling, Stats, Stop, SubmitError};

use crate::{
    answers::{Answers, answers, block_on},
    dice::Dice,
    fake::{Fake, VOCABULARY, config},
};

const REQUESTS: usize = 320;

fn sampling(dice: &mut Dice) -> Sampling {
    let greedy = dice.chance(25);
    Sampling {
        temperature: if greedy { 0.0 } else { dice.pick(&[0.3, 0.8, 1.0, 1.6]) },
        top_k: dice.pick(&[0, 0, 3, 20]),
        top_p: dice.pick(&[1.0, 0.9, 0.5]),
        min_p: dice.pick(&[0.0, 0.0, 0.05]),
        repetition_penalty: dice.pick(&[1.0, 1.0, 1.2]),
        frequency_penalty: dice.pick(&[0.0, 0.0, 0.5]),
        presence_penalty: dice.pick(&[0.0, 0.0, -0.5]),
        logit_bias: if dice.chance(20) { vec![(7, 3.0), (8, -100.0)] } else { Vec::new() },
        // Greedy answers need none.
        seed: (!greedy || dice.chance(50)).then(|| dice.next()),
        min_tokens: dice.pick(&[0, 0, 5]),
        max_tokens: dice.below(50),
        eos: vec![0],
        stop_tokens: if dice.chance(20) { vec![1, 2] } else { Vec::new() },
        ignore_eos: dice.chance(50),
        logprobs: dice.chance(30).then(|| dice.below(4)),
    }
}

fn requests() -> Vec<Request> {
    let mut dice = Dice(2024);
    let shared: Vec<Vec<u32>> = (0..4).map(|_| dice.tokens(130, VOCABULARY)).collect();
    let request = |_| {
        let length = dice.between(1, 150);
        let family = dice.below(6);
        let common = shared.get(family).map_or(0, |_| dice.below(length.min(130) + 1));
        let mut prompt = shared.get(family).map_or(Vec::new(), |tokens| tokens[..common].to_vec());
        prompt.extend(dice.tokens(length - common, VOCABULARY));
        Request {
            prompt,
            choices: dice.pick(&[1, 1, 1, 2, 3, 5]),
            sampling: sampling(&mut dice),
            prompt_logprobs: dice.chance(10).then(|| dice.below(3)),
            adapter: None,
            cache_seed: dice.below(2) as u64,
        }
    };
    (0..REQUESTS).map(request).collect()
}

/// What each request is answered when nothing else runs and no prefix is known.
fn alone(requests: &[Request]) -> Vec<Answers> {
    let (model, faults) = Fake::new();
    let config = Config { prefix_cache: false, max_batch_tokens: 4_096, ..config() };
    let engine = Engine::start(Box::new(model), config).unwrap();
    let told = requests.iter().map(|request| answers(engine.submit(request.clone()).unwrap())).collect();
    faults.assert_none();
    assert_eq!(engine.stats().preemptions, 0);
    told
}

struct Running {
    number: usize,
    generation: Generation,
    told: Answers,
    /// Events after which its consumer goes away.
    patience: Option<usize>,
    /// A choice that its consumer finishes, after so many of its tokens.
    finished: Option<(u32, usize)>,
}

impl Running {
    fn new(number: usize, generation: Generation, choices: u32, dice: &mut Dice) -> Self {
        let patience = dice.chance(15).then(|| dice.below(40));
        let finished = dice.chance(15).then(|| (dice.below(choices as usize) as u32, dice.below(20)));
        Self { number, generation, told: Answers::default(), patience, finished }
    }

    /// Takes the next event. `false` at the end.
    async fn advance(&mut self) -> bool {
        if let Some(patience) = &mut self.patience {
            if *patience == 0 {
                return false;
            }
            *patience -= 1;
        }
        let Some(event) = self.generation.next().await else { return false };
        self.told.add(event);
        if let Some((choice, length)) = self.finished
            && self.told.choices.get(&choice).is_some_and(|answer| answer.tokens.len() == length)
        {
            self.generation.finish(choice);
        }
        true
    }

    /// What came is what would have come to it alone, all of it or a beginning.
    fn assert_equals(&self, expected: &Answers) {
        let number = self.number;
        assert_eq!(self.told.failure, None, "request {number}");
        let whole = self.patience.is_none();
        if let Some(prompt) = &self.told.prompt {
            assert_eq!(prompt.logprobs, expected.prompt.as_ref().unwrap().logprobs, "request {number}");
        } else {
            assert!(!whole, "request {number} has no prompt");
        }
        for (choice, expected) in &expected.choices {
            let told = self.told.choices.get(choice).cloned().unwrap_or_default();
            if whole && self.finished.is_none_or(|(finished, _)| finished != *choice) {
                assert_eq!(&told, expected, "request {number}, choice {choice}");
            }
            let length = told.tokens.len();
            assert_eq!(told.tokens, expected.tokens[..length], "request {number}, choice {choice}");
            assert_eq!(told.logprobs, expected.logprobs[..length], "request {number}, choice {choice}");
        }
    }
}

/// Runs all of them side by side; a single consumer takes turns among them at random, so that channels fill up.
fn together(requests: &[Request], expected: &[Answers], config: Config, seed: u64) -> Stats {
    let (model, faults) = Fake::new();
    let engine = Engine::start(Box::new(model), config).unwrap();
    let mut dice = Dice(seed);
    let crowd = dice.between(8, 30);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, dice.below(place + 1));
    }
    let mut running: Vec<Running> = Vec::new();
    block_on(async {
        while !order.is_empty() || !running.is_empty() {
            if running.is_empty() || (running.len() < crowd && !order.is_empty() && dice.chance(30)) {
                let number = order[order.len() - 1];
                match engine.submit(requests[number].clone()) {
                    Ok(generation) => {
                        order.pop();
                        running.push(Running::new(number, generation, requests[number].choices, &mut dice));
                    }
                    Err(SubmitError::QueueFull { .. }) => assert!(!running.is_empty()),
                    Err(error) => panic!("{error}"),
                }
            }
            let Some(turn) = (!running.is_empty()).then(|| dice.below(running.len())) else { continue };
            for _ in 0..dice.between(1, 12) {
                if !running[turn].advance().await {
                    let done = running.swap_remove(turn);
                    done.assert_equals(&expected[done.number]);
                    break;
                }
            }
        }
        engine.stop(Stop::Drain);
        engine.stopped().await;
    });
    faults.assert_none();
    let stats = engine.stats();
    assert_eq!((stats.blocks_used, stats.running, stats.waiting), (0, 0, 0), "something is left behind");
    stats
}

fn replay(prefix_cache: bool) {
    let requests = requests();
    let expected = alone(&requests);
    let drawn: usize =
        expected.iter().flat_map(|answers| answers.choices.values()).map(|answer| answer.tokens.len()).sum();
    assert!(drawn > 8_000, "{drawn} tokens are too few to prove anything");
    for (seed, max_batch_tokens) in [(1, 5), (2, 16), (3, 33), (4, 128), (5, 1_024)] {
        // The largest request needs 13 blocks.
        for (blocks, buffered_tokens) in [(13, 2), (24, 8), (200, 64)] {
            let config = Config {
                memory: Memory::Blocks(blocks),
                max_batch_tokens,
                max_sequences: 12,
                max_waiting: 6,
                prefix_cache,
                buffered_tokens,
            };
            let stats = together(&requests, &expected, config, seed * 100 + u64::from(blocks));
            assert!(blocks > 24 || stats.preemptions > 500, "{stats:?}");
            assert_eq!(stats.tokens_cached > 0, prefix_cache);
        }
    }
}

#[test]
fn answers_are_the_same_alone_and_together_with_a_prefix_cache() {
    replay(true);
}

#[test]
fn answers_are_the_same_alone_and_together_without_a_prefix_cache() {
    replay(false);
}
