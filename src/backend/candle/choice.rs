//! One choice while its tokens come: tokens → text → the answer's parts → what is told of them.

use std::{collections::VecDeque, mem};

use super::{Loaded, prepare::Plan};
use crate::{
    engine::{self, Logprob},
    generation::{FinishReason, GenerationEvent, TokenLogprob},
    text::{
        Detokenizer, StopMatcher,
        channels::{Input, Part, Piece, Reader},
        stop::Emitted,
    },
};

pub(super) struct Choice {
    number: u32,
    detokenizer: Detokenizer,
    reader: Reader,
    /// Bytes of text that the reader was given.
    read: usize,
    /// Bytes of it whose part is known.
    sorted: usize,
    /// Tokens whose part is not known yet: where each begins in the text, and its logprob where that is wanted.
    unsorted: VecDeque<(usize, Option<TokenLogprob>)>,
    /// The last part was content, or none has come.
    in_content: bool,
    /// They look at the content alone.
    stops: StopMatcher,
    /// Of tokens of content that was not told yet.
    waiting: VecDeque<TokenLogprob>,
    tokens: u64,
    reasoning_tokens: u64,
    calls: u32,
    /// Sum of the tokens' logprobs, for `best_of`.
    score: f64,
    reason: Option<FinishReason>,
    /// What one step of the engine brings.
    told: Vec<GenerationEvent>,
}

