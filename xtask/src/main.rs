//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! | room | what lives there |
//! |---|---|
//! | `steps` | what `cargo xtask test` runs, in order |
//! | `runner` | how a step is run, timed, judged and summed up |
//! | `prerequisites` | what a step needs from the machine, and how it gets there |
//! | `workspace` | where things are; commands that start in the right folder |
//! | `sections` | the index of RFC sections: made from RFC texts, committed, looked up |
//! | `citations` | every "RFC NNNN section X.Y" in the sources, checked against the index |
//! | `protocol_map` | `docs/protocol.md`, checked against the index, the files and their tests |
//! | `documents` | links that must lead somewhere, the table of dependencies |
//! | `matrix` | `docs/matrix.md`, written and compared |
//! | `mutate` | faults put in on purpose, and the tests that notice them |
//! | `fuzz` | seed corpora, replayed through the fuzz targets |
//! | `sans_io` | what the core crates may not touch: sockets, clocks, ambient randomness |

mod citations;
mod documents;
mod fuzz;
mod matrix;
mod mutate;
mod prerequisites;
mod protocol_map;
mod runner;
mod sans_io;
mod sections;
mod steps;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "nilas's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must hold: formatting, lints, tests, laboratory, real peers.
    Test {
        /// Run only this step; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Name the steps and stop.
        #[arg(long)]
        list: bool,
    },
    /// Measure nilas and its peers side by side; arguments are handed to the bench program.
    Bench {
        /// For the bench program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write docs/matrix.md: every kind of access beside every other, in the simulated network.
    Matrix,
    /// Put faults into a copy of the cores, one at a time, and see that the test that is to notice each does.
    Mutate {
        /// Only this fault; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Run all tests of the cores on each fault and name those that notice it.
        #[arg(long)]
        survey: bool,
        /// Write docs/mutations.md, and stop.
        #[arg(long)]
        write: bool,
    },
    /// Check every citation of an RFC section, and docs/protocol.md.
    Rfc {
        /// Also want every file of docs/protocol.md to cite the section of its row, not only the RFC.
        #[arg(long)]
        strict: bool,
    },
    /// Make the index of RFC sections from a directory of rfcNNNN.txt files.
    RfcIndex {
        /// The directory that holds the RFC texts.
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    let workspace = Workspace::find()?;
    match command {
        Command::Test { only, list } => {
            let steps = steps::chosen(&only)?;
            if list {
                runner::list(&steps);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(runner::run(&workspace, &steps))
        }
        Command::Bench { arguments } => {
            // The relay's load and the simulator are the program's own.
            let without = ["codec", "establish", "idle", "data"];
            if !arguments
                .iter()
                .any(|what| without.contains(&what.as_str()))
            {
                let build = ["build", "--release", "--package", "nilas-cli"];
                runner::execute(workspace.cargo(&build))?;
            }
            let mut bench = workspace.cargo(&[
                "run",
                "--release",
                "--manifest-path",
                "bench/Cargo.toml",
                "--",
            ]);
            // Where it was built, unless another one is wanted.
            if std::env::var_os("NILAS_BIN").is_none() {
                bench.env("NILAS_BIN", workspace.nilas_release());
            }
            bench.args(arguments);
            runner::execute(bench).map(|()| ExitCode::SUCCESS)
        }
        Command::Matrix => {
            println!("{}", matrix::write(&workspace)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Mutate { write: true, .. } => {
            println!("{}", mutate::write(&workspace)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Mutate { only, survey, .. } => Ok(if mutate::run(&workspace, &only, survey)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Command::Rfc { strict } => match citations::check_map(&workspace, strict) {
            Ok(summary) => {
                println!("{summary}");
                Ok(ExitCode::SUCCESS)
            }
            Err(findings) => {
                eprintln!("{findings}");
                Ok(ExitCode::FAILURE)
            }
        },
        Command::RfcIndex { directory } => {
            println!("{}", sections::write_index(&workspace, &directory)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
