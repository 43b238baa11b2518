//! `nilas demo` on this machine's own network, whatever that is. Its rows behind NATs are tested in the laboratory.

mod support;

use serde_json::Value;
use support::{complaint, last_json, run};

#[test]
fn both_peers_select_the_same_pair_and_data_goes_both_ways() {
    let output = run(&["demo", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let (report, events) = lines.split_last().expect("at least the result");
    assert_eq!(report["schema"], "nilas.demo/1");
    assert_eq!(report["ok"], true);
    for (peer, name) in report["peers"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(["a", "b"])
    {
        assert_eq!(peer["name"], name);
        assert_eq!(peer["state"], "connected");
        assert_eq!(
            (&peer["local"], &peer["remote"]),
            (&"host".into(), &"host".into())
        );
        for figure in ["first_path_ms", "selected_ms", "rtt_ms"] {
            assert!(
                peer[figure].as_f64().is_some_and(|value| value > 0.0),
                "{figure}: {peer}"
            );
        }
    }
    assert_eq!(report["echo"]["sent"], 200);
    assert!(
        report["echo"]["received"]
            .as_u64()
            .is_some_and(|received| received > 0)
    );
    assert!(
        events
            .iter()
            .all(|event| event["schema"] == "nilas.demo-event/1")
    );
    for kind in ["candidate", "pair", "selected"] {
        assert!(
            events.iter().any(|event| event["event"] == kind),
            "no {kind}"
        );
    }
    let text = events.iter().map(Value::to_string).collect::<String>();
    assert!(
        !text.contains("ufrag") && !text.contains("pwd"),
        "credentials do not belong here"
    );
}

#[test]
fn people_see_who_won_and_why() {
    let output = run(&["demo"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    for words in [
        "candidate  host",
        "selected host",
        "because",
        "connected: a had a path after",
    ] {
        assert!(text.contains(words), "{words:?} is missing in:\n{text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
}

#[test]
fn the_relay_carries_the_data_where_nothing_else_may() {
    let output = run(&["demo", "--relay-only", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = last_json(&output);
    assert_eq!(report["ok"], true);
    for peer in report["peers"].as_array().expect("a list") {
        assert_eq!(
            (&peer["local"], &peer["remote"]),
            (&"relay".into(), &"relay".into())
        );
    }
}
