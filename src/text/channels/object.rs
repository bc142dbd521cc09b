//! A tool call as a JSON object, character by character: `{"name": "…", "arguments": {…}}`.

use std::mem;

/// What a character of the object brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to tell yet.
    More,
    /// The call is known: its name, and that its arguments begin with this character.
    Begins(String),
    /// The character is one of the arguments.
    Argument,
    /// The object is over, this character its last; with what was not told before, as a name that comes last is not.
    Ends(Option<Whole>),
    /// It is no call. The character was not taken.
    Malformed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) name: String,
    /// `None`: the object has none.
    pub(super) arguments: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CallObject {
    place: Place,
    key: String,
    /// The value that is being read, as it is written.
    value: String,
    name: Option<String>,
    arguments: Option<String>,
    /// The arguments are told as they come.
    told: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Before,
    /// Behind `{`; behind a comma.
    BeforeKey {
        first: bool,
    },
    Key {
        escaped: bool,
    },
    BehindKey,
    BeforeValue,
    Value(Nesting),
    /// A number, `true`, `false` or `null`.
    Word,
    BehindValue,
}

impl CallObject {
    pub(super) fn feed(&mut self, c: char) -> Step {
        let space = c.is_ascii_whitespace();
        match self.place {
            Place::Before if c == '{' => self.place = Place::BeforeKey { first: true },
            Place::BeforeKey { first } if c == '"' || (c == '}' && first) => {
                if c == '}' {
                    return self.end();
                }
                self.key.clear();
                self.key.push(c);
                self.place = Place::Key { escaped: false };
            }
            Place::Key { escaped } => {
                self.key.push(c);
                self.place = match c {
                    '"' if !escaped => Place::BehindKey,
                    _ => Place::Key { escaped: c == '\\' && !escaped },
                };
            }
            Place::BehindKey if c == ':' => self.place = Place::BeforeValue,
            Place::BeforeValue if !space => return self.begin_value(c),
            Place::Value(mut nesting) => {
                let ends = nesting.feed(c);
                self.place = Place::Value(nesting);
                if self.is_told() {
                    if ends {
                        self.place = Place::BehindValue;
                    }
                    return Step::Argument;
                }
                self.value.push(c);
                if ends {
                    return self.end_value();
                }
            }
            Place::Word if c == ',' || c == '}' || space => {
                if self.end_value() == Step::Malformed {
                    return Step::Malformed;
                }
                return self.feed(c);
            }
            Place::Word if c.is_ascii_alphanumeric() || "+-.".contains(c) => self.value.push(c),
            Place::BehindValue if c == ',' => self.place = Place::BeforeKey { first: false },
            Place::BehindValue if c == '}' => return self.end(),
            Place::Before
            | Place::BeforeKey { .. }
            | Place::BehindKey
            | Place::BeforeValue
            | Place::BehindValue
                if space => {}
            _ => return Step::Malformed,
        }
        Step::More
    }

    /// The arguments are being told, and no string of theirs is open: every character of JSON that can come is known.
    pub(super) fn tells_outside_strings(&self) -> bool {
        self.is_told() && matches!(self.place, Place::Value(Nesting { text: false, .. }))
    }

    fn is_told(&self) -> bool {
        self.told && self.is_arguments()
    }

    fn is_arguments(&self) -> bool {
        // Llama calls them parameters.
        ["\"arguments\"", "\"parameters\""].contains(&self.key.as_str())
    }

    fn begin_value(&mut self, c: char) -> Step {
        self.value.clear();
        if self.is_arguments() && (self.told || self.arguments.is_some()) {
            return Step::Malformed;
        }
        match c {
            '{' if self.is_arguments() && self.name.is_some() => {
                self.told = true;
                self.place = Place::Value(Nesting::new(c));
                let name = self.name.clone().unwrap_or_default();
                return Step::Begins(name);
            }
            '[' if self.is_arguments() => return Step::Malformed,
            '{' | '[' | '"' => self.place = Place::Value(Nesting::new(c)),
            _ if c.is_ascii_alphanumeric() || c == '-' => self.place = Place::Word,
            _ => return Step::Malformed,
        }
        self.value.push(c);
        Step::More
    }

    fn end_value(&mut self) -> Step {
        self.place = Place::BehindValue;
        let value = mem::take(&mut self.value);
        if self.key == "\"name\"" {
            match serde_json::from_str::<String>(&value) {
                Ok(name) if !name.is_empty() && self.name.is_none() => self.name = Some(name),
                _ => return Step::Malformed,
            }
        } else if self.is_arguments() {
            // Some models write the object as a string, some that there are none.
            self.arguments = match serde_json::from_str::<String>(&value) {
                Ok(text) if text.trim().is_empty() => Some("{}".to_owned()),
                Ok(text) => Some(text),
                Err(_) if value == "null" => Some("{}".to_owned()),
                Err(_) if value.starts_with('{') => Some(value),
                Err(_) => return Step::Malformed,
            };
        }
        Step::More
    }

    fn end(&mut self) -> Step {
        if self.told {
            return Step::Ends(None);
        }
        match self.name.take() {
            Some(name) => Step::Ends(Some(Whole { name, arguments: self.arguments.take() })),
            None => Step::Malformed,
        }
    }
}

/// How deep a JSON object, array or string is open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nesting {
    depth: usize,
    text: bool,
    escaped: bool,
}

impl Nesting {
    /// Behind the value's first character.
    pub(super) fn new(c: char) -> Self {
        Self { depth: usize::from(c != '"'), text: c == '"', escaped: false }
    }

    /// Whether the value ends with this character.
    pub(super) fn feed(&mut self, c: char) -> bool {
        if self.text {
            let closes = c == '"' && !self.escaped;
            self.escaped = c == '\\' && !self.escaped;
            self.text = !closes;
            return closes && self.depth == 0;
        }
        match c {
            '"' => self.text = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0 && !self.text
    }
}
