//! What is counted, in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::Write as _;

use indexmap::IndexMap;

use crate::backend::{Metric, Registry};

/// Every metric of every model, and of all together.
pub(crate) fn text(registry: &Registry) -> String {
    let models = registry.models();
    let mut families: IndexMap<&str, Vec<(Option<&str>, Metric)>> = IndexMap::new();
    for metric in registry.metrics() {
        families.entry(metric.name).or_default().push((None, metric));
    }
    for (id, model) in models.iter() {
        for metric in model.metrics() {
            families.entry(metric.name).or_default().push((Some(id), metric));
        }
    }
    let mut out = String::new();
    for (name, metrics) in families {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let help = metrics.first().map_or("", |(_, metric)| metric.help);
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (id, metric) in metrics {
            let label = id.map(|id| format!("{{model=\"{}\"}}", escaped(id))).unwrap_or_default();
            let _ = writeln!(out, "{name}{label} {}", metric.value);
        }
    }
    out
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn labels_keep_their_line() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
