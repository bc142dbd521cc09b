//! `sconce models inspect`: what a model is, what it needs, and what its fingerprint is made of. No weight is loaded; all are
//! hashed.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde::Serialize;

use super::{
    Settings,
    adapted::Wanted,
    fingerprint::{self, Fingerprint},
    loading::Measured,
    opened::Opened,
    prepare::Drawing,
    source::Source,
    words::{Origin, Words},
};
use crate::{
    backend::{Footprint, memory},
    hub::HubId,
    model::{self, BLOCK, Task},
    text::{channels::Format, chat_template::Features},
};

/// All that can be told of a model without running it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The id that it is served by; `None` for a path that was only looked at.
    pub id: Option<String>,
    pub source: PathBuf,
    #[serde(flatten)]
    pub summary: model::Summary,
    pub tokenizer: Tokenizer,
    /// `None`: a line `role: content` for each message.
    pub chat_template: Option<Template>,
    pub defaults: Defaults,
    pub memory: Memory,
    #[serde(flatten)]
    fingerprint: Fingerprint,
}

#[derive(Debug, Serialize)]
pub struct Tokenizer {
    pub kind: String,
    /// One above the highest id.
    pub vocabulary: u32,
    pub found: String,
}

#[derive(Debug, Serialize)]
pub struct Template {
    pub found: String,
    #[serde(flatten)]
    pub features: Features,
    /// What answers mark their reasoning by, where that is told apart.
    pub reasoning_mark: Option<&'static str>,
    /// The format that tool calls are understood in.
    pub tool_call_format: Option<&'static str>,
}

/// What a request gets that does not say: the configuration's values, the model's where that has none.
#[derive(Debug, Serialize)]
pub struct Defaults {
    pub max_tokens: u32,
    pub temperature: f64,
    pub top_p: f64,
    /// 0: all.
    pub top_k: usize,
    pub min_p: f64,
    pub repetition_penalty: f64,
    pub end_tokens: Vec<EndToken>,
    /// Where the model's own were found.
    pub found: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct EndToken {
    pub id: u32,
    pub text: String,
}

/// Bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    pub weights: u64,
    pub kv_cache: u64,
    /// Tokens that the KV cache has room for.
    pub kv_cache_tokens: u64,
    pub activations: u64,
    /// What loading asks for, and what the device has.
    pub needed: u64,
    pub available: Option<u64>,
}

pub use super::source::Absent;

/// Where the model of `config` lies; nothing is downloaded.
///
/// # Errors
/// Why it lies nowhere.
pub fn locate(id: Option<&str>, config: &crate::backend::Config) -> Result<PathBuf, Absent> {
    Source::of(id, &config.candle)?.locate()
}

/// What the model of `config` is on the Hugging Face hub; `None` where it is not from there.
#[must_use]
pub fn hub_id(id: &str, config: &crate::backend::Config) -> Option<HubId> {
    match Source::of(Some(id), &config.candle) {
        Ok(Source::Hub(id)) => Some(id),
        _ => None,
    }
}

/// Looks at the model at `path` as it would be served with `config` and these adapters, by their ids. `budget` is what all
/// models may take together, in bytes.
///
/// # Errors
/// Why it could not be served.
pub fn inspect(
    id: Option<&str>,
    path: &Path,
    config: &crate::backend::Config,
    adapters: &IndexMap<String, crate::backend::Config>,
    budget: Option<u64>,
) -> Result<Report, String> {
    let settings = Settings::of(config);
    let adapters: Vec<_> = adapters.iter().map(|(id, config)| Wanted::new(id, config)).collect();
    let config = &config.candle;
    let Measured { opened, options, footprint, summary, block, .. } =
        Measured::new(path.to_owned(), config, &adapters, budget)?;
    let Opened { model: _, words, files } = opened;
    let hashed = fingerprint::hash(&files)?;
    let fingerprint = Fingerprint::new(hashed, summary.context_length, &settings, options.device);
    let Footprint { weights, kv_cache, activations } = footprint;
    let memory = Memory {
        weights,
        kv_cache,
        kv_cache_tokens: kv_cache / block.max(1) * BLOCK as u64,
        activations,
        needed: footprint.total(),
        available: if options.device.is_host() { memory::available() } else { options.device.free_memory() },
    };
    let kind = words.tokenizer.kind().to_owned();
    let kind = words.origins.pre_tokenizer.as_ref().map_or(kind.clone(), |name| format!("{kind}, {name}"));
    let features = words.template.features();
    let format = Format::of(&words.template, &words.tokenizer);
    let template = words.origins.template.as_ref();
    Ok(Report {
        id: id.map(str::to_owned),
        source: path.to_owned(),
        summary,
        tokenizer: Tokenizer {
            kind,
            vocabulary: words.tokenizer.vocabulary(),
            found: found(&words.origins.tokenizer, path),
        },
        chat_template: template.map(|origin| Template {
            found: found(origin, path),
            features,
            reasoning_mark: format.reasoning(),
            tool_call_format: format.tool_calls(),
        }),
        defaults: defaults(&words, &settings, path),
        memory,
        fingerprint,
    })
}

