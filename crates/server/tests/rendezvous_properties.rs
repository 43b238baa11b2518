//! Whatever clients do, in whatever order: signals reach the peer and nobody else, every connection ends
//! once, and the bounds hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nilas_net::signaling::ServerMessage;
use nilas_server::rendezvous::{ConnectionId, Input, Output, Rendezvous, RendezvousConfig};
use proptest::prelude::*;

const HELLO: &str = r#"{"type":"hello","schema":"nilas.rendezvous/1"}"#;

/// `who` is one of all connections ever opened, or the last.
#[derive(Clone, Debug)]
enum Step {
    Open {
        source: u8,
    },
    /// Opens, says hello, and joins, as a client in its right mind does.
    Arrive {
        source: u8,
        join: String,
    },
    Say {
        who: Option<prop::sample::Index>,
        text: String,
    },
    Close {
        who: Option<prop::sample::Index>,
    },
    Overflow {
        who: Option<prop::sample::Index>,
    },
    Wait {
        seconds: u16,
    },
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || any::<prop::sample::Index>().prop_map(Some);
    let code = prop::sample::select(vec!["code-one-1", "code-two-2", "code-three-3"]);
    let join = (code, any::<bool>()).prop_map(|(code, create)| {
        format!(r#"{{"type":"join","code":"{code}","create":{create}}}"#)
    });
    let arrive = ((0..3u8), join.clone()).prop_map(|(source, join)| Step::Arrive { source, join });
    let text = prop_oneof![
        6 => Just(HELLO.to_owned()),
        6 => join,
        2 => Just(r#"{"type":"create"}"#.to_owned()),
        // The test writes the sender's number over this.
        6 => Just("SIGNAL".to_owned()),
        1 => ".{0,40}",
    ];
    prop_oneof![
        4 => (0..3u8).prop_map(|source| Step::Open { source }),
        8 => arrive,
        20 => (who(), text).prop_map(|(who, text)| Step::Say { who, text }),
        2 => who().prop_map(|who| Step::Close { who }),
        1 => who().prop_map(|who| Step::Overflow { who }),
        3 => (0..700u16).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Shutdown),
    ]
}

fn expand(step: Step) -> Vec<Step> {
    match step {
        Step::Arrive { source, join } => vec![
            Step::Open { source },
            Step::Say {
                who: None,
                text: HELLO.into(),
            },
            Step::Say {
                who: None,
                text: join,
            },
        ],
        step => vec![step],
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(8_445),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..200)) {
        let mut config = RendezvousConfig::default();
        config.max_connections = 8;
        config.max_connections_per_source = 4;
        config.max_remembered_codes = 2;
        let mut rendezvous = Rendezvous::new(config, [7; 32]);
        let mut now = Duration::ZERO;
        let mut opened: Vec<ConnectionId> = Vec::new();
        let mut ended = BTreeSet::new();
        let mut joined = BTreeMap::new();
        for step in steps.into_iter().flat_map(expand) {
            let pick = |who: Option<prop::sample::Index>| match who {
                _ if opened.is_empty() => None,
                None => opened.last().copied(),
                Some(who) => Some(*who.get(&opened)),
            };
            let signal;
            let mut sender = None;
            let input = match &step {
                Step::Arrive { .. } => unreachable!("expanded"),
                Step::Open { source } => {
                    let connection = ConnectionId(opened.len() as u64);
                    opened.push(connection);
                    Input::Opened { connection, source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, *source)) }
                }
                Step::Say { who, text } => {
                    let Some(connection) = pick(*who) else { continue };
                    sender = Some(connection);
                    if text == "SIGNAL" {
                        signal = format!(r#"{{"type":"signal","signal":{}}}"#, connection.0);
                        Input::Message { connection, text: &signal }
                    } else {
                        Input::Message { connection, text }
                    }
                }
                Step::Close { who } => {
                    let Some(connection) = pick(*who) else { continue };
                    ended.insert(connection);
                    Input::Closed { connection }
                }
                Step::Overflow { who } => {
                    let Some(connection) = pick(*who) else { continue };
                    Input::Overflow { connection }
                }
                Step::Wait { seconds } => {
                    now += Duration::from_secs(u64::from(*seconds));
                    Input::Tick
                }
                Step::Shutdown => Input::Shutdown,
            };
            rendezvous.handle(now, input);
            let mut newly_joined = Vec::new();
            while let Some(output) = rendezvous.poll() {
                match output {
                    Output::Close { connection } => {
                        prop_assert!(ended.insert(connection), "closed twice: {connection:?}");
                    }
                    Output::Send { connection, text } => {
                        prop_assert!(!ended.contains(&connection), "{connection:?} has ended: {text}");
                        match ServerMessage::parse(&text).unwrap() {
                            ServerMessage::PeerJoined { controlling } => newly_joined.push((connection, controlling)),
                            ServerMessage::Signal(raw) => {
                                let from = sender.expect("signals come from a sender");
                                prop_assert_eq!(raw.get(), from.0.to_string());
                                prop_assert_eq!(joined.get(&from), Some(&connection));
                            }
                            _ => {}
                        }
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            match newly_joined[..] {
                [] => {}
                [(a, true), (b, false)] => {
                    prop_assert_eq!(Some(b), sender);
                    prop_assert!(joined.insert(a, b).is_none() && joined.insert(b, a).is_none(), "met twice");
                }
                _ => prop_assert!(false, "{newly_joined:?}"),
            }
            let counts = rendezvous.counts();
            prop_assert_eq!(counts.connections, opened.len() - ended.len());
            prop_assert!(counts.connections <= 8 && counts.codes <= counts.connections);
        }
    }
}
