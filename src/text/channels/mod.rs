//! What an answer's text is made of: reasoning, content, tool calls.
//!
//! Models mark the parts of an answer in their text. Which marks a model writes is read off its chat template, once
//! ([`Format`]); a [`Reader`] then takes one answer's tokens as they come and gives out its parts. Readers are pure: the
//! parts depend on the answer alone, not on how it was cut into tokens, and put together they are the same at any time.
//!
//! What a reader holds back is as long as what may still become a mark. What only looked like one is content.

mod calls;
mod harmony;
mod object;
mod think;

use self::{
    calls::{CallFormat, Calls},
    harmony::Harmony,
    think::{Think, ThinkMarks},
};
use super::{ChatTemplate, Tokenizer};

/// A part of an answer. Parts of one kind that follow each other belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Content(String),
    Reasoning(String),
    /// A tool call begins.
    Call {
        name: String,
    },
    /// A piece of the arguments of the call that began last: JSON as the model wrote it.
    Arguments(String),
    /// The call that began last is over.
    CallEnd,
    /// Marks, and white space around them.
    Silence,
}

/// A part and how much of the answer's text it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the text that was pushed, markers included. The pieces cover it in order and leave nothing out. Content
    /// stands for as many bytes as it has, or for none where it only parts two texts.
    pub bytes: usize,
    pub part: Part,
}

impl Piece {
    fn content(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { bytes: text.len(), part: Part::Content(text) }
    }

    fn reasoning(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { bytes: text.len(), part: Part::Reasoning(text) }
    }

    fn arguments(text: String) -> Self {
        Self { bytes: text.len(), part: Part::Arguments(text) }
    }

    fn silence(bytes: usize) -> Self {
        Self { bytes, part: Part::Silence }
    }

    /// A part that stands for no text.
    fn beside(part: Part) -> Self {
        Self { bytes: 0, part }
    }
}

/// What one token brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    Text(&'a str),
    /// A token that is a mark, as [`Format::marker`] spells it.
    Marker(&'a str),
}

/// How a model marks the parts of its answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Format {
    harmony: bool,
    think: Option<&'static ThinkMarks>,
    calls: Option<CallFormat>,
    /// Marks that are tokens: most often control tokens, which are no text otherwise.
    markers: Vec<(u32, &'static str)>,
}

