//! DTLS over loopback: our client and our server, and the server beside hostile and lost packets.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Authority, Directory, HANG_GUARD};
use dimpl::{Dtls, DtlsCertificate, Output};
use nilas_net::stream::{
    CertifiedKeyStore, ClientTls, DtlsClosed, DtlsLimits, DtlsOutput, DtlsServer, DtlsServerError,
    Stream, StreamCause, StreamDeadlines, StreamError, StreamRequest, StreamStage, StreamTransport,
    open,
};
use tokio::net::UdpSocket;

fn certificate(authority: &Authority, name: &str) -> DtlsCertificate {
    let directory = Directory::new();
    let (certificate, key) = directory.write_identity(&authority.issue(&[name]));
    CertifiedKeyStore::load(&certificate, &key)
        .unwrap()
        .dtls_certificate()
}

fn server(authority: &Authority, limits: DtlsLimits, now: Instant) -> DtlsServer {
    let certificate = certificate(authority, "turn.example.org");
    DtlsServer::new(certificate, limits, &[9; 32], now).unwrap()
}

async fn try_open(
    remote: SocketAddr,
    name: &str,
    roots: &Authority,
) -> Result<Stream, StreamError> {
    let tls = ClientTls::from_pem(roots.pem().as_bytes()).unwrap();
    let server_name = name.to_owned();
    let request = StreamRequest::new(remote, StreamTransport::Dtls { server_name });
    let deadlines = StreamDeadlines {
        handshake: HANG_GUARD,
        ..StreamDeadlines::default()
    };
    open(&request, &tls, &deadlines).await
}

/// Drives a server that sends every datagram back.
async fn serve(mut server: DtlsServer, socket: UdpSocket) {
    let mut packet = vec![0; 20_000];
    socket.writable().await.unwrap();
    loop {
        let deadline = server
            .deadline()
            .unwrap_or_else(|| Instant::now() + HANG_GUARD);
        let received = tokio::select! {
            received = socket.recv_from(&mut packet) => Some(received.unwrap()),
            () = tokio::time::sleep_until(deadline.into()) => None,
        };
        let mut echoes = Vec::new();
        let mut tell = |output: DtlsOutput<'_>| match output {
            DtlsOutput::Transmit { client, datagram } => {
                socket.try_send_to(datagram, client).unwrap();
            }
            DtlsOutput::Data { client, datagram } => echoes.push((client, datagram.to_vec())),
            _ => (),
        };
        let now = Instant::now();
        match received {
            Some((length, client)) => server.handle(now, client, &packet[..length], &mut tell),
            None => server.handle_timeout(now, &mut tell),
        }
        for (client, datagram) in echoes {
            if datagram == b"close" {
                server.close(now, client, &mut |output| {
                    if let DtlsOutput::Transmit { client, datagram } = output {
                        socket.try_send_to(datagram, client).unwrap();
                    }
                });
                assert_eq!(server.sessions(), 0);
                continue;
            }
            assert!(server.send(now, client, &datagram, &mut |output| {
                if let DtlsOutput::Transmit { client, datagram } = output {
                    socket.try_send_to(datagram, client).unwrap();
                }
            }));
        }
    }
}

