//! The page for people.

use std::fmt::Write as _;

use super::flag;
use crate::config::{
    environment::PREDECESSORS,
    path,
    schema::{Entry, Key, TREE, Table},
    values::Kind,
};

const INTRODUCTION: &str = r#"<!-- Written by `sconce print-config-reference`; `UPDATE=1 cargo test` writes it again. -->

# Configuration

`sconce check-config` tells everything that is wrong with the configuration at once, with its source, and ends with
status 78 if anything is. `sconce print-config --with-sources` prints the configuration in effect and where each value
comes from. [`config.example.toml`](../config.example.toml) has every key with its default.

## Layers

A value comes from the strongest layer that has one. From the weakest to the strongest:

1. the defaults below
2. `/etc/sconce/config.toml`, if it exists
3. each `--config FILE`, the later ones stronger; a file that does not exist is an error
4. `.env` in the working directory, if it exists: its `APP_*`, then its `SCONCE_*` variables
5. the predecessor's `APP_*` environment variables
6. `SCONCE_*` environment variables
7. flags: `--listen`, `--backend`, `--model-id`, `--api-key-file`, `--log-level`, then each `--set key=value`

Tables are merged key by key; a list replaces the whole list of the layer below. A key that nobody knows is an error in
every layer. Relative paths are relative to the working directory.

### Environment variables and `--set`

A variable's name is `SCONCE_` and the key in capitals, with `__` between a table and its key:
`SCONCE_SERVER__DRAIN_TIMEOUT=1min`. The text is read by the key's type, never by what it looks like: a string key keeps
`123` or `true` as a string. A list is either a TOML array (`["a", "b"]`) or has commas between its elements
(`a, b`). An empty variable counts as not set, except for a string that has a default.

A model's id and an upstream's name are the parts of a name whose letters keep their case:
`SCONCE_MODELS__qwen3__BACKEND=echo`. An id that does not fit into a variable's name, or has `__` in it, belongs in a file, or in `--set 'models."org/name".backend=echo'`.

In `.env`, a value with spaces needs quotes, and `$NAME` outside single quotes is replaced by that variable's value.

Variables that Kubernetes sets for a service called `sconce` (`SCONCE_SERVICE_HOST`, `SCONCE_PORT` and the like) are
left alone.

### Several models

The top level's `model_id`, `backend` and their like are the short form for one model. With tables `[models."id"]`,
each is served side by side; what a model's table does not say it takes from the top level. Giving both `model_id` and
`models` is an error.

```toml
max_tokens = 1024

[models."org/large"]
backend = "echo"

[models."org/small"]
backend = "echo"
max_tokens = 256
```

`backend = "transformers"` is another name for `candle`, and `vllm_proxy` for `proxy`. A backend that this build does
not have is an error.

## Secrets

Keep API keys in a file of their own and name it in `auth.keys_file` (or `--api-key-file`), or hand them over as the
systemd credential `api-keys` or `api-keys.*`. The key that an upstream wants is in a file named by `proxy.api_key_file`, or the credential
`upstream-api-key.NAME` or `upstream-api-key`. No flag takes a key, since other users of the machine can read command lines; `--set
auth.keys=…` works, with a warning. A secret's value is never in an error, in a log line or in what `print-config`
prints.

## From the predecessor's settings

The predecessor's variables are read as they are, in any case of letters, from the environment and from `.env`. An empty
`APP_API_KEY` counts as not set. Other `APP_*` variables are left alone, with a warning when one
looks like a misspelling.

| Predecessor | Here | Variable |
|---|---|---|
"#;

const KEYS: &str = r#"
## Top-level keys
"#;

pub(super) fn render() -> String {
    let mut out = INTRODUCTION.to_owned();
    for (name, key) in PREDECESSORS {
        let path: Vec<&str> = key.split('.').collect();
        let _ = writeln!(out, "| `{name}` | `{key}` | `{}` |", path::variable(&path));
    }
    out.push_str(KEYS);
    table(&mut out, &TREE, &[]);
    out
}

fn table(out: &mut String, table: &Table, at: &[String]) {
    let below = |name: &String| path::below(at, name);
    for (name, entry) in &table.entries {
        if let Entry::Key(key) = entry {
            self::key(out, key, &below(name));
        }
    }
    for (name, entry) in &table.entries {
        let path = below(name);
        match entry {
            Entry::Key(_) => {}
            Entry::Table(inner) => {
                let _ = writeln!(out, "\n## `[{}]`\n\n{}", path::dotted(&path), inner.description);
                self::table(out, inner, &path);
            }
            Entry::Tables { description, each } => {
                let keys: Vec<_> = each.entries.keys().map(|key| format!("`{key}`")).collect();
                let (chosen, above) = match at {
                    [] => ("\"id\"", "at the top level".to_owned()),
                    at => ("NAME", format!("in `[{}]`", path::dotted(at))),
                };
                let _ = writeln!(
                    out,
                    "\n## `[{0}.{chosen}]`\n\n{description}\n\nKeys, as {above}: {1}. Variables: \
                     `{2}__<{3}>__<KEY>`.",
                    path::dotted(&path),
                    keys.join(", "),
                    path::variable(&path),
                    chosen.trim_matches('"'),
                );
            }
        }
    }
}

fn key(out: &mut String, key: &Key, path: &[String]) {
    let _ = writeln!(out, "\n### `{}`\n\n{}\n", path::dotted(path), key.description);
    if let Kind::Choice(names) = &key.kind {
        for (name, description) in names {
            let _ = writeln!(out, "- `{name}`: {description}");
        }
        out.push('\n');
    }
    let range = key.range.iter().map(|range| format!("; {range}")).collect::<String>();
    let default = key.default.as_ref().map_or("not set".to_owned(), |value| format!("`{value}`"));
    let variable = path::variable(path);
    let flag = flag(path).map(|flag| format!(" · Flag: `{flag}`")).unwrap_or_default();
    let words = key.kind.words(false);
    let _ = writeln!(out, "Type: {words}{range} · Default: {default} · Variable: `{variable}`{flag}");
}
