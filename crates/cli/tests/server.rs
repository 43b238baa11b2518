//! `nilas server`: one line when it serves, and a good end.

#![cfg(unix)]

mod support;

use std::net::UdpSocket;
use std::process::Command;

use support::{Running, complaint, last_json, run};

#[test]
fn it_says_ready_once_it_serves_and_ends_with_a_signal() {
    for signal in ["-INT", "-TERM"] {
        let server = support::Server::start();
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        client
            .set_read_timeout(Some(support::GUARD))
            .expect("a timeout");
        // RFC 8489 section 5: a Binding request with no attributes.
        let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        request.extend_from_slice(b"twelve bytes");
        client
            .send_to(&request, &server.stun)
            .expect("loopback takes it");
        let mut answer = [0; 512];
        let length = client.recv(&mut answer).expect("an answer");
        assert!(length > 20 && answer[..2] == [1, 1] && answer[8..20] == *b"twelve bytes");

        let pid = server.running.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .expect("kill runs")
                .success()
        );
        let stopped = server.running.json(|value| value["event"] == "stopped");
        assert_eq!(stopped["schema"], "nilas.server/1");
        assert_eq!(server.running.exit_code(), Some(0));
    }
}

/// CVE-2018-4056, CVE-2018-4059, GHSA-v8hj-2xx7-xmp5 and coturn#1830: there is no console and no panel to administrate it
/// by, and nothing else that nobody asked for.
#[cfg(target_os = "linux")]
#[test]
fn coturn_e72930f5_it_listens_where_it_says_and_nowhere_else() {
    let server = support::Server::start();
    let port = |text: &str| -> u16 {
        let (_, port) = text.rsplit_once(':').expect("with a port");
        port.parse().expect("a number")
    };
    let (stun, rendezvous) = (port(&server.stun), port(&server.rendezvous));
    let stun_tcp = port(server.ready["stun_tcp"][0].as_str().expect("a text"));
    let found = listeners(server.running.child.id());
    let wanted = [("tcp", stun_tcp), ("tcp", rendezvous), ("udp", stun)];
    assert_eq!(found, wanted.into(), "{}", server.ready);
}

/// The ports at which a process takes in what comes, as the system knows them.
#[cfg(target_os = "linux")]
fn listeners(pid: u32) -> std::collections::BTreeSet<(&'static str, u16)> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let names = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = names
        .filter_map(|name| {
            let name = name.to_str()?.strip_prefix("socket:[")?;
            Some(name.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut found = std::collections::BTreeSet::new();
    for (file, kind, listens) in [
        ("tcp", "tcp", "0A"),
        ("tcp6", "tcp", "0A"),
        ("udp", "udp", "07"),
        ("udp6", "udp", "07"),
    ] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{file}"));
        for line in table.unwrap_or_default().lines().skip(1) {
            // The local address, the state, and the number of the socket.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, socket, ..] = fields[..] else {
                panic!("{file}: {line}");
            };
            if state == listens && sockets.iter().any(|own| own == socket) {
                let (_, port) = local.rsplit_once(':').expect("with a port");
                let port = u16::from_str_radix(port, 16).expect("in hexadecimal");
                found.insert((kind, port));
            }
        }
    }
    let unix = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    for line in unix.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 0x10000: it accepts connections.
        if fields[3] == "00010000" && sockets.iter().any(|own| own == fields[6]) {
            found.insert(("unix", 0));
        }
    }
    found
}

#[test]
fn people_get_one_line() {
    let server = Running::start(&[
        "server",
        "--listen",
        "127.0.0.1:0",
        "--signal-listen",
        "127.0.0.1:0",
    ]);
    let line = server.line();
    assert!(
        line.starts_with("ready: ") && line.contains("ws://127.0.0.1:"),
        "{line}"
    );
}

#[test]
fn a_port_in_use_is_a_sentence() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = run(&[
        "server",
        "--listen",
        &address,
        "--signal-listen",
        "127.0.0.1:0",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        complaint(&output).contains("in use"),
        "{}",
        complaint(&output)
    );
    assert_eq!(last_json(&output)["event"], "failed");
}
