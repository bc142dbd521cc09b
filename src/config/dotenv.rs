//! A `.env` file's variables, read without touching the process's environment.

use std::{
    cell::Cell,
    fs,
    io::{self, Read},
    path::Path,
};

use super::{environment::Variable, problem::Problem, source::Source};

/// The file's variables in its order. A file that does not exist has none, and so has a directory: Python's virtual
/// environments are often called `.env`.
pub(super) fn read(file: &Path, problems: &mut Vec<Problem>) -> Vec<Variable> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return Vec::new();
        }
        Err(error) => {
            problems.push(Problem::of_source(file.display(), format!("cannot be read: {error}")));
            return Vec::new();
        }
    };
    let consumed = Cell::new(0);
    let lines = Lines { rest: text.trim_start_matches('\u{feff}').as_bytes(), consumed: &consumed };
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(lines) {
        match item {
            Ok((name, value)) => {
                let source = Source::Dotenv { file: file.to_owned(), name: name.clone() };
                variables.push(Variable { name, value, source });
            }
            // The error quotes the line, which may hold a key.
            Err(dotenvy::Error::LineParse(text, _)) => {
                let line = consumed.get() + 1 - text.lines().count().clamp(1, consumed.get().max(1));
                let what =
                    format!("line {line} is not of the form NAME=value (quote a value that has spaces)");
                problems.push(Problem::of_source(file.display(), what));
            }
            Err(_) => {
                problems.push(Problem::of_source(file.display(), "cannot be read"));
                break;
            }
        }
    }
    variables
}

/// Gives one line a call, so that the parser's buffer never runs ahead and `consumed` is the line that it is at.
struct Lines<'a> {
    rest: &'a [u8],
    consumed: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let taken = line.min(buffer.len());
        if taken > 0 && (taken == line) {
            self.consumed.set(self.consumed.get() + 1);
        }
        let (now, later) = self.rest.split_at(taken);
        buffer[..taken].copy_from_slice(now);
        self.rest = later;
        Ok(taken)
    }
}
