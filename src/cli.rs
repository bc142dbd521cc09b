//! The command line.

#[cfg(feature = "candle")]
mod bench;
#[cfg(feature = "candle")]
mod cached;
#[cfg(feature = "candle")]
mod models;

use std::{fmt, io, path::PathBuf, sync::LazyLock};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{self, Errors, Loaded, Sources, reference};

/// With the revision of a build that knows its own.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("SCONCE_REVISION") {
        Some(revision) if !revision.is_empty() => format!("{version} ({revision})"),
        _ => version.to_owned(),
    }
});

/// Serves an OpenAI-compatible API from this machine.
#[derive(Parser)]
#[command(name = "sconce", version = VERSION.as_str(), max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Serve the API. This is what `sconce` alone does.
    Serve(Options),
    /// Check the configuration and tell everything that is wrong with it; the status is 78 if anything is.
    CheckConfig(Options),
    /// Print the configuration in effect as TOML, its secrets covered.
    PrintConfig {
        #[command(flatten)]
        options: Options,
        /// Say after each value where it comes from.
        #[arg(long)]
        with_sources: bool,
    },
    /// Measure how fast a model runs here, without HTTP.
    #[cfg(feature = "candle")]
    Bench(bench::Bench),
    /// Print the API's OpenAPI document.
    PrintOpenapi(Options),
    /// Print the reference of all configuration keys.
    PrintConfigReference {
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
    },
    /// Look at models; fetch and remove those of the Hugging Face hub.
    #[cfg(feature = "candle")]
    #[command(subcommand)]
    Models(models::Command),
    /// Print a completion script for a shell.
    Completions { shell: Shell },
    /// Print the manual page.
    Man,
}

