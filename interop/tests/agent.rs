//! Two `nilas agent` programs: the promises of docs/agent.md beyond connecting.

use std::collections::HashMap;

use nilas_interop::pair::{Pair, Seen};
use nilas_interop::programs;
use nilas_interop::server::Server;
use nilas_lab::{Lab, Node};
use serde_json::{Value, json};

fn laboratory(kinds: &str) -> (Lab, Server) {
    let lab = Lab::build(&kinds.parse().expect("the kinds are known"))
        .expect("the laboratory can be built");
    let server = Server::start(&lab).expect("the server starts");
    (lab, server)
}

fn agents(lab: &Lab, starts: [Value; 2]) -> Pair {
    let agent = |node| {
        let mut command = lab
            .command(node, programs::nilas().expect("it is built"))
            .expect("the laboratory has this machine");
        command.arg("agent");
        command
    };
    Pair::start([agent(Node::A), agent(Node::B)], starts).expect("both agents start")
}

fn start(controlling: bool) -> Value {
    json!({"cmd": "start", "controlling": controlling, "stun": Server::stun_v4(), "turn": null, "relayOnly": false})
}

fn connected(kinds: &str) -> (Lab, Server, Pair) {
    let (lab, server) = laboratory(kinds);
    let mut pair = agents(&lab, [start(true), start(false)]);
    good(pair.connect());
    (lab, server, pair)
}

#[track_caller]
fn good(outcome: Result<(), String>) {
    outcome.unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn both_ends_select_the_same_pair_mirrored() {
    let (_lab, _server, mut pair) = connected("plain,plain");
    good(pair.exchange(20));
    let address = |line: &str| {
        line.split_whitespace()
            .skip(4)
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (local_a, remote_a) = pair.seen(0).selected.last().expect("it is connected");
    let (local_b, remote_b) = pair.seen(1).selected.last().expect("it is connected");
    assert_eq!(
        (address(local_a), address(remote_a)),
        (address(remote_b), address(local_b))
    );
    good(pair.close());
}

#[test]
fn every_candidate_names_its_generation_and_follows_the_parameters() {
    let (_lab, _server, mut pair) = connected("plain,plain");
    good(pair.relay_until("both know all candidates", |seen| {
        seen.iter().all(|side| side.end_of_candidates)
    }));
    for side in 0..2 {
        let seen = pair.seen(side);
        assert_eq!(seen.generations, 1);
        assert!(!seen.candidates.is_empty());
        for line in &seen.candidates {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(
                line.starts_with("candidate:") && words[words.len() - 2] == "ufrag",
                "{line}"
            );
        }
    }
    good(pair.close());
}

#[test]
fn a_restart_selects_again_and_data_goes_on() {
    for side in 0..2 {
        let (_lab, _server, mut pair) = connected("plain,plain");
        good(pair.exchange(5));
        let before =
            [pair.seen(0), pair.seen(1)].map(|seen| (seen.selected.len(), seen.states.len()));
        pair.send(side, &json!({"cmd": "restart"}));
        let again = move |seen: &[Seen; 2]| {
            seen.iter().zip(before).all(|(seen, (selected, states))| {
                seen.generations == 2
                    && seen.selected.len() > selected
                    && seen.states.len() > states
                    && seen.is_connected()
            })
        };
        good(pair.relay_until("both sides are connected in the second generation", again));
        good(pair.exchange(5));
        good(pair.close());
    }
}

#[test]
fn both_may_restart_at_once() {
    let (_lab, _server, mut pair) = connected("open,plain");
    let before = [pair.seen(0), pair.seen(1)].map(|seen| seen.selected.len());
    pair.send(0, &json!({"cmd": "restart"}));
    pair.send(1, &json!({"cmd": "restart"}));
    good(pair.relay_until(
        "both sides are connected in the second generation",
        move |seen| {
            seen.iter().zip(before).all(|(seen, selected)| {
                seen.generations >= 2 && seen.selected.len() > selected && seen.is_connected()
            })
        },
    ));
    good(pair.exchange(5));
    assert!(
        (0..2).all(|side| pair.seen(side).generations == 2),
        "one restart each, not an answer on top"
    );
    good(pair.close());
}

#[test]
fn roles_are_healed_whatever_both_were_told() {
    for roles in [true, false] {
        let (lab, _server) = laboratory("plain,plain");
        let mut pair = agents(&lab, [start(roles), start(roles)]);
        good(pair.connect());
        good(pair.exchange(5));
        good(pair.close());
    }
}

#[test]
fn an_unknown_option_or_line_is_an_error_event_and_nothing_else() {
    let (lab, _server) = laboratory("open,open");
    let mut odd = start(true);
    odd["mdns"] = json!(true);
    odd["turn"] =
        json!({"host": "203.0.113.10", "port": 3478, "transport": "udp", "user": "u", "pass": "p"});
    let mut pair = agents(&lab, [odd, start(false)]);
    good(pair.relay_until("an error about each option", |seen| {
        seen[0].errors.len() >= 2
    }));
    pair.send_text(0, "this is no JSON");
    pair.send(0, &json!({"cmd": "dance"}));
    pair.send(0, &json!({"cmd": "candidate", "candidate": "candidate:1 1 udp 1 203.0.113.9 notaport typ host"}));
    good(pair.relay_until("an error about each line", |seen| seen[0].errors.len() >= 5));
    good(pair.connect());
    good(pair.exchange(5));
    let errors = &pair.seen(0).errors;
    for word in ["mdns", "turn", "dance", "port"] {
        assert!(
            errors.iter().any(|text| text.contains(word)),
            "nothing about {word}: {errors:?}"
        );
    }
    good(pair.close());
}

#[test]
fn statistics_have_the_shapes_of_the_w3c() {
    let (_lab, _server, mut pair) = connected("plain,plain");
    good(pair.exchange(5));
    pair.send(0, &json!({"cmd": "stats"}));
    good(pair.relay_until("statistics", |seen| !seen[0].stats.is_empty()));
    let stats = pair.seen(0).stats[0].as_array().expect("a list").clone();
    let mut by_type: HashMap<&str, Vec<&Value>> = HashMap::new();
    for entry in &stats {
        by_type
            .entry(entry["type"].as_str().expect("a type"))
            .or_default()
            .push(entry);
    }
    for kind in [
        "candidate-pair",
        "local-candidate",
        "remote-candidate",
        "transport",
    ] {
        assert!(by_type.contains_key(kind), "no {kind} in {stats:?}");
    }
    let selected = by_type["transport"][0]["selectedCandidatePairId"]
        .as_str()
        .expect("a pair is selected");
    let pair_stats = by_type["candidate-pair"]
        .iter()
        .find(|entry| entry["id"] == selected)
        .expect("it is listed");
    assert_eq!(pair_stats["state"], "succeeded");
    assert!(pair_stats["nominated"].as_bool().is_some());
    assert!(
        pair_stats["currentRoundTripTime"]
            .as_f64()
            .is_some_and(|rtt| rtt > 0.0)
    );
    let password = |entry: &Value| entry.to_string().contains("pwd");
    assert!(!stats.iter().any(password), "no secrets");
    good(pair.close());
}

#[test]
fn an_agent_ends_with_its_input() {
    let (lab, _server) = laboratory("open,open");
    let mut pair = agents(&lab, [start(true), start(false)]);
    good(pair.connect());
    good(pair.end_input());
}
