//! What a well-formed configuration may still have wrong: ranges, and keys that do not go together.

use garde::Validate;
use toml::Table;

use super::{Config, merged::Merged, path, problem::Problem, suggest, values};
use crate::{backend, telemetry};

/// All that is wrong with `config`.
pub(super) fn check(config: &Config, merged: &Merged) -> Vec<Problem> {
    // The printed form: its secrets are already covered.
    let printed = Table::try_from(config).unwrap_or_default();
    let mut check = Check { merged, printed, problems: Vec::new() };
    check.room(&[], &config.model);
    for (id, model) in &config.models {
        check.room(&["models", id], model);
    }
    check.room(&["server"], &config.server);
    check.room(&["auth"], &config.auth);
    check.room(&["limits"], &config.limits);
    check.room(&["cors"], &config.cors);
    check.room(&["log"], &config.log);
    check.names(config);
    check.tls(config);
    check.proxies(config);
    check.loads(config);
    #[cfg(feature = "candle")]
    check.adapters(config);
    check.origins(config);
    if let Some(what) = log_level(&config.log.level) {
        check.report(&["log", "level"], what);
    }
    check.problems
}

struct Check<'a> {
    merged: &'a Merged,
    printed: Table,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn report(&mut self, key: &[&str], what: impl Into<String>) {
        let path: Vec<String> = key.iter().map(|&segment| segment.to_owned()).collect();
        self.problems.push(Problem {
            source: self.merged.said_by(&path),
            key: Some(path::dotted(key)),
            what: what.into(),
        });
    }

    /// The rules that a room states itself.
    fn room<T: Validate<Context = ()>>(&mut self, prefix: &[&str], room: &T) {
        let Err(report) = room.validate() else { return };
        for (place, error) in report.iter() {
            let place = place.to_string();
            let path: Vec<String> = prefix
                .iter()
                .copied()
                .chain(place.split('.').map(without_index))
                .map(str::to_owned)
                .collect();
            // What a model only inherits is wrong at the top level, and said there.
            let source = self.merged.said_by(&path);
            if source.is_none() && prefix.first() == Some(&"models") {
                continue;
            }
            let found = path.split_first().and_then(|(first, rest)| {
                rest.iter().try_fold(self.printed.get(first)?, |value, segment| value.get(segment))
            });
            // A URL may hold a password or a key.
            let may_hide = |value: &toml::Value| value.as_str().is_some_and(|text| text.contains(['@', '?']));
            let found = found
                .filter(|value| !value.is_array() && !may_hide(value))
                .map(|value| format!(", found {}", values::found(value)))
                .unwrap_or_default();
            self.problems.push(Problem {
                source,
                key: Some(path::dotted(&path)),
                what: format!("{error}{found}"),
            });
        }
    }

    fn names(&mut self, config: &Config) {
        let prefix = &config.api_prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !(prefix.is_empty() || prefix.starts_with('/')) {
            self.report(&["api_prefix"], format!("must start with `/` or be empty, found {prefix:?}"));
        } else if prefix.contains("//")
            || prefix.split('/').any(|segment| segment == "." || segment == "..")
            || !prefix.chars().all(plain)
        {
            self.report(&["api_prefix"], format!("must be a plain path such as `/v1`, found {prefix:?}"));
        }
        if config.model_id.trim().is_empty() {
            self.report(&["model_id"], "must not be empty");
        }
        for id in config.models.keys().filter(|id| id.trim().is_empty()) {
            self.report(&["models", id], "a model's id must not be empty");
        }
        let explicit =
            self.merged.said_by(&["model_id".to_owned()]).is_some_and(|source| source != "default");
        if explicit && !config.models.is_empty() {
            self.report(&["model_id"], "is given beside `[models]`; use one or the other");
        }
    }

    fn tls(&mut self, config: &Config) {
        match (&config.server.tls_certificate, &config.server.tls_key) {
            (Some(_), None) => self.report(&["server", "tls_certificate"], "needs `server.tls_key` as well"),
            (None, Some(_)) => self.report(&["server", "tls_key"], "needs `server.tls_certificate` as well"),
            _ => {}
        }
    }

    /// What a proxied model needs besides; said at the top level where it only inherits that.
    fn proxies(&mut self, config: &Config) {
        if config.models.is_empty() {
            self.proxy(&[], &config.model);
        }
        for (id, model) in &config.models {
            self.proxy(&["models", id], model);
        }
    }

    fn proxy(&mut self, at: &[&str], model: &backend::Config) {
        if model.backend == backend::Kind::Proxy
            && let Some((key, what)) = model.proxy.fault()
        {
            self.report(&[at, &["proxy"], &key].concat(), what);
        }
    }

    /// What only lazy models have, and who cannot be one; said where it is said.
    fn loads(&mut self, config: &Config) {
        let top = config.models.is_empty().then_some((Vec::new(), &config.model));
        let tables = config.models.iter().map(|(id, model)| (vec!["models", id.as_str()], model));
        for (at, model) in top.into_iter().chain(tables.collect::<Vec<_>>()) {
            let said = |key: &str| {
                let path: Vec<String> = at.iter().chain([&key]).map(|&segment| segment.to_owned()).collect();
                self.merged.said_by(&path).is_some_and(|source| source != "default")
            };
            let proxied = model.backend == backend::Kind::Proxy;
            let lazy = model.load == backend::Load::Lazy;
            let (own_load, own_idle) =
                (lazy && said("load"), model.idle_unload.is_some() && said("idle_unload"));
            if proxied && own_load {
                self.report(
                    &[&at[..], &["load"]].concat(),
                    "a proxied model takes no memory here: leave it out",
                );
            }
            if own_idle && (proxied || !lazy) {
                self.report(&[&at[..], &["idle_unload"]].concat(), "needs `load = \"lazy\"` as well");
            }
        }
    }

    /// An adapter has a base beside it, and nothing that is the base's.
    #[cfg(feature = "candle")]
    fn adapters(&mut self, config: &Config) {
        const OWN: [&str; 2] = ["base", "adapter"];
        if config.models.is_empty() && config.model.backend == backend::Kind::Candle {
            let backend::candle::Config { base, adapter, .. } = &config.model.candle;
            let said = [("base", base.is_some()), ("adapter", adapter.is_some())];
            if let Some((key, _)) = said.into_iter().find(|(_, is_said)| *is_said) {
                self.report(&["candle", key], "belongs into the table of a model, beside that of the base");
            }
        }
        for (id, model) in config.models.iter().filter(|(_, model)| model.backend == backend::Kind::Candle) {
            let at = |keys: &[&'static str]| [&["models", id.as_str()], keys].concat();
            let base = match (&model.candle.base, &model.candle.adapter) {
                (None, None) => continue,
                (None, Some(_)) => {
                    self.report(&at(&["candle", "adapter"]), "needs `candle.base` as well");
                    continue;
                }
                (Some(_), None) => {
                    self.report(&at(&["candle", "base"]), "needs `candle.adapter` as well");
                    continue;
                }
                (Some(base), Some(_)) => base,
            };
            let wrong = match config.models.get(base) {
                None => Some(format!("there is no model {base:?} in `[models]`")),
                Some(other) if other.backend != backend::Kind::Candle => {
                    Some(format!("{base:?} is not served by the candle backend"))
                }
                Some(other) if other.base().is_some() => Some(format!("{base:?} is an adapter itself")),
                Some(_) => None,
            };
            if let Some(wrong) = wrong {
                self.report(&at(&["candle", "base"]), wrong);
            }
            let keys = |table: &[&str]| -> Vec<String> {
                let found = table.iter().try_fold(&self.printed["models"][id], |value, key| value.get(key));
                found
                    .and_then(toml::Value::as_table)
                    .map(|table| table.keys().cloned().collect())
                    .unwrap_or_default()
            };
            let of_candle = keys(&["candle"]).into_iter().filter(|key| !OWN.contains(&key.as_str()));
            let mut of_the_base: Vec<Vec<String>> =
                of_candle.map(|key| vec!["candle".to_owned(), key]).collect();
            of_the_base.extend(keys(&["requests"]).into_iter().map(|key| vec!["requests".to_owned(), key]));
            of_the_base.extend(["load", "required", "idle_unload"].map(|key| vec![key.to_owned()]));
            for key in of_the_base {
                let path = [vec!["models".to_owned(), id.clone()], key].concat();
                if self.merged.said_by(&path).is_some() {
                    let path: Vec<&str> = path.iter().map(String::as_str).collect();
                    self.report(&path, format!("is that of {base:?}: leave it out of an adapter"));
                }
            }
        }
    }

    fn origins(&mut self, config: &Config) {
        for origin in config.cors.allowed_origins.iter().filter(|origin| !is_origin(origin)) {
            let what = format!("expected `*` or scheme://host[:port] without a path, found {origin:?}");
            self.report(&["cors", "allowed_origins"], what);
        }
    }
}

fn without_index(segment: &str) -> &str {
    segment.split_once('[').map_or(segment, |(name, _)| name)
}

/// Why the filter is refused.
fn log_level(level: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    if let Err(error) = telemetry::filter(level) {
        return Some(format!("is not a log filter: {error}, found {level:?}"));
    }
    // To a filter, a bare word that is no level is the name of a module: `inof` would silence everything else.
    let bare = level.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':']));
    let mut unknown = bare.filter(|word| !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word)));
    unknown
        .find_map(|word| Some((word, suggest::nearest(word, LEVELS)?)))
        .map(|(word, right)| format!("unknown level {word:?}; did you mean `{right}`?"))
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        // The colons inside `[::1]` are not a port's.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let scheme_fits = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    // A browser sends an origin in small letters and leaves out the port that its scheme has anyway.
    let usual = [("http", "80"), ("https", "443")];
    let as_sent = !text.contains(|c: char| c.is_ascii_uppercase())
        && !port.is_some_and(|port| usual.contains(&(scheme, port)));
    as_sent
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(scheme_fits)
        && !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@*,".contains(c))
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}
