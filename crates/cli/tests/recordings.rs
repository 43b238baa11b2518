//! `--record`, `nilas replay` and `nilas explain`.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{complaint, run, run_with};

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("nilas-recordings-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn json(arguments: &[&str], code: i32) -> Value {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Plays it back to equality, and explains it.
fn explained(file: &str) -> Value {
    let replay = json(&["replay", file, "--json"], 0);
    assert_eq!(replay["schema"], "nilas.replay/1");
    assert_eq!(
        (&replay["equal"], &replay["complete"]),
        (&true.into(), &true.into()),
        "{replay}"
    );
    assert!(replay["calls"].as_u64() > Some(10), "{replay}");
    let explanation = json(&["explain", file, "--json"], 0);
    assert_eq!(explanation["schema"], "nilas.explain/1");
    assert_eq!([&replay["ok"], &explanation["ok"]], [true, true]);
    explanation
}

#[test]
fn a_simulated_session_is_recorded_played_back_and_explained() {
    let folder = Folder::new("sim");
    let file = folder.file("session");
    let output = run(&[
        "sim",
        "--nat-a",
        "sym",
        "--nat-b",
        "sym",
        "--servers",
        "turn-udp",
        "--record",
        &file,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    for file in [file.clone(), format!("{file}.b")] {
        let explanation = explained(&file);
        let agent = &explanation["agents"][0];
        assert_eq!(agent["outcome"]["outcome"], "connected");
        assert_eq!(agent["outcome"]["relayed"], true);
        assert_eq!(agent["for_direct"][0]["advice"], "local-nat", "{agent}");
    }
    let output = run(&["explain", &file]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("by way of a relay"), "{text}");
    let output = run(&["replay", &file]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("come out the same"), "{text}");
}

#[test]
fn a_changed_recording_ends_with_1_and_its_first_difference() {
    let folder = Folder::new("changed");
    let file = folder.file("session");
    let output = run(&[
        "sim", "--nat-a", "open", "--nat-b", "open", "--record", &file,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let recording = std::fs::read(&file).expect("a recording");
    let whole = nilas_ice::replay(&recording).expect("it can be read");
    assert_eq!(whole.difference, None);
    // Somewhere in the second half is a byte that matters.
    let changed = (recording.len() / 2..).find_map(|at| {
        let mut changed = recording.clone();
        changed[at] ^= 1;
        nilas_ice::replay(&changed).ok()?.difference?;
        Some(changed)
    });
    std::fs::write(&file, changed.expect("bytes that matter")).expect("a file");
    let report = json(&["replay", &file, "--json"], 1);
    assert_eq!(report["equal"], false);
    let difference = &report["difference"];
    assert_ne!(difference["expected"], difference["got"]);
    assert!(difference["at_ms"].is_number(), "{difference}");
    let output = run(&["replay", &file]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    let (recorded, now) = (text.contains("recorded:"), text.contains("now:"));
    assert!(recorded && now, "{text}");
}

#[test]
fn what_cannot_be_read_ends_with_2_and_one_sentence() {
    let folder = Folder::new("unreadable");
    let text = folder.file("text");
    std::fs::write(&text, "this is no recording").expect("a file");
    let missing = folder.file("missing");
    for verb in ["replay", "explain"] {
        for (file, word) in [(&text, "no recording"), (&missing, "cannot be read")] {
            let output = run(&[verb, file]);
            assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
            assert!(complaint(&output).contains(word), "{}", complaint(&output));
        }
    }
    let nowhere = Path::new(&missing).join("session");
    let nowhere = nowhere.to_str().expect("text");
    let output = run(&["gather", "--record", nowhere]);
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    assert!(complaint(&output).contains("cannot be written"));
}

#[test]
fn the_real_driver_records_too() {
    let folder = Folder::new("real");
    let file = folder.file("demo");
    let output = run(&["demo", "--json", "--record", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    for file in [file.clone(), format!("{file}.b")] {
        let explanation = explained(&file);
        let agent = &explanation["agents"][0];
        assert_eq!(agent["outcome"]["outcome"], "connected", "{agent}");
        assert_eq!(agent["pairs"][0]["end"], "selected");
    }
    let file = folder.file("gather");
    let output = run(&["gather", "--loopback", "--record", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let explanation = explained(&file);
    assert_eq!(
        explanation["agents"][0]["outcome"]["outcome"],
        "only-gathered"
    );
    let file = folder.file("agent");
    let commands = b"{\"cmd\":\"start\",\"controlling\":true}\n{\"cmd\":\"close\"}\n";
    let output = run_with(&["agent", "--record", &file], commands);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(explained(&file)["note"], "nilas agent");
}

#[test]
fn the_command_in_a_simulated_recording_makes_that_session_again() {
    let folder = Folder::new("again");
    let (first, second) = (folder.file("first"), folder.file("second"));
    let given = "sim --nat-a sym --nat-b open --servers turn --seed 9 --rtt-ms 10 --loss 5 --tcp --controlling b";
    let run_into = |command: &str, file: &str| {
        let words: Vec<_> = command.split(' ').chain(["--record", file]).collect();
        let output = run(&words);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        std::fs::read(file).expect("a recording")
    };
    let recording = run_into(given, &first);
    let told = String::from_utf8(run(&["explain", &first]).stdout).expect("text");
    let (_, told) = told.split_once("nilas sim").expect("the command");
    let end = told.find(['\n', ')']).unwrap_or(told.len());
    let command = format!("sim{}", &told[..end]);
    assert!(run_into(&command, &second) == recording, "{command}");
}
