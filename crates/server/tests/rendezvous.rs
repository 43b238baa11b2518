//! The rendezvous from end to end: our client, real WebSockets, the loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nilas_net::signaling::message::{MAX_MESSAGE_BYTES, PATH, SCHEMA};
use nilas_net::signaling::{
    CandidateInit, Code, Description, Meeting, Refusal, Rendezvous, RendezvousError,
    RendezvousEvent, ServerMessage, Signal,
};
use nilas_server::{Server, ServerConfig, ServerError, ServerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// Only a guard against hanging.
const GUARD: Duration = Duration::from_secs(60);

struct Bench {
    address: SocketAddr,
    handle: ServerHandle,
    server: JoinHandle<Result<(), ServerError>>,
}

impl Bench {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::on(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, 0);
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let address = server.local_addresses().rendezvous[0];
        let handle = server.handle();
        Self {
            address,
            handle,
            server: tokio::spawn(server.run(std::future::pending())),
        }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    async fn connect(&self, meeting: Meeting) -> Result<Rendezvous, RendezvousError> {
        timeout(GUARD, Rendezvous::connect(&self.url(), meeting))
            .await
            .unwrap()
    }

    /// A client that says what ours never would.
    async fn raw(&self) -> tokio_tungstenite::WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://{}{PATH}", self.address), stream)
            .await
            .unwrap()
            .0
    }
}

async fn next(rendezvous: &mut Rendezvous) -> Option<RendezvousEvent> {
    timeout(GUARD, rendezvous.recv()).await.unwrap().unwrap()
}

async fn next_error(rendezvous: &mut Rendezvous) -> RendezvousError {
    timeout(GUARD, rendezvous.recv())
        .await
        .unwrap()
        .unwrap_err()
}

async fn refusal(socket: &mut tokio_tungstenite::WebSocketStream<TcpStream>) -> Option<Refusal> {
    while let Some(Ok(message)) = timeout(GUARD, socket.next()).await.unwrap() {
        let Message::Text(text) = message else {
            continue;
        };
        if let ServerMessage::Error(refusal) = ServerMessage::parse(&text).unwrap() {
            return Some(refusal);
        }
    }
    None
}

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

fn signals(name: &str) -> Vec<Signal> {
    let mut signals = vec![Signal::Description(Description::new(
        name,
        "a-password-of-22-chars",
    ))];
    for port in 50_000..50_100 {
        signals.push(Signal::Candidate(CandidateInit::new(format!(
            "candidate:1 1 udp 1 192.0.2.1 {port} typ host"
        ))));
    }
    signals.push(Signal::EndOfCandidates {
        username_fragment: Some(name.into()),
    });
    signals
}