impl Choice {
    pub(super) fn new(number: u32, plan: &Plan) -> Self {
        Self {
            number,
            detokenizer: Detokenizer::new(),
            reader: plan.reader.clone(),
            read: 0,
            sorted: 0,
            unsorted: VecDeque::new(),
            in_content: true,
            stops: StopMatcher::new(&plan.stop),
            waiting: VecDeque::new(),
            tokens: 0,
            reasoning_tokens: 0,
            calls: 0,
            score: 0.0,
            reason: None,
            told: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How many of the tokens begin in text that is told as reasoning.
    pub(super) fn reasoning_tokens(&self) -> u64 {
        self.reasoning_tokens
    }

    /// The mean logprob of its tokens.
    pub(super) fn mean(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.score / self.tokens as f64 }
    }

    /// What one more token lets out. The choice is over when a stop text is complete, or a call that is to be the only one.
    pub(super) fn push(
        &mut self,
        loaded: &Loaded,
        plan: &Plan,
        id: u32,
        logprob: Option<Logprob>,
    ) -> Vec<GenerationEvent> {
        self.tokens += 1;
        self.score += logprob.as_ref().map_or(0.0, |logprob| logprob.value);
        let marker = loaded.format.marker(id);
        // Other control tokens count and end the answer, but are not part of its text.
        if marker.is_none() && loaded.tokenizer.is_special(id) {
            return vec![];
        }
        if marker.is_some() {
            let rest = mem::take(&mut self.detokenizer).finish();
            self.read(Input::Text(&rest), plan);
        }
        let logprob = logprob.filter(|_| plan.logprobs.is_some());
        self.unsorted.push_back((self.read, logprob.map(|logprob| loaded.describe(id, Some(logprob)))));
        match marker {
            Some(mark) => self.read(Input::Marker(mark), plan),
            None => {
                let bytes = loaded.tokenizer.token_bytes(id).unwrap_or_default();
                let text = self.detokenizer.push(bytes);
                self.read(Input::Text(&text), plan);
            }
        }
        self.tell()
    }

    /// What was held back until the end.
    pub(super) fn finish(&mut self, plan: &Plan, reason: engine::FinishReason) -> Vec<GenerationEvent> {
        let rest = mem::take(&mut self.detokenizer).finish();
        self.read(Input::Text(&rest), plan);
        let mut pieces = self.reader.finish();
        // A call that the end cut off is not one that ends the answer.
        pieces.retain(|piece| piece.part != Part::CallEnd);
        self.sort(pieces, plan);
        if self.in_content {
            for (_, logprob) in mem::take(&mut self.unsorted) {
                self.waiting.extend(logprob);
                let emitted = self.stops.push("");
                self.emit(emitted);
            }
        }
        let emitted = self.stops.finish("");
        self.emit(emitted);
        self.reason.get_or_insert(match reason {
            engine::FinishReason::Length => FinishReason::Length,
            engine::FinishReason::Eos | engine::FinishReason::StopToken(_) => FinishReason::Stop,
        });
        self.tell()
    }

    fn read(&mut self, input: Input<'_>, plan: &Plan) {
        let (Input::Text(text) | Input::Marker(text)) = input;
        if !text.is_empty() {
            self.read += text.len();
            let pieces = self.reader.push(input);
            self.sort(pieces, plan);
        }
    }

    fn sort(&mut self, pieces: Vec<Piece>, plan: &Plan) {
        for Piece { bytes, part } in pieces {
            if self.is_over() {
                return;
            }
            let begin = self.sorted;
            self.in_content = matches!(part, Part::Content(_));
            self.sorted += bytes;
            let count = self.unsorted.iter().take_while(|(place, _)| *place < self.sorted).count();
            let tokens: Vec<_> = self.unsorted.drain(..count).collect();
            let choice = self.number;
            match part {
                Part::Content(text) => self.content(&text, begin, tokens),
                Part::Reasoning(text) => {
                    self.reasoning_tokens += tokens.len() as u64;
                    match self.told.last_mut() {
                        Some(GenerationEvent::Reasoning { text: told, .. }) => told.push_str(&text),
                        _ => self.told.push(GenerationEvent::Reasoning { choice, text }),
                    }
                }
                Part::Call { name } => {
                    let (index, id) = (self.calls, plan.call_ids.id(choice, self.calls));
                    self.calls += 1;
                    self.told.push(GenerationEvent::ToolCall { choice, index, id, name });
                }
                Part::Arguments(piece) => {
                    let index = self.calls.saturating_sub(1);
                    self.told.push(GenerationEvent::ToolArguments { choice, index, piece });
                }
                Part::CallEnd if plan.parallel_tool_calls => {}
                Part::CallEnd => self.reason = Some(FinishReason::ToolCalls),
                Part::Silence => {}
            }
        }
    }

    /// Content that begins at `begin` in the whole text, with the tokens that begin in it.
    fn content(&mut self, text: &str, begin: usize, tokens: Vec<(usize, Option<TokenLogprob>)>) {
        let ends = tokens.iter().skip(1).map(|(place, _)| place - begin).chain([text.len()]);
        let ends: Vec<usize> = ends.collect();
        // A token that began in a mark may end in content.
        let first = tokens.first().map_or(text.len(), |(place, _)| place - begin);
        let emitted = self.stops.extend(&text[..first]);
        self.emit(emitted);
        let mut from = first;
        for ((_, logprob), end) in tokens.into_iter().zip(ends) {
            self.waiting.extend(logprob);
            let emitted = self.stops.push(&text[from..end]);
            self.emit(emitted);
            from = end;
        }
    }

    fn emit(&mut self, Emitted { text, tokens, stop }: Emitted) {
        if stop.is_some() {
            self.reason = Some(FinishReason::Stop);
        }
        let logprobs: Vec<TokenLogprob> = self.waiting.drain(..tokens.min(self.waiting.len())).collect();
        if text.is_empty() && logprobs.is_empty() {
            return;
        }
        if let Some(GenerationEvent::Text { text: told, logprobs: told_logprobs, .. }) = self.told.last_mut()
        {
            told.push_str(&text);
            told_logprobs.extend(logprobs);
        } else {
            self.told.push(GenerationEvent::Text { choice: self.number, text, logprobs });
        }
    }

    fn tell(&mut self) -> Vec<GenerationEvent> {
        let mut told = mem::take(&mut self.told);
        if let Some(reason) = &mut self.reason {
            // Whoever reads the answer has calls to see to, however it ended.
            if *reason == FinishReason::Stop && self.calls > 0 {
                *reason = FinishReason::ToolCalls;
            }
            told.push(GenerationEvent::Finished { choice: self.number, reason: *reason });
        }
        told
    }
}
