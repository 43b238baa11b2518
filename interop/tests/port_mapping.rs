//! Sessions behind a gateway that forwards ports on demand: miniupnpd, on a home router of the laboratory.

use std::thread;
use std::time::{Duration, Instant};

use nilas_interop::HANG_GUARD;
use nilas_interop::gateway::{EXTERNAL, Gateway, Speaks};
use nilas_interop::pair::Pair;
use nilas_interop::scene::{Scene, start_relayed};
use nilas_lab::Node;
use serde_json::Value;

fn start(controlling: bool, port_mapping: bool) -> Value {
    let mut start = start_relayed(controlling);
    start["portMapping"] = port_mapping.into();
    start
}

/// A session between two NATs that map each remote to a random port of its own, each with a relay at hand.
fn between_symmetric_nats(speaks: Speaks, controlling: bool) -> Result<(), String> {
    let scene = Scene::with_relays("sym,sym")?;
    let gateway = Gateway::start(&scene, speaks)?;
    let peers = [scene.nilas(Node::A)?, scene.nilas(Node::B)?];
    let mut pair = Pair::start(
        peers,
        [start(controlling, true), start(!controlling, false)],
    )?;
    let direct = |pair: &str| !pair.contains("typ relay");
    // The relay may be there first.
    pair.relay_until("a direct path is selected", |seen| {
        seen.iter().all(|side| {
            let selected = side.selected.last();
            selected.is_some_and(|(local, remote)| direct(local) && direct(remote))
        })
    })?;
    let mapped = format!(" {EXTERNAL} ");
    let told = pair.seen(0).candidates.iter();
    let told: Vec<_> = told.filter(|line| line.contains(&mapped)).collect();
    let [candidate] = told[..] else {
        return Err(format!("candidates of the gateway: {told:?}"));
    };
    if !candidate.contains("typ srflx") {
        return Err(candidate.clone());
    }
    if gateway.forwarded(&scene)? != 1 {
        return Err("the gateway forwards no port, or several".to_owned());
    }
    pair.exchange(20)?;
    pair.close()?;
    // A busy gateway may be late.
    let deadline = Instant::now() + HANG_GUARD;
    while gateway.forwarded(&scene)? > 0 {
        if Instant::now() > deadline {
            return Err("the port was not given back".to_owned());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[track_caller]
fn good(outcome: Result<(), String>) {
    outcome.unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn a_port_of_pcp_makes_a_direct_path_between_symmetric_nats() {
    good(between_symmetric_nats(Speaks::Pcp, true));
}

#[test]
fn a_port_of_pcp_does_so_for_the_controlled_side_too() {
    good(between_symmetric_nats(Speaks::Pcp, false));
}

#[test]
fn a_port_of_upnp_makes_a_direct_path_between_symmetric_nats() {
    good(between_symmetric_nats(Speaks::Upnp, true));
}

/// Nobody listens on the router: its kernel says so, and no device answers on the link.
#[test]
fn without_such_a_gateway_the_session_is_relayed_as_ever() {
    let run = || {
        let scene = Scene::with_relays("sym,sym")?;
        let peers = [scene.nilas(Node::A)?, scene.nilas(Node::B)?];
        let mut pair = Pair::start(peers, [start(true, true), start(false, true)])?;
        pair.connect()?;
        pair.relay_until("both sides have told all of their candidates", |seen| {
            seen.iter().all(|side| side.end_of_candidates)
        })?;
        pair.exchange(20)?;
        pair.close()
    };
    good(run());
}
