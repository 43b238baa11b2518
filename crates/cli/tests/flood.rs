//! Strangers who send all they can: the server's memory is what it was.

// What a process has in memory is read where Linux tells it.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use serde_json::Value;
use support::{GUARD, Running};

/// Sources of the flood, which are many ports.
const SOURCES: usize = 100;
/// What one of them sends between two signs of life of the server, so that all of it is read and not lost before.
const BURST: usize = 25;

/// A server and its addresses, with a user whom nobody of these knows.
struct Flooded {
    server: Running,
    plain: SocketAddr,
    secure: SocketAddr,
    metrics: String,
}

impl Flooded {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("nilas-flood-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the test");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).expect("a file for the test");
            path.to_str().expect("plain letters").to_owned()
        };
        let certificate = file("certificate.pem", &made.cert.pem());
        let key = file("key.pem", &made.signing_key.serialize_pem());
        let server = Running::start(&[
            "server",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--tls-listen",
            "127.0.0.1:0",
            "--cert",
            &certificate,
            "--key",
            &key,
            "--signal-listen",
            "none",
            "--metrics",
            "127.0.0.1:0",
            "--user",
            "ann:x",
            "--workers",
            "2",
        ]);
        let ready = server.json(|value| value["event"] == "ready");
        fs::remove_dir_all(&directory).expect("it was made above");
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Self {
            plain: address(&ready["stun_udp"][0]).expect("an address"),
            secure: address(&ready["tls"][0]).expect("an address"),
            metrics: ready["metrics"].as_str().expect("an address").to_owned(),
            server,
        }
    }

    /// Kibibytes in memory.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.child.id());
        let status = fs::read_to_string(path).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|text| text.parse().ok()).expect("a number")
    }

    /// A number of the page for operators.
    fn metric(&self, series: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.metrics).expect("it listens");
        stream.set_read_timeout(Some(GUARD)).expect("a timeout");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("an answer");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no {series} in {page}"))
    }

    /// This many datagrams of every kind, each to both ports, from all sources in turn.
    fn flood(&self, datagrams: usize) {
        let sources: Vec<_> = (0..SOURCES)
            .map(|_| {
                let source = UdpSocket::bind("127.0.0.1:0").expect("a free port");
                source.set_read_timeout(Some(GUARD)).expect("a timeout");
                source
            })
            .collect();
        let mut kinds = datagrams_of_strangers();
        for burst in 0..datagrams / BURST {
            let source = &sources[burst % SOURCES];
            for number in 0..BURST {
                let serial = burst * BURST + number;
                let length = kinds.len();
                let datagram = &mut kinds[serial % length];
                // Another transaction each time, where the datagram has one.
                if let Some(id) = datagram.get_mut(8..12) {
                    id.copy_from_slice(&(serial as u32).to_be_bytes());
                }
                let to = [self.plain, self.secure][serial / length % 2];
                source.send_to(datagram, to).expect("loopback takes it");
            }
            // What one source sends to one port, one worker reads, in order: with this answer all of it was read. Those before are
            // for nobody.
            let (mut request, mut answer) = (stun(1, &[]), [0; 1_500]);
            request[8..20].copy_from_slice(b"still there?");
            request[8..12].copy_from_slice(&(burst as u32).to_be_bytes());
            for to in [self.plain, self.secure] {
                source.send_to(&request, to).expect("loopback takes it");
                while answer[8..20] != request[8..20] {
                    source.recv(&mut answer).expect("the server still answers");
                }
                answer = [0; 1_500];
            }
        }
    }

    /// So many connections that say too little, or nonsense, or nothing.
    fn connect(&self, connections: usize) {
        let beginnings: [&[u8]; 5] = [
            b"",
            &[0, 3, 0, 8, 0x21],
            b"GET / HTTP/1.1\r\n\r\n",
            &[22, 3, 1, 2, 0, 1],
            &[0x40, 0, 0xFF, 0xFF, 1, 2, 3],
        ];
        for number in 0..connections {
            let address = [self.plain, self.secure][number % 2];
            // What is refused at once, as there are too many of one address, costs nothing either.
            if let Ok(mut stream) = TcpStream::connect(address) {
                let _ = stream.write_all(beginnings[number / 2 % beginnings.len()]);
            }
        }
    }
}

