//! `nilas sim`: sessions in a simulated network.

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{complaint, run};

fn json_lines(output: &std::process::Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[test]
fn sessions_are_summed_up() {
    let arguments = [
        "sim", "--nat-a", "plain", "--nat-b", "eim-adf", "--loss", "5", "--runs", "20", "--json",
    ];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let lines = json_lines(&output);
    let [summary] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(summary["schema"], "nilas.sim/1");
    assert_eq!(summary["ok"], true);
    assert_eq!(
        (&summary["a"], &summary["b"]),
        (&"eim-apdf".into(), &"eim-adf".into())
    );
    let connected = summary["connected"].as_u64().expect("a number");
    let counted: u64 = summary["paths"]
        .as_array()
        .expect("paths")
        .iter()
        .map(|path| path["runs"].as_u64().expect("a number"))
        .sum();
    assert!(connected > 0 && counted == connected, "{summary}");
    for figure in ["first_path_ms", "selected_ms", "packets"] {
        let [min, median, max] = ["min", "p50", "max"].map(|name| summary[figure][name].as_u64());
        assert!(min > Some(0) && min <= median && median <= max, "{summary}");
    }
    // The same seed is the same sessions.
    assert_eq!(run(&arguments).stdout, output.stdout);
}

#[test]
fn what_cannot_connect_exits_1_and_says_so() {
    let output = run(&[
        "sim",
        "--nat-a",
        "sym",
        "--nat-b",
        "sym",
        "--servers",
        "stun",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("apdm-apdf"),
        "{}",
        complaint(&output)
    );
}

#[test]
fn what_makes_no_sense_exits_2_and_names_the_word() {
    for (arguments, named) in [
        (&["--nat-a", "plane", "--nat-b", "open"][..], "plane"),
        (&["--nat-a", "open"], "--nat-b"),
        (&["--nat-a", "same", "--nat-b", "open"], "same"),
        (&["--nat-a", "plain", "--nat-b", "samecgn"], "samecgn"),
        (
            &["--nat-a", "open", "--nat-b", "open", "--servers", "carrier"],
            "carrier",
        ),
        (
            &["--nat-a", "open", "--nat-b", "open", "--runs", "0"],
            "--runs",
        ),
        (&["--matrix", "--nat-a", "open"], "--nat-a"),
        (&["--matrix", "--loss", "5"], "--loss"),
        (
            &["--nat-a", "open", "--nat-b", "open", "--markdown"],
            "--markdown",
        ),
        (
            &[
                "--nat-a",
                "open",
                "--nat-b",
                "open",
                "--html",
                "/nowhere/x.html",
            ],
            "/nowhere/x.html",
        ),
    ] {
        let output = run(&[&["sim"], arguments].concat());
        let text = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn every_cell_of_the_matrix_is_a_line_and_ok() {
    let output = run(&["sim", "--matrix", "--json", "--servers", "stun"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let mut pairs = BTreeSet::new();
    for line in json_lines(&output) {
        assert_eq!(line["schema"], "nilas.sim-cell/1");
        assert_eq!(line["ok"], true, "{line}");
        let text = |key: &str| {
            line[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key}: {line}"))
                .to_owned()
        };
        assert_eq!(
            text("got") == "none",
            line["first_path_ms"].is_null(),
            "{line}"
        );
        assert!(
            line["packets"].as_u64() > Some(0) && line["loss"].is_f64(),
            "{line}"
        );
        let _ = text("expected");
        pairs.insert((text("table"), text("a"), text("b")));
    }
    assert!(pairs.len() >= 181, "{} pairs of kinds", pairs.len());
}

#[test]
fn a_session_is_drawn_as_one_page_that_needs_nothing_else() {
    let file = std::env::temp_dir().join(format!("nilas-sim-{}.html", std::process::id()));
    let name = file.to_str().expect("text");
    let output = run(&[
        "sim", "--nat-a", "plain", "--nat-b", "open", "--loss", "20", "--html", name,
    ]);
    let page = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it can be removed");
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    for part in [
        "<!doctype html>",
        "first peer",
        "server",
        "second peer",
        "Binding",
        "nominates",
        "lost",
        "Connected",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for outside in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(outside), "{outside} is in it");
    }
}

#[test]
fn random_worlds_are_counted_and_their_seed_is_honoured() {
    let output = run(&["sim", "--worlds", "6", "--seed", "20", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let lines = json_lines(&output);
    let [summary] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(summary["schema"], "nilas.sim-worlds/1");
    let sessions = [&summary["connected"], &summary["failed"]].map(|count| count.as_u64());
    assert_eq!(
        sessions[0].zip(sessions[1]).map(|(up, down)| up + down),
        Some(6)
    );
    let other = run(&["sim", "--worlds", "6", "--seed", "26", "--json"]);
    assert_ne!(other.stdout, output.stdout);
}
