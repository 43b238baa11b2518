//! `nilas gather` against a server of our own and against none.

mod support;

use support::{Server, complaint, last_json, run};

#[test]
fn candidates_and_the_server_s_answer_are_told() {
    let server = Server::start();
    let output = run(&["gather", "--loopback", "--stun", &server.stun, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let candidate = events
        .iter()
        .find(|event| event["event"] == "candidate")
        .expect("a candidate");
    assert_eq!(
        (&candidate["schema"], &candidate["type"]),
        (&"nilas.gather-event/1".into(), &"host".into())
    );
    // On loopback there is no NAT, and the server says so.
    let answer = events
        .iter()
        .find(|event| event["event"] == "no_nat")
        .expect("the server's answer");
    assert_eq!(answer["server"], format!("stun:{}", server.stun));
    assert!(answer["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0));
    let summary = events.last().expect("a summary");
    assert_eq!(
        (&summary["schema"], &summary["ok"]),
        (&"nilas.gather/1".into(), &true.into())
    );
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    // No port that the system gives to anybody who asks for one.
    let nobody = "127.0.0.1:9";
    let output = run(&["gather", "--loopback", "--stun", nobody]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains(nobody),
        "{}",
        complaint(&output)
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("candidate  host"),
        "the others are told all the same"
    );
}

#[test]
fn what_is_wrong_before_it_begins_is_the_last_line_too() {
    let output = run(&["gather", "--json", "--interface", "no-such-interface"]);
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    let result = last_json(&output);
    assert_eq!(result["schema"], "nilas.gather/1");
    assert_eq!(result["ok"], false);
    let reason = result["reason"].as_str().expect("a text");
    assert!(reason.contains("no-such-interface"), "{reason}");
}
