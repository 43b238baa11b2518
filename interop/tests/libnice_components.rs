//! A stream of two components, as RTP and RTCP are on two ports: nilas and libnice, over loopback.

use std::collections::BTreeSet;
use std::process::Command;

use nilas::{Config, Endpoint, Role};
use nilas_interop::HANG_GUARD;
use nilas_interop::peer::{Line, Peer};
use nilas_interop::programs;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// libnice, and what it says.
struct Libnice {
    peer: Peer,
    said: mpsc::UnboundedReceiver<Value>,
}

impl Libnice {
    fn start(controlling: bool) -> Self {
        let (python, driver) = programs::libnice();
        let mut command = Command::new(python);
        command.arg(driver);
        let (lines, brought) = std::sync::mpsc::channel();
        let (tell, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            while let Ok((_, Line::Event(event))) = brought.recv() {
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        let mut peer = Peer::spawn(command, 0, lines).expect("python3 is there");
        peer.send(&json!({
            "cmd": "start", "controlling": controlling, "components": 2, "address": "127.0.0.1",
        }));
        Self { peer, said }
    }

    /// The next thing that it says.
    async fn next(&mut self) -> Value {
        let said = timeout(HANG_GUARD, self.said.recv()).await;
        let event = said.expect("libnice says something").expect("it lives");
        assert_ne!(event["ev"], "error", "{event}");
        event
    }
}

#[tokio::test]
async fn two_components_connect_whoever_controls() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut libnice = Libnice::start(role == Role::Controlled);
        let mut config = Config::new(role).loopback(true);
        let filter = &mut config.engine_config_mut().filter;
        filter
            .addresses
            .push("127.0.0.1".parse().expect("an address"));
        let endpoint = Endpoint::new().expect("randomness");
        let streams = endpoint.streams(config, &[2]).await.expect("room");
        let own = timeout(HANG_GUARD, streams.description(0)).await;
        let own = own.expect("it gathers").expect("a stream");
        let mut theirs = nilas::ice::IceDescription::default();
        loop {
            let event = libnice.next().await;
            match event["ev"].as_str() {
                Some("params") => {
                    let text = |name: &str| event[name].as_str().expect("text").to_owned();
                    let parameters = nilas::ice::Parameters::new(text("ufrag"), text("pwd"));
                    theirs.parameters = Some(parameters);
                }
                Some("candidate") => {
                    let line = event["candidate"].as_str().expect("text");
                    theirs.candidates.push(line.parse().expect("a candidate"));
                }
                Some("eoc") => break,
                _ => {}
            }
        }
        theirs.end_of_candidates = true;
        let told: BTreeSet<_> = theirs.candidates.iter().map(|own| own.component).collect();
        assert_eq!(told, BTreeSet::from([1, 2]));
        let parameters = own.parameters.expect("its own");
        libnice.peer.send(&json!({
            "cmd": "remote", "ufrag": parameters.ufrag, "pwd": parameters.pwd,
        }));
        for candidate in &own.candidates {
            let candidate = candidate.to_string();
            libnice
                .peer
                .send(&json!({"cmd": "candidate", "candidate": candidate}));
        }
        libnice.peer.send(&json!({"cmd": "eoc"}));
        streams
            .set_remote_description(0, theirs)
            .await
            .expect("it can be used");
        let mut connections = Vec::new();
        for component in [1, 2] {
            let agent = streams.agent(0, component).expect("a component");
            let connected = timeout(HANG_GUARD, agent.connect()).await;
            connections.push(connected.expect("in time").expect("a path"));
        }
        let mut ready = BTreeSet::new();
        while ready.len() < 2 {
            let event = libnice.next().await;
            if event["ev"] == "state" && event["state"] == "completed" {
                ready.extend(event["component"].as_u64());
            }
        }
        for (component, connection) in (1_u64..).zip(&mut connections) {
            let text = format!("to component {component}");
            connection.send(text.as_bytes()).await.expect("a path");
            let event = loop {
                let event = libnice.next().await;
                if event["ev"] == "data" {
                    break event;
                }
            };
            assert_eq!(
                (&event["data"], &event["component"]),
                (&json!(text), &json!(component))
            );
            let text = format!("from component {component}");
            libnice
                .peer
                .send(&json!({"cmd": "send", "data": text, "component": component}));
            let mut buffer = [0; 100];
            let received = timeout(HANG_GUARD, connection.recv(&mut buffer)).await;
            let length = received.expect("in time").expect("data");
            assert_eq!(&buffer[..length], text.as_bytes());
        }
    }
}