fn defaults(words: &Words, settings: &Settings, path: &Path) -> Defaults {
    let own = &words.defaults;
    let Drawing { temperature, top_p, top_k, min_p, repetition_penalty } = Drawing::new(settings, own);
    let text = |id| String::from_utf8_lossy(words.tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    Defaults {
        max_tokens: settings.max_tokens,
        temperature,
        top_p,
        top_k,
        min_p,
        repetition_penalty,
        end_tokens: own.eos.iter().map(|id| EndToken { id: *id, text: text(*id) }).collect(),
        found: words.origins.defaults.as_ref().map(|origin| found(origin, path)),
    }
}

fn found(origin: &Origin, source: &Path) -> String {
    match origin {
        Origin::Metadata => "metadata".to_owned(),
        Origin::Program => "the program".to_owned(),
        Origin::File(path) => {
            let name = path.strip_prefix(source).ok().or(path.file_name().map(Path::new));
            name.unwrap_or(path).display().to_string()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, source, summary, tokenizer, chat_template, defaults, memory, fingerprint } = self;
        match id {
            Some(id) => writeln!(f, "{id}: {}", source.display())?,
            None => writeln!(f, "{}", source.display())?,
        }
        let mut row = |name: &str, value: String| writeln!(f, "  {name:14} {value}");
        row("architecture", format!("{} ({})", summary.architecture, summary.format))?;
        row("task", summary.task.name().to_owned())?;
        row("parameters", summary.parameters.to_string())?;
        let elements: Vec<String> = summary
            .elements
            .iter()
            .map(|(kind, sum)| format!("{} {kind} ({} tensors)", sum.parameters, sum.tensors))
            .collect();
        row("elements", elements.join(", "))?;
        let mut layers = format!("{} of width {}", summary.layers, summary.hidden);
        for (count, what) in
            [(summary.sliding_layers, "with a window"), (summary.expert_layers, "of experts")]
        {
            if count > 0 {
                layers += &format!(", {count} {what}");
            }
        }
        row("layers", layers)?;
        if !summary.features.is_empty() {
            row("features", Vec::from_iter(summary.features.iter().copied()).join(", "))?;
        }
        row("heads", format!("{}, of keys and values {}", summary.heads, summary.kv_heads))?;
        row("context", format!("{} tokens", summary.context_length))?;
        row("vocabulary", format!("{} tokens, logits for {}", tokenizer.vocabulary, summary.vocabulary))?;
        row("tokenizer", format!("{} (from {})", tokenizer.kind, tokenizer.found))?;
        if let Some(pooling) = &summary.pooling {
            row("vectors", pooling.clone())?;
        }
        if summary.task == Task::Generate {
            row("chat template", chat_template.as_ref().map_or("none".to_owned(), Template::line))?;
            row("defaults", defaults.line())?;
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let available = memory.available.map(|bytes| format!("; {} MiB are available", mib(bytes)));
        row(
            "memory",
            format!(
                "{} MiB: weights {}, KV cache {} (for {} tokens), activations {}{}",
                mib(memory.needed),
                mib(memory.weights),
                mib(memory.kv_cache),
                memory.kv_cache_tokens,
                mib(memory.activations),
                available.unwrap_or_default()
            ),
        )?;
        row("fingerprint", format!("{}, the hash of these lines:", fingerprint.fingerprint))?;
        let width = fingerprint.inputs.iter().map(|input| input.name.len()).max().unwrap_or(0);
        for fingerprint::Input { name, value, bytes, blake3 } in &fingerprint.inputs {
            let bytes = bytes.map(|bytes| format!("{bytes} bytes"));
            let what = value.clone().or(bytes).unwrap_or_default();
            writeln!(f, "    {blake3}  {name:width$}  {what}")?;
        }
        Ok(())
    }
}

impl Template {
    fn line(&self) -> String {
        let Features { system, tools, reasoning, generation_prompt } = self.features;
        let features = [
            (system, "system messages"),
            (tools, "tools"),
            (reasoning, "reasoning"),
            (generation_prompt, "generation prompt"),
        ];
        let has: Vec<&str> = features.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        let mut line = format!(
            "from {}; has {}",
            self.found,
            if has.is_empty() { "nothing".to_owned() } else { has.join(", ") }
        );
        if let Some(mark) = self.reasoning_mark {
            line += &format!("; reasoning by {mark}");
        }
        if let Some(format) = self.tool_call_format {
            line += &format!("; tool calls as {format}");
        }
        line
    }
}

impl Defaults {
    fn line(&self) -> String {
        let Self { max_tokens, temperature, top_p, top_k, min_p, repetition_penalty, end_tokens, found } =
            self;
        let ends: Vec<String> = end_tokens.iter().map(|end| format!("{} ({:?})", end.id, end.text)).collect();
        let ends = if ends.is_empty() { "no token".to_owned() } else { ends.join(", ") };
        let found = found.as_ref().map(|found| format!(" (the model's from {found})")).unwrap_or_default();
        format!(
            "max_tokens {max_tokens}, temperature {temperature}, top_p {top_p}, top_k {top_k}, min_p {min_p}, \
             repetition_penalty {repetition_penalty}{found}; ends at {ends}"
        )
    }
}
