//! Reasoning between two marks at the beginning of an answer, such as `<think>` and `</think>`.
//!
//! Marks that come later, in a program that the model writes or after its reasoning, are content.

use super::{Piece, begun, hush};

/// What reasoning stands between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ThinkMarks {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
}

/// As the models' own templates write them: DeepSeek, Qwen, GLM, SmolLM, EXAONE and ERNIE; Seed; Mistral.
const KNOWN: [ThinkMarks; 3] = [
    ThinkMarks { open: "<think>", close: "</think>" },
    ThinkMarks { open: "<seed:think>", close: "</seed:think>" },
    ThinkMarks { open: "[THINK]", close: "[/THINK]" },
];

/// The marks that a template's source has.
pub(super) fn written_by(template: &str) -> Option<&'static ThinkMarks> {
    KNOWN.iter().find(|marks| template.contains(marks.open) || template.contains(marks.close))
}

#[derive(Debug, Clone)]
pub(super) struct Think {
    marks: &'static ThinkMarks,
    state: State,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come.
    Start,
    /// In reasoning of which only white space has come.
    Opened,
    Reasoning,
    /// Behind the reasoning, before the content.
    Closed,
    Content,
}

impl Think {
    /// Many templates open the reasoning themselves.
    pub(super) fn behind(prompt: &str, marks: &'static ThinkMarks) -> Self {
        let opened = prompt.trim_end().ends_with(marks.open);
        let state = if opened { State::Opened } else { State::Start };
        Self { marks, state, held: String::new() }
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.held.push_str(text);
        while !self.held.is_empty() && self.step(out) {}
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Piece>) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        match self.state {
            State::Start | State::Content => out.push(Piece::content(held)),
            State::Opened | State::Reasoning | State::Closed => {
                let told = held.trim_end().len();
                if told > 0 {
                    out.push(Piece::reasoning(&held[..told]));
                }
                out.push(Piece::silence(held.len() - told));
            }
        }
    }

    /// Gives out what can be; `true` if there may be more in what is left.
    fn step(&mut self, out: &mut Vec<Piece>) -> bool {
        let space = self.held.len() - self.held.trim_start().len();
        match self.state {
            State::Start => {
                let begin = &self.held[space..];
                if begin.starts_with(self.marks.open) {
                    hush(&mut self.held, space + self.marks.open.len(), out);
                    self.state = State::Opened;
                } else if self.marks.open.starts_with(begin) {
                    return false;
                } else {
                    self.state = State::Content;
                }
            }
            State::Opened | State::Closed => {
                hush(&mut self.held, space, out);
                if self.held.is_empty() {
                    return false;
                }
                self.state = if self.state == State::Opened { State::Reasoning } else { State::Content };
            }
            State::Reasoning => {
                let close = self.held.find(self.marks.close);
                let end = close.unwrap_or_else(|| self.held.len() - begun(&self.held, self.marks.close));
                let told = self.held[..end].trim_end().len();
                if told > 0 {
                    out.push(Piece::reasoning(self.take(told)));
                }
                if close.is_none() {
                    return false;
                }
                hush(&mut self.held, end - told + self.marks.close.len(), out);
                self.state = State::Closed;
            }
            State::Content => {
                let text = std::mem::take(&mut self.held);
                out.push(Piece::content(text));
            }
        }
        true
    }

    fn take(&mut self, bytes: usize) -> String {
        self.held.drain(..bytes).collect()
    }
}
