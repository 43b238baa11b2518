//! Two `nilas agent` programs: the promises of docs/agent.md beyond connecting.

use std::collections::HashMap;

use nilas_interop::pair::Pair;
use nilas_interop::scene::{Scene, start};
use nilas_lab::Node;
use serde_json::{Value, json};

/// A laboratory with two agents that have begun.
fn begun(kinds: &str, starts: [Value; 2]) -> (Scene, Pair) {
    let begin = || {
        let scene = Scene::build(kinds)?;
        let pair = Pair::start([scene.nilas(Node::A)?, scene.nilas(Node::B)?], starts)?;
        Ok((scene, pair))
    };
    begin().unwrap_or_else(|report: String| panic!("{report}"))
}

fn connected(kinds: &str) -> (Scene, Pair) {
    let (scene, mut pair) = begun(kinds, [start(true), start(false)]);
    good(pair.connect());
    (scene, pair)
}

#[track_caller]
fn good(outcome: Result<(), String>) {
    outcome.unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn both_ends_select_the_same_pair_mirrored() {
    let (_scene, mut pair) = connected("plain,plain");
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
    let (_scene, mut pair) = connected("plain,plain");
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

/// Behind one NAT they meet by the names that they tell on the network they share; behind two, by what a server sees.
/// Whoever is found before it has found the other knows that one by its checks, which is a matter of time.
#[test]
fn hidden_addresses_are_names_that_only_the_same_network_knows() {
    let hidden = |controlling| {
        let mut start = start(controlling);
        start["mdns"] = true.into();
        start
    };
    for (kinds, wanted) in [("plain,same", "host"), ("plain,plain", "srflx")] {
        let (_scene, mut pair) = begun(kinds, [hidden(true), hidden(false)]);
        good(pair.connect());
        good(pair.relay_until("the best path is selected", |seen| {
            let remote = |side: usize| Some(seen[side].selected_types()?.1);
            let both = [remote(0), remote(1)];
            let known = |remote: &Option<&str>| [Some(wanted), Some("prflx")].contains(remote);
            both.iter().all(known) && both.contains(&Some(wanted))
        }));
        good(pair.exchange(20));
        for side in 0..2 {
            let seen = pair.seen(side);
            let host = |line: &&String| line.contains(" typ host");
            assert!(seen.candidates.iter().any(|line| host(&line)));
            for line in &seen.candidates {
                assert_eq!(line.contains(".local "), host(&line), "{line}");
                assert!(
                    !line.contains(" raddr ") || line.contains(" raddr 0.0.0.0 rport 9 "),
                    "{line}"
                );
            }
            let (local, _) = seen.selected.last().expect("a pair");
            assert_eq!(local.contains(".local "), wanted == "host", "{local}");
        }
        good(pair.close());
    }
}

#[test]
fn loopback_and_link_local_addresses_are_left_out() {
    let (_scene, mut pair) = connected("dual,dual");
    good(pair.relay_until("both know all candidates", |seen| {
        seen.iter().all(|side| side.end_of_candidates)
    }));
    for side in 0..2 {
        let candidates = &pair.seen(side).candidates;
        let addresses = || {
            candidates
                .iter()
                .map(|line| line.split_whitespace().nth(4).unwrap_or_default())
        };
        assert!(
            addresses().any(|address| address.contains(':')),
            "no IPv6 address: {candidates:?}"
        );
        let left_out = |address: &str| {
            address.starts_with("127.") || address == "::1" || address.starts_with("fe80")
        };
        assert!(!addresses().any(left_out), "{candidates:?}");
    }
    good(pair.close());
}

#[test]
fn parameters_offer_what_this_agent_does() {
    let (_scene, pair) = connected("open,open");
    for side in 0..2 {
        let options = &pair.seen(side).options;
        for option in ["ice2", "trickle"] {
            assert!(
                options.iter().any(|offered| offered == option),
                "{options:?}"
            );
        }
    }
    good(pair.close());
}

#[test]
fn a_restart_selects_again_and_data_goes_on() {
    for side in 0..2 {
        let (_scene, mut pair) = connected("plain,plain");
        good(pair.exchange(5));
        good(pair.restart(&[side], 5));
        good(pair.close());
    }
}

#[test]
fn both_may_restart_at_once() {
    let (_scene, mut pair) = connected("open,plain");
    good(pair.restart(&[0, 1], 5));
    let generations = [pair.seen(0), pair.seen(1)].map(|seen| seen.generations);
    assert_eq!(
        generations,
        [2, 2],
        "one restart each, not an answer on top"
    );
    good(pair.close());
}

#[test]
fn roles_are_healed_whatever_both_were_told() {
    for roles in [true, false] {
        let (_scene, pair) = begun("plain,plain", [start(roles), start(roles)]);
        good(pair.live(5));
    }
}

#[test]
fn an_unknown_option_or_line_is_an_error_event_and_nothing_else() {
    let mut odd = start(true);
    odd["quic"] = json!(true);
    odd["turn"] = json!({"host": "203.0.113.10", "port": 3478, "transport": "sctp", "user": "u", "pass": "p"});
    let (_scene, mut pair) = begun("open,open", [odd, start(false)]);
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
    for word in ["quic", "turn", "dance", "port"] {
        assert!(
            errors.iter().any(|text| text.contains(word)),
            "nothing about {word}: {errors:?}"
        );
    }
    good(pair.close());
}

#[test]
fn statistics_have_the_shapes_of_the_w3c() {
    let (_scene, mut pair) = connected("plain,plain");
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
    let (_scene, pair) = connected("open,open");
    good(pair.end_input());
}
