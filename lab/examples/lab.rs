//! Builds a laboratory and runs a program in it, or says what each of its machines looks like.
//!
//! ```text
//! cargo run -p nilas-lab --example lab -- plain,sym
//! cargo run -p nilas-lab --example lab -- multi,v6fw+loss=3 --wire delay=20,jitter=5 -- ping -c3 203.0.113.10
//! ```
//! The program runs on the first peer's machine.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use nilas_lab::{Lab, Node, Topology};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let specs = arguments
        .next()
        .ok_or("usage: lab SPEC_A,SPEC_B [--wire SETTINGS] [-- PROGRAM ARGUMENTS...]")?;
    let mut topology: Topology = specs.parse()?;
    let mut program = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--wire" => {
                topology.wire = Some(
                    arguments
                        .next()
                        .ok_or("--wire needs settings: delay=20,loss=3")?
                        .parse()?,
                )
            }
            "--" => program = arguments.by_ref().collect(),
            _ => return Err(format!("`{argument}` is not understood").into()),
        }
    }
    nilas_lab::enter_user_namespace_if_needed()?;

    let begun = Instant::now();
    let lab = Lab::build(&topology)?;
    eprintln!("built in {} ms", begun.elapsed().as_millis());
    let Some((program, arguments)) = program.split_first() else {
        for node in lab.nodes() {
            println!("{node}:");
            lab.command(node, "ip")?
                .args(["-brief", "address"])
                .status()?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let status = lab.command(Node::A, program)?.args(arguments).status()?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}
