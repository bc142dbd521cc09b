//! Parse the arguments, load the configuration, act, end with a status.

#![warn(clippy::unwrap_used)]

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use sconce::{
    cli::{self, Failure, Task},
    config::Options,
    server,
    systemd::{Manager, Sockets},
};

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.status().into()
        }
    }
}

fn act() -> Result<(), Failure> {
    match cli::parse()? {
        Task::Serve(options) => serve(options).inspect_err(|failure| {
            Manager::of_environment().failed(&failure.to_string(), failure.errno());
        }),
        Task::Show(options, show) => {
            let loaded = cli::load(&options).map_err(Failure::Configuration)?;
            for warning in &loaded.warnings {
                eprintln!("sconce: warning: {warning}");
            }
            print(&show(&loaded)?)
        }
        Task::Print(text) => print(&text),
    }
}

fn serve(options: Options) -> Result<(), Failure> {
    let loaded = cli::load(&options).map_err(Failure::Configuration)?;
    let sockets = Sockets::take().map_err(server::Error::from)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::System)?;
    let served = runtime.block_on(server::run(loaded, sockets, move || cli::load(&options)));
    // A thread that is stuck in some computation does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(served?)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the pipe, such as `head`, has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}
