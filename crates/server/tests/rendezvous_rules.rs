//! The rules of the rendezvous, in virtual time.

use std::net::IpAddr;
use std::time::Duration;

use nilas_net::signaling::message::{MAX_MESSAGE_BYTES, MESSAGE_BURST, SCHEMA};
use nilas_net::signaling::rate::Rate;
use nilas_net::signaling::{Code, Refusal, ServerMessage};
use nilas_server::rendezvous::{ConnectionId, Input, Output, Rendezvous, RendezvousConfig};

const SECOND: Duration = Duration::from_secs(1);
const CODE: &str = "7-amber-canyon";

/// A rendezvous with a clock that the test turns.
struct Bench {
    rendezvous: Rendezvous,
    now: Duration,
    next: u64,
}

/// What a client got, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Hello,
    Created(String),
    Joined { controlling: bool },
    Signal(String),
    PeerLeft,
    Refused(Refusal),
    Closed,
}

impl Bench {
    fn new() -> Self {
        Self::with(RendezvousConfig::default())
    }

    fn with(config: RendezvousConfig) -> Self {
        Self {
            rendezvous: Rendezvous::new(config, [7; 32]),
            now: SECOND,
            next: 0,
        }
    }

    fn handle(&mut self, input: Input<'_>) -> Vec<(ConnectionId, Got)> {
        self.rendezvous.handle(self.now, input);
        std::iter::from_fn(|| self.rendezvous.poll())
            .map(|output| short(&output))
            .collect()
    }

    fn open(&mut self, source: &str) -> (ConnectionId, Vec<(ConnectionId, Got)>) {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let source: IpAddr = source.parse().unwrap();
        let got = self.handle(Input::Opened { connection, source });
        (connection, got)
    }

