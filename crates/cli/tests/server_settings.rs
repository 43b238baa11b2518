//! `nilas server` and its settings: files, variables, flags, reload, what is printed and what never is.

#![cfg(unix)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nilas_net::relay::{Credentials, RelayRequest, TurnClient};
use nilas_server::settings::SETTINGS;
use nilas_stun::uri::TurnUri;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use support::{GUARD, Running, complaint, last_json, nilas, run, run_with};

const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--signal-listen", "none"];

/// A directory of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nilas-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path.to_str().expect("plain letters").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(arguments: &[&str]) -> (Running, Value) {
    let running = Running::start(&[&["server", "--json"], arguments].concat());
    let ready = running.json(|value| value["event"] == "ready");
    (running, ready)
}

fn signal(running: &Running, name: &str) {
    let pid = running.child.id().to_string();
    let sent = Command::new("kill").args([name, pid.as_str()]).status();
    assert!(sent.expect("kill runs").success());
}

/// The answer to a GET, as text.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(GUARD)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer and its end");
    answer
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

#[test]
fn what_it_prints_for_an_application_works() {
    let (_server, ready) = start(&LISTEN);
    let servers = ready["iceServers"].to_string();
    assert!(
        !ready["iceServers"][1]["credential"]
            .as_str()
            .expect("a password")
            .is_empty()
    );
    let tested = run_with(
        &["turn", "test", "--json", "--ice-servers", "-"],
        servers.as_bytes(),
    );
    let verdict: Value = serde_json::from_slice(&tested.stdout).expect("one object");
    let transports: Vec<_> = verdict["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|server| server["transports"].as_array().cloned().unwrap_or_default())
        .collect();
    let over_udp = transports.iter().find(|way| way["transport"] == "udp");
    assert_eq!(
        over_udp.expect("UDP was tried")["outcome"],
        "works",
        "{verdict}"
    );

    let (_other, other) = start(&LISTEN);
    assert_ne!(
        other["iceServers"][1]["credential"], ready["iceServers"][1]["credential"],
        "each run has a password of its own"
    );
}

#[test]
fn credentials_are_printed_only_where_they_are_no_secret() {
    let (_server, ready) = start(&[&LISTEN[..], &["--user", "ann:pass:word"]].concat());
    assert_eq!(ready["iceServers"][1]["username"], "ann");
    assert_eq!(ready["iceServers"][1]["credential"], "pass:word");

    let folder = Folder::new("printed");
    let users = folder.file("users", "ann:hunter2\n");
    let (_server, ready) = start(&[&LISTEN[..], &["--user-file", &users]].concat());
    assert_eq!(ready["iceServers"][1]["username"], "ann");
    assert!(!ready.to_string().contains("hunter2"), "{ready}");

    let (_server, ready) = start(&[&LISTEN[..], &["--relay-address", "none"]].concat());
    assert!(
        !ready.to_string().contains("credential"),
        "nothing is relayed: {ready}"
    );
}

#[test]
fn no_secret_reaches_the_log() {
    let folder = Folder::new("log");
    let config = folder.file(
        "server.toml",
        "user = \"ann:hunter2\"\nsecret = \"hunter2\"\ntoken-server-name = \"turn.example\"\ntoken-key = \"id:aHVudGVyMmh1bnRlcjJodQ==\"\n",
    );
    let log = fs::File::create(folder.0.join("log")).expect("a file for the log");
    let mut command = nilas(&["server", "--json", "--config", &config]);
    command
        .args(LISTEN)
        .env("NILAS_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut event = || output.next().expect("a line of output").expect("text");
    assert!(event().contains("\"ready\""));
    fs::write(&config, "user = [\"ann:hunter2\", \"ann:hunter2\"]\n").expect("another file");
    let pid = child.id().to_string();
    let send = |name: &str| {
        assert!(
            Command::new("kill")
                .args([name, pid.as_str()])
                .status()
                .expect("kill runs")
                .success()
        )
    };
    send("-HUP");
    assert!(event().contains("not_reloaded"));
    send("-INT");
    assert!(child.wait().expect("it ends").success());
    let log = fs::read_to_string(folder.0.join("log")).expect("text");
    assert!(
        log.contains("given twice") && log.lines().count() > 3,
        "{log}"
    );
    for secret in ["hunter2", "aHVudGVyMmh1bnRlcjJodQ"] {
        assert!(!log.contains(secret), "{log}");
    }
    for line in log.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok(),
            "the log is JSON: {line}"
        );
    }
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest() {
    let folder = Folder::new("reload");
    let text =
        "realm = \"a\"\nuser = \"ann:x\"\nlisten = \"127.0.0.1:0\"\nsignal-listen = \"none\"\n";
    let config = folder.file("server.toml", text);
    let (server, _) = start(&["--config", &config]);
    let reload = |text: &str| {
        fs::write(&config, text).expect("the file again");
        signal(&server, "-HUP");
        server.json(|value| value["event"] == "reloaded" || value["event"] == "not_reloaded")
    };
    let told = reload(&text.replace("ann:x", "bob:y"));
    assert_eq!(
        (&told["event"], &told["unchanged"]),
        (&"reloaded".into(), &Value::Array(vec![]))
    );
    let told = reload(&text.replace("\"a\"", "\"b\""));
    assert_eq!(told["unchanged"], serde_json::json!(["realm"]));
    let told = reload("realm = \"a\"\n\nuser = \"ann\"\nworkers = 0\n");
    assert_eq!(told["event"], "not_reloaded");
    let mistakes: Vec<_> = told["mistakes"].as_array().into_iter().flatten().collect();
    assert_eq!(mistakes.len(), 2, "{told}");
    assert!(
        mistakes[0]
            .as_str()
            .is_some_and(|text| text.contains("server.toml:3: user")),
        "{told}"
    );
    // It serves on.
    signal(&server, "-TERM");
    server.json(|value| value["event"] == "draining");
    server.json(|value| value["event"] == "stopped");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn metrics_and_health_are_served_to_operators() {
    let (server, ready) = start(&[&LISTEN[..], &["--metrics", "127.0.0.1:0"]].concat());
    let address = ready["metrics"].as_str().expect("an address");
    let page = get(address, "/metrics");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"),
        "{page}"
    );
    assert!(page.contains("\nnilas_turn_allocations 0\n"), "{page}");
    assert!(get(address, "/health").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    drop(server);
}

/// What a client's allocation costs a server that is to end: it waits for it, and says so to who asks.
#[test]
fn a_server_that_was_told_to_end_waits_for_its_last_client_and_says_so() {
    let (server, ready) = start(&[
        "--listen",
        "127.0.0.1:0",
        "--signal-listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--user",
        "ann:x",
        "--relay-address",
        "127.0.0.1",
        "--allow-peer",
        "127.0.0.1",
    ]);
    let text = |value: &Value| value.as_str().expect("an address").to_owned();
    let operators = text(&ready["metrics"]);
    let rendezvous = text(&ready["rendezvous"][0]).replace("ws://", "");
    let uri: TurnUri = format!("turn:{}?transport=udp", text(&ready["stun_udp"][0]))
        .parse()
        .expect("a URI");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let client = TurnClient::new().expect("a resolver");
    let allocate = || async {
        let credentials = Credentials {
            username: "ann".to_owned(),
            password: "x".to_owned(),
        };
        client.allocate(&uri, &RelayRequest::new(credentials)).await
    };
    runtime.block_on(async {
        let relay = allocate().await.expect("an allocation");
        assert!(get(&operators, "/health").starts_with("HTTP/1.1 200"));
        signal(&server, "-TERM");
        server.json(|value| value["event"] == "draining");
        // Both listeners tell load balancers to look elsewhere.
        for address in [&operators, &rendezvous] {
            let answer = get(address, "/health");
            assert!(
                answer.starts_with("HTTP/1.1 503") && answer.contains("\"ok\":false"),
                "{answer}"
            );
        }
        let page = get(&operators, "/metrics");
        assert!(page.contains("\nnilas_draining 1\n"), "{page}");
        assert!(page.contains("\nnilas_turn_allocations 1\n"), "{page}");
        // RFC 8656 section 7.2: 508 (Insufficient Capacity), as there is no other server to send clients to.
        let refused = allocate().await.expect_err("it takes nobody new");
        assert!(refused.to_string().contains("508"), "{refused}");
        // Whoever is there is served until it leaves.
        let peer = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let to = peer.local_addr().expect("it is bound");
        relay.permit(to).await.expect("a request is answered");
        relay.try_send(to, b"still served").expect("it leaves");
        let mut buffer = [0; 100];
        let length = peer.recv(&mut buffer).await.expect("it arrives");
        assert_eq!(&buffer[..length], b"still served");
        relay.release().await;
    });
    server.json(|value| value["event"] == "stopped");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn tls_and_dtls_are_served_with_a_certificate_from_files() {
    let folder = Folder::new("tls");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let certificate = CertificateParams::new(names)
        .and_then(|params| params.signed_by(&key, &issuer))
        .expect("a certificate");
    let authority = folder.file("authority.pem", &issuer.pem());
    let certificate = folder.file("certificate.pem", &certificate.pem());
    let key = folder.file("key.pem", &key.serialize_pem());
    let (_server, ready) = start(
        &[
            &LISTEN[..],
            &["--tls-listen", "127.0.0.1:0", "--cert", &certificate],
            &["--key", &key, "--user", "ann:x"],
            &[
                "--relay-address",
                "127.0.0.1",
                "--allow-peer",
                "127.0.0.0/8",
            ],
        ]
        .concat(),
    );
    let address = ready["tls"][0].as_str().expect("an address");
    let port = address.rsplit(':').next().expect("a port");
    let test = |transport: &str, more: &[&str]| {
        let url = format!("turns:127.0.0.1:{port}{transport}");
        let account = ["--user", "ann", "--password", "x", "--json"];
        run(&[&["turn", "test", &url], &account[..], more].concat())
    };
    let tested = test("", &["--ca", &authority]);
    assert_eq!(tested.status.code(), Some(0), "{}", complaint(&tested));
    let verdict: Value = serde_json::from_slice(&tested.stdout).expect("one object");
    let ways: Vec<_> = verdict["servers"][0]["transports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|way| {
            let received = way["relays"][0]["received"].as_u64();
            (&way["transport"], &way["outcome"], received > Some(0))
        })
        .collect();
    let works = Value::from("works");
    // On the same port what is not encrypted is understood as well.
    let expected = ["tls", "dtls", "udp", "tcp"].map(Value::from);
    let expected: Vec<_> = expected.iter().map(|way| (way, &works, true)).collect();
    assert_eq!(ways, expected, "{verdict}");
    // Whoever does not trust the authority gets nothing, and is told why.
    let distrusting = test("?transport=tcp", &[]);
    assert_eq!(distrusting.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&distrusting.stdout).expect("one object");
    assert!(
        verdict["verdict"]
            .as_str()
            .is_some_and(|text| text.contains("certificate")),
        "{verdict}"
    );
}

#[test]
fn variables_are_settings_and_flags_come_before_them() {
    let mut command = nilas(&[&["server", "--json"], &LISTEN[..], &["--realm", "x"]].concat());
    command
        .env("NILAS_SERVER_USER", "ann:x")
        .env("NILAS_SERVER_REALM", &*"too long ".repeat(10))
        .env("NILAS_SERVER_LISTEN", "nowhere")
        .env("NILAS_SERVER_SERVICE_HOST", "10.0.0.1");
    let server = Running::start_command(command);
    let ready = server.json(|value| value["event"] == "ready");
    assert_eq!(ready["iceServers"][1]["username"], "ann");

    let mut command = nilas(&["server"]);
    command
        .env("NILAS_SERVER_RELAY_PORTS", "9")
        .env("NILAS_SERVER_WORKERS", "x");
    let output = command.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let text = complaint(&output);
    assert!(
        text.contains("NILAS_SERVER_RELAY_PORTS: ") && text.contains("NILAS_SERVER_WORKERS: "),
        "{text}"
    );
}

#[test]
fn a_file_is_checked_without_serving() {
    let example = document("nilas-server.toml");
    let output = run(&[
        "server",
        "check-config",
        example.to_str().expect("plain letters"),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));

    let folder = Folder::new("check");
    let config = folder.file("server.toml", "relm = \"a\"\n\nrelay-ports = \"9\"\n");
    let output = run(&["server", "check-config", &config]);
    assert_eq!(output.status.code(), Some(2));
    let text = complaint(&output);
    assert!(
        text.contains("server.toml:1: relm") && text.contains("did you mean `realm`"),
        "{text}"
    );
    assert!(text.contains("server.toml:3: relay-ports"), "{text}");
    let missing = run(&[
        "server",
        "check-config",
        "--json",
        "/nonexistent/nilas.toml",
    ]);
    assert_eq!(missing.status.code(), Some(2));
    let verdict = last_json(&missing);
    assert_eq!(
        (&verdict["ok"], &verdict["mistakes"][0]["line"]),
        (&false.into(), &0.into())
    );
    let reason = verdict["mistakes"][0]["reason"].as_str().expect("a text");
    assert!(reason.contains("/nonexistent/nilas.toml"), "{reason}");
    let output = run(&["server", "check-config", "--json", &config]);
    assert_eq!(output.status.code(), Some(2));
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(verdict["schema"], "nilas.check-config/1");
    assert_eq!(
        (&verdict["ok"], &verdict["mistakes"][1]["line"]),
        (&false.into(), &3.into())
    );

    let output = run(&["server", "check-config", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(2));
    // The same file is refused by the server itself.
    assert_eq!(run(&["server", "--config", &config]).status.code(), Some(2));
}

#[test]
fn every_setting_is_in_the_guide_and_in_the_help() {
    let guide = fs::read_to_string(document("server.md")).expect("the guide");
    let help = run(&["server", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for setting in SETTINGS {
        let row = format!(
            "| `{}` | `{}` |",
            setting.name,
            setting.value.replace('|', "\\|")
        );
        assert!(
            guide.contains(&row),
            "docs/server.md has no row that begins: {row}"
        );
        assert!(
            help.contains(&format!("--{}", setting.name)),
            "{}",
            setting.name
        );
    }
}
