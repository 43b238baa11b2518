//! The program `nilas`: connect, measure, explain.
//!
//! What lives here: [`arguments`] defines the command line once (the server's from [`setting_flags`]), each verb has its file in [`commands`], and
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
mod recording;
mod setting_flags;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_where_asked(&arguments.verb);
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

/// Logs to standard error as far as `NILAS_LOG` asks for it; a server logs without being asked.
fn log_where_asked(verb: &Verb) {
    let server = match verb {
        Verb::Server(server) if server.verb.is_none() => Some(server),
        _ => None,
    };
    let asked = std::env::var_os("NILAS_LOG").and_then(|text| {
        EnvFilter::try_new(text.to_string_lossy())
            .inspect_err(|error| {
                let why = format!(
                    "NILAS_LOG is passed over, for it says nothing of use, such as `debug`: {error}"
                );
                output::complain(&Failure::usage(why));
            })
            .ok()
    });
    let filter = match (asked, server) {
        (Some(filter), _) => filter,
        (None, Some(_)) => EnvFilter::new("info"),
        (None, None) => return,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if server.is_some_and(|server| server.json) {
        log.json().init();
    } else {
        log.init();
    }
}
