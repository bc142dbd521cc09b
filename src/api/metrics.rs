//! What is counted, in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::{self, Write as _};

use indexmap::IndexMap;

use crate::backend::{
    Registry,
    metric::{Metric, Times, Value},
};

/// Every metric of every model, and of all together.
pub(crate) fn text(registry: &Registry) -> String {
    let models = registry.models();
    let of_all = registry.metrics().into_iter().map(|metric| (None, metric));
    let of_each = models
        .iter()
        .flat_map(|(id, model)| model.metrics().into_iter().map(move |metric| (Some(&**id), metric)));
    let all = of_all.chain(of_each);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, all);
    out
}

fn write<'a>(out: &mut String, metrics: impl Iterator<Item = (Option<&'a str>, Metric)>) -> fmt::Result {
    let mut families: IndexMap<&str, Vec<(Option<&str>, Metric)>> = IndexMap::new();
    for (id, metric) in metrics {
        families.entry(metric.name).or_default().push((id, metric));
    }
    for (name, metrics) in families {
        let Some((_, Metric { help, value, .. })) = metrics.first() else { continue };
        let kind = match value {
            Value::Times(_) => "histogram",
            Value::Number(_) if name.ends_with("_total") => "counter",
            Value::Number(_) => "gauge",
        };
        write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
        for (id, metric) in metrics {
            let mut labels = id.map(|id| format!("model=\"{}\"", escaped(id))).unwrap_or_default();
            for (label, value) in &metric.labels {
                let comma = if labels.is_empty() { "" } else { "," };
                write!(labels, "{comma}{label}=\"{}\"", escaped(value))?;
            }
            match metric.value {
                Value::Number(value) if labels.is_empty() => writeln!(out, "{name} {value}")?,
                Value::Number(value) => writeln!(out, "{name}{{{labels}}} {value}")?,
                Value::Times(times) => write_times(out, name, &labels, &times)?,
            }
        }
    }
    Ok(())
}

fn write_times(out: &mut String, name: &str, labels: &str, times: &Times) -> fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, count) in &times.at_most {
        let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
    }
    let all = times.at_most.last().map_or(0, |(_, all)| *all);
    writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {all}", times.sum)
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_line() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn a_family_has_one_head_and_each_row_its_labels() {
        let metric = |name, labels, value| Metric { name, help: "H.", labels, value };
        let times = || Value::Times(Times { at_most: vec![(0.25, 1), (f64::INFINITY, 3)], sum: 1.5 });
        let rows = [
            (Some("m"), metric("a_total", vec![("upstream", "u".into())], Value::Number(2))),
            (Some("m"), metric("b_seconds", vec![("upstream", "u".into())], times())),
            (Some("n"), metric("a_total", vec![], Value::Number(0))),
            (None, metric("c_bytes", vec![], Value::Number(5))),
        ];
        let mut out = String::new();
        write(&mut out, rows.into_iter()).unwrap();
        let expected = "# HELP a_total H.\n# TYPE a_total counter\n\
                        a_total{model=\"m\",upstream=\"u\"} 2\n\
                        a_total{model=\"n\"} 0\n\
                        # HELP b_seconds H.\n# TYPE b_seconds histogram\n\
                        b_seconds_bucket{model=\"m\",upstream=\"u\",le=\"0.25\"} 1\n\
                        b_seconds_bucket{model=\"m\",upstream=\"u\",le=\"+Inf\"} 3\n\
                        b_seconds_sum{model=\"m\",upstream=\"u\"} 1.5\n\
                        b_seconds_count{model=\"m\",upstream=\"u\"} 3\n\
                        # HELP c_bytes H.\n# TYPE c_bytes gauge\nc_bytes 5\n";
        assert_eq!(out, expected);
    }
}
