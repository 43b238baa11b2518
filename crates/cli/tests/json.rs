//! `docs/json.md` has every field that the commands write.

mod support;

use serde_json::Value;
use support::{Server, run};

const PAGE: &str = include_str!("../../../docs/json.md");

/// The names of an object's fields, and of those of the objects in it.
fn fields(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.push(name.clone());
                fields(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_commands_is_on_the_page() {
    let server = Server::relaying();
    let turn = format!("turn:{}", server.stun);
    let relay = [
        "--turn",
        &turn,
        "--user",
        "ann",
        "--password",
        "x",
        "--stun",
        &server.stun,
    ];
    let gather = [&["gather", "--loopback"], &relay[..]].concat();
    let sim = ["sim", "--nat-a", "open", "--nat-b", "plain"];
    let worlds = ["sim", "--worlds", "1"];
    let demo = ["demo"];
    for command in [&gather[..], &sim, &worlds, &demo] {
        let output = run(&[command, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(!text.is_empty(), "{command:?}: {:?}", output.stderr);
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).expect("JSON");
            let mut names = Vec::new();
            fields(&object, &mut names);
            for key in ["schema", "event"] {
                names.extend(object[key].as_str().map(str::to_owned));
            }
            for name in names {
                assert!(PAGE.contains(&format!("`{name}`")), "{name} of {line}");
            }
        }
    }
}