#[tokio::test]
async fn datagrams_go_both_ways_and_the_end_is_seen() {
    let authority = Authority::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = server(&authority, DtlsLimits::default(), Instant::now());
    tokio::spawn(serve(server, socket));
    let stream = try_open(address, "turn.example.org", &authority)
        .await
        .unwrap();
    let (mut reader, mut writer) = stream.into_split();
    assert!(reader.is_datagrams());
    let mut buffer = vec![0; 20_000];
    for length in [1, 100, 1200, 8000] {
        let datagram = vec![7; length];
        writer.write_all(&datagram).await.unwrap();
        let read = reader.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], datagram);
    }
    assert!(writer.try_write(&[0; 20_000]).is_err());
    writer.write_all(b"close").await.unwrap();
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
    while writer.try_write(b"x").is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_or_another_is_refused() {
    let authority = Authority::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = server(&authority, DtlsLimits::default(), Instant::now());
    tokio::spawn(serve(server, socket));
    for (name, roots) in [
        ("turn.example.org", &Authority::new()),
        ("other.example.org", &authority),
        ("127.0.0.1", &authority),
    ] {
        let error = try_open(address, name, roots).await.unwrap_err();
        assert_eq!(error.stage, StreamStage::Handshake);
        assert!(
            matches!(error.cause, StreamCause::Certificate(_)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_server_of_dtls_1_3_is_understood() {
    let authority = Authority::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let certificate = certificate(&authority, "turn.example.org");
    let config = dimpl::Config::builder()
        .require_client_certificate(false)
        .build()
        .unwrap();
    let mut dtls = Dtls::new_13(Arc::new(config), certificate, Instant::now());
    tokio::spawn(async move {
        socket.writable().await.unwrap();
        let mut packet = vec![0; 3000];
        let mut output = vec![0; 3000];
        loop {
            let (length, client) = socket.recv_from(&mut packet).await.unwrap();
            dtls.handle_timeout(Instant::now()).unwrap();
            dtls.handle_packet(&packet[..length]).unwrap();
            let mut said = None;
            for _ in 0..2 {
                loop {
                    match dtls.poll_output(&mut output) {
                        Output::Packet(datagram) => {
                            socket.try_send_to(datagram, client).unwrap();
                        }
                        Output::ApplicationData(data) => said = Some(data.to_vec()),
                        Output::Timeout(_) => break,
                        _ => (),
                    }
                }
                if let Some(said) = said.take() {
                    dtls.send_application_data(&said).unwrap();
                }
            }
        }
    });
    let stream = try_open(address, "turn.example.org", &authority)
        .await
        .unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 100];
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_swallows_packets_costs_the_deadline() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let authority = Authority::new();
    let tls = ClientTls::from_pem(authority.pem().as_bytes()).unwrap();
    let server_name = String::from("turn.example.org");
    let request = StreamRequest::new(address, StreamTransport::Dtls { server_name });
    let start = tokio::time::Instant::now();
    let deadlines = StreamDeadlines::default();
    let error = open(&request, &tls, &deadlines).await.unwrap_err();
    assert!(start.elapsed() >= deadlines.handshake);
    assert!(matches!(error.cause, StreamCause::TimedOut), "{error}");
    // The hello was sent, and again.
    let mut packet = [0; 3000];
    for _ in 0..2 {
        socket.try_recv(&mut packet).unwrap();
    }
}

/// A client and a server without a network between them: what one sends, the test carries.
struct Wire {
    server: DtlsServer,
    client: Dtls,
    address: SocketAddr,
    now: Instant,
    opened: usize,
    closed: Vec<DtlsClosed>,
    received: Vec<Vec<u8>>,
}

impl Wire {
    fn new(limits: DtlsLimits) -> Self {
        let now = Instant::now();
        Self {
            server: server(&Authority::new(), limits, now),
            client: client(now),
            address: "192.0.2.1:1000".parse().unwrap(),
            now,
            opened: 0,
            closed: Vec::new(),
            received: Vec::new(),
        }
    }

    /// What the client sends now.
    fn client_sends(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut output = vec![0; 20_000];
        self.client.handle_timeout(self.now).unwrap();
        loop {
            match self.client.poll_output(&mut output) {
                Output::Packet(packet) => packets.push(packet.to_vec()),
                Output::Timeout(_) => return packets,
                _ => (),
            }
        }
    }

    /// What the server sends on a datagram.
    fn server_takes(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let (opened, closed, received) = (&mut self.opened, &mut self.closed, &mut self.received);
        self.server
            .handle(self.now, from, datagram, &mut |output| match output {
                DtlsOutput::Transmit { client, datagram } => {
                    assert_eq!(client, from);
                    sent.push(datagram.to_vec());
                }
                DtlsOutput::Opened { .. } => *opened += 1,
                DtlsOutput::Closed { reason, .. } => closed.push(reason),
                DtlsOutput::Data { datagram, .. } => received.push(datagram.to_vec()),
                _ => (),
            });
        sent
    }

    /// Carries packets until nobody has any.
    fn settle(&mut self) {
        for _ in 0..20 {
            let packets = self.client_sends();
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                for answer in self.server_takes(self.address, &packet) {
                    self.client.handle_packet(&answer).unwrap();
                }
            }
        }
        panic!("it never settles");
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        let closed = &mut self.closed;
        self.server.handle_timeout(self.now, &mut |output| {
            if let DtlsOutput::Closed { reason, .. } = output {
                closed.push(reason);
            }
        });
    }
}

fn client(now: Instant) -> Dtls {
    let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
    let config = dimpl::Config::builder().build().unwrap();
    let mut client = Dtls::new_12(Arc::new(config), certificate, now);
    client.set_active(true);
    client
}

#[test]
fn a_key_that_dtls_cannot_use_is_refused_at_once() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let authority = Authority::new();
    let directory = Directory::new();
    let (chain, key) = directory.write_identity(&authority.issue_for(&key, &["a.example"]));
    let other = CertifiedKeyStore::load(&chain, &key).unwrap();
    let now = Instant::now();
    let limits = DtlsLimits::default();
    let refused = DtlsServer::check(&other.dtls_certificate());
    assert_eq!(refused, Err(DtlsServerError::Key));
    let refused = DtlsServer::new(other.dtls_certificate(), limits, &[9; 32], now);
    assert_eq!(refused.unwrap_err(), DtlsServerError::Key);
    let mut server = server(&authority, limits, now);
    let refused = server.set_certificate(other.dtls_certificate());
    assert_eq!(refused, Err(DtlsServerError::Key));
    server
        .set_certificate(certificate(&authority, "b.example"))
        .unwrap();
}

#[test]
fn ghsa_5x2p_a_flood_of_hellos_is_answered_shortly_and_kept_nowhere() {
    let mut wire = Wire::new(DtlsLimits::default());
    let hello = wire.client_sends().remove(0);
    for number in 0..10_000_u32 {
        let from = SocketAddr::from(((0xc000_0000 + number).to_be_bytes(), 1000));
        let answers = wire.server_takes(from, &hello);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].len() <= hello.len());
    }
    assert_eq!(wire.server.sessions(), 0);
    assert_eq!(wire.server.deadline(), None);
}

