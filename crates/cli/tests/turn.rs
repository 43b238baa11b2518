//! `nilas turn`: what needs no server. What does is judged beside coturn.

mod support;

use support::{complaint, last_json, run};

#[test]
fn credentials_come_as_lines_and_as_json() {
    let output = run(&[
        "turn",
        "creds",
        "--secret",
        "north",
        "--user",
        "anna",
        "--ttl",
        "1h",
        "--url",
        "turn:a.example",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(made["schema"], "nilas.turn-creds/1");
    assert_eq!(made["ok"], true);
    let expires = made["expires"].as_u64().expect("a time");
    assert_eq!(made["username"], format!("{expires}:anna"));
    let server = &made["iceServers"][0];
    assert_eq!(server["urls"][0], "turn:a.example");
    assert_eq!(server["credential"], made["credential"]);

    let output = run(&["turn", "creds", "--secret", "north"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_server_that_is_not_there_fails_with_the_stage_and_exit_code_1() {
    // No port that the system gives to anybody who asks for one.
    let url = "turn:127.0.0.1:9?transport=tcp";
    let output = run(&[
        "turn",
        "test",
        url,
        "--user",
        "a",
        "--password",
        "b",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    let row = &report["servers"][0]["transports"][0];
    assert_eq!(
        (&row["outcome"], &row["stage"]),
        (&"fails".into(), &"connect".into()),
        "{report}"
    );
    let output = run(&["turn", "bench", url, "--secret", "north", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report_of_bench = last_json(&output);
    assert_eq!(report_of_bench["schema"], "nilas.turn-bench/1");
    assert_eq!(report_of_bench["ok"], false);
    let reason = report_of_bench["reason"].as_str().expect("a text");
    assert!(complaint(&output).contains(reason), "{reason}");
    assert!(
        report["verdict"]
            .as_str()
            .expect("a verdict")
            .contains("refused"),
        "{report}"
    );
}

#[test]
fn wrong_usage_of_turn_exits_2_and_names_the_mistake() {
    for (arguments, named) in [
        (&["turn"][..], "Usage"),
        (&["turn", "test"], "URL"),
        (&["turn", "test", "http://a"], "turn"),
        (&["turn", "test", "turn:a"], "--user"),
        (&["turn", "test", "turn:a", "--password", "x"], "--user"),
        (
            &["turn", "test", "--ice-servers", "[{\"urls\":\"stun:a\"}]"],
            "no TURN server",
        ),
        (&["turn", "test", "--ice-servers", "[]"], "empty"),
        (
            &[
                "turn",
                "test",
                "turn:a",
                "--secret",
                "s",
                "--ca",
                "/nonexistent/ca.pem",
            ],
            "/nonexistent/ca.pem",
        ),
        (
            &["turn", "bench", "turn:a", "--secret", "s", "--size", "15"],
            "16",
        ),
        (
            &["turn", "bench", "turn:a", "--secret", "s", "--peer", "moon"],
            "relay",
        ),
        (&["turn", "creds"], "--secret"),
        (&["turn", "creds", "--secret", ""], "empty"),
        (&["turn", "creds", "--secret", "s", "--ttl", "1w"], "12h"),
    ] {
        let output = run(arguments);
        let text = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}
