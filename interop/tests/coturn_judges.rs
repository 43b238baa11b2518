//! Our relay, judged by others: coturn's clients in their modes, and aioice.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nilas_interop::HANG_GUARD;
use nilas_interop::coturn::{PASSWORD, USER, free_port};
use nilas_interop::programs;
use nilas_interop::relay_server::{RelayServer, SECRET};

/// What sends nothing back by then has not got its port.
const PEER_START: Duration = Duration::from_secs(15);

/// `turnutils_peer`, which sends everything back. Dropped, it is killed.
struct Peer {
    child: Child,
    port: String,
}

impl Peer {
    /// Starts it, and waits until it sends back.
    fn start() -> Self {
        for _ in 0..10 {
            let port = free_port().unwrap();
            let child = Command::new("turnutils_peer")
                .args(["-L", "127.0.0.1", "-L", "::1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("turnutils_peer (Debian's package coturn) starts");
            let mut peer = Self {
                child,
                port: port.to_string(),
            };
            if ["127.0.0.1", "::1"]
                .iter()
                .all(|host| peer.answers(host, port))
            {
                return peer;
            }
            // Another program has been faster to take the port.
        }
        panic!("turnutils_peer never sends back");
    }

    fn answers(&mut self, host: &str, port: u16) -> bool {
        let began = Instant::now();
        while began.elapsed() < PEER_START && matches!(self.child.try_wait(), Ok(None)) {
            let asked = || {
                let socket = UdpSocket::bind((host, 0))?;
                socket.connect((host, port))?;
                socket.set_read_timeout(Some(Duration::from_millis(100)))?;
                socket.send(b"?")?;
                socket.recv(&mut [0; 10])
            };
            match asked() {
                Ok(_) => return true,
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        false
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `turnutils_uclient` with two clients and 20 messages each: every one comes back.
///
/// Over TLS, where the machine pauses, it now and then has one of them and does not see it, with coturn's server as well (one
/// session in 60 there, on half a processor). So it may miss one, and [`nothing_stays_in`] the server.
#[track_caller]
fn nothing_is_lost(server: &RelayServer, arguments: &[&str]) {
    let peer = Peer::start();
    // TLS and DTLS have a port of their own.
    let secure = arguments.contains(&"-S");
    let port = if secure {
        server.tls_port()
    } else {
        server.port()
    };
    let port = port.to_string();
    let mut command = Command::new("turnutils_uclient");
    command.args(["-u", USER, "-w", PASSWORD, "-p", &port, "-r", &peer.port]);
    command.args(["-n", "20", "-m", "2"]).args(arguments);
    // RFC 8656 section 7.2: an IPv6 peer is reached from an IPv6 relayed address.
    let peer = if arguments.contains(&"-x") {
        "::1"
    } else {
        "127.0.0.1"
    };
    command.args(["-e", peer, "127.0.0.1"]);
    let said = programs::run(command);
    let text = [said.output.as_str(), &said.errors].concat();
    assert_eq!(said.code, Some(0), "{arguments:?}: {text}");
    let lost = text
        .lines()
        .rev()
        .find_map(|line| line.split_once("Total lost packets "));
    let lost = lost.and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
    let over_tls = secure && arguments.iter().any(|flag| ["-t", "-T"].contains(flag));
    assert!(
        lost.is_some_and(|lost| lost <= u32::from(over_tls)),
        "{arguments:?}: {text}"
    );
    // It counts what it lost among what it sent; nothing sent is nothing lost.
    let sent = text.lines().rfind(|line| line.contains("tot_send_msgs="));
    assert!(
        sent.is_some_and(|line| !line.contains("tot_send_msgs=0,")),
        "{arguments:?}: {text}"
    );
}

/// All at once, as each of them mostly waits. The server that they had.
fn nothing_is_lost_in_any(rows: &[&[&str]]) -> RelayServer {
    let server = RelayServer::start().unwrap();
    thread::scope(|scope| {
        for arguments in rows {
            scope.spawn(|| nothing_is_lost(&server, arguments));
        }
    });
    server
}

/// What came from clients has gone to clients: each message is sent back, or is for another client.
#[track_caller]
fn nothing_stays_in(server: &RelayServer) {
    let is_even = || {
        let turn = server.stats().turn;
        turn.packets_to_peers > 0 && turn.packets_to_peers == turn.packets_to_clients
    };
    // The client may have ended with the last one under way.
    let begin = Instant::now();
    while !is_even() && begin.elapsed() < HANG_GUARD {
        thread::sleep(Duration::from_millis(20));
    }
    let stats = server.stats();
    assert!(is_even(), "{stats:#?}");
    let lost = [
        stats.stream_data_lost,
        stats.relay_not_sent,
        stats.handovers_lost,
    ];
    assert_eq!(lost, [0; 3], "{stats:#?}");
}

#[test]
fn uclient_loses_nothing_over_udp() {
    nothing_is_lost_in_any(&[
        // Channels and a second allocation for RTCP beside each; Send indications; neither.
        &[],
        &["-s"],
        &["-c"],
        // Client to client.
        &["-y"],
        &["-y", "-s", "-c"],
        // DONT-FRAGMENT, long messages, padded channels, superfluous requests.
        &["-g", "-l", "1200"],
        &["-D", "-l", "101"],
        &["-G"],
        // Not `-M`: it takes only tickets of eight bytes, which an attacker could guess (RFC 8016 section 5).
        // Nor `-Z`: it asks for a second family by 0x8032, a number from before RFC 8656 section 18.11.
        // An IPv6 relayed address.
        &["-x"],
    ]);
}

#[test]
fn uclient_loses_nothing_over_tcp() {
    nothing_is_lost_in_any(&[
        &["-t"],
        &["-t", "-s"],
        &["-t", "-y", "-s", "-c"],
        &["-t", "-y", "-l", "1200"],
        &["-t", "-x"],
    ]);
}

#[test]
fn uclient_loses_nothing_over_tls() {
    let server = nothing_is_lost_in_any(&[
        &["-t", "-S"],
        &["-t", "-S", "-s"],
        // Not `-y` without `-s`: over TLS it misses its own last messages then, with coturn's server, too.
        &["-t", "-S", "-y", "-s", "-c"],
        &["-t", "-S", "-l", "1200"],
        &["-t", "-S", "-x"],
    ]);
    nothing_stays_in(&server);
}

#[test]
fn uclient_loses_nothing_over_dtls() {
    nothing_is_lost_in_any(&[
        &["-S"],
        &["-S", "-s"],
        &["-S", "-y", "-s", "-c"],
        &["-S", "-y", "-l", "1200"],
        &["-S", "-x"],
    ]);
}

#[test]
fn uclient_loses_nothing_to_tcp_peers() {
    nothing_is_lost_in_any(&[&["-T"], &["-T", "-y", "-s", "-c"], &["-T", "-S"]]);
}

#[test]
fn uclient_makes_time_limited_credentials_that_are_taken() {
    let server = RelayServer::start().unwrap();
    nothing_is_lost(&server, &["-W", SECRET]);
}

#[test]
fn natdiscovery_sees_that_there_is_no_nat() {
    let server = RelayServer::start().unwrap();
    let mut command = Command::new("turnutils_natdiscovery");
    command.args([
        "-m",
        "-f",
        "-L",
        "127.0.0.1",
        "-p",
        &server.port().to_string(),
        "127.0.0.1",
    ]);
    let said = programs::run(command);
    let text = [said.output.as_str(), &said.errors].concat();
    assert_eq!(said.code, Some(0), "{text}");
    for words in [
        "No NAT! (Endpoint Independent Mapping)",
        "NAT with Endpoint Independent Filtering!",
    ] {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
}

#[test]
fn aioice_relays_through_us_over_udp_tcp_and_tls() {
    let server = RelayServer::start().unwrap();
    for transport in ["udp", "tcp", "tls"] {
        let port = match transport {
            "tls" => server.tls_port(),
            _ => server.port(),
        };
        let mut command = programs::aioice_relay().unwrap();
        command
            .args(["127.0.0.1", &port.to_string(), USER, PASSWORD, transport])
            .env("SSL_CERT_FILE", server.authority());
        let said = programs::run(command);
        assert_eq!(said.code, Some(0), "{transport}: {said:?}");
        assert_eq!(
            said.output.trim(),
            "20 of 20 came back",
            "{transport}: {said:?}"
        );
    }
}

#[test]
fn our_own_client_finds_every_transport_of_ours() {
    let server = RelayServer::start().unwrap();
    let authority = server.authority();
    for (scheme, port) in [("turn", server.port()), ("turns", server.tls_port())] {
        let mut command = Command::new(programs::nilas().unwrap());
        command.args(["turn", "test", &format!("{scheme}:127.0.0.1:{port}")]);
        command
            .args(["--user", USER, "--password", PASSWORD, "--json", "--ca"])
            .arg(&authority);
        let said = programs::run(command);
        assert_eq!(said.code, Some(0), "{said:?}");
        let report: serde_json::Value = serde_json::from_str(&said.output).unwrap();
        let rows = report["servers"][0]["transports"].as_array().expect("rows");
        let works = |name: &str| {
            rows.iter()
                .any(|row| row["transport"] == name && row["outcome"] == "works")
        };
        let wanted = match scheme {
            "turn" => ["udp", "tcp"],
            _ => ["tls", "dtls"],
        };
        for transport in wanted {
            assert!(works(transport), "{transport}: {report:#}");
        }
        // Both families in one allocation.
        let relays = rows[0]["relays"].as_array().expect("relays");
        assert_eq!(relays.len(), 2, "{report:#}");
    }
}