#[test]
fn another_address_cannot_use_a_cookie() {
    let mut wire = Wire::new(DtlsLimits::default());
    let hello = wire.client_sends().remove(0);
    let answer = wire.server_takes(wire.address, &hello).remove(0);
    wire.client.handle_packet(&answer).unwrap();
    let second = wire.client_sends().remove(0);
    let thief = "192.0.2.66:1000".parse().unwrap();
    assert_eq!(wire.server_takes(thief, &second).len(), 1, "another cookie");
    assert_eq!(wire.server.sessions(), 0);
    assert!(!wire.server_takes(wire.address, &second).is_empty());
    assert_eq!(wire.server.sessions(), 1);
}

#[test]
fn a_client_that_begins_anew_from_its_port_is_taken_anew() {
    let mut wire = Wire::new(DtlsLimits::default());
    let first_hello = wire.client_sends().remove(0);
    let answer = wire.server_takes(wire.address, &first_hello).remove(0);
    wire.client.handle_packet(&answer).unwrap();
    wire.settle();
    assert_eq!(wire.opened, 1);
    wire.client.send_application_data(b"one").unwrap();
    wire.settle();

    // A late copy of the first hello disturbs nothing, nor does a hello in its name without a cookie.
    wire.server_takes(wire.address, &first_hello);
    let mut stranger = client(wire.now);
    std::mem::swap(&mut wire.client, &mut stranger);
    let forged = wire.client_sends().remove(0);
    assert_eq!(wire.server_takes(wire.address, &forged).len(), 1);
    std::mem::swap(&mut wire.client, &mut stranger);
    wire.client.send_application_data(b"two").unwrap();
    wire.settle();
    assert_eq!(wire.received, [b"one", b"two"]);
    assert!(wire.closed.is_empty());

    wire.client = client(wire.now);
    wire.settle();
    assert_eq!(wire.opened, 2);
    assert_eq!(wire.closed, [DtlsClosed::Replaced]);
    wire.client.send_application_data(b"three").unwrap();
    wire.settle();
    assert_eq!(wire.received.len(), 3);
    assert_eq!(wire.server.sessions(), 1);
}

