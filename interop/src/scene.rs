//! A laboratory with `nilas server` in its middle, and the programs that meet in it.

use std::process::Command;

use nilas_lab::{Lab, Node, Topology};
use serde_json::{Value, json};

use crate::programs;
use crate::server::Server;

/// A laboratory in which two agents can meet.
pub struct Scene {
    // Dropped first: the server lives in the laboratory.
    _server: Server,
    lab: Lab,
}

impl Scene {
    /// Builds the laboratory and starts the server.
    ///
    /// # Errors
    /// A sentence that says what is wrong or missing.
    pub fn build(kinds: &str) -> Result<Self, String> {
        let topology: Topology = kinds.parse().map_err(|error| format!("{error}"))?;
        let lab = Lab::build(&topology).map_err(|error| error.to_string())?;
        Ok(Self {
            _server: Server::start(&lab)?,
            lab,
        })
    }

    /// `nilas agent` on a machine.
    ///
    /// # Errors
    /// A sentence that says how to get the program.
    pub fn nilas(&self, node: Node) -> Result<Command, String> {
        let mut command = self.on(node, programs::nilas()?)?;
        command.arg("agent");
        Ok(command)
    }

    /// aioice on a machine.
    ///
    /// # Errors
    /// A sentence that says how to get the program.
    pub fn aioice(&self, node: Node) -> Result<Command, String> {
        let (python, script) = programs::aioice()?;
        let mut command = self.on(node, python)?;
        command.arg(script);
        Ok(command)
    }

    /// libnice on a machine, nominating as RFC 8445 wants or aggressively as RFC 5245 allowed.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn libnice(&self, node: Node, aggressive: bool) -> Result<Command, String> {
        let (python, script) = programs::libnice();
        let mut command = self.on(node, python)?;
        command
            .arg(script)
            .args(aggressive.then_some("--aggressive"));
        Ok(command)
    }

    fn on(&self, node: Node, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, String> {
        self.lab
            .command(node, program)
            .map_err(|error| error.to_string())
    }
}

/// The command that starts an agent with the scene's STUN server.
#[must_use]
pub fn start(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": Server::stun_v4(), "turn": null, "relayOnly": false})
}
