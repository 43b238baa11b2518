//! A laboratory with `nilas server` in its middle, and the programs that meet in it.

use std::net::IpAddr;
use std::process::Command;

use nilas_lab::{Event, Lab, Node, SERVER_V4, SERVER_V6, Topology};
use serde_json::{Value, json};

use crate::programs;
use crate::server::{PASSWORD, Server, USER};

/// Where the servers' machine says nothing once it was told to [`swallow`](Scene::swallow).
pub const SILENT_PORT: u16 = 3999;

/// A laboratory in which two agents can meet.
pub struct Scene {
    // Dropped first: the servers live in the laboratory.
    servers: Vec<Server>,
    lab: Lab,
}

impl Scene {
    /// Builds the laboratory and starts the server.
    ///
    /// # Errors
    /// A sentence that says what is wrong or missing.
    pub fn build(kinds: &str) -> Result<Self, String> {
        let lab = laboratory(kinds)?;
        Ok(Self {
            servers: vec![Server::start(&lab)?],
            lab,
        })
    }

    /// Builds the laboratory and starts two relays, each on an address of its own.
    ///
    /// # Errors
    /// As `build`.
    pub fn with_relays(kinds: &str) -> Result<Self, String> {
        let lab = laboratory(kinds)?;
        let relays = SERVER_V4.map(|address| Server::start_relay(&lab, address));
        Ok(Self {
            servers: relays.into_iter().collect::<Result<_, _>>()?,
            lab,
        })
    }

    /// The servers.
    pub fn servers(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// Makes something happen to the network, such as `flush na`.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    pub fn happen(&self, event: &str) -> Result<(), String> {
        let event: Event = event.parse().map_err(|error| format!("{error}"))?;
        self.lab.event(event).map_err(|error| error.to_string())
    }

    /// Lets the servers' machine swallow what arrives at [`SILENT_PORT`], datagrams and SYNs.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    pub fn swallow(&self) -> Result<(), String> {
        let rules = format!(
            "add table inet silent; \
             add chain inet silent arriving {{ type filter hook input priority 0; }}; \
             add rule inet silent arriving udp dport {SILENT_PORT} drop; \
             add rule inet silent arriving tcp dport {SILENT_PORT} drop"
        );
        self.nft(Node::Server, &rules).map(drop)
    }

    /// Says something to nft on a machine, and what it answers.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    pub fn nft(&self, node: Node, words: &str) -> Result<String, String> {
        self.run(node, "nft", &[words])
    }

    /// The laboratory, to run something of one's own in it.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// `nilas agent` on a machine that asks this DNS server.
    ///
    /// # Errors
    /// A sentence that says how to get the program.
    pub fn nilas_asking(&self, node: Node, server: IpAddr) -> Result<Command, String> {
        // Machines of the laboratory share the file system, so that this one gets a file of its own.
        const WITH_RESOLVER: &str = "own=$(mktemp) && echo \"nameserver $0\" >\"$own\" && \
            mount --bind \"$own\" /etc/resolv.conf && rm \"$own\" && exec \"$@\"";
        let mut command = self.on(node, "unshare")?;
        command.args(["--mount", "sh", "-c", WITH_RESOLVER, &server.to_string()]);
        command.arg(programs::nilas()?).arg("agent");
        Ok(command)
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

    /// Chromium on a machine. It carries no data: only ICE takes part.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn chromium(&self, node: Node) -> Result<Command, String> {
        let (python, script) = programs::chromium();
        let mut command = self.on(node, python)?;
        command.arg(script);
        Ok(command)
    }

    /// Runs a program on a machine to its end, and gives its output.
    pub(crate) fn run(
        &self,
        node: Node,
        program: &str,
        arguments: &[&str],
    ) -> Result<String, String> {
        let mut command = self.on(node, program)?;
        let told = command.args(arguments).output();
        let told = told.map_err(|error| format!("{program}: {error}"))?;
        match told.status.success() {
            true => Ok(String::from_utf8_lossy(&told.stdout).into_owned()),
            false => Err(format!(
                "{program}: {}",
                String::from_utf8_lossy(&told.stderr)
            )),
        }
    }

    pub(crate) fn on(
        &self,
        node: Node,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Result<Command, String> {
        self.lab
            .command(node, program)
            .map_err(|error| error.to_string())
    }
}

fn laboratory(kinds: &str) -> Result<Lab, String> {
    let topology: Topology = kinds.parse().map_err(|error| format!("{error}"))?;
    Lab::build(&topology).map_err(|error| error.to_string())
}

/// The command that starts an agent with the first relay of a scene, reached over UDP or TCP, and nothing but it.
#[must_use]
pub fn start_by_relay(controlling: bool, transport: &str) -> Value {
    let turn = json!({"host": SERVER_V4[0], "port": 3478, "transport": transport, "user": USER, "pass": PASSWORD});
    json!({"cmd": "start", "controlling": controlling, "stun": null, "turn": turn, "relayOnly": true})
}

/// The command that starts an agent with both relays of a scene, in this order.
#[must_use]
pub fn start_relayed(controlling: bool) -> Value {
    let servers = SERVER_V4.map(|address| {
        json!({"urls": [format!("turn:{address}:3478?transport=udp")], "username": USER, "credential": PASSWORD})
    });
    json!({"cmd": "start", "controlling": controlling, "iceServers": servers, "relayOnly": false})
}

/// The command that starts an agent with the first relay of a scene, over UDP and TCP, after and before servers that
/// swallow everything and a STUN server that only IPv6 leads to.
#[must_use]
pub fn start_among_dead(controlling: bool) -> Value {
    let [alive, _] = SERVER_V4;
    let [v6, _] = SERVER_V6;
    let stun = |host: &str, port: u16| json!({"urls": [format!("stun:{host}:{port}")]});
    let turn = |port: u16| {
        let urls = ["udp", "tcp"].map(|over| format!("turn:{alive}:{port}?transport={over}"));
        json!({"urls": urls, "username": USER, "credential": PASSWORD})
    };
    let servers = json!([
        stun(&alive.to_string(), SILENT_PORT),
        stun(&format!("[{v6}]"), 3478),
        turn(SILENT_PORT),
        stun(&alive.to_string(), 3478),
        turn(3478),
        turn(443),
        turn(SILENT_PORT),
    ]);
    json!({"cmd": "start", "controlling": controlling, "iceServers": servers, "relayOnly": false})
}

/// The command that starts an agent with the scene's STUN server.
#[must_use]
pub fn start(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": Server::stun_v4(), "turn": null, "relayOnly": false})
}

/// The command that starts a lite agent.
#[must_use]
pub fn lite(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": null, "turn": null, "relayOnly": false, "lite": true})
}

/// The command that starts an agent that may use TCP.
#[must_use]
pub fn tcp(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": null, "turn": null, "relayOnly": false, "tcp": true})
}
