//! The harmony format of gpt-oss: an answer is several messages, each on a channel and some to a tool.
//!
//! `<|start|>ROLE to=TOOL<|channel|>CHANNEL to=TOOL <|constrain|>TYPE<|message|>TEXT<|end|>`, the recipient in one of the
//! two places or none; `<|return|>` and `<|call|>` end a message and the answer. See
//! <https://cookbook.openai.com/articles/openai-harmony>. Channel `analysis` is reasoning, `final` is content, and so is
//! `commentary` without a recipient: what the model says before it calls tools.

use std::mem;

use super::{Input, Part, Piece, hush};

pub(super) const NAME: &str = "harmony";

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const CONSTRAIN: &str = "<|constrain|>";
const MESSAGE: &str = "<|message|>";
const END: &str = "<|end|>";
const RETURN: &str = "<|return|>";
const CALL: &str = "<|call|>";

pub(super) const MARKS: [&str; 7] = [START, CHANNEL, CONSTRAIN, MESSAGE, END, RETURN, CALL];
/// Those without which nothing is said.
pub(super) const SPOKEN: [&str; 4] = [START, CHANNEL, MESSAGE, END];
/// Messages of one channel are told as one text.
const BETWEEN_MESSAGES: &str = "\n\n";

pub(super) fn is_written_by(template: &str) -> bool {
    template.contains(CHANNEL) && template.contains(MESSAGE)
}

#[derive(Debug, Clone)]
pub(super) struct Harmony {
    /// Messages to tools are calls.
    calls: bool,
    state: State,
    header: Header,
    /// Of the answer: what was not accounted for yet, marks included.
    raw: String,
    has_reasoning: bool,
    has_content: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body(Body),
    /// Behind a message.
    Between,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Reasoning { begun: bool },
    Content { begun: bool },
    Call { begun: bool },
}

#[derive(Debug, Clone, Default)]
struct Header {
    role: String,
    /// What stands behind `<|channel|>`.
    channel: Option<String>,
    typed: bool,
}

/// What a header says that its message is.
enum Meaning {
    Reasoning,
    Content,
    Call(String),
    Unknown,
}

impl Harmony {
    /// The prompt's end is the beginning of the first message.
    pub(super) fn behind(prompt: &str, calls: bool) -> Self {
        let mut this = Self {
            calls,
            state: State::Between,
            header: Header::default(),
            raw: String::new(),
            has_reasoning: false,
            has_content: false,
        };
        let mut rest = &prompt[prompt.rfind(START).unwrap_or(prompt.len())..];
        let mut unheard = Vec::new();
        while !rest.is_empty() {
            let mark = MARKS.into_iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min();
            let (text, mark) = mark.map_or((rest, None), |(place, mark)| (&rest[..place], Some(mark)));
            this.push(Input::Text(text), &mut unheard);
            if let Some(mark) = mark {
                this.push(Input::Marker(mark), &mut unheard);
            }
            rest = &rest[text.len() + mark.map_or(0, str::len)..];
        }
        Self { raw: String::new(), has_reasoning: false, has_content: false, ..this }
    }

    pub(super) fn push(&mut self, input: Input<'_>, out: &mut Vec<Piece>) {
        match input {
            Input::Text("") => {}
            Input::Text(text) => self.text(text, out),
            Input::Marker(mark) => self.mark(mark, out),
        }
    }

    /// A header that the answer's end cut off says nothing, unless it never was one.
    pub(super) fn finish(&mut self, out: &mut Vec<Piece>) {
        match self.state {
            State::Header if self.header.channel.is_none() => self.end_header(out),
            State::Body(Body::Call { .. }) => out.push(Piece::beside(Part::CallEnd)),
            State::Header | State::Body(_) | State::Between => {}
        }
        self.hush(out);
        self.state = State::Between;
    }

    fn text(&mut self, text: &str, out: &mut Vec<Piece>) {
        match &mut self.state {
            State::Header => {
                self.raw.push_str(text);
                let Header { role, channel, typed } = &mut self.header;
                match channel {
                    None => role.push_str(text),
                    Some(channel) if !*typed => channel.push_str(text),
                    Some(_) => {}
                }
            }
            State::Body(Body::Reasoning { begun }) => {
                if !*begun && self.has_reasoning {
                    out.push(Piece::beside(Part::Reasoning(BETWEEN_MESSAGES.to_owned())));
                }
                *begun = true;
                self.has_reasoning = true;
                out.push(Piece::reasoning(text));
            }
            State::Body(Body::Content { begun }) => {
                if !*begun && self.has_content {
                    out.push(Piece::beside(Part::Content(BETWEEN_MESSAGES.to_owned())));
                }
                *begun = true;
                self.has_content = true;
                out.push(Piece::content(text));
            }
            State::Body(Body::Call { begun }) => {
                *begun = true;
                out.push(Piece::arguments(text.to_owned()));
            }
            State::Between => {
                self.has_content = true;
                out.push(Piece::content(text));
            }
        }
    }

