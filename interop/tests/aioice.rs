//! `nilas agent` and aioice, each in a network namespace of its own, in both roles, with data both ways.

use std::process::Command;

use nilas_interop::pair::Pair;
use nilas_interop::programs;
use nilas_interop::server::Server;
use nilas_lab::{Lab, Node};
use serde_json::{Value, json};

/// Who starts as controlling.
struct Controlling {
    nilas: bool,
    aioice: bool,
}

const NILAS: Controlling = Controlling {
    nilas: true,
    aioice: false,
};
const AIOICE: Controlling = Controlling {
    nilas: false,
    aioice: true,
};
const BOTH: Controlling = Controlling {
    nilas: true,
    aioice: true,
};
const NEITHER: Controlling = Controlling {
    nilas: false,
    aioice: false,
};

#[test]
fn nilas_controls() {
    connects("open,open", NILAS);
}

#[test]
fn aioice_controls() {
    connects("open,open", AIOICE);
}

#[test]
fn both_start_as_controlling() {
    connects("open,open", BOTH);
}

#[test]
fn both_start_as_controlled() {
    connects("open,open", NEITHER);
}

#[test]
fn nilas_controls_behind_nats() {
    connects("plain,plain", NILAS);
}

#[test]
fn aioice_controls_behind_nats() {
    connects("plain,plain", AIOICE);
}

#[test]
fn both_start_as_controlling_behind_nats() {
    connects("eim-apdf,eim-adf", BOTH);
}

#[test]
fn both_start_as_controlled_behind_nats() {
    connects("eim-apdf,eim-adf", NEITHER);
}

/// Without nilas: when this fails, the laboratory, the driver or the runner is to blame.
#[test]
fn aioice_connects_to_itself() {
    let lab = laboratory("open,open");
    let peers = [Node::A, Node::B].map(|node| aioice_agent(&lab, node));
    let starts = [true, false]
        .map(|controlling| json!({"cmd": "start", "controlling": controlling, "stun": null}));
    judge(Pair::start(peers, starts).expect("both peers start"));
}

fn connects(kinds: &str, controlling: Controlling) {
    let lab = laboratory(kinds);
    let _server = Server::start(&lab).expect("the server starts");
    let peers = [nilas_agent(&lab), aioice_agent(&lab, Node::B)];
    let starts = [start(controlling.nilas), start(controlling.aioice)];
    judge(Pair::start(peers, starts).expect("both peers start"));
}

fn judge(mut pair: Pair) {
    let outcome = pair.connect().and_then(|()| pair.exchange(20));
    outcome.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        pair.seen(0).errors,
        [""; 0],
        "the first side has nothing to complain about"
    );
    pair.close().unwrap_or_else(|report| panic!("{report}"));
}

fn laboratory(kinds: &str) -> Lab {
    Lab::build(&kinds.parse().expect("the kinds are known")).expect("the laboratory can be built")
}

fn start(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": Server::stun_v4(), "turn": null, "relayOnly": false})
}

fn nilas_agent(lab: &Lab) -> Command {
    let program = programs::nilas().expect("it is built");
    let mut command = lab
        .command(Node::A, program)
        .expect("the laboratory has this machine");
    command.arg("agent");
    command
}

fn aioice_agent(lab: &Lab, node: Node) -> Command {
    let (python, script) = programs::aioice().expect("it is installed");
    let mut command = lab
        .command(node, python)
        .expect("the laboratory has this machine");
    command.arg(script);
    command
}
