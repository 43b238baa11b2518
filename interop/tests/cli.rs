//! What the program says and how it ends: JSON with a schema, one clear sentence for a fault, the exit codes.

use std::process::Command;

use nilas_interop::programs::{self, Said};
use serde_json::Value;

fn nilas(arguments: &[&str]) -> Said {
    let mut command = Command::new(programs::nilas().expect("it is built"));
    command
        .args(arguments)
        .env_remove("NILAS_SERVER")
        .env_remove("NILAS_LOG");
    programs::run(command)
}

#[track_caller]
fn json_lines(said: &Said) -> Vec<Value> {
    let lines: Vec<Value> = said
        .output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        let schema = line["schema"].as_str().unwrap_or_default();
        let version = schema
            .rsplit_once('/')
            .and_then(|(_, version)| version.parse::<u32>().ok());
        assert!(
            schema.starts_with("nilas.") && version.is_some(),
            "no schema with a version: {line}"
        );
    }
    lines
}

/// One sentence on standard error, for a person: no debug output, no panic, no colours when it is not a terminal.
#[track_caller]
fn assert_fault(said: &Said, codes: &[i32], word: &str) {
    assert!(
        said.code.is_some_and(|code| codes.contains(&code)),
        "{said:?}"
    );
    assert!(said.errors.contains(word), "nothing about {word}: {said:?}");
    for odd in ["panicked", "Os {", "\u{1b}["] {
        assert!(!said.errors.contains(odd), "{said:?}");
    }
}

#[test]
fn the_demo_connects_without_any_setting() {
    let said = nilas(&["demo", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines = json_lines(&said);
    let last = lines.last().expect("it prints a result");
    assert_eq!(
        (&last["schema"], &last["ok"]),
        (&"nilas.demo/1".into(), &true.into()),
        "{last}"
    );
    assert_eq!(last["echo"]["sent"], last["echo"]["received"], "{last}");
    assert!(
        last["echo"]["sent"].as_u64().is_some_and(|sent| sent >= 2),
        "{last}"
    );
}

#[test]
fn the_demo_tells_a_person_in_plain_lines_who_won() {
    let said = nilas(&["demo"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        !said.output.contains('\u{1b}'),
        "no colours or cursor moves where it is not a terminal: {said:?}"
    );
    assert!(said.output.contains("ms"), "the winner's RTT: {said:?}");
}

#[test]
fn gather_names_every_candidate() {
    let said = nilas(&["gather", "--json", "--loopback"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines = json_lines(&said);
    assert!(lines.len() >= 2, "a candidate and the summary: {said:?}");
    assert_eq!(
        lines.last().map(|line| &line["schema"]),
        Some(&"nilas.gather/1".into())
    );
}

#[test]
fn wrong_usage_ends_with_two() {
    assert_fault(&nilas(&["dance"]), &[2], "dance");
    assert_fault(&nilas(&["demo", "--nat", "plane,plain"]), &[2], "plane");
    assert_fault(&nilas(&["demo", "--nat", "plain"]), &[2], "comma");
    assert_fault(&nilas(&["demo", "--loss", "101"]), &[2], "101");
    assert_fault(
        &nilas(&[
            "connect",
            "--server",
            "http://127.0.0.1:1",
            "7-amber-canyon",
        ]),
        &[2],
        "http",
    );
}

#[test]
fn a_server_that_does_not_answer_is_one_sentence() {
    // Port 1 of loopback: nobody listens there.
    let said = nilas(&["connect", "--server", "ws://127.0.0.1:1", "7-amber-canyon"]);
    assert_fault(&said, &[1], "127.0.0.1:1");
}

#[test]
fn an_address_that_is_not_ours_is_one_sentence() {
    let said = nilas(&[
        "server",
        "--listen",
        "192.0.2.1:3478",
        "--signal-listen",
        "127.0.0.1:0",
    ]);
    assert_fault(&said, &[1, 2], "192.0.2.1");
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let said = nilas(&[
        "server",
        "--listen",
        &address.to_string(),
        "--signal-listen",
        "127.0.0.1:0",
    ]);
    assert_fault(&said, &[1, 2], &address.port().to_string());
}

#[test]
fn what_is_recorded_is_played_back_and_explained() {
    let file = std::env::temp_dir().join(format!("nilas-interop-{}", std::process::id()));
    let file = file.to_str().expect("text");
    let said = nilas(&["demo", "--json", "--record", file]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for (verb, key) in [("replay", "equal"), ("explain", "complete")] {
        let said = nilas(&[verb, file, "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(json_lines(&said)[0][key], true, "{said:?}");
    }
    for file in [file.to_owned(), format!("{file}.b")] {
        std::fs::remove_file(file).expect("both peers were recorded");
    }
    for verb in ["replay", "explain"] {
        assert_fault(&nilas(&[verb, file]), &[2], "cannot be read");
        assert_fault(&nilas(&[verb, "/dev/null"]), &[2], "no recording");
    }
}

#[test]
fn help_names_every_verb_and_the_exit_codes() {
    let said = nilas(&["--help"]);
    assert_eq!(said.code, Some(0));
    for word in [
        "demo",
        "connect",
        "gather",
        "server",
        "agent",
        "replay",
        "explain",
        "lab",
        "Exit codes",
    ] {
        assert!(said.output.contains(word), "{word}");
    }
}