// Each subcommand has these of its own, beside the ones before it. Were they clap's global arguments, those after a
// subcommand would silently replace those before it.
/// Where the configuration comes from. Holds secrets if somebody put them there: has no `Debug`.
#[derive(Args, Default)]
#[command(next_help_heading = "Configuration")]
pub struct Options {
    /// Read this file over `/etc/sconce/config.toml`. May be given several times, the later ones stronger.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Listen on host:port or unix:/path. May be given several times.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Serve the small model inside the program, under the id `demo`: no download.
    #[arg(long, conflicts_with = "backend")]
    demo: bool,
    /// What answers.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Id of the model to serve.
    #[arg(long, value_name = "ID")]
    model_id: Option<String>,
    /// File of API keys, one a line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or directives by module.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// Set any key of the configuration. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Options {
    fn add_to(self, options: &mut config::Options) {
        options.files.extend(self.config);
        if !self.listen.is_empty() {
            options.flags.push(("--listen", self.listen.into()));
        }
        options.demo |= self.demo;
        let texts = [
            ("--backend", self.backend),
            ("--model-id", self.model_id),
            ("--api-key-file", self.api_key_file),
            ("--log-level", self.log_level),
        ];
        options.flags.extend(texts.into_iter().filter_map(|(flag, text)| Some((flag, text?.into()))));
        options.set.extend(self.set);
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// A page for people.
    Markdown,
    /// An example file with every key.
    Toml,
    /// The JSON schema with defaults.
    Json,
}

/// Makes of a configuration what is to be printed.
pub type Show = Box<dyn FnOnce(&Loaded) -> Result<String, Failure>>;

/// What the command line asks for.
pub enum Task {
    Serve(config::Options),
    /// Text for standard output, from a configuration.
    Show(config::Options, Show),
    /// Text that needs no configuration.
    Print(String),
}

/// Reads the process's own arguments.
///
/// # Errors
/// Returns [`Failure::Usage`] for arguments that are none of ours, and for `--help` and `--version`.
pub fn parse() -> Result<Task, Failure> {
    let cli = Cli::try_parse().map_err(Failure::Usage)?;
    let mut all = config::Options::default();
    cli.options.add_to(&mut all);
    let mut with = |options: Options| {
        options.add_to(&mut all);
        std::mem::take(&mut all)
    };
    let show = |options, text: fn(&Loaded) -> String| Task::Show(options, Box::new(move |it| Ok(text(it))));
    Ok(match cli.command.unwrap_or_else(|| Command::Serve(Options::default())) {
        Command::Serve(options) => Task::Serve(with(options)),
        Command::CheckConfig(options) => show(with(options), summary),
        Command::PrintConfig { options, with_sources: true } => show(with(options), |it| it.print(true)),
        Command::PrintConfig { options, .. } => show(with(options), |it| it.print(false)),
        #[cfg(feature = "candle")]
        Command::Bench(bench) => Task::Print(bench.run()?),
        Command::PrintOpenapi(options) => {
            show(with(options), |it| crate::api::openapi_document(&it.config.api_prefix))
        }
        #[cfg(feature = "candle")]
        Command::Models(models::Command::Inspect(models::Inspect { options, wanted })) => {
            Task::Show(with(options), Box::new(move |it| wanted.inspect(it)))
        }
        #[cfg(feature = "hub")]
        Command::Models(models::Command::Pull(cached::Pull { options, wanted })) => {
            Task::Show(with(options), Box::new(move |it| wanted.pull(it)))
        }
        #[cfg(feature = "candle")]
        Command::Models(models::Command::List(list)) => Task::Print(list.list()?),
        #[cfg(feature = "candle")]
        Command::Models(models::Command::Remove(remove)) => Task::Print(remove.remove()?),
        Command::PrintConfigReference { format: Format::Markdown } => Task::Print(reference::markdown()),
        Command::PrintConfigReference { format: Format::Toml } => Task::Print(reference::toml()),
        Command::PrintConfigReference { format: Format::Json } => Task::Print(reference::json()),
        Command::Completions { shell } => Task::Print(completions(shell)),
        Command::Man => Task::Print(manual()?),
    })
}

/// Reads the configuration from the process's environment and `options`, as it stands now.
///
/// # Errors
/// Returns all that is wrong with it.
pub fn load(options: &config::Options) -> Result<Loaded, Errors> {
    config::load(&Sources::system(), options)
}

fn summary(loaded: &Loaded) -> String {
    let served = loaded.config.served();
    let ids: Vec<_> = served.keys().map(String::as_str).collect();
    let addresses: Vec<_> = loaded.config.server.listen.iter().map(ToString::to_string).collect();
    let models = if ids.len() == 1 { "model" } else { "models" };
    format!(
        "configuration ok: {} {models}: {}; listening on {}\n",
        ids.len(),
        ids.join(", "),
        addresses.join(", ")
    )
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sconce", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn manual() -> Result<String, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::Output)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Why the program ends early, and with which status of `sysexits.h`.
pub enum Failure {
    /// Also `--help` and `--version`, which are no failure.
    Usage(clap::Error),
    Configuration(Errors),
    /// What was to be looked at is not there.
    NoInput(String),
    /// A model that cannot be served, and why.
    Model(String),
    /// A model of the Hugging Face hub that cannot be had, listed or removed.
    #[cfg(feature = "candle")]
    Hub(crate::hub::Error),
    /// The runtime could not be started.
    System(io::Error),
    /// Standard output takes no more.
    Output(io::Error),
    Service(crate::server::Error),
}

impl From<crate::server::Error> for Failure {
    fn from(error: crate::server::Error) -> Self {
        Self::Service(error)
    }
}

impl Failure {
    /// The process's exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const NO_INPUT: u8 = 66;
        const UNAVAILABLE: u8 = 69;
        const OS: u8 = 71;
        const IO: u8 = 74;
        const CONFIGURATION: u8 = 78;
        match self {
            Self::Usage(error) if !error.use_stderr() => 0,
            Self::Usage(_) => USAGE,
            Self::Configuration(_) => CONFIGURATION,
            Self::NoInput(_) => NO_INPUT,
            Self::Model(_) => DATA,
            #[cfg(feature = "candle")]
            Self::Hub(error) => cached::status(error),
            Self::System(_) => OS,
            Self::Output(_) => IO,
            Self::Service(error) => match error {
                crate::server::Error::Configuration(_) => CONFIGURATION,
                crate::server::Error::Later(_) => UNAVAILABLE,
                crate::server::Error::Listen(_)
                | crate::server::Error::System(_)
                | crate::server::Error::Sockets(_) => OS,
            },
        }
    }

    /// The system's number for what went wrong, where it is the system's.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::NoInput(_) | Self::Model(_) => None,
            #[cfg(feature = "candle")]
            Self::Hub(_) => None,
            Self::System(error) | Self::Output(error) => error.raw_os_error(),
            Self::Service(error) => error.errno(),
        }
    }

    /// Tells why: help and the version on standard output, all else on standard error.
    pub fn tell(&self) {
        match self {
            // Nothing is left to be done when standard error is gone.
            Self::Usage(error) => _ = error.print(),
            failure => eprintln!("{failure}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Configuration(errors) => {
                let problems = if errors.problems().len() == 1 { "problem" } else { "problems" };
                write!(f, "sconce: {} {problems} in the configuration\n{errors}", errors.problems().len())
            }
            Self::NoInput(message) | Self::Model(message) => write!(f, "sconce: {message}"),
            #[cfg(feature = "candle")]
            Self::Hub(error) => write!(f, "sconce: {error}"),
            Self::System(error) => write!(f, "sconce: {error}"),
            Self::Output(error) => write!(f, "sconce: cannot write to standard output: {error}"),
            Self::Service(error) => write!(f, "sconce: {error}"),
        }
    }
}
