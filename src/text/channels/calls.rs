//! Tool calls that a model writes into its text.
//!
//! The beginning of a call is held back until it is certain: its mark, the name, the first character of the arguments.
//! What turns out not to be a call is content, mark and all. From there on the arguments are told as they come.

use std::mem;

use super::{
    Part, Piece, begun, hush,
    object::{CallObject, Nesting, Step, Whole},
};

/// How a model writes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallFormat {
    /// `<tool_call>{"name": "f", "arguments": {…}}</tool_call>`, one after the other: Hermes, Qwen.
    Hermes,
    /// `[TOOL_CALLS] [{"name": "f", "arguments": {…}}, …]`, or `[TOOL_CALLS]f[ARGS]{…}` one after the other.
    Mistral,
    /// `{"name": "f", "parameters": {…}}; …` as the whole answer, behind `<|python_tag|>` or nothing: Llama 3.
    Llama,
}

const HERMES: &str = "<tool_call>";
const HERMES_END: &str = "</tool_call>";
const MISTRAL: &str = "[TOOL_CALLS]";
const MISTRAL_ID: &str = "[CALL_ID]";
const MISTRAL_ARGUMENTS: &str = "[ARGS]";
const LLAMA: &str = "<|python_tag|>";
/// Bytes, a call's id included: a name that is longer is none.
const LONGEST_NAME: usize = 512;

/// The format that a template's source tells of. Others that use the same tags for something else than JSON are none.
pub(super) fn written_by(template: &str) -> Option<CallFormat> {
    let has = |text: &str| template.contains(text);
    if has(MISTRAL) {
        return Some(CallFormat::Mistral);
    }
    if has(HERMES) {
        return (!has("<function=") && !has("<arg_key>")).then_some(CallFormat::Hermes);
    }
    // Not every template of theirs names the tag, but all say what a call looks like.
    (has(LLAMA) || (has("<|eot_id|>") && has("\"parameters\""))).then_some(CallFormat::Llama)
}