    /// A client that has said hello.
    fn client(&mut self, source: &str) -> ConnectionId {
        let (connection, got) = self.open(source);
        assert_eq!(got, []);
        let hello = format!(r#"{{"type":"hello","schema":"{SCHEMA}"}}"#);
        assert_eq!(self.say(connection, &hello), [(connection, Got::Hello)]);
        connection
    }

    fn say(&mut self, connection: ConnectionId, text: &str) -> Vec<(ConnectionId, Got)> {
        self.handle(Input::Message { connection, text })
    }

    fn join(
        &mut self,
        connection: ConnectionId,
        code: &str,
        create: bool,
    ) -> Vec<(ConnectionId, Got)> {
        self.say(
            connection,
            &format!(r#"{{"type":"join","code":"{code}","create":{create}}}"#),
        )
    }

    /// What a newcomer from there gets for a code.
    fn try_code(&mut self, source: &str, code: &str) -> Got {
        let connection = self.client(source);
        let got = self.join(connection, code, false);
        got.into_iter().find(|(id, _)| *id == connection).unwrap().1
    }

    /// Two peers that have met.
    fn pair(&mut self, code: &str) -> (ConnectionId, ConnectionId) {
        let a = self.client("192.0.2.1");
        assert_eq!(self.join(a, code, true), [(a, Got::Created(code.into()))]);
        let b = self.client("192.0.2.2");
        let joined = [
            (a, Got::Joined { controlling: true }),
            (b, Got::Joined { controlling: false }),
        ];
        assert_eq!(self.join(b, code, true), joined);
        (a, b)
    }
}

fn short(output: &Output) -> (ConnectionId, Got) {
    match output {
        Output::Send { connection, text } => {
            let got = match ServerMessage::parse(text).unwrap() {
                ServerMessage::Hello { schema } if schema == SCHEMA => Got::Hello,
                ServerMessage::Created { code, .. } => Got::Created(code.to_string()),
                ServerMessage::PeerJoined { controlling } => Got::Joined { controlling },
                ServerMessage::Signal(signal) => Got::Signal(signal.get().to_owned()),
                ServerMessage::PeerLeft => Got::PeerLeft,
                ServerMessage::Error(refusal) => Got::Refused(refusal),
                other => panic!("{other:?}"),
            };
            (*connection, got)
        }
        Output::Close { connection } => (*connection, Got::Closed),
        other => panic!("{other:?}"),
    }
}

fn refused(connection: ConnectionId, refusal: Refusal) -> [(ConnectionId, Got); 2] {
    [
        (connection, Got::Refused(refusal)),
        (connection, Got::Closed),
    ]
}

#[test]
fn a_created_code_is_joined_and_signals_pass_verbatim() {
    let mut bench = Bench::new();
    let a = bench.client("192.0.2.1");
    let created = bench.say(a, r#"{"type":"create"}"#);
    let [(_, Got::Created(code))] = &created[..] else {
        panic!("{created:?}")
    };
    bench.now += 599 * SECOND;
    let b = bench.client("2001:db8::1");
    assert_eq!(
        bench.join(b, code, false),
        [
            (a, Got::Joined { controlling: true }),
            (b, Got::Joined { controlling: false })
        ]
    );
    let odd = r#"{"z":1, "a":[1.50,"\u00e9"],"z":2}"#;
    assert_eq!(
        bench.say(a, &format!(r#"{{"signal":{odd},"type":"signal"}}"#)),
        [(b, Got::Signal(odd.into()))]
    );
    assert_eq!(
        bench.say(b, r#"{"type":"signal","signal":[]}"#),
        [(a, Got::Signal("[]".into()))]
    );
    // Once they have met, their code no longer expires under them.
    bench.now += 86_400 * SECOND;
    assert_eq!(bench.handle(Input::Tick), []);
    assert_eq!(
        bench.say(a, r#"{"type":"signal","signal":7}"#),
        [(b, Got::Signal("7".into()))]
    );
}

#[test]
fn codes_that_are_made_up_differ_and_are_codes() {
    let mut bench = Bench::new();
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let a = bench.client("192.0.2.1");
        let created = bench.say(a, r#"{"type":"create"}"#);
        let [(_, Got::Created(code))] = &created[..] else {
            panic!("{created:?}")
        };
        code.parse::<Code>().unwrap();
        assert!(codes.insert(code.clone()), "{code} twice");
    }
}

#[test]
fn a_third_peer_is_refused_and_nobody_notices() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair(CODE);
    for create in [false, true] {
        let c = bench.client("192.0.2.3");
        assert_eq!(bench.join(c, CODE, create), refused(c, Refusal::CodeInUse));
    }
    assert_eq!(
        bench.say(a, r#"{"type":"signal","signal":1}"#),
        [(b, Got::Signal("1".into()))]
    );
}

#[test]
fn a_code_is_used_once() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair(CODE);
    assert_eq!(
        bench.handle(Input::Closed { connection: a }),
        [(b, Got::PeerLeft), (b, Got::Closed)]
    );
    assert_eq!(bench.rendezvous.counts().connections, 0);
    for create in [false, true] {
        let c = bench.client("192.0.2.3");
        assert_eq!(bench.join(c, CODE, create), refused(c, Refusal::UsedCode));
    }
    // What b says before it notices is no error.
    assert_eq!(bench.say(b, r#"{"type":"signal","signal":1}"#), []);
    bench.now += 601 * SECOND;
    assert_eq!(
        bench.try_code("192.0.2.3", CODE),
        Got::Refused(Refusal::UnknownCode)
    );
}

#[test]
fn a_code_expires_with_its_creator_told_and_is_remembered() {
    let mut bench = Bench::new();
    let a = bench.client("192.0.2.1");
    bench.join(a, CODE, true);
    bench.now += 600 * SECOND - Duration::from_nanos(1);
    assert_eq!(bench.handle(Input::Tick), []);
    bench.now += Duration::from_nanos(1);
    assert_eq!(bench.handle(Input::Tick), refused(a, Refusal::ExpiredCode));
    assert_eq!(
        bench.try_code("192.0.2.2", CODE),
        Got::Refused(Refusal::ExpiredCode)
    );
    bench.now += 601 * SECOND;
    assert_eq!(
        bench.try_code("192.0.2.2", CODE),
        Got::Refused(Refusal::UnknownCode)
    );
}

#[test]
fn expiry_does_not_wait_for_a_tick() {
    let mut bench = Bench::new();
    let a = bench.client("192.0.2.1");
    bench.join(a, CODE, true);
    bench.now += 595 * SECOND;
    let b = bench.client("192.0.2.2");
    bench.now += 5 * SECOND;
    let got = bench.join(b, CODE, false);
    assert_eq!(got[..2], refused(a, Refusal::ExpiredCode));
    assert_eq!(got[2..], refused(b, Refusal::ExpiredCode));
}

#[test]
fn whoever_leaves_before_the_peer_comes_may_come_again() {
    let mut bench = Bench::new();
    let a = bench.client("192.0.2.1");
    bench.join(a, CODE, true);
    bench.handle(Input::Closed { connection: a });
    assert_eq!(
        bench.try_code("192.0.2.2", CODE),
        Got::Refused(Refusal::UnknownCode)
    );
    bench.pair(CODE);
}

#[test]
fn guessing_is_slow_and_recovers() {
    let mut bench = Bench::new();
    let a = bench.client("192.0.2.1");
    bench.join(a, CODE, true);
    for number in 0..10 {
        let got = bench.try_code("198.51.100.1", &format!("{number}-wrong-guess"));
        assert_eq!(got, Got::Refused(Refusal::UnknownCode), "{number}");
    }
    // The right code is not looked at either: the answer would be worth a guess.
    let wait = Refusal::TooManyAttempts {
        retry_after: 6 * SECOND,
    };
    assert_eq!(bench.try_code("198.51.100.1", CODE), Got::Refused(wait));
    bench.now += SECOND / 2;
    let wait = Refusal::TooManyAttempts {
        retry_after: 6 * SECOND,
    };
    assert_eq!(
        bench.try_code("198.51.100.1", CODE),
        Got::Refused(wait),
        "rounded up"
    );
    bench.now += 6 * SECOND;
    assert_eq!(
        bench.try_code("198.51.100.1", CODE),
        Got::Joined { controlling: false }
    );
}

#[test]
fn making_a_room_of_a_guess_is_a_guess() {
    let mut bench = Bench::new();
    for number in 0..10 {
        let guesser = bench.client("198.51.100.1");
        let got = bench.join(guesser, &format!("{number}-wrong-guess"), true);
        assert!(matches!(got[..], [(_, Got::Created(_))]), "{got:?}");
        bench.handle(Input::Closed {
            connection: guesser,
        });
    }
    let guesser = bench.client("198.51.100.1");
    let got = bench.join(guesser, "10-wrong-guess", true);
    assert!(
        matches!(
            got[..],
            [(_, Got::Refused(Refusal::TooManyAttempts { .. })), _]
        ),
        "{got:?}"
    );
}

#[test]
fn right_codes_and_made_up_codes_cost_nothing() {
    let mut bench = Bench::new();
    for number in 0..100 {
        let a = bench.client("192.0.2.1");
        let created = bench.say(a, r#"{"type":"create"}"#);
        let [(_, Got::Created(code))] = &created[..] else {
            panic!("{number}: {created:?}")
        };
        let b = bench.client("192.0.2.1");
        assert!(
            matches!(bench.join(b, code, false)[..], [_, (_, Got::Joined { .. })]),
            "{number}"
        );
        bench.handle(Input::Closed { connection: a });
    }
}

#[test]
fn a_v6_network_guesses_as_one_and_others_are_not_held_up() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.try_code(
            &format!("2001:db8::{number}"),
            &format!("{number}-wrong-guess"),
        );
    }
    let got = bench.try_code("2001:db8::ffff:1", "11-wrong-guess");
    assert!(
        matches!(got, Got::Refused(Refusal::TooManyAttempts { .. })),
        "{got:?}"
    );
    assert_eq!(
        bench.try_code("2001:db8:0:1::1", "11-wrong-guess"),
        Got::Refused(Refusal::UnknownCode)
    );
}

#[test]
fn many_sources_together_are_slow_as_well() {
    let mut config = RendezvousConfig::default();
    config.guesses_together = Rate::new(30, SECOND);
    let mut bench = Bench::with(config);
    for number in 0..30 {
        let got = bench.try_code(
            &format!("198.51.100.{number}"),
            &format!("{number}-wrong-guess"),
        );
        assert_eq!(got, Got::Refused(Refusal::UnknownCode));
    }
    let got = bench.try_code("203.0.113.1", "wrong-guess");
    assert_eq!(
        got,
        Got::Refused(Refusal::TooManyAttempts {
            retry_after: SECOND
        })
    );
    bench.now += SECOND;
    assert_eq!(
        bench.try_code("203.0.113.1", "wrong-guess"),
        Got::Refused(Refusal::UnknownCode)
    );
}

#[test]
fn weak_codes_and_garbage_are_refused() {
    let mut bench = Bench::new();
    let oversize = format!(
        r#"{{"type":"create","x":"{}"}}"#,
        "x".repeat(MAX_MESSAGE_BYTES)
    );
    let deep = "[".repeat(10_000);
    for (text, refusal) in [
        ("", Refusal::BadMessage),
        ("\u{0}", Refusal::BadMessage),
        (r#"{"type":"join"}"#, Refusal::BadMessage),
        (r#"{"type":"weather"}"#, Refusal::BadMessage),
        (r#"{"type":"signal","signal":1}"#, Refusal::BadMessage),
        (
            r#"{"type":"hello","schema":"nilas.rendezvous/1"}"#,
            Refusal::BadMessage,
        ),
        (
            r#"{"type":"join","code":"abc","create":true}"#,
            Refusal::InvalidCode,
        ),
        (oversize.as_str(), Refusal::MessageTooLarge),
        (deep.as_str(), Refusal::BadMessage),
    ] {
        let client = bench.client("192.0.2.1");
        assert_eq!(
            bench.say(client, text),
            refused(client, refusal),
            "{text:.60}"
        );
        assert_eq!(
            bench.say(client, r#"{"type":"create"}"#),
            [],
            "nothing follows a refusal"
        );
    }
    let client = bench.client("192.0.2.1");
    assert_eq!(
        bench.handle(Input::NotText { connection: client }),
        refused(client, Refusal::BadMessage)
    );
}

#[test]
fn hello_comes_first_and_names_the_version() {
    let mut bench = Bench::new();
    let (client, _) = bench.open("192.0.2.1");
    assert_eq!(
        bench.say(client, r#"{"type":"create"}"#),
        refused(client, Refusal::BadMessage)
    );
    let (client, _) = bench.open("192.0.2.1");
    let got = bench.say(client, r#"{"type":"hello","schema":"nilas.rendezvous/99"}"#);
    assert_eq!(got, refused(client, Refusal::UnsupportedSchema));
}

#[test]
fn a_flood_ends_its_connection_and_the_peer_is_told() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair(CODE);
    let mut relayed = 0;
    loop {
        let got = bench.say(a, r#"{"type":"signal","signal":1}"#);
        match &got[..] {
            [(_, Got::Signal(_))] => relayed += 1,
            other => {
                assert_eq!(other[..2], refused(a, Refusal::TooManyMessages));
                assert_eq!(other[2..], [(b, Got::PeerLeft), (b, Got::Closed)]);
                break;
            }
        }
        assert!(relayed <= MESSAGE_BURST, "no limit");
    }
    assert!(relayed > 200, "a burst of candidates must pass: {relayed}");
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair(CODE);
    let got = bench.handle(Input::Overflow { connection: b });
    assert_eq!(got[..2], refused(b, Refusal::TooSlow));
    assert_eq!(got[2..], [(a, Got::PeerLeft), (a, Got::Closed)]);
}

#[test]
fn whoever_says_nothing_is_dropped() {
    let mut bench = Bench::new();
    let (silent, _) = bench.open("192.0.2.1");
    let greeted = bench.client("192.0.2.2");
    bench.now += 10 * SECOND;
    let got = bench.handle(Input::Tick);
    assert_eq!(got[..2], refused(silent, Refusal::Idle));
    assert_eq!(got[2..], refused(greeted, Refusal::Idle));
    assert_eq!(bench.rendezvous.counts().connections, 0);
}

#[test]
fn connections_are_bounded_in_all_and_for_each_source() {
    let mut config = RendezvousConfig::default();
    config.max_connections = 3;
    config.max_connections_per_source = 2;
    let mut bench = Bench::with(config);
    let first = bench.client("192.0.2.1");
    bench.client("192.0.2.1");
    let (third, got) = bench.open("192.0.2.1");
    assert_eq!(got, refused(third, Refusal::ServerFull));
    bench.client("192.0.2.2");
    let (fifth, got) = bench.open("192.0.2.3");
    assert_eq!(got, refused(fifth, Refusal::ServerFull));
    bench.handle(Input::Closed { connection: first });
    bench.client("192.0.2.1");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut config = RendezvousConfig::default();
    config.max_remembered_codes = 2;
    let mut bench = Bench::with(config);
    for code in ["1-amber-canyon", "2-amber-canyon", "3-amber-canyon"] {
        let (a, _) = bench.pair(code);
        bench.handle(Input::Closed { connection: a });
    }
    assert_eq!(
        bench.try_code("192.0.2.9", "1-amber-canyon"),
        Got::Refused(Refusal::UnknownCode)
    );
    assert_eq!(
        bench.try_code("192.0.2.9", "2-amber-canyon"),
        Got::Refused(Refusal::UsedCode)
    );
    assert_eq!(
        bench.try_code("192.0.2.9", "3-amber-canyon"),
        Got::Refused(Refusal::UsedCode)
    );
}

#[test]
fn at_the_end_everybody_is_told() {
    let mut bench = Bench::new();
    let (a, b) = bench.pair(CODE);
    let c = bench.client("192.0.2.3");
    let got = bench.handle(Input::Shutdown);
    for connection in [a, c] {
        assert!(
            got.contains(&(connection, Got::Refused(Refusal::ShuttingDown))),
            "{got:?}"
        );
    }
    for connection in [a, b, c] {
        assert_eq!(
            got.iter()
                .filter(|(id, last)| *id == connection && *last == Got::Closed)
                .count(),
            1
        );
    }
    assert_eq!(bench.rendezvous.counts().connections, 0);
    assert_eq!(bench.rendezvous.counts().codes, 0);
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut bench = Bench::new();
        let a = bench.client("192.0.2.1");
        let mut got = bench.say(a, r#"{"type":"create"}"#);
        bench.now += 700 * SECOND;
        got.extend(bench.handle(Input::Tick));
        got
    };
    assert_eq!(run(), run());
}
