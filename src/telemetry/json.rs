//! Log lines as JSON objects, one a line.
//!
//! tracing-subscriber's own formatter hands each quote and comma through four writers and checks it for UTF-8: 23,000
//! instructions for the line of a request. A line here is made in one buffer, and written by one call.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
    io::Write as _,
    time::SystemTime,
};

use serde::Serialize;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent;
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context};

/// A buffer that has grown larger, by a request's body or the like, is not kept.
const KEPT: usize = 16 << 10;

thread_local! {
    static BUFFERS: Cell<Buffers> = const { Cell::new(Buffers { line: Vec::new(), shown: String::new() }) };
}

#[derive(Default)]
struct Buffers {
    line: Vec<u8>,
    /// A value as its `Debug` shows it, before it is a JSON string.
    shown: String,
}

/// Writes each event as `{"timestamp": …, "level": …, "message": …, its fields, "target": …}`.
pub(super) struct JsonLines<W> {
    pub(super) writer: W,
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut buffers = BUFFERS.take();
        buffers.line.clear();
        write_line(&mut buffers, event);
        // There is nobody to tell that the log cannot be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(&buffers.line);
        if buffers.line.capacity().max(buffers.shown.capacity()) <= KEPT {
            BUFFERS.set(buffers);
        }
    }
}

fn write_line(Buffers { line, shown }: &mut Buffers, event: &Event<'_>) {
    // What comes from the `log` crate names its place in fields.
    let of_log = event.normalized_metadata();
    let metadata = of_log.as_ref().unwrap_or_else(|| event.metadata());
    line.extend_from_slice(b"{\"timestamp\":\"");
    let _ = write!(line, "{}", humantime::format_rfc3339_micros(SystemTime::now()));
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(metadata.level().as_str().as_bytes());
    line.push(b'"');
    event.record(&mut Fields { line, shown });
    line.extend_from_slice(b",\"target\":");
    text(line, metadata.target());
    line.extend_from_slice(b"}\n");
}

/// Appends fields to an object that has one already.
struct Fields<'l> {
    line: &'l mut Vec<u8>,
    shown: &'l mut String,
}

/// The line with the field begun, if it is one to be shown.
fn begin<'l>(line: &'l mut Vec<u8>, field: &Field) -> Option<&'l mut Vec<u8>> {
    let name = field.name();
    if name.starts_with("log.") {
        return None;
    }
    line.push(b',');
    text(line, name.strip_prefix("r#").unwrap_or(name));
    line.push(b':');
    Some(line)
}

/// Appends a number or a truth value, none of which can fail to be JSON in memory.
fn append(line: &mut Vec<u8>, field: &Field, content: impl Serialize) {
    if let Some(line) = begin(line, field) {
        let _ = serde_json::to_writer(line, &content);
    }
}

fn text(line: &mut Vec<u8>, content: &str) {
    // Most have nothing to escape, which is faster seen for all of their bytes than for one after the other.
    let escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if content.bytes().fold(false, |some, byte| some | escaped(byte)) {
        let _ = serde_json::to_writer(line, content);
    } else {
        line.push(b'"');
        line.extend_from_slice(content.as_bytes());
        line.push(b'"');
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, content: f64) {
        append(self.line, field, content);
    }

    fn record_i64(&mut self, field: &Field, content: i64) {
        append(self.line, field, content);
    }

    fn record_u64(&mut self, field: &Field, content: u64) {
        append(self.line, field, content);
    }

    fn record_bool(&mut self, field: &Field, content: bool) {
        append(self.line, field, content);
    }

    fn record_str(&mut self, field: &Field, content: &str) {
        if let Some(line) = begin(self.line, field) {
            text(line, content);
        }
    }

    fn record_debug(&mut self, field: &Field, content: &dyn fmt::Debug) {
        self.shown.clear();
        let _ = write!(self.shown, "{content:?}");
        if let Some(line) = begin(self.line, field) {
            text(line, self.shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs, line by line, as our layer writes it and as tracing-subscriber's does.
    fn logged(work: impl Fn()) -> [Vec<Value>; 2] {
        let (ours, theirs) = (Memory::default(), Memory::default());
        let (our_writer, their_writer) = (ours.clone(), theirs.clone());
        let json = tracing_subscriber::fmt::layer().with_writer(move || their_writer.clone()).json();
        let json = json.flatten_event(true).with_current_span(false).with_span_list(false);
        let both =
            tracing_subscriber::registry().with(JsonLines { writer: move || our_writer.clone() }).with(json);
        tracing::subscriber::with_default(both, work);
        [ours, theirs].map(|memory| {
            let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        })
    }

    struct Awkward;

    impl fmt::Debug for Awkward {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a \"quote\",\n\ta tab, \u{1} and 日本")
        }
    }

    #[test]
    fn lines_are_those_of_the_library() {
        let [mut ours, mut theirs] = logged(|| {
            tracing::info!(
                text = "a \"quote\"\n\u{7f}\u{0}\u{2028}",
                none = None::<u64>,
                some = Some(3_u64),
                negative = -4_i64,
                fraction = 0.112,
                endless = f64::INFINITY,
                truth = true,
                huge = u128::MAX,
                error = &std::io::Error::other("lost") as &(dyn std::error::Error + 'static),
                shown = %"x\\y",
                r#type = "t",
                "{} {}",
                1,
                "two"
            );
            tracing::error!(target: "elsewhere", awkward = ?Awkward);
            tracing::warn!(name.with.dots = "é");
            let mut record = tracing_log::log::Record::builder();
            let record = record.level(tracing_log::log::Level::Warn).target("a::library").line(Some(3));
            tracing_log::format_trace(&record.args(format_args!("by the log crate")).build()).unwrap();
        });
        assert_eq!(ours.len(), 4);
        for line in ours.iter_mut().chain(&mut theirs) {
            let stamp = line.as_object_mut().unwrap().shift_remove("timestamp").unwrap();
            let stamp = stamp.as_str().unwrap();
            assert_eq!(stamp.len(), "2026-11-23T20:38:22.443940Z".len(), "{stamp}");
            assert!(humantime::parse_rfc3339(stamp).is_ok(), "{stamp}");
        }
        // Where a record of the log crate comes from is said twice by the library.
        theirs[3].as_object_mut().unwrap().retain(|name, _| !name.starts_with("log."));
        assert_eq!(ours, theirs);
        assert_eq!(ours[0]["message"], json!("1 two"));
        assert_eq!(ours[3]["target"], json!("a::library"));
        assert_eq!(ours[1]["awkward"], json!("a \"quote\",\n\ta tab, \u{1} and 日本"));
    }

    #[test]
    fn one_write_is_one_line() {
        struct Lines(Arc<Mutex<Vec<String>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::new(Mutex::new(Vec::new()));
        let writes = Arc::clone(&written);
        let layer = JsonLines { writer: move || Lines(Arc::clone(&writes)) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(long = "x".repeat(2 * KEPT), "first");
            tracing::info!("second");
        });
        let lines = written.lock().unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.ends_with("}\n") && line.lines().count() == 1));
        assert!(lines[1].len() < 200, "{}", lines[1]);
    }
}
