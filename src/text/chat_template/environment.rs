//! minijinja, set up as transformers sets up jinja2 for chat templates.

use std::{borrow::Cow, error, fmt};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};

use super::{clock::Clock, json, python};

/// What one rendering may cost, in instructions or 64 bytes of data. Four thousand messages with nine megabytes take
/// less than a fifth of it; a template that never ends runs out of it within about a second.
pub(super) const FUEL: u64 = 8_000_000;

/// An environment with these templates, by name.
pub(super) fn environment<'a>(
    templates: impl IntoIterator<Item = (&'a str, &'a str)>,
    clock: Clock,
) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Rest of what jinja2 has without being asked.
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(|output, state, value| match python::float(value) {
        Some(float) => Ok(output.write_str(&python::spell_float(float))?),
        None => minijinja::escape_formatter(output, state, value),
    });
    environment.add_filter("trim", python::trim);
    environment.add_filter("string", python::string);
    environment.add_filter("indent", python::indent);
    environment.add_filter("tojson", json::tojson);
    environment.add_test("iterable", python::is_iterable);
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let raised = Raised(message.to_string());
        Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(raised))
    });
    environment.add_function("strftime_now", move |format: Cow<'_, str>| clock.strftime(&format));
    for (name, source) in templates {
        environment.add_template_owned(name.to_owned(), prepare(source))?;
    }
    Ok(environment)
}

/// What a template said with `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Raised {}

/// The template as minijinja takes it: line ends as jinja2 makes them, and `{% generation %}` blocks, with which
/// templates mark what is trained on, as blocks that only open a scope.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        prepared.push_str(before);
        let word = tag.strip_prefix(['-', '+']).unwrap_or(tag).trim_start();
        let (with, behind) = if let Some(behind) = word.strip_prefix("generation") {
            ("with", behind)
        } else if let Some(behind) = word.strip_prefix("endgeneration") {
            ("endwith", behind)
        } else {
            rest = tag;
            continue;
        };
        let end = behind.trim_start();
        if end.strip_prefix(['-', '+']).unwrap_or(end).starts_with("%}") {
            prepared.push_str(&tag[..tag.len() - word.len()]);
            prepared.push_str(with);
            rest = behind;
        } else {
            rest = tag;
        }
    }
    prepared.push_str(rest);
    prepared
}
