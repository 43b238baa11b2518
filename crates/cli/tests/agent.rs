//! `nilas agent`: the protocol, line by line, as an independent program speaks it.

mod support;

use serde_json::{Value, json};
use support::{Running, Server};

/// An agent that was started on the loopback interface, and what it said first.
struct Agent {
    running: Running,
    params: Value,
    /// Everything since, in order.
    said: Vec<Value>,
}

impl Agent {
    fn start(options: Value) -> Self {
        let mut running = Running::start(&["agent"]);
        let mut start = json!({"cmd": "start", "interfaces": [loopback()]});
        let fields = start.as_object_mut().expect("an object");
        fields.extend(options.as_object().expect("an object").clone());
        running.write(&format!("{start}\n"));
        let params = running.json(|_| true);
        assert_eq!(params["ev"], "params", "params come first");
        Self {
            running,
            params,
            said: Vec::new(),
        }
    }

    fn command(&mut self, command: &Value) {
        self.running.write(&format!("{command}\n"));
    }

    /// Reads on until an event is `wanted`.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.running.json(|_| true);
            self.said.push(event.clone());
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Hands over all that this agent says until its end of candidates.
    fn describe_to(&mut self, other: &mut Self, params: &Value) {
        let mut remote = params.clone();
        remote["cmd"] = "remote".into();
        other.command(&remote);
        loop {
            let event =
                self.until(|event| matches!(event["ev"].as_str(), Some("candidate" | "eoc")));
            let command = match event["ev"].as_str() {
                Some("candidate") => json!({"cmd": "candidate", "candidate": event["candidate"]}),
                _ => json!({"cmd": "eoc"}),
            };
            other.command(&command);
            if event["ev"] == "eoc" {
                return;
            }
        }
    }

    /// Like [`until`](Self::until), for what may have been said already after the first `since` events.
    fn until_since(&mut self, since: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        match self.said[since..].iter().find(|event| wanted(event)) {
            Some(event) => event.clone(),
            None => self.until(wanted),
        }
    }
}

/// The name of the loopback interface.
fn loopback() -> &'static str {
    if cfg!(target_os = "linux") {
        "lo"
    } else {
        "lo0"
    }
}

/// Data can flow. A controlled agent whose only path is nominated at once is completed without being connected.
fn is_up(event: &Value) -> bool {
    matches!(event["state"].as_str(), Some("connected" | "completed"))
}

fn connected(a: Value, b: Value) -> (Agent, Agent) {
    let (mut a, mut b) = (Agent::start(a), Agent::start(b));
    let (from_a, from_b) = (a.params.clone(), b.params.clone());
    a.describe_to(&mut b, &from_a);
    b.describe_to(&mut a, &from_b);
    for agent in [&mut a, &mut b] {
        agent.until_since(0, is_up);
    }
    (a, b)
}

#[test]
fn two_agents_connect_and_talk_whatever_their_roles() {
    for (a, b) in [(true, false), (true, true), (false, false)] {
        let (mut a, mut b) = connected(json!({"controlling": a}), json!({"controlling": b}));
        for agent in [&a, &b] {
            let position = |wanted: &str| agent.said.iter().position(|event| event["ev"] == wanted);
            let selected = position("selected").expect("a pair was selected");
            let up = agent.said.iter().position(is_up).expect("it is connected");
            assert!(selected < up, "selected comes before connected");
            let ufrag = agent.params["ufrag"].as_str().expect("a text");
            for event in agent.said.iter().filter(|event| event["ev"] == "candidate") {
                let line = event["candidate"].as_str().expect("a text");
                assert!(line.ends_with(&format!(" ufrag {ufrag}")), "{line}");
            }
            let event = &agent.said[selected];
            for end in ["local", "remote"] {
                assert!(
                    event[end].as_str().expect("a line").contains(" ufrag "),
                    "{event}"
                );
            }
        }
        a.command(&json!({"cmd": "send", "data": "from a, ä"}));
        b.command(&json!({"cmd": "send", "data": "from b"}));
        assert_eq!(b.until(|event| event["ev"] == "data")["data"], "from a, ä");
        assert_eq!(a.until(|event| event["ev"] == "data")["data"], "from b");
        a.command(&json!({"cmd": "stats"}));
        let stats = a.until(|event| event["ev"] == "stats");
        let pairs = stats["stats"].as_array().expect("a list");
        assert!(
            pairs
                .iter()
                .any(|entry| entry["type"] == "candidate-pair" && entry["state"] == "succeeded")
        );
        a.command(&json!({"cmd": "close"}));
        a.until(|event| event["state"] == "closed");
        assert_eq!(
            a.running.line_or_end(),
            None,
            "nothing follows the state closed"
        );
        assert_eq!(a.running.exit_code(), Some(0));
        b.running.close_input();
        assert_eq!(b.running.exit_code(), Some(0));
    }
}

