//! `nilas demo --nat A,B` behind kernel NATs: each row finds the expected kind of path and carries data both ways.

use std::process::Command;

use nilas_interop::pair::Pair;
use nilas_interop::programs::{self, Said};
use nilas_interop::scene::{Scene, start, start_among_dead};
use nilas_lab::Node;
use serde_json::Value;

/// What a side's local candidate may be. Behind a NAT whose mapping does not depend on the remote, it is the
/// server-reflexive candidate, or a peer-reflexive one when the check was answered before the STUN server.
const HOST: &[&str] = &["host"];
const MAPPED: &[&str] = &["srflx", "prflx"];
/// A mapping for each remote: the STUN server's answer names one that the peer never sees.
const MAPPED_BY_REMOTE: &[&str] = &["prflx"];

#[test]
fn same_lan() {
    direct("plain,same", &[], [HOST, HOST]);
}

#[test]
fn open_and_plain() {
    direct("open,plain", &[], [HOST, MAPPED]);
}

#[test]
fn plain_and_plain() {
    direct("plain,plain", &[], [MAPPED, MAPPED]);
}

#[test]
fn endpoint_independent_and_symmetric() {
    direct("eim-eif,sym", &[], [MAPPED, MAPPED_BY_REMOTE]);
}

#[test]
fn port_filtered_and_address_filtered() {
    direct("eim-apdf,eim-adf", &[], [MAPPED, MAPPED]);
}

#[test]
fn overlapping_private_prefixes() {
    direct("eim-apdf,plain+overlap", &[], [MAPPED, MAPPED]);
}

#[test]
fn two_levels_of_nat() {
    direct("cgn:plain:eim-apdf,eim-apdf", &[], [MAPPED, MAPPED]);
}

#[test]
fn ipv6_firewalls() {
    direct("v6fw,v6fw", &[], [HOST, HOST]);
}

#[test]
fn delay_and_loss() {
    let result = direct(
        "plain,plain",
        &["--delay-ms", "20", "--loss", "3"],
        [MAPPED, MAPPED],
    );
    for peer in peers(&result) {
        // Twice 20 ms each way: no packet is faster than the wire.
        assert!(
            peer["rtt_ms"].as_f64().is_some_and(|rtt| rtt >= 79.0),
            "{peer}"
        );
    }
}

