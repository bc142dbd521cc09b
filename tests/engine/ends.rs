//! Where answers end.

use sconce::engine::{Engine, FinishReason, Request, Sampling};

use crate::{
    answers::{Answer, answers},
    fake::{engine, request},
};

fn answer(engine: &Engine, sampling: Sampling) -> Answer {
    answers(engine.submit(Request { sampling, ..request(vec![3, 1, 4], 0) }).unwrap()).only()
}

#[test]
fn an_answer_ends_at_its_length() {
    let answer = answer(&engine(), Sampling::greedy(7));
    assert_eq!((answer.tokens.len(), answer.reason), (7, Some(FinishReason::Length)));
}

#[test]
fn an_answer_ends_after_eos_and_stop_tokens_unless_told_otherwise() {
    let engine = engine();
    let free = answer(&engine, Sampling::greedy(30)).tokens;
    let (at, token) = (5, free[5]);
    assert!(!free[..at].contains(&token), "a prompt whose sixth token is new is needed");
    let eos = Sampling { eos: vec![token], ..Sampling::greedy(30) };
    let ended = answer(&engine, eos.clone());
    assert_eq!((&ended.tokens[..], ended.reason), (&free[..=at], Some(FinishReason::Eos)));
    let ignored = answer(&engine, Sampling { ignore_eos: true, ..eos.clone() });
    assert_eq!((&ignored.tokens[..], ignored.reason), (&free[..], Some(FinishReason::Length)));
    let stop = Sampling { stop_tokens: vec![token], ignore_eos: true, ..eos };
    let stopped = answer(&engine, stop.clone());
    assert_eq!((&stopped.tokens[..], stopped.reason), (&free[..=at], Some(FinishReason::StopToken(token))));
    // Before the minimum the token is not drawn at all.
    let later = answer(&engine, Sampling { min_tokens: 20, ..stop });
    assert_eq!(later.tokens[..at], free[..at]);
    assert!(later.tokens.len() >= 20 && !later.tokens[..20].contains(&token));
}

#[test]
fn a_prompt_can_be_scored_without_an_answer() {
    let engine = engine();
    let prompt: Vec<u32> = (0..100).map(|place| place % 48).collect();
    let score = |sampling| Request { prompt_logprobs: Some(2), sampling, ..request(prompt.clone(), 0) };
    let scored = answers(engine.submit(score(Sampling::greedy(0))).unwrap());
    let logprobs = scored.prompt.clone().unwrap().logprobs.unwrap();
    assert_eq!(logprobs.len(), 100);
    assert!(logprobs[0].is_none() && logprobs[1..].iter().flatten().count() == 99);
    assert!(logprobs[1..].iter().flatten().all(|logprob| logprob.top.len() == 2));
    let only = scored.only();
    assert_eq!((only.tokens.len(), only.reason), (0, Some(FinishReason::Length)));
    // With an answer, and with the prompt in the prefix cache, the scores are the same.
    let again = answers(engine.submit(score(Sampling::greedy(4))).unwrap());
    assert_eq!(again.prompt.clone().unwrap().logprobs.unwrap(), logprobs);
    assert_eq!(again.only().tokens.len(), 4);
}

#[test]
fn a_scored_token_has_the_logprob_that_it_was_drawn_with() {
    let engine = engine();
    let drawn = answer(&engine, Sampling { logprobs: Some(3), ..Sampling::greedy(20) });
    let prompt = [vec![3, 1, 4], drawn.tokens].concat();
    let scored = answers(engine.submit(Request { prompt_logprobs: Some(3), ..request(prompt, 0) }).unwrap());
    assert_eq!(scored.prompt.unwrap().logprobs.unwrap()[3..], drawn.logprobs);
}

#[test]
fn without_a_seed_answers_differ_and_with_one_they_are_the_same() {
    let engine = engine();
    let draw = |seed| answer(&engine, Sampling { temperature: 1.0, seed, ..Sampling::greedy(40) }).tokens;
    assert_ne!(draw(None), draw(None));
    assert_eq!(draw(Some(1)), draw(Some(1)));
    assert_ne!(draw(Some(1)), draw(Some(2)));
}

#[test]
fn choices_differ_from_each_other_and_the_first_equals_a_single_one() {
    let engine = engine();
    let sampling = Sampling { temperature: 1.0, seed: Some(5), ..Sampling::greedy(40) };
    let several = Request { choices: 4, sampling: sampling.clone(), ..request(vec![3, 1, 4], 0) };
    let choices = answers(engine.submit(several).unwrap()).choices;
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[&0], answer(&engine, sampling));
    assert!((1..4).all(|choice| choices[&choice].tokens != choices[&(choice - 1)].tokens));
}