impl CallFormat {
    pub(super) fn marks(self) -> Vec<&'static str> {
        match self {
            Self::Hermes => vec![HERMES, HERMES_END],
            Self::Mistral => vec![MISTRAL, MISTRAL_ID, MISTRAL_ARGUMENTS],
            Self::Llama => vec![LLAMA],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::Mistral => "mistral",
            Self::Llama => "llama",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Hermes => HERMES,
            Self::Mistral => MISTRAL,
            Self::Llama => LLAMA,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Calls {
    format: CallFormat,
    /// The tools that may be called.
    tools: Vec<String>,
    state: State,
    /// What was not accounted for yet.
    raw: String,
    /// Arguments of this push.
    arguments: String,
    /// A call has begun and not ended.
    open: bool,
    has_content: bool,
    has_called: bool,
}

#[derive(Debug, Clone)]
enum State {
    Text,
    /// Behind the mark.
    Marked,
    /// An object; `listed` if others may follow in a list.
    Object {
        object: Box<CallObject>,
        listed: bool,
    },
    /// A name, then its arguments.
    Name,
    Arguments(Nesting),
    /// Behind an object.
    Behind {
        listed: bool,
    },
    /// Behind a comma in a list.
    Next,
}

impl Calls {
    pub(super) fn new(format: CallFormat, tools: &[String]) -> Self {
        Self {
            format,
            tools: tools.to_vec(),
            state: State::Text,
            raw: String::new(),
            arguments: String::new(),
            open: false,
            has_content: false,
            has_called: false,
        }
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        let mut text = text.to_owned();
        while !text.is_empty() {
            text = match self.state {
                State::Text => self.search(&text, out),
                _ => self.follow(&text, out),
            };
        }
        self.tell(out);
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Piece>) {
        let state = mem::replace(&mut self.state, State::Text);
        if self.open {
            self.end_call(out);
        }
        match state {
            State::Text if self.raw.trim().is_empty() && self.has_called => self.hush(out),
            State::Behind { .. } => self.hush(out),
            State::Next if self.has_called => self.hush(out),
            _ => self.spill(out),
        }
    }

    /// Looks for the mark in text that is content otherwise. Returns what is behind it.
    fn search(&mut self, text: &str, out: &mut Vec<Piece>) -> String {
        self.raw.push_str(text);
        let begin = self.raw.trim_start();
        if self.format == CallFormat::Llama && !self.has_content && !self.has_called && begin.starts_with('{')
        {
            let rest = begin.to_owned();
            self.raw.truncate(self.raw.len() - rest.len());
            self.state = State::Marked;
            return rest;
        }
        let mark = self.format.mark();
        let found = self.raw.find(mark);
        let end = found.unwrap_or_else(|| self.raw.len() - begun(&self.raw, mark));
        // White space before a call only parts the two.
        let certain = self.raw[..end].trim_end().len();
        if certain > 0 {
            self.has_content = true;
            out.push(Piece::content(self.raw.drain(..certain).collect::<String>()));
        }
        match found {
            None => String::new(),
            Some(_) => {
                self.state = State::Marked;
                self.raw.split_off(end - certain + mark.len())
            }
        }
    }

    /// Follows a call. Returns what does not belong to it.
    fn follow(&mut self, text: &str, out: &mut Vec<Piece>) -> String {
        for (place, c) in text.char_indices() {
            if !self.take(c, out) {
                let rest = &text[place..];
                return match self.state {
                    // Of what was held, a mark may be the end.
                    State::Text => mem::take(&mut self.raw) + rest,
                    _ => rest.to_owned(),
                };
            }
            if matches!(self.state, State::Text) {
                return text[place + c.len_utf8()..].to_owned();
            }
        }
        String::new()
    }

    /// Takes one more character, or none if the state is another now.
    fn take(&mut self, c: char, out: &mut Vec<Piece>) -> bool {
        match &mut self.state {
            State::Text => false,
            State::Marked => match (c, self.format) {
                ('{', _) => self.object(false, c, out),
                ('[', CallFormat::Mistral) => self.enter(State::Next, c),
                (_, CallFormat::Mistral) if is_of_name(c) => self.enter(State::Name, c),
                _ if c.is_ascii_whitespace() => self.keep(c),
                _ => self.give_up(out),
            },
            State::Next => match c {
                '{' => self.object(true, c, out),
                // An empty list, or one that ends with a comma.
                ']' => self.close_list(c, out),
                _ if c.is_ascii_whitespace() => self.keep(c),
                _ => self.give_up(out),
            },
            State::Name => self.name(c, out),
            State::Arguments(nesting) => {
                let ends = nesting.feed(c);
                self.arguments.push(c);
                if ends {
                    self.end_call(out);
                    self.state = State::Behind { listed: false };
                }
                true
            }
            State::Object { object, listed } => {
                let listed = *listed;
                let foreign = c == '<' && object.tells_outside_strings();
                let step = if foreign { Step::Malformed } else { object.feed(c) };
                self.step(step, listed, c, out)
            }
            State::Behind { listed } => {
                let listed = *listed;
                self.behind(listed, c, out)
            }
        }
    }

    fn object(&mut self, listed: bool, c: char, out: &mut Vec<Piece>) -> bool {
        let mut object = CallObject::default();
        let step = object.feed(c);
        self.state = State::Object { object: Box::new(object), listed };
        self.step(step, listed, c, out)
    }

    fn step(&mut self, step: Step, listed: bool, c: char, out: &mut Vec<Piece>) -> bool {
        match step {
            Step::More => self.keep(c),
            Step::Begins(name) if self.may_call(&name) => {
                self.begin_call(name, out);
                self.arguments.push(c);
                true
            }
            Step::Argument => {
                self.arguments.push(c);
                true
            }
            Step::Ends(None) => {
                self.keep(c);
                self.end_call(out);
                self.state = State::Behind { listed };
                true
            }
            Step::Ends(Some(Whole { name, arguments }))
                if self.may_call(&name) && (self.format != CallFormat::Llama || arguments.is_some()) =>
            {
                self.keep(c);
                self.begin_call(name, out);
                out.push(Piece::beside(Part::Arguments(arguments.unwrap_or_else(|| "{}".to_owned()))));
                self.end_call(out);
                self.state = State::Behind { listed };
                true
            }
            Step::Begins(_) | Step::Ends(Some(_)) => self.give_up(out),
            // What was told cannot be taken back.
            Step::Malformed if self.open => {
                self.end_call(out);
                self.state = State::Behind { listed };
                false
            }
            Step::Malformed => self.give_up(out),
        }
    }

    /// Any JSON could be a call where calls have no mark, so there only the tools' own names are.
    fn may_call(&self, name: &str) -> bool {
        self.format != CallFormat::Llama || self.tools.iter().any(|tool| tool == name)
    }

    /// `f[ARGS]{`, `f[CALL_ID]x[ARGS]{` or `f{`.
    fn name(&mut self, c: char, out: &mut Vec<Piece>) -> bool {
        let written =
            self.raw.find(MISTRAL).map_or("", |place| &self.raw[place + MISTRAL.len()..]).trim_start();
        let (name, rest) = written.split_at(written.find(|c| !is_of_name(c)).unwrap_or(written.len()));
        if c == '{' {
            let complete = rest.is_empty()
                || rest == MISTRAL_ARGUMENTS
                || (rest.starts_with(MISTRAL_ID) && rest.ends_with(MISTRAL_ARGUMENTS));
            if !complete {
                return self.give_up(out);
            }
            let name = name.to_owned();
            self.begin_call(name, out);
            self.arguments.push(c);
            self.state = State::Arguments(Nesting::new(c));
            return true;
        }
        let expected = |mark: &str| mark.strip_prefix(rest).is_some_and(|next| next.starts_with(c));
        let id = rest.strip_prefix(MISTRAL_ID).is_some_and(|id| {
            let (id, mark) = id.split_at(id.find('[').unwrap_or(id.len()));
            (mark.is_empty() && (is_of_name(c) || (c == '[' && !id.is_empty())))
                || (!mark.is_empty()
                    && MISTRAL_ARGUMENTS.strip_prefix(mark).is_some_and(|next| next.starts_with(c)))
        });
        let goes_on = written.len() < LONGEST_NAME
            && ((rest.is_empty() && is_of_name(c))
                || expected(MISTRAL_ARGUMENTS)
                || expected(MISTRAL_ID)
                || id);
        if goes_on { self.keep(c) } else { self.give_up(out) }
    }

    fn behind(&mut self, listed: bool, c: char, out: &mut Vec<Piece>) -> bool {
        if c.is_ascii_whitespace() && self.raw.trim().is_empty() {
            return self.keep(c);
        }
        match (self.format, c) {
            (CallFormat::Hermes, _) => {
                let written = self.raw.trim_start();
                let goes_on = HERMES_END.strip_prefix(written).is_some_and(|next| next.starts_with(c));
                if !goes_on {
                    self.state = State::Text;
                    return false;
                }
                self.raw.push(c);
                if self.raw.trim_start() == HERMES_END {
                    self.hush(out);
                    self.state = State::Text;
                }
                true
            }
            (CallFormat::Mistral, ',') if listed => self.enter(State::Next, c),
            (CallFormat::Mistral, ']') if listed => self.close_list(c, out),
            (CallFormat::Llama, ';') => self.enter(State::Marked, c),
            (CallFormat::Mistral | CallFormat::Llama, _) => {
                self.state = State::Text;
                false
            }
        }
    }

    fn enter(&mut self, state: State, c: char) -> bool {
        self.state = state;
        self.keep(c)
    }

    fn keep(&mut self, c: char) -> bool {
        self.raw.push(c);
        true
    }

    fn close_list(&mut self, c: char, out: &mut Vec<Piece>) -> bool {
        self.keep(c);
        self.hush(out);
        self.state = State::Behind { listed: false };
        true
    }

    fn begin_call(&mut self, name: String, out: &mut Vec<Piece>) {
        self.hush(out);
        self.open = true;
        self.has_called = true;
        out.push(Piece::beside(Part::Call { name }));
    }

    fn end_call(&mut self, out: &mut Vec<Piece>) {
        self.tell(out);
        self.hush(out);
        self.open = false;
        out.push(Piece::beside(Part::CallEnd));
    }

    /// It is no call: what was held is content. The next character is looked at anew.
    fn give_up(&mut self, out: &mut Vec<Piece>) -> bool {
        self.spill(out);
        self.state = State::Text;
        false
    }

    fn tell(&mut self, out: &mut Vec<Piece>) {
        if !self.arguments.is_empty() {
            out.push(Piece::arguments(mem::take(&mut self.arguments)));
        }
    }

    fn spill(&mut self, out: &mut Vec<Piece>) {
        if !self.raw.is_empty() {
            self.has_content = true;
            out.push(Piece::content(mem::take(&mut self.raw)));
        }
    }

    fn hush(&mut self, out: &mut Vec<Piece>) {
        let all = self.raw.len();
        hush(&mut self.raw, all, out);
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}
