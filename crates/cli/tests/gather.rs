//! `nilas gather` against a server of our own and against none.

mod support;

use support::{Server, complaint, last_json, quiet_port, run};

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

#[cfg(target_os = "linux")]
const HERE: [&str; 4] = ["--interface", "lo", "--family", "4"];

#[cfg(target_os = "linux")]
#[test]
fn one_port_is_enough_for_several_servers() {
    let server = Server::relaying();
    let (port, turn) = (quiet_port().to_string(), format!("turn:{}", server.stun));
    let (_, number) = server.stun.split_once(':').expect("an address");
    // The same one under another name.
    let again = format!("turn:localhost:{number}");
    let servers = ["--stun", &server.stun, "--turn", &turn, "--turn", &again];
    let account = ["--user", "ann", "--password", "x"];
    let with = ["gather", "--json", "--port", &port];
    let output = run(&[&with, &HERE[..], &servers, &account].concat());
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let told = String::from_utf8_lossy(&output.stdout);
    let relayed = told.matches(r#""type":"relay""#).count();
    assert!(relayed == 2 && told.contains("no_nat"), "{told}");
    server.expect_released(2);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_server_s_fault_is_not_told_of_one() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let output = run(&[&["gather", "--json", "--port", &port], &HERE[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let why = "no socket on 127.0.0.1: no port of the range is free";
    let complaint = complaint(&output);
    assert!(
        complaint.contains(&format!("no candidate was found: {why}")),
        "{complaint}"
    );
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(r#""event":"candidate_error""#), "{told}");
    let summary = last_json(&output);
    assert_eq!(summary["failed_servers"], serde_json::json!([]));
    assert_eq!(summary["errors"], serde_json::json!([why]));
}

#[cfg(target_os = "linux")]
#[test]
fn where_nothing_is_found_the_last_sentence_says_why() {
    let server = Server::relaying();
    let turn = format!("turn:{}", server.stun);
    let account = ["--turn", &turn, "--user", "ann", "--password", "wrong"];
    let output = run(&[&["gather", "--relay-only"], &HERE[..], &account].concat());
    assert_eq!(output.status.code(), Some(1));
    let refused = complaint(&output);
    assert!(refused.contains(&turn), "{refused}");
    let hidden = ["gather", "--addresses", "default-route-hidden"];
    let output = run(&[&hidden, &HERE[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let hidden = complaint(&output);
    assert!(hidden.contains("--turn"), "{hidden}");
}