#[test]
fn two_symmetric_nats_need_a_relay() {
    let said = demo("sym,sym", &["--no-relay"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let result = last_line(&said);
    assert_eq!(result["ok"], false, "{result}");
    for peer in peers(&result) {
        assert_eq!(peer["state"], "failed", "{peer}");
    }
    let mut sentences = Vec::new();
    texts(&result, &mut sentences);
    let says_so = |text: &&&str| text.contains(' ') && text.contains("relay");
    assert!(
        sentences.iter().find(says_so).is_some(),
        "no sentence says that a relay is needed: {result}"
    );
}

#[test]
fn symmetric_on_both_sides() {
    relayed("sym,sym", &[]);
}

#[test]
fn port_dependent_on_both_sides() {
    relayed("apdm-apdf,apdm-apdf", &[]);
}

#[test]
fn port_filtered_and_symmetric() {
    relayed("eim-apdf,sym", &[]);
}

#[test]
fn symmetric_carrier() {
    relayed("cgn:plain:sym,plain", &[]);
}

#[test]
fn one_carrier_without_hairpin() {
    relayed("cgn:plain:eim-apdf,samecgn", &[]);
}

/// Only TCP gets out, to the ports of the web.
#[test]
fn no_udp_and_symmetric() {
    relayed("plain+udpblock,sym", &[]);
}

/// Only TCP to port 443, where the server speaks TLS.
#[test]
fn no_way_out_but_port_443() {
    relayed("plain+tcp443,plain", &[]);
    relayed("plain+strict443,plain", &[]);
}

#[test]
fn ipv6_only_and_ipv4_only() {
    relayed("nat64,plain", &[]);
    relayed("v6fw,plain", &[]);
}

#[test]
fn only_the_relay_if_asked() {
    let result = relayed("plain,plain", &["--relay-only"]);
    for peer in peers(&result) {
        assert_eq!(peer["local"], "relay", "{peer}");
    }
}

/// How little later the path is there, virtual time says: crates/sim/tests/proofs/dead_servers.rs.
#[test]
fn dead_servers_and_a_dead_route_keep_nobody_from_a_path() {
    // Both kinds of way to the first path, and a relay over each transport; `v6broken` hears nothing over IPv6.
    for (kinds, relayed) in [
        ("v6broken,plain", false),
        ("v6broken,sym", true),
        ("sym,sym", true),
        ("v6broken+udpblock,sym", true),
    ] {
        let run = || {
            let scene = Scene::with_relays(kinds)?;
            scene.swallow()?;
            let peers = [scene.nilas(Node::A)?, scene.nilas(Node::B)?];
            let mut pair = Pair::start(peers, [true, false].map(start_among_dead))?;
            pair.connect()?;
            let kinds = [0, 1].map(|side| pair.seen(side).selected_types());
            let is_relayed = |kinds: &Option<(&str, &str)>| {
                kinds.is_some_and(|(local, remote)| [local, remote].contains(&"relay"))
            };
            if kinds.iter().all(is_relayed) != relayed {
                return Err(format!("a path of {kinds:?}"));
            }
            pair.exchange(20)?;
            pair.close()
        };
        run().unwrap_or_else(|report: String| panic!("{kinds}: {report}"));
    }
}

/// No UDP gets out on either side, and no connection comes in: both open one at the same time, from the ports that the
/// STUN server has seen.
#[test]
fn a_connection_through_two_nats_without_udp() {
    let run = || {
        let scene = Scene::build("plain,plain")?;
        for router in [Node::HomeA, Node::HomeB] {
            let rules = "add table inet noudp; \
                 add chain inet noudp passing { type filter hook forward priority -10; }; \
                 add rule inet noudp passing meta l4proto udp drop";
            scene.nft(router, rules)?;
        }
        let starts = [true, false].map(|controlling| {
            let mut start = start(controlling);
            start["tcp"] = true.into();
            start
        });
        let peers = [scene.nilas(Node::A)?, scene.nilas(Node::B)?];
        let mut pair = Pair::start(peers, starts)?;
        pair.connect()?;
        for side in [0, 1] {
            let Some((local, remote)) = pair.seen(side).selected.last() else {
                return Err("no pair".to_owned());
            };
            let is_open = |line: &str| line.contains(" tcptype so");
            let kinds = pair.seen(side).selected_types();
            let mapped = kinds.is_some_and(|(_, remote)| MAPPED.contains(&remote));
            if !is_open(local) || !is_open(remote) || !mapped {
                return Err(format!("{local} with {remote}"));
            }
        }
        pair.exchange(20)?;
        // The ports are asked for anew, and the servers from the same ones.
        pair.restart(&[0], 20)?;
        pair.close()
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}

/// Runs the demo and checks that a relay carries the data both ways.
#[track_caller]
fn relayed(kinds: &str, more: &[&str]) -> Value {
    let said = demo(kinds, more);
    assert_eq!(said.code, Some(0), "{kinds}: {said:?}");
    let result = last_line(&said);
    assert_eq!(result["ok"], true, "{kinds}: {result}");
    let peers = peers(&result);
    assert!(
        peers.iter().any(|peer| peer["local"] == "relay"),
        "{kinds}: nobody uses a relay: {result}"
    );
    assert_eq!(
        result["echo"]["received"], result["echo"]["sent"],
        "{kinds}: nothing is lost here: {result}"
    );
    result
}

/// Runs the demo and checks that both sides found a path of the expected kind that carries data both ways.
#[track_caller]
fn direct(kinds: &str, more: &[&str], expected: [&[&str]; 2]) -> Value {
    let said = demo(kinds, more);
    assert_eq!(said.code, Some(0), "{said:?}");
    let result = last_line(&said);
    assert_eq!(result["ok"], true, "{result}");
    for (peer, (name, allowed)) in peers(&result).iter().zip(["a", "b"].iter().zip(expected)) {
        assert_eq!(peer["name"], **name, "{peer}");
        let state = peer["state"].as_str().unwrap_or_default();
        assert!(["connected", "completed"].contains(&state), "{peer}");
        let local = peer["local"].as_str().unwrap_or_default();
        assert!(
            allowed.contains(&local),
            "{name} has a local candidate of type {local}, not of {allowed:?}: {result}"
        );
        let remote = peer["remote"].as_str().unwrap_or_default();
        assert!(["host", "srflx", "prflx"].contains(&remote), "{peer}");
        for figure in ["first_path_ms", "selected_ms", "rtt_ms"] {
            assert!(
                peer[figure].as_f64().is_some_and(|figure| figure >= 0.0),
                "{figure}: {peer}"
            );
        }
    }
    let count = |name: &str| result["echo"][name].as_u64().unwrap_or_default();
    assert!(count("sent") >= 2 && count("received") >= 2, "{result}");
    if more.is_empty() {
        assert_eq!(
            count("received"),
            count("sent"),
            "nothing is lost here: {result}"
        );
    }
    result
}

fn demo(kinds: &str, more: &[&str]) -> Said {
    let mut command = Command::new(programs::nilas().expect("it is built"));
    command.args(["demo", "--json", "--nat", kinds]).args(more);
    programs::run(command)
}

/// The result; every line before it is JSON with a schema too.
#[track_caller]
fn last_line(said: &Said) -> Value {
    let parse = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let lines: Vec<Value> = said.output.lines().map(parse).collect();
    let unnamed = lines.iter().find(|line| {
        line["schema"]
            .as_str()
            .is_none_or(|schema| !schema.contains('/'))
    });
    assert!(unnamed.is_none(), "a line without a schema: {unnamed:?}");
    let last = lines
        .last()
        .unwrap_or_else(|| panic!("it printed nothing: {said:?}"));
    assert_eq!(last["schema"], "nilas.demo/1");
    last.clone()
}

#[track_caller]
fn peers(result: &Value) -> Vec<Value> {
    let peers = result["peers"].as_array().cloned().unwrap_or_default();
    assert_eq!(peers.len(), 2, "{result}");
    peers
}

/// Every text anywhere in a value.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}
