//! The verbs, one file each.

mod agent;
mod connect;
mod demo;
mod explain;
mod gather;
mod lab;
mod manual;
mod replay;
mod server;
mod sim;
mod turn;

use std::io::{self, Write};

use tokio::runtime::{Builder, Runtime};

use crate::arguments::{Arguments, Verb};
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Connect(arguments) => connect::run(&arguments),
        Verb::Agent(arguments) => agent::run(&arguments),
        Verb::Replay(arguments) => replay::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Gather(arguments) => gather::run(&arguments),
        Verb::Server(arguments) => server::run(&arguments),
        Verb::Turn(arguments) => turn::run(&arguments),
        Verb::Lab(arguments) => lab::run(&arguments),
        Verb::Sim(arguments) => sim::run(&arguments),
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Man => manual::page(),
    }
}

/// A runtime on this thread: what the verbs do is wait, and one thread waits as well as many.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("no runtime: {error}")))
}

/// Writes a line to standard output, at once.
fn print_line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}
