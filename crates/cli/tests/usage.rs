//! Wrong usage: one clear sentence and the right exit code, before anything happens.

mod support;

use support::{complaint, last_json, run};

#[test]
fn help_tells_every_verb_and_the_exit_codes() {
    let output = run(&["--help"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "demo",
        "connect",
        "gather",
        "server",
        "agent",
        "lab",
        "sim",
        "Exit codes",
        "no connection",
    ] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    for verb in [
        "demo", "connect", "gather", "server", "agent", "lab", "sim", "replay", "explain",
    ] {
        let output = run(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{verb}");
        assert!(!output.stdout.is_empty(), "{verb}");
    }
}

#[test]
fn wrong_usage_exits_2_and_names_the_mistake() {
    for (arguments, named) in [
        (&[][..], "Usage"),
        (&["dance"], "dance"),
        (&["demo", "--nat"], "--nat"),
        (&["demo", "--nat", "plain"], "two"),
        (&["demo", "--nat", "plain,plane"], "plane"),
        (&["demo", "--nat", "plain+wire:delay=1,plain"], "wire"),
        (&["demo", "--nat", "same,plain"], "same"),
        (&["demo", "--loss", "101"], "0 to 100"),
        (&["demo", "--delay-ms", "10001"], "delay-ms"),
        (&["lab", "plain,plain", "--node", "zz"], "zz"),
        (&["connect", "--ticket", "7-amber-canyon"], "--ticket"),
        (&["connect", "--server", "http://127.0.0.1"], "ws://"),
        (&["connect"], "NILAS_SERVER"),
        (
            &["connect", "abc", "--server", "ws://127.0.0.1:1"],
            "too short",
        ),
        (&["gather", "--stun", "turn:192.0.2.1"], "TURN"),
        (&["gather", "--interface", "nothere9"], "nothere9"),
        (&["server", "--listen", "nowhere"], "--listen: an address"),
        (&["completions", "csh2"], "csh2"),
    ] {
        let output = run(arguments);
        let text = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn with_json_the_mistake_is_an_object_too() {
    for (arguments, schema, named) in [
        (&["demo", "--nat", "plain"][..], "nilas.demo/1", "two"),
        (&["connect"], "nilas.connect/1", "NILAS_SERVER"),
        (
            &["gather", "--interface", "nothere9"],
            "nilas.gather/1",
            "nothere9",
        ),
        (
            &["server", "--config", "/nothere9"],
            "nilas.server/1",
            "/nothere9",
        ),
        (
            &["server", "--listen", "nowhere"],
            "nilas.server/1",
            "--listen",
        ),
        (&["replay", "/nothere9"], "nilas.replay/1", "/nothere9"),
        (&["replay", "/dev/null"], "nilas.replay/1", "/dev/null"),
        (&["explain", "/nothere9"], "nilas.explain/1", "/nothere9"),
        (&["explain", "/dev/null"], "nilas.explain/1", "/dev/null"),
        (
            &["sim", "--nat-a", "same", "--nat-b", "open"],
            "nilas.sim/1",
            "same",
        ),
        (
            &["turn", "test", "turn:192.0.2.1"],
            "nilas.turn-test/1",
            "--user",
        ),
        (
            &["turn", "bench", "turn:192.0.2.1"],
            "nilas.turn-bench/1",
            "--user",
        ),
        (
            &["turn", "creds", "--secret", ""],
            "nilas.turn-creds/1",
            "secret",
        ),
    ] {
        let output = run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = last_json(&output);
        assert_eq!(
            (&told["schema"], &told["ok"]),
            (&schema.into(), &false.into()),
            "{arguments:?}"
        );
        let reason = told["reason"].as_str().expect("a text");
        assert!(reason.contains(named), "{arguments:?}: {reason}");
        assert!(complaint(&output).contains(reason), "{arguments:?}");
    }
}

#[test]
fn completions_and_the_manual_page_come_from_the_definition() {
    let script = run(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&script.stdout).contains("--signal-listen"));
    let page = run(&["man"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    for word in [".TH nilas", "NILAS CONNECT", "NILAS SERVER", "ticket"] {
        assert!(page.contains(word), "{word} is missing in:\n{page}");
    }
}

#[test]
fn an_option_that_could_do_nothing_is_refused() {
    for (arguments, named) in [
        (
            &["connect", "--ticket", "--server", "ws://127.0.0.1:1"][..],
            "--server",
        ),
        (&["gather", "--loopback", "--secret", "s"], "--secret"),
        (&["gather", "--loopback", "--password", "s"], "--password"),
        (
            &["gather", "--loopback", "--without-interface", "nope"],
            "nope",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let complaint = complaint(&output);
        assert!(complaint.contains(named), "{complaint}");
    }
    // What is in the environment may be meant for other commands.
    let mut command = support::nilas(&["connect", "--ticket", "--loopback"]);
    command
        .env("NILAS_SERVER", "ws://127.0.0.1:1")
        .env("NILAS_TURN_SECRET", "s");
    let mut asked = support::Running::start_command(command);
    asked.close_input();
    asked.error_line("the input ended");
}

#[test]
fn a_log_filter_that_says_nothing_is_named() {
    let mut command = support::nilas(&["gather", "--loopback"]);
    command.env("NILAS_LOG", "nilas=loud");
    support::Running::start_command(command).error_line("NILAS_LOG");
}
