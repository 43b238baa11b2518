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
