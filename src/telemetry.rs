//! What the daemon says about itself: log lines.

mod json;

use std::{env, io::IsTerminal, os::linux::fs::MetadataExt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::json::JsonLines;

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives by module such as
    /// `info,sconce::http=debug`.
    pub level: String,
    /// How it is written.
    pub format: Format,
    /// Also log the bodies of requests. They may be private: off by default.
    pub prompts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The journal under systemd, `human` on a terminal, otherwise `json`.
    #[default]
    Auto,
    /// A coloured line.
    Human,
    /// One JSON object a line.
    Json,
    /// The systemd journal's native protocol.
    Journald,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, prompts: false }
    }
}

/// Why nothing can be logged as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    #[error("log.format is journald, but the journal cannot be reached: {0}")]
    Journal(std::io::Error),
}

/// The level of a log that has begun.
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// From now on this is logged.
    ///
    /// # Errors
    /// A level that is none.
    pub fn set(&self, level: &str) -> Result<(), Error> {
        // Only in a process with an earlier subscriber, which tests make, is there none that would change.
        let _ = self.0.reload(filter(level)?);
        Ok(())
    }
}

/// Begins to log, for the whole process. A second call changes nothing.
///
/// # Errors
/// A level that is none, or a journal that is not there.
pub fn start(config: &Config) -> Result<Level, Error> {
    let (filter, level) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = std::io::stderr;
    let started = match chosen(config.format) {
        Format::Auto | Format::Json => registry.with(JsonLines { writer: stderr }).try_init(),
        Format::Human => {
            let plain = tracing_subscriber::fmt::layer().with_writer(stderr);
            registry.with(plain.with_ansi(stderr().is_terminal()).with_target(false)).try_init()
        }
        Format::Journald => {
            // Without a prefix the fields are MODEL=, KEY=, REQUEST_ID=, as people filter by.
            let journal = tracing_journald::layer().map_err(Error::Journal)?.with_field_prefix(None);
            let journal = journal.with_priority_mappings(priorities());
            registry.with(journal).try_init()
        }
    };
    // Only a second daemon in one process, which tests start, finds a subscriber there already.
    drop(started);
    Ok(Level(level))
}

/// syslog's levels under the same names; the library's own mapping makes each informational line a notice.
fn priorities() -> PriorityMappings {
    PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    }
}

/// The filter that `log.level` describes.
///
/// # Errors
/// Directives that cannot be parsed.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

fn chosen(format: Format) -> Format {
    match format {
        Format::Auto if stderr_is_journal() => Format::Journald,
        Format::Auto if std::io::stderr().is_terminal() => Format::Human,
        Format::Auto => Format::Json,
        chosen => chosen,
    }
}

/// Whether standard error is the stream that systemd connected to the journal: `JOURNAL_STREAM` holds its device and
/// inode (systemd.exec(5)), and stays in the environment of children whose standard error is something else.
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}