#[test]
fn a_full_server_turns_away_and_takes_again_when_handshakes_expire() {
    let limits = DtlsLimits {
        handshakes: 1,
        ..DtlsLimits::default()
    };
    let mut wire = Wire::new(limits);
    let begin = |wire: &mut Wire, address: SocketAddr| {
        wire.address = address;
        wire.client = client(wire.now);
        let hello = wire.client_sends().remove(0);
        let answer = wire.server_takes(address, &hello).remove(0);
        wire.client.handle_packet(&answer).unwrap();
        let second = wire.client_sends().remove(0);
        wire.server_takes(address, &second).len()
    };
    assert!(begin(&mut wire, "192.0.2.1:1".parse().unwrap()) >= 1);
    assert_eq!(begin(&mut wire, "192.0.2.2:1".parse().unwrap()), 0);
    assert_eq!(wire.server.turned_away(), 1);
    assert_eq!(wire.server.sessions(), 1);
    for _ in 0..200 {
        wire.later(Duration::from_millis(100));
    }
    assert_eq!(wire.server.sessions(), 0);
    assert_eq!(wire.server.deadline(), None);
    assert!(wire.closed.is_empty(), "it was never open");
    assert!(begin(&mut wire, "192.0.2.2:1".parse().unwrap()) >= 1);
}

#[test]
fn a_silent_client_is_forgotten() {
    let mut wire = Wire::new(DtlsLimits::default());
    wire.settle();
    assert_eq!(wire.opened, 1);
    wire.later(DtlsLimits::default().idle / 2);
    wire.client.send_application_data(b"still here").unwrap();
    wire.settle();
    wire.later(DtlsLimits::default().idle / 2 + Duration::from_secs(1));
    assert_eq!(wire.server.sessions(), 1);
    wire.later(DtlsLimits::default().idle);
    assert_eq!(wire.closed, [DtlsClosed::Idle]);
    assert_eq!(wire.server.sessions(), 0);
    assert_eq!(wire.server.deadline(), None);
}

#[test]
fn garbage_does_nothing_to_strangers_or_sessions() {
    let mut wire = Wire::new(DtlsLimits::default());
    let hello = wire.client_sends().remove(0);
    for length in 0..hello.len() {
        // What is cut off after the cookie is still the first part of a hello, and gets its answer.
        assert!(wire.server_takes(wire.address, &hello[..length]).len() <= 1);
    }
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 0xff;
        assert!(wire.server_takes(wire.address, &changed).len() <= 1);
    }
    assert_eq!(wire.server.sessions(), 0);
    let answer = wire.server_takes(wire.address, &hello).remove(0);
    wire.client.handle_packet(&answer).unwrap();
    wire.settle();
    assert_eq!(wire.opened, 1);
    for first in 20..64 {
        for length in [1, 13, 14, 40, 100] {
            let mut garbage = vec![0xa5; length];
            garbage[0] = first;
            wire.server_takes(wire.address, &garbage);
        }
    }
    wire.client.send_application_data(b"alive").unwrap();
    wire.settle();
    assert_eq!(wire.received, [b"alive"]);
}

#[test]
fn the_client_s_end_is_told() {
    let mut wire = Wire::new(DtlsLimits::default());
    wire.settle();
    wire.client.close().unwrap();
    wire.settle();
    assert_eq!(wire.closed, [DtlsClosed::ByClient]);
    assert_eq!(wire.server.sessions(), 0);
}