/// A request or an indication of this type with these attributes, and no transaction of its own yet.
fn stun(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&(value.len() as u16).to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    message.extend_from_slice(b"twelve bytes");
    message.extend_from_slice(&body);
    message
}

/// What somebody without credentials can think of.
fn datagrams_of_strangers() -> Vec<Vec<u8>> {
    // RFC 8656 section 17: the methods; section 18: the attributes.
    let transport: (u16, &[u8]) = (0x0019, &[17, 0, 0, 0]);
    let lifetime: (u16, &[u8]) = (0x000D, &[0, 0, 0x0E, 0x10]);
    let even_port: (u16, &[u8]) = (0x0018, &[0x80]);
    let peer: (u16, &[u8]) = (0x0012, &[0, 1, 0x21, 0x13, 0x5E, 0x12, 0xA4, 0x43]);
    let channel: (u16, &[u8]) = (0x000C, &[0x40, 0, 0, 0]);
    let data: (u16, &[u8]) = (0x0013, &[7; 900]);
    let forged: [(u16, &[u8]); 4] = [
        (0x0006, b"ann"),
        (0x0014, b"nilas"),
        (0x0015, b"obMatJos2gAAAnonce"),
        (0x0008, &[9; 20]),
    ];
    let ticket: (u16, &[u8]) = (0x8030, &[3; 60]);
    let mut forged_allocate = vec![transport];
    forged_allocate.extend_from_slice(&forged);
    let mut forged_refresh = vec![lifetime, ticket];
    forged_refresh.extend_from_slice(&forged);
    let mut garbage: Vec<u8> = (0..=255).collect();
    garbage[0] = 0xC0;
    let mut overlong = stun(0x0003, &[transport]);
    overlong[3] = 0xFC;
    vec![
        stun(0x0001, &[]),
        stun(0x0003, &[transport]),
        stun(0x0003, &[transport, even_port]),
        stun(0x0003, &[transport, (0x0006, &[b'x'; 500])]),
        stun(0x0003, &forged_allocate),
        stun(0x0004, &[lifetime]),
        stun(0x0004, &forged_refresh),
        stun(0x0008, &[peer]),
        stun(0x0009, &[channel, peer]),
        stun(0x0016, &[peer, data]),
        [&[0x40, 0, 0, 100][..], &[7; 100]].concat(),
        hello_of_dtls(),
        garbage,
        overlong,
        Vec::new(),
    ]
}

/// A ClientHello of DTLS 1.2 without a cookie, which is to be answered and forgotten.
fn hello_of_dtls() -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend_from_slice(&[5; 32]);
    // No session, no cookie, one cipher suite, no compression.
    body.extend_from_slice(&[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
    let length = (body.len() as u32).to_be_bytes();
    let mut handshake = vec![1, length[1], length[2], length[3], 0, 0, 0, 0, 0];
    handshake.extend_from_slice(&length[1..]);
    handshake.extend_from_slice(&body);
    let mut record = vec![22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&(handshake.len() as u16).to_be_bytes());
    record.extend_from_slice(&handshake);
    record
}

#[test]
fn a_flood_of_strangers_leaves_the_servers_memory_as_it_is() {
    let flooded = Flooded::start();
    // What is allocated once is allocated now.
    flooded.flood(20_000);
    flooded.connect(400);
    let before = flooded.resident();
    flooded.flood(200_000);
    flooded.connect(2_000);
    let after = flooded.resident();
    println!("{before} KiB before the flood, {after} KiB after it");
    // Eight bytes kept of each datagram would be 1,500 KiB.
    assert!(after < before + 1_024, "{before} KiB, then {after} KiB");
    let received = flooded.metric("nilas_udp_datagrams_total{what=\"received\"}");
    assert!(received > 200_000, "most of it arrived: {received}");
    for gauge in [
        "nilas_turn_allocations",
        "nilas_turn_relays",
        "nilas_turn_users",
        "nilas_turn_ports",
        "nilas_turn_reservations",
    ] {
        assert_eq!(flooded.metric(gauge), 0, "{gauge}");
    }
    assert!(flooded.metric("nilas_turn_requests_refused_total{reason=\"challenged\"}") > 1_000);
}