async fn expect_signals(rendezvous: &mut Rendezvous, expected: &[Signal]) {
    for signal in expected {
        match next(rendezvous).await {
            Some(RendezvousEvent::Signal(got)) => assert_eq!(got, *signal),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn two_peers_meet_exchange_and_part() {
    let bench = Bench::start().await;
    let mut a = bench.connect(Meeting::Create).await.unwrap();
    assert_eq!(a.expires_in(), Some(Duration::from_secs(600)));
    // What is sent before the peer is there waits for it.
    for signal in signals("aaaa") {
        a.send(&signal).unwrap();
    }
    let mut b = bench
        .connect(Meeting::Join(a.code().clone()))
        .await
        .unwrap();
    assert_eq!(b.code(), a.code());
    for signal in signals("bbbb") {
        b.send(&signal).unwrap();
    }
    assert!(matches!(
        next(&mut a).await,
        Some(RendezvousEvent::PeerJoined { controlling: true })
    ));
    assert!(matches!(
        next(&mut b).await,
        Some(RendezvousEvent::PeerJoined { controlling: false })
    ));
    expect_signals(&mut a, &signals("bbbb")).await;
    expect_signals(&mut b, &signals("aaaa")).await;
    // What was sent before closing still arrives.
    let last = Signal::EndOfCandidates {
        username_fragment: None,
    };
    a.send(&last).unwrap();
    let sender = a.sender();
    a.close().await;
    assert!(matches!(sender.send(&last), Err(RendezvousError::Closed)));
    expect_signals(&mut b, &[last]).await;
    assert!(matches!(
        next(&mut b).await,
        Some(RendezvousEvent::PeerLeft)
    ));
    assert!(next(&mut b).await.is_none());
}

#[tokio::test]
async fn both_name_the_same_code() {
    let bench = Bench::start().await;
    let meeting = Meeting::JoinOrCreate(code("our own code"));
    let mut a = bench.connect(meeting.clone()).await.unwrap();
    let mut b = bench.connect(meeting.clone()).await.unwrap();
    assert!(matches!(
        next(&mut a).await,
        Some(RendezvousEvent::PeerJoined { controlling: true })
    ));
    assert!(matches!(
        next(&mut b).await,
        Some(RendezvousEvent::PeerJoined { controlling: false })
    ));
    let error = bench.connect(meeting.clone()).await.unwrap_err();
    assert!(
        matches!(error, RendezvousError::Refused(Refusal::CodeInUse)),
        "{error:?}"
    );
    drop(b);
    assert!(matches!(
        next(&mut a).await,
        Some(RendezvousEvent::PeerLeft)
    ));
    let error = bench.connect(meeting).await.unwrap_err();
    assert!(
        matches!(error, RendezvousError::Refused(Refusal::UsedCode)),
        "{error:?}"
    );
}

#[tokio::test]
async fn unknown_and_expired_codes_say_so_in_one_sentence() {
    let bench =
        Bench::with(|config| config.rendezvous_limits.code_lifetime = Duration::from_secs(1)).await;
    let error = bench
        .connect(Meeting::Join(code("7-amber-canyon")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RendezvousError::Refused(Refusal::UnknownCode)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "nobody waits under this code: check its spelling, or ask your peer for a new one"
    );
    let mut a = bench
        .connect(Meeting::JoinOrCreate(code("7-amber-canyon")))
        .await
        .unwrap();
    let error = next_error(&mut a).await;
    assert!(
        matches!(error, RendezvousError::Refused(Refusal::ExpiredCode)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "the code has expired: agree on a new one"
    );
}

#[tokio::test]
async fn guessing_ends_in_a_typed_refusal() {
    let bench = Bench::start().await;
    for number in 0..10 {
        let error = bench
            .connect(Meeting::Join(code(&format!("{number}-wrong-guess"))))
            .await
            .unwrap_err();
        assert!(
            matches!(error, RendezvousError::Refused(Refusal::UnknownCode)),
            "{error:?}"
        );
    }
    let error = bench
        .connect(Meeting::Join(code("10-wrong-guess")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            RendezvousError::Refused(Refusal::TooManyAttempts { .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn garbage_and_oversize_are_refused_by_name() {
    let bench = Bench::start().await;
    let hello = format!(r#"{{"type":"hello","schema":"{SCHEMA}"}}"#);
    let oversize = format!(
        r#"{{"type":"create","x":"{}"}}"#,
        "x".repeat(MAX_MESSAGE_BYTES)
    );
    for (message, expected) in [
        (Message::text("garbage"), Refusal::BadMessage),
        (Message::binary(vec![0; 100]), Refusal::BadMessage),
        (Message::text(oversize), Refusal::MessageTooLarge),
    ] {
        let mut socket = bench.raw().await;
        socket.send(Message::text(hello.clone())).await.unwrap();
        socket.send(message).await.unwrap();
        assert_eq!(refusal(&mut socket).await, Some(expected));
    }
    // Far too much is not even read to its end.
    let mut socket = bench.raw().await;
    let _ = socket
        .send(Message::text("x".repeat(8 * MAX_MESSAGE_BYTES)))
        .await;
    assert_eq!(refusal(&mut socket).await, None);
    // And the server is as before.
    bench.connect(Meeting::Create).await.unwrap();
}

#[tokio::test]
async fn a_signal_that_is_none_is_reported_and_the_rest_goes_on() {
    let bench = Bench::start().await;
    let mut a = bench
        .connect(Meeting::JoinOrCreate(code("our own code")))
        .await
        .unwrap();
    let mut socket = bench.raw().await;
    for text in [
        &format!(r#"{{"type":"hello","schema":"{SCHEMA}"}}"#),
        r#"{"type":"join","code":"our-own-code"}"#,
        r#"{"type":"signal","signal":{"type":"candidate"}}"#,
        r#"{"type":"signal","signal":{"type":"of a later version"}}"#,
        r#"{"type":"signal","signal":{"type":"end_of_candidates"}}"#,
    ] {
        socket.send(Message::text(text)).await.unwrap();
    }
    assert!(matches!(
        next(&mut a).await,
        Some(RendezvousEvent::PeerJoined { .. })
    ));
    assert!(matches!(
        next(&mut a).await,
        Some(RendezvousEvent::Malformed(_))
    ));
    expect_signals(
        &mut a,
        &[Signal::EndOfCandidates {
            username_fragment: None,
        }],
    )
    .await;
}

#[tokio::test]
async fn the_client_keeps_its_bounds() {
    let bench = Bench::start().await;
    let a = bench.connect(Meeting::Create).await.unwrap();
    let large = Signal::Candidate(CandidateInit::new("x".repeat(MAX_MESSAGE_BYTES)));
    assert!(matches!(a.send(&large), Err(RendezvousError::TooLarge)));
    let end = Signal::EndOfCandidates {
        username_fragment: None,
    };
    let full = (0..1000).map(|_| a.send(&end)).find(Result::is_err);
    assert!(
        matches!(full, Some(Err(RendezvousError::QueueFull))),
        "{full:?}"
    );
}

#[tokio::test]
async fn health_is_json_and_other_paths_are_not_found() {
    let bench = Bench::start().await;
    let _a = bench.connect(Meeting::Create).await.unwrap();
    for (path, expected) in [
        ("/health", "200 OK"),
        ("/", "404 Not Found"),
        (PATH, "400 Bad Request"),
    ] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(GUARD, stream.read_to_string(&mut response))
            .await
            .unwrap()
            .unwrap();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {expected}")),
            "{path}: {response}"
        );
        if path == "/health" {
            let body = response.split_once("\r\n\r\n").unwrap().1;
            let health: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(health["schema"], "nilas.health/1");
            assert_eq!(health["ok"], true);
            assert_eq!(health["rendezvous"]["codes"], 1);
        }
    }
}

#[tokio::test]
async fn cve_2020_6061_a_request_that_never_ends_is_cut_off() {
    let bench = Bench::with(|config| {
        config.rendezvous_limits.greeting_time = Duration::from_millis(50);
    })
    .await;
    for start in ["", "GET /health HT"] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut buffer = Vec::new();
        // Whatever it says, it ends.
        let _ = timeout(GUARD, stream.read_to_end(&mut buffer))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn stopping_tells_the_clients_and_frees_the_port() {
    let bench = Bench::start().await;
    let mut a = bench.connect(Meeting::Create).await.unwrap();
    bench.handle.stop();
    let error = next_error(&mut a).await;
    assert!(
        matches!(error, RendezvousError::Refused(Refusal::ShuttingDown)),
        "{error:?}"
    );
    timeout(GUARD, bench.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let error = timeout(
        GUARD,
        Rendezvous::connect(&format!("ws://{}", bench.address), Meeting::Create),
    )
    .await;
    assert!(
        matches!(error, Ok(Err(RendezvousError::Unreachable { .. }))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_clients_along() {
    let bench = Bench::start().await;
    let mut a = bench.connect(Meeting::Create).await.unwrap();
    bench.server.abort();
    let end = timeout(GUARD, a.recv()).await.unwrap();
    assert!(
        matches!(end, Ok(None) | Err(RendezvousError::Lost(_))),
        "{end:?}"
    );
}
