//! The program `nilas`: connect, measure, explain.
//!
//! What lives here: [`arguments`] defines the command line once, each verb has its file in [`commands`], and
//! [`output`] draws what they find out, for people, for pipes and as JSON. [`agent_protocol`] is the language
//! of `nilas agent`; [`pipe`] carries a byte stream in order over the datagrams of a connection; [`network`] is
//! what an agent may use of this machine, and [`input`] reads standard input. A command ends well or with a
//! [`failure::Failure`], which is a sentence and an exit code.

mod agent_protocol;
mod arguments;
mod commands;
mod failure;
mod input;
mod network;
mod output;
mod pipe;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_where_asked();
    // A panic is an internal error: the hook has already told what and where, and the code must say it too.
    let ended = std::panic::catch_unwind(|| commands::run(arguments))
        .unwrap_or_else(|_| Err(Failure::internal("a part of the program panicked")));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.needs_telling() {
                output::complain(&failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Logs to standard error as far as `NILAS_LOG` asks for it.
fn log_where_asked() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("NILAS_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}