impl Format {
    /// What the template's own marks say. A template without any has answers that are content alone.
    #[must_use]
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer) -> Self {
        let [plain, with_tools] = [false, true].map(|tools| template.source(tools).unwrap_or_default());
        Self::from_sources(plain, with_tools, |mark| tokenizer.id(mark))
    }

    /// As [`Self::of`]: `plain` and `with_tools` are the sources of the templates that render conversations without and
    /// with tools, `id` gives the id of the token of a spelling.
    #[must_use]
    pub fn from_sources(plain: &str, with_tools: &str, id: impl Fn(&str) -> Option<u32>) -> Self {
        let of = |marks: &[&'static str]| -> Vec<(u32, &'static str)> {
            marks.iter().filter_map(|mark| Some((id(mark)?, *mark))).collect()
        };
        if harmony::is_written_by(plain) {
            let markers = of(&harmony::MARKS);
            // Without them as tokens of their own the channels cannot be told from what is said about them.
            if harmony::SPOKEN.iter().all(|mark| markers.iter().any(|(_, known)| known == mark)) {
                return Self { harmony: true, think: None, calls: None, markers };
            }
        }
        let think = think::written_by(plain).or_else(|| think::written_by(with_tools));
        let calls = calls::written_by(with_tools);
        let marks: Vec<&str> = think
            .into_iter()
            .flat_map(|marks| [marks.open, marks.close])
            .chain(calls.into_iter().flat_map(CallFormat::marks))
            .collect();
        Self { harmony: false, think, calls, markers: of(&marks) }
    }

    /// What reasoning is marked by.
    #[must_use]
    pub fn reasoning(&self) -> Option<&'static str> {
        if self.harmony { Some(harmony::NAME) } else { self.think.map(|marks| marks.open) }
    }

    /// The name of the format that the model writes tool calls in.
    #[must_use]
    pub fn tool_calls(&self) -> Option<&'static str> {
        if self.harmony { Some(harmony::NAME) } else { self.calls.map(CallFormat::name) }
    }

    /// Whether it is known how the model writes tool calls.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.harmony || self.calls.is_some()
    }

    /// Whether the model's template takes no other ids of tool calls than those of nine letters and digits.
    #[must_use]
    pub fn has_short_call_ids(&self) -> bool {
        self.calls == Some(CallFormat::Mistral)
    }

    /// The spelling of a token that is a mark.
    #[must_use]
    pub fn marker(&self, id: u32) -> Option<&'static str> {
        self.markers.iter().find(|(marker, _)| *marker == id).map(|(_, mark)| *mark)
    }

    /// A reader of answers to `prompt`, a rendered conversation, which may have begun one of the answer's parts. `tools`
    /// are the names of the tools that may be called; calls are looked for only where there are some.
    #[must_use]
    pub fn reader(&self, prompt: &str, tools: &[String]) -> Reader {
        if self.harmony {
            return Reader(Machine::Harmony(Harmony::behind(prompt, !tools.is_empty())));
        }
        let think = self.think.map(|marks| Think::behind(prompt, marks));
        let calls = self.calls.filter(|_| !tools.is_empty()).map(|format| Calls::new(format, tools));
        Reader(Machine::Text { think, calls })
    }
}

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct Reader(Machine);

#[derive(Debug, Clone)]
enum Machine {
    Text { think: Option<Think>, calls: Option<Calls> },
    Harmony(Harmony),
}

impl Reader {
    /// Of answers that are content alone.
    #[must_use]
    pub fn plain() -> Self {
        Self(Machine::Text { think: None, calls: None })
    }

    /// Adds what one token brought. Returns what is certain now.
    pub fn push(&mut self, input: Input<'_>) -> Vec<Piece> {
        let mut out = Vec::new();
        match (&mut self.0, input) {
            (Machine::Harmony(harmony), input) => harmony.push(input, &mut out),
            (Machine::Text { think, calls }, Input::Text(text) | Input::Marker(text)) => {
                let mut parts = Vec::new();
                match think {
                    Some(think) => think.push(text, &mut parts),
                    None if text.is_empty() => {}
                    None => parts.push(Piece::content(text)),
                }
                look_for_calls(calls.as_mut(), parts, &mut out);
            }
        }
        out
    }

    /// Ends the answer: gives out what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        match &mut self.0 {
            Machine::Harmony(harmony) => harmony.finish(&mut out),
            Machine::Text { think, calls } => {
                let mut parts = Vec::new();
                if let Some(think) = think {
                    think.finish(&mut parts);
                }
                look_for_calls(calls.as_mut(), parts, &mut out);
                if let Some(calls) = calls {
                    calls.finish(&mut out);
                }
            }
        }
        out
    }
}

fn look_for_calls(calls: Option<&mut Calls>, parts: Vec<Piece>, out: &mut Vec<Piece>) {
    let Some(calls) = calls else { return out.extend(parts) };
    for piece in parts {
        match piece.part {
            Part::Content(text) => calls.push(&text, out),
            _ => out.push(piece),
        }
    }
}

/// Drops that many bytes at the beginning of `text`, which say nothing.
fn hush(text: &mut String, bytes: usize, out: &mut Vec<Piece>) {
    text.drain(..bytes);
    if bytes > 0 {
        out.push(Piece::silence(bytes));
    }
}

/// Bytes at the end of `text` that may be the beginning of `mark`.
fn begun(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len() - 1);
    (1..=longest).rev().find(|length| text.as_bytes().ends_with(&mark.as_bytes()[..*length])).unwrap_or(0)
}