    fn mark(&mut self, mark: &str, out: &mut Vec<Piece>) {
        match (self.state, mark) {
            (_, START) => {
                self.end_message(out);
                self.begin(Header::default());
            }
            // Models leave out what comes before it.
            (State::Body(_) | State::Between, CHANNEL) => {
                self.end_message(out);
                self.begin(Header {
                    role: "assistant".to_owned(),
                    channel: Some(String::new()),
                    typed: false,
                });
            }
            (State::Header, CHANNEL) if self.header.channel.is_none() => {
                self.header.channel = Some(String::new());
            }
            (State::Header, CONSTRAIN) if self.header.channel.is_some() => self.header.typed = true,
            (_, END | RETURN | CALL) => {
                self.end_message(out);
                self.state = State::Between;
            }
            _ => {}
        }
        self.raw.push_str(mark);
        match (self.state, mark) {
            (State::Header, MESSAGE) => self.begin_body(out),
            (State::Header, _) => {}
            // What ends a message, and what has no meaning where it stands.
            (State::Body(_) | State::Between, _) => self.hush(out),
        }
    }

    fn begin(&mut self, header: Header) {
        self.header = header;
        self.state = State::Header;
    }

    fn begin_body(&mut self, out: &mut Vec<Piece>) {
        let meaning = mem::take(&mut self.header).meaning(self.calls);
        if matches!(meaning, Meaning::Unknown) {
            self.spill(out);
        } else {
            self.hush(out);
        }
        self.state = State::Body(match meaning {
            Meaning::Reasoning => Body::Reasoning { begun: false },
            Meaning::Content => Body::Content { begun: false },
            Meaning::Unknown => Body::Content { begun: true },
            Meaning::Call(name) => {
                out.push(Piece::beside(Part::Call { name }));
                Body::Call { begun: false }
            }
        });
    }

    fn end_message(&mut self, out: &mut Vec<Piece>) {
        match self.state {
            State::Header => self.end_header(out),
            State::Body(Body::Call { begun }) => {
                if !begun {
                    out.push(Piece::beside(Part::Arguments("{}".to_owned())));
                }
                out.push(Piece::beside(Part::CallEnd));
            }
            State::Body(_) | State::Between => {}
        }
    }

    /// A header without a message: none at all, or text that a model wrote without one.
    fn end_header(&mut self, out: &mut Vec<Piece>) {
        let Header { role, channel, typed: _ } = &self.header;
        if channel.is_none() && ["", "assistant"].contains(&role.trim()) {
            self.hush(out);
        } else {
            self.spill(out);
        }
    }

    /// What was no header is content, as it was written.
    fn spill(&mut self, out: &mut Vec<Piece>) {
        if self.raw.is_empty() {
            return;
        }
        if self.has_content {
            out.push(Piece::beside(Part::Content(BETWEEN_MESSAGES.to_owned())));
        }
        self.has_content = true;
        out.push(Piece::content(mem::take(&mut self.raw)));
    }

    fn hush(&mut self, out: &mut Vec<Piece>) {
        let all = self.raw.len();
        hush(&mut self.raw, all, out);
    }
}

impl Header {
    fn meaning(self, calls: bool) -> Meaning {
        let mut role = self.role.split_whitespace();
        let speaker = role.next();
        let channel = self.channel.as_deref().unwrap_or_default();
        let mut words = channel.split_whitespace().peekable();
        let channel = words.next_if(|word| !word.starts_with("to="));
        let recipient = role.chain(words).find_map(|word| word.strip_prefix("to="));
        if speaker != Some("assistant") {
            return Meaning::Unknown;
        }
        match (recipient, channel) {
            (Some(recipient), _) => {
                let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
                if calls && !name.is_empty() { Meaning::Call(name.to_owned()) } else { Meaning::Unknown }
            }
            (None, Some("analysis")) => Meaning::Reasoning,
            (None, Some("final" | "commentary") | None) => Meaning::Content,
            (None, Some(_)) => Meaning::Unknown,
        }
    }
}