#[test]
fn a_restart_is_answered_and_ends_in_a_selection() {
    let (mut a, mut b) = connected(json!({"controlling": true}), json!({"controlling": false}));
    let before = [a.said.len(), b.said.len()];
    a.command(&json!({"cmd": "restart"}));
    let new_a = a.until(|event| event["ev"] == "params");
    assert_ne!(new_a["ufrag"], a.params["ufrag"]);
    a.describe_to(&mut b, &new_a);
    let new_b = b.until(|event| event["ev"] == "params");
    assert_ne!(new_b["ufrag"], b.params["ufrag"]);
    b.describe_to(&mut a, &new_b);
    for (agent, before) in [&mut a, &mut b].into_iter().zip(before) {
        // From the new parameters on: what came before them belongs to the first generation.
        let fresh = agent.said[before..]
            .iter()
            .position(|event| event["ev"] == "params")
            .expect("they were read");
        agent.until_since(before + fresh, |event| event["ev"] == "selected");
        agent.until_since(before + fresh, is_up);
    }
    a.command(&json!({"cmd": "send", "data": "after the restart"}));
    assert_eq!(
        b.until(|event| event["ev"] == "data")["data"],
        "after the restart"
    );
}

#[test]
fn what_is_not_understood_gets_an_error_and_changes_nothing() {
    let sctp = json!({"host": "h", "port": 1, "transport": "sctp", "user": "u", "pass": "p"});
    let mut agent =
        Agent::start(json!({"controlling": true, "colour": "red", "turn": sctp, "shape": 3}));
    for option in ["colour", "turn", "shape"] {
        // In any order: they are keys of one object.
        let _ = option;
        let error = agent.until(|event| event["ev"] == "error");
        let text = error["msg"].as_str().expect("a text");
        assert!(
            ["colour", "turn", "shape"]
                .iter()
                .any(|name| text.starts_with(name)),
            "{text}"
        );
    }
    // The rest of `start` was carried out.
    agent.until(|event| event["ev"] == "candidate");
    for (line, named) in [
        ("nonsense", "JSON"),
        (r#"{"cmd":"dance"}"#, "dance"),
        (
            r#"{"cmd":"candidate","candidate":"candidate:1 1 udp 1 192.0.2.1 99999 typ host"}"#,
            "port",
        ),
        (r#"{"cmd":"remote","ufrag":"x","pwd":"y"}"#, "ufrag"),
        (r#"{"cmd":"send","data":"too early"}"#, "path"),
        (r#"{"cmd":"start"}"#, "already"),
    ] {
        agent.running.write(&format!("{line}\n"));
        let error = agent.until(|event| event["ev"] == "error");
        assert!(
            error["msg"].as_str().expect("a text").contains(named),
            "{line}: {error}"
        );
    }
    agent.running.write(&format!("{}\n", "x".repeat(500_000)));
    assert!(
        agent.until(|event| event["ev"] == "error")["msg"]
            .as_str()
            .expect("a text")
            .contains("longer")
    );
    agent.command(&json!({"cmd": "close"}));
    agent.until(|event| event["state"] == "closed");
    assert_eq!(agent.running.exit_code(), Some(0));
}

#[test]
fn the_ports_of_start_are_those_of_the_candidates() {
    let range = 49_000..=49_063;
    let ports = format!("{}-{}", range.start(), range.end());
    let mut agent = Agent::start(json!({"ports": ports, "dscp": 46}));
    let told = agent.until(|event| event["ev"] == "candidate");
    let line = told["candidate"].as_str().expect("a text");
    let port = line.split(' ').nth(5).and_then(|port| port.parse().ok());
    assert!(port.is_some_and(|port| range.contains(&port)), "{line}");
}

#[test]
fn before_start_only_start_and_close_mean_something() {
    let mut running = Running::start(&["agent"]);
    running.write("{\"cmd\":\"stats\"}\n");
    assert_eq!(running.json(|_| true)["ev"], "error");
    running.write("{\"cmd\":\"close\"}\n");
    assert_eq!(running.json(|_| true)["state"], "closed");
    assert_eq!(running.exit_code(), Some(0));
    let mut silent = Running::start(&["agent"]);
    silent.close_input();
    assert_eq!(silent.exit_code(), Some(0));
}

#[cfg(unix)]
#[test]
fn what_a_server_relays_is_given_back_however_it_ends() {
    let server = Server::relaying();
    let (host, port) = server.stun.split_once(':').expect("an address");
    let port: u16 = port.parse().expect("a port");
    let turn = json!({"host": host, "port": port, "transport": "udp", "user": "ann", "pass": "x"});
    for end in ["close", "end of input", "-INT", "-TERM"] {
        let mut agent = Agent::start(json!({"controlling": true, "turn": turn}));
        agent.until(|event| {
            let line = event["candidate"].as_str();
            line.is_some_and(|line| line.contains(" typ relay"))
        });
        match end {
            "close" => agent.command(&json!({"cmd": "close"})),
            "end of input" => agent.running.close_input(),
            signal => support::signal(&agent.running, signal),
        }
        agent.until(|event| event["state"] == "closed");
        assert_eq!(agent.running.exit_code(), Some(0), "{end}");
        server.expect_released(1);
    }
}
