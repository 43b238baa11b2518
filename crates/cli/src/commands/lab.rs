//! `nilas lab`: the laboratory, for people's own commands.

use std::io::{self, Write};
use std::process::Command;
use std::time::Duration;

use nilas_lab::{Lab, Node, Topology, Wire};

use crate::arguments;
use crate::failure::Failure;

/// The topology that a command line describes.
pub(super) fn topology(
    nat: &str,
    delay_ms: Option<u32>,
    loss: Option<f64>,
) -> Result<Topology, Failure> {
    let mut topology: Topology = nat.parse().map_err(Failure::usage)?;
    if delay_ms.is_some() || loss.is_some() {
        let delay = Duration::from_millis(delay_ms.unwrap_or(0).into());
        topology.wire = Some(Wire {
            delay,
            loss_percent: loss.unwrap_or(0.0),
            ..Wire::default()
        });
    }
    topology.check().map_err(Failure::usage)?;
    Ok(topology)
}

/// Builds a laboratory, as root of a user namespace where this process is not root.
///
/// Must be called while the process has one thread.
pub(super) fn build(topology: &Topology) -> Result<Lab, Failure> {
    nilas_lab::enter_user_namespace_if_needed().map_err(Failure::usage)?;
    Lab::build(topology).map_err(Failure::usage)
}

pub(crate) fn run(arguments: &arguments::Lab) -> Result<(), Failure> {
    let topology = topology(&arguments.nat, arguments.delay_ms, arguments.loss)?;
    let node: Node = arguments.node.parse().map_err(Failure::usage)?;
    let lab = build(&topology)?;
    let nodes: Vec<_> = lab.nodes().iter().map(Node::to_string).collect();
    writeln!(
        io::stderr(),
        "the laboratory stands: {}; this is {node}",
        nodes.join(", ")
    )?;
    let mut command = match arguments.command.split_first() {
        Some((program, rest)) => {
            let mut command = lab.command(node, program).map_err(Failure::usage)?;
            command.args(rest);
            command
        }
        None => {
            let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            lab.command(node, shell).map_err(Failure::usage)?
        }
    };
    let status = wait_for(&mut command)?;
    match status.code() {
        Some(0) => Ok(()),
        // Exit codes are one byte.
        Some(code) => Err(Failure::Command(u8::try_from(code).unwrap_or(u8::MAX))),
        None => Err(Failure::no_connection(format!(
            "the command ended by {status}"
        ))),
    }
}

/// Runs the command to its end. Ctrl-C is the command's affair: this process must outlive it.
fn wait_for(command: &mut Command) -> Result<std::process::ExitStatus, Failure> {
    let runtime = super::runtime()?;
    let stop = runtime.block_on(async { super::server::stop_signal() })?;
    let name = command.get_program().to_owned();
    let status = command.status().map_err(|error| {
        Failure::usage(format!(
            "the command {} cannot be run: {error}",
            name.display()
        ))
    })?;
    drop(stop);
    Ok(status)
}
