//! `nilas agent` and Chromium, each in a network namespace of its own: both roles, restarts, the relay, hidden names.
//!
//! Chromium carries no data here, since only ICE takes part; that checks pass both ways and both sides select is what
//! each test shows.

use nilas_interop::pair::{Pair, candidate_type};
use nilas_interop::scene::{Scene, lite, start, start_relayed, tcp};
use nilas_lab::Node;
use serde_json::Value;

const NATS: &str = "plain,plain";

#[test]
fn nilas_controls() {
    meet(NATS, [start(true), start(false)], |pair| pair.close());
}

#[test]
fn chromium_controls() {
    meet(NATS, [start(false), start(true)], |pair| pair.close());
}

#[test]
fn both_start_as_controlling() {
    meet(NATS, [start(true), start(true)], |pair| pair.close());
}

#[test]
fn nilas_restarts() {
    meet(NATS, [start(true), start(false)], |mut pair| {
        pair.renew(0)?;
        pair.renew(0)?;
        pair.close()
    });
}

#[test]
fn chromium_restarts() {
    meet(NATS, [start(true), start(false)], |mut pair| {
        pair.renew(1)?;
        pair.close()
    });
}

#[test]
fn chromium_restarts_as_the_one_that_controls() {
    meet(NATS, [start(false), start(true)], |mut pair| {
        pair.renew(1)?;
        pair.close()
    });
}

/// Chromium tells a name that only multicast resolves, and not its address: it is learned from its checks.
#[test]
fn chromium_hides_its_addresses() {
    meet(
        "open,open",
        [start(false), hidden_alone(true)],
        |mut pair| {
            // Its checks may be faster than the registration of its name.
            pair.relay_until("Chromium tells a name", |seen| {
                let mut told = seen[1].candidates.iter();
                told.any(|line| line.contains(".local "))
            })?;
            pair.close()
        },
    );
}

/// On one link each tells a name only, and one side the other's: that one finds what the other answers for.
#[test]
fn both_hide_their_addresses() {
    for (nilas, finder) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let starts = [hidden(start(nilas)), hidden_alone(!nilas)];
        run_with(Scene::build("plain,same"), starts, |mut pair| {
            pair.withhold_candidates(finder);
            pair.connect()?;
            let is_name = |line: &str| line.contains(".local ") && line.contains(" typ host");
            pair.relay_until("names are selected", |seen| {
                let local = |side: usize| {
                    seen[side]
                        .selected
                        .last()
                        .is_some_and(|pair| is_name(&pair.0))
                };
                let found = seen[finder]
                    .selected
                    .last()
                    .is_some_and(|pair| is_name(&pair.1));
                local(0) && local(1) && found
            })?;
            pair.close()
        });
    }
}

/// Chromium is given no UDP, so that only TCP is left (RFC 6544). It has active candidates only: it connects, and nilas
/// accepts.
#[test]
fn a_connection_carries_the_session() {
    for nilas in [true, false] {
        meet("open,plain", [tcp(nilas), tcp(!nilas)], |pair| {
            let (local, remote) = pair.seen(0).selected.last().expect("a pair is selected");
            assert!(local.contains(" tcptype passive"), "{local}");
            assert!(remote.contains(" tcptype active"), "{remote}");
            pair.close()
        });
    }
}

#[test]
fn nilas_is_lite() {
    meet("open,plain", [lite(false), start(true)], |pair| {
        pair.close()
    });
}

/// Both find the other only through the relay.
#[test]
fn a_relay_where_nothing_direct_works() {
    let scene = Scene::with_relays("sym,sym");
    run(scene, [start_relayed(true), start_relayed(false)], |pair| {
        let (local, remote) = pair.seen(0).selected.last().expect("a pair is selected");
        let types = [local, remote].map(|line| candidate_type(line));
        assert!(types.contains(&Some("relay")), "{types:?}");
        pair.close()
    });
}

fn hidden(mut start: Value) -> Value {
    start["mdns"] = true.into();
    start
}

/// Chromium tells a name, and asks no STUN server: were that to answer before the name is registered, libwebrtc would drop
/// the name ("Discarding candidate because port is already done gathering").
fn hidden_alone(controlling: bool) -> Value {
    let mut start = hidden(start(controlling));
    start["stun"] = Value::Null;
    start
}

/// nilas, then Chromium, each with its `start`.
fn meet(kinds: &str, starts: [Value; 2], judge: impl FnOnce(Pair) -> Result<(), String>) {
    run(Scene::build(kinds), starts, judge);
}

fn run(
    scene: Result<Scene, String>,
    starts: [Value; 2],
    judge: impl FnOnce(Pair) -> Result<(), String>,
) {
    run_with(scene, starts, |mut pair| {
        pair.connect()?;
        judge(pair)
    });
}

/// Before they connect.
fn run_with(
    scene: Result<Scene, String>,
    starts: [Value; 2],
    judge: impl FnOnce(Pair) -> Result<(), String>,
) {
    let run = || {
        let scene = scene?;
        let peers = [scene.nilas(Node::A)?, scene.chromium(Node::B)?];
        judge(Pair::start(peers, starts)?)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}
