//! `nilas connect`: two processes, by code and by ticket, through a server of our own.

mod support;

use std::io::Write;
use std::process::Stdio;

use support::{Running, Server, complaint, finish, nilas, run};

#[test]
fn a_pipe_arrives_whole_in_both_directions() {
    let server = Server::start();
    let content: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let waiting = Running::start(&[
        "connect",
        "--server",
        &server.rendezvous,
        "--loopback",
        "--json",
    ]);
    let code = waiting.json(|event| event["event"] == "code")["code"]
        .as_str()
        .expect("a text")
        .to_owned();

    let mut child = nilas(&[
        "connect",
        &code,
        "--server",
        &server.rendezvous,
        "--loopback",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut text: Vec<u8> = content.iter().map(|byte| b'a' + byte % 26).collect();
    text.push(b'\n');
    let sent = text.clone();
    std::thread::spawn(move || stdin.write_all(&sent));
    let mut waiting = waiting;
    waiting.write("from the one who waited\n");
    waiting.close_input();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(output.stdout, b"from the one who waited\n");
    assert!(
        complaint(&output).starts_with("NOT ENCRYPTED"),
        "{}",
        complaint(&output)
    );

    let mut received = String::new();
    while let Some(line) = waiting.line_or_end() {
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if event["schema"] == "nilas.connect/1" {
            assert_eq!(event["ok"], true);
            assert_eq!(waiting.line_or_end(), None, "it is the last line");
            break;
        }
        assert_eq!(event["schema"], "nilas.connect-event/1");
        if event["event"] == "data" {
            received.push_str(event["data"].as_str().expect("a text"));
        }
    }
    assert!(
        received.as_bytes() == &text[..text.len() - 1],
        "{} of {} bytes",
        received.len(),
        text.len() - 1
    );
    assert_eq!(waiting.exit_code(), Some(0));
}

#[test]
fn both_sides_may_agree_on_a_code() {
    let server = Server::start();
    let arguments = [
        "connect",
        "our own word",
        "--wait",
        "--server",
        &server.rendezvous,
        "--loopback",
        "--json",
    ];
    let (mut a, mut b) = (Running::start(&arguments), Running::start(&arguments));
    for side in [&mut a, &mut b] {
        side.write("hello\n");
        side.close_input();
    }
    for side in [a, b] {
        assert_eq!(side.json(|event| event["event"] == "data")["data"], "hello");
        assert_eq!(side.exit_code(), Some(0));
    }
}

#[test]
fn tickets_need_no_server() {
    let arguments = ["connect", "--ticket", "--loopback", "--json"];
    let (mut a, mut b) = (Running::start(&arguments), Running::start(&arguments));
    let ticket = |side: &Running| {
        side.json(|event| event["event"] == "ticket")["ticket"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    let (from_a, from_b) = (ticket(&a), ticket(&b));
    a.write(&format!("{from_b}\nfrom a\n"));
    b.write(&format!("{from_a}\nfrom b\n"));
    assert_eq!(a.json(|event| event["event"] == "data")["data"], "from b");
    assert_eq!(b.json(|event| event["event"] == "data")["data"], "from a");
    a.close_input();
    b.close_input();
    assert_eq!(a.exit_code(), Some(0));
    assert_eq!(b.exit_code(), Some(0));
}

#[test]
fn a_broken_or_own_ticket_is_a_sentence() {
    let output = support::run_with(&["connect", "--ticket", "--loopback"], b"nilas1:broken\n");
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    let mut own = Running::start(&["connect", "--ticket", "--loopback", "--json"]);
    let ticket = own.json(|event| event["event"] == "ticket")["ticket"]
        .as_str()
        .expect("a text")
        .to_owned();
    own.write(&format!("{ticket}\n"));
    own.error_line("own ticket");
    assert_eq!(own.exit_code(), Some(2));
    let output = run(&["connect", "--ticket", "--loopback"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
}

#[test]
fn what_is_wrong_with_the_meeting_is_a_sentence() {
    let server = Server::start();
    let output = run(&["connect", "9-amber-canyon", "--server", &server.rendezvous]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("nobody waits under this code"),
        "{}",
        complaint(&output)
    );

    // No port that the system gives to anybody who asks for one.
    let output = run(&["connect", "--json", "--server", "ws://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("cannot be reached"),
        "{}",
        complaint(&output)
    );
    let result = support::last_json(&output);
    assert_eq!(result["schema"], "nilas.connect/1");
    assert_eq!(result["ok"], false);
    let reason = result["reason"].as_str().expect("a text");
    assert!(reason.contains("cannot be reached"), "{reason}");

    let output = run(&["connect", "--server", "https://127.0.0.1"]);
    assert_eq!(output.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn whoever_leaves_is_missed_at_once() {
    let server = Server::start();
    let waiting = Running::start(&[
        "connect",
        "--server",
        &server.rendezvous,
        "--loopback",
        "--json",
    ]);
    let code = waiting.json(|event| event["event"] == "code")["code"]
        .as_str()
        .expect("a text")
        .to_owned();
    let leaving = Running::start(&[
        "connect",
        &code,
        "--server",
        &server.rendezvous,
        "--loopback",
        "--json",
    ]);
    waiting.json(|event| event["event"] == "selected");
    leaving.json(|event| event["event"] == "selected");
    support::signal(&leaving, "-INT");
    assert_eq!(leaving.exit_code(), Some(1));
    waiting.error_line("left before all was said");
    assert_eq!(waiting.exit_code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_server_relays_is_given_back_however_it_ends() {
    let server = Server::relaying();
    let turn = format!("turn:{}", server.stun);
    let options = ["--json", "--interface", "lo", "--family", "4"];
    let relay = ["--turn", &turn, "--user", "ann", "--password", "x"];
    let start = |how: &[&str]| Running::start(&[&["connect"], how, &options, &relay].concat());

    let waiting = start(&["--server", &server.rendezvous]);
    let code = waiting.json(|event| event["event"] == "code");
    let code = code["code"].as_str().expect("a text");
    let mut sides = [waiting, start(&[code, "--server", &server.rendezvous])];
    for side in &mut sides {
        side.json(|event| event["event"] == "candidate" && event["type"] == "relay");
        side.close_input();
    }
    for side in sides {
        assert_eq!(side.exit_code(), Some(0));
    }
    server.expect_released(2);

    // A ticket is told when all has been gathered.
    let mut alone = start(&["--ticket"]);
    alone.json(|event| event["event"] == "ticket");
    alone.close_input();
    assert_eq!(alone.exit_code(), Some(1));
    server.expect_released(1);

    let stopped = start(&["--ticket"]);
    stopped.json(|event| event["event"] == "ticket");
    support::signal(&stopped, "-TERM");
    assert_eq!(stopped.exit_code(), Some(1));
    server.expect_released(1);
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_candidate_there_is_no_ticket() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let here = ["--interface", "lo", "--family", "4", "--port", &port];
    let output = run(&[&["connect", "--ticket", "--json"], &here[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let result = support::last_json(&output);
    let reason = result["reason"].as_str().expect("a text");
    assert!(reason.contains("no port of the range is free"), "{reason}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("nilas1:"));
}

#[test]
fn the_rendezvous_may_be_over_tls() {
    let directory = std::env::temp_dir().join(format!("nilas-connect-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a text").to_owned()
    };
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let root = rcgen::CertifiedIssuer::self_signed(root, key).expect("a root");
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &root).expect("a certificate");
    let (cert, key) = (
        file("cert.pem", &leaf.pem()),
        file("key.pem", &key.serialize_pem()),
    );
    let roots = file("roots.pem", &root.pem());
    let server = Running::start(&[
        "server",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--signal-listen",
        "127.0.0.1:0",
        "--tls-listen",
        "127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
    ]);
    let ready = server.json(|value| value["event"] == "ready");
    let url = format!("wss://{}", ready["tls"][0].as_str().expect("an address"));
    assert_eq!(ready["rendezvous"][1], url);
    let arguments = [
        "connect",
        "in private",
        "--wait",
        "--server",
        &url,
        "--loopback",
        "--json",
    ];
    let start = || {
        let mut command = nilas(&arguments);
        command.env("SSL_CERT_FILE", &roots);
        Running::start_command(command)
    };
    let (mut a, mut b) = (start(), start());
    for side in [&mut a, &mut b] {
        side.write("hello\n");
        side.close_input();
    }
    for side in [a, b] {
        assert_eq!(side.json(|event| event["event"] == "data")["data"], "hello");
        assert_eq!(side.exit_code(), Some(0));
    }
    let stranger = file("stranger.pem", &root_of_nobody());
    let mut command = nilas(&arguments);
    command.env("SSL_CERT_FILE", &stranger);
    let stranger = Running::start_command(command);
    stranger.error_line("cannot be spoken to over TLS");
    assert_eq!(stranger.exit_code(), Some(1));

    let closed = Running::start(&[
        "server",
        "--json",
        "--signal-listen",
        "none",
        "--tls-listen",
        "127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
        "--listen",
        "none",
    ]);
    let ready = closed.json(|value| value["event"] == "ready");
    assert_eq!(ready["rendezvous"], serde_json::json!([]));
    let url = format!("wss://{}", ready["tls"][0].as_str().expect("an address"));
    let mut command = nilas(&["connect", "--server", &url]);
    command.env("SSL_CERT_FILE", &roots);
    let refused = Running::start_command(command);
    refused.error_line("it is no rendezvous server");
    assert_eq!(refused.exit_code(), Some(1));
    let _ = std::fs::remove_dir_all(&directory);
}

/// A root that has issued nothing.
fn root_of_nobody() -> String {
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    root.self_signed(&key).expect("a root").pem()
}
