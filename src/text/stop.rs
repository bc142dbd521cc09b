//! Stop strings: the answer ends before any of them, wherever the borders between tokens lie.

use std::{collections::VecDeque, mem};

/// Watches one answer's text for stop strings and holds back what may be the beginning of one.
///
/// The first stop string to be complete ends the answer; of several that end at the same place, the longest. So the
/// answer depends on its text alone, not on how the text was cut into pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that may be a stop string's beginning.
    held: String,
    /// Bytes of text that were given out.
    emitted: usize,
    /// Where the text of each token begins that was not reported yet.
    waiting: VecDeque<usize>,
    stopped: bool,
}

/// What may be shown after one more piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emitted {
    pub text: String,
    /// How many more tokens, in the order in which they were pushed, belong to the text given out so far: those that
    /// begin before its end. Their logprobs may be shown; those of tokens that never appear here may not.
    pub tokens: usize,
    /// The stop string that ended the answer, by its place in the list. Nothing comes after it.
    pub stop: Option<usize>,
}

impl StopMatcher {
    /// Empty stop strings match nothing.
    #[must_use]
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        let stops = stops.iter().map(|stop| Stop::new(stop.as_ref().as_bytes())).collect();
        Self { stops, held: String::new(), emitted: 0, waiting: VecDeque::new(), stopped: false }
    }

    /// Adds the text that one token completed; empty where the token ended inside a character.
    pub fn push(&mut self, text: &str) -> Emitted {
        if self.stopped {
            return Emitted::default();
        }
        self.waiting.push_back(self.emitted + self.held.len());
        self.add(text)
    }

    /// Adds text of the token that was pushed last, or of none.
    pub fn extend(&mut self, text: &str) -> Emitted {
        if self.stopped {
            return Emitted::default();
        }
        self.add(text)
    }

    /// Ends the answer: adds the text that came out when the detokenizer was finished, and gives out what was held.
    pub fn finish(&mut self, text: &str) -> Emitted {
        if self.stopped {
            return Emitted::default();
        }
        let mut last = self.add(text);
        if last.stop.is_none() {
            self.stopped = true;
            last.text.push_str(&mem::take(&mut self.held));
            last.tokens += mem::take(&mut self.waiting).len();
        }
        last
    }

    fn add(&mut self, text: &str) -> Emitted {
        let from = self.held.len();
        self.held.push_str(text);
        for (place, byte) in text.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None;
            for (index, stop) in self.stops.iter_mut().enumerate() {
                let length = stop.pattern.len();
                if stop.advance(byte) && longest.is_none_or(|(_, other)| length > other) {
                    longest = Some((index, length));
                }
            }
            if let Some((index, length)) = longest {
                self.held.truncate(from + place + 1 - length);
                self.stopped = true;
                return self.emit(self.held.len(), Some(index));
            }
        }
        let suspect = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        self.emit(self.held.len() - suspect, None)
    }

    fn emit(&mut self, length: usize, stop: Option<usize>) -> Emitted {
        let text: String = self.held.drain(..length).collect();
        self.emitted += length;
        let tokens = self.waiting.iter().take_while(|begin| **begin < self.emitted).count();
        self.waiting.drain(..tokens);
        Emitted { text, tokens, stop }
    }
}

/// One stop string with the state of its search (Knuth, Morris and Pratt): constant work for each byte, however the
/// string repeats itself. Bytes are enough: in UTF-8 no character's bytes are found inside another's.
#[derive(Debug, Clone)]
struct Stop {
    pattern: Vec<u8>,
    /// For each length of a matched beginning, that of the next shorter one that also fits.
    shorter: Vec<usize>,
    /// Bytes of the pattern that the text ends with now.
    matched: usize,
}

impl Stop {
    fn new(pattern: &[u8]) -> Self {
        let mut shorter = vec![0; pattern.len() + 1];
        let mut length = 0;
        for place in 1..pattern.len() {
            while length > 0 && pattern[place] != pattern[length] {
                length = shorter[length];
            }
            length += usize::from(pattern[place] == pattern[length]);
            shorter[place + 1] = length;
        }
        Self { pattern: pattern.to_vec(), shorter, matched: 0 }
    }

    /// Whether the text now ends with the stop string.
    fn advance(&mut self, byte: u8) -> bool {
        if self.pattern.is_empty() {
            return false;
        }
        while self.matched > 0 && self.pattern.get(self.matched) != Some(&byte) {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.pattern[self.matched] == byte);
        self.matched == self.pattern.len()
    }
}
