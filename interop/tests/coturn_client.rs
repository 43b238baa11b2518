//! Our TURN client against coturn, on loopback: every transport, both kinds of credentials, nonces that go stale,
//! lifetimes that are short, a server that forgets.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nilas_interop::HANG_GUARD;
use nilas_interop::coturn::{Coturn, PASSWORD, USER};
use nilas_interop::programs::{self, Said};
use nilas_net::creds::{CredentialHash, time_limited};
use nilas_net::relay::{Credentials, Relay, RelayRequest, TurnClient};
use nilas_net::stream::ClientTls;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::time::timeout;

fn nilas(arguments: &[&str]) -> Said {
    let mut command = Command::new(programs::nilas().expect("it is built"));
    command.args(arguments).env_remove("NILAS_LOG");
    programs::run(command)
}

fn report(said: &Said) -> Value {
    let line = said.output.lines().last().unwrap_or_default();
    let report: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(report["schema"], "nilas.turn-test/1", "{said:?}");
    report
}

/// The outcome of each transport, and that datagrams went through each that works.
fn outcomes(report: &Value) -> Vec<(String, String)> {
    let rows = report["servers"][0]["transports"].as_array().expect("rows");
    rows.iter()
        .map(|row| {
            if row["outcome"] == "works" {
                let relays = row["relays"].as_array().expect("relays");
                assert!(!relays.is_empty(), "{row}");
                for relay in relays {
                    assert!(relay["received"].as_u64() > Some(0), "{row}");
                }
            }
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            (text("transport"), text("outcome"))
        })
        .collect()
}

#[test]
fn every_transport_of_coturn_works_from_ipv4_and_ipv6() {
    let coturn = Coturn::with_user(&[]).unwrap();
    let authority = coturn.authority();
    let authority = authority.to_str().expect("text");
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("turn:{host}:{}", coturn.port());
        let said = nilas(&[
            "turn",
            "test",
            &url,
            "--user",
            USER,
            "--password",
            PASSWORD,
            "--ca",
            authority,
            "--json",
        ]);
        let report = report(&said);
        assert_eq!(said.code, Some(0), "{report:#}");
        let expected =
            ["udp", "tcp", "tls", "dtls"].map(|name| (name.to_owned(), "works".to_owned()));
        assert_eq!(outcomes(&report), expected, "{report:#}");
        // coturn relays both families; version 4.6 gives each only to whoever asks for it alone.
        let relays = report["servers"][0]["transports"][0]["relays"]
            .as_array()
            .expect("relays");
        let families: Vec<_> = relays
            .iter()
            .filter_map(|relay| relay["family"].as_str())
            .collect();
        assert_eq!(families, ["ipv4", "ipv6"], "{report:#}");
    }
}

#[test]
fn time_limited_credentials_are_made_and_taken() {
    let coturn = Coturn::start(&[
        "--use-auth-secret",
        "--static-auth-secret=north",
        "--allow-loopback-peers",
    ])
    .unwrap();
    let authority = coturn.authority();
    let authority = authority.to_str().expect("text");
    let said = nilas(&[
        "turn",
        "test",
        &coturn.url(),
        "--secret",
        "north",
        "--user",
        "anna",
        "--ca",
        authority,
        "--json",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let expected = ["udp", "tcp", "tls", "dtls"].map(|name| (name.to_owned(), "works".to_owned()));
    assert_eq!(outcomes(&report(&said)), expected);

    let url = format!("{}?transport=udp", coturn.url());

    let said = nilas(&["turn", "test", &url, "--secret", "south"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let verdict = said.output.lines().last().unwrap_or_default();
    assert!(
        verdict.starts_with("verdict: ") && verdict.contains("user name or password"),
        "{verdict}"
    );

    // What `nilas turn creds` prints is what an application, and `--ice-servers`, takes.
    let made = nilas(&[
        "turn", "creds", "--secret", "north", "--ttl", "1h", "--url", &url,
    ]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let json = made.output.lines().last().unwrap_or_default().to_owned();
    let mut command = Command::new(programs::nilas().expect("it is built"));
    let mut child = command
        .args(["turn", "test", "--ice-servers", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(json.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_server_that_relays_nowhere_is_found_out() {
    // Loopback peers are refused by default, and the relayed addresses are on loopback: an allocation alone proves
    // nothing.
    let user = format!("--user={USER}:{PASSWORD}");
    let coturn = Coturn::start(&["--lt-cred-mech", &user]).unwrap();
    let url = format!("{}?transport=udp", coturn.url());
    let said = nilas(&[
        "turn",
        "test",
        &url,
        "--user",
        USER,
        "--password",
        PASSWORD,
        "--json",
    ]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = report(&said);
    let verdict = report["verdict"].as_str().expect("a verdict");
    assert!(verdict.contains("403"), "{verdict}");
}

#[test]
fn a_load_is_carried_and_counted() {
    let coturn = Coturn::with_user(&[]).unwrap();
    let authority = coturn.authority();
    let authority = authority.to_str().expect("text");
    for (scheme, transport, peer) in [
        ("turn", "udp", "local"),
        ("turn", "udp", "relay"),
        ("turn", "tcp", "relay"),
        ("turns", "tcp", "local"),
    ] {
        let url = format!("{scheme}:127.0.0.1:{}?transport={transport}", coturn.port());
        let said = nilas(&[
            "turn",
            "bench",
            &url,
            "--user",
            USER,
            "--password",
            PASSWORD,
            "--ca",
            authority,
            "--flows",
            "3",
            "--size",
            "101",
            "--seconds",
            "1",
            "--rate",
            "500",
            "--peer",
            peer,
            "--json",
        ]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let report: Value = serde_json::from_str(said.output.trim()).expect("JSON");
        assert_eq!(report["schema"], "nilas.turn-bench/1");
        let allocations = if peer == "relay" { 6 } else { 3 };
        assert_eq!(report["allocations"], allocations, "{report}");
        let load = &report["load"];
        assert!(load["received"].as_u64() > Some(0), "{report}");
        assert!(
            load["received"].as_u64() <= load["sent"].as_u64(),
            "{report}"
        );
    }
}

/// The ways to coturn that a firewall may leave open: UDP, TCP and TLS.
const WAYS: [(&str, &str); 3] = [("turn", "udp"), ("turn", "tcp"), ("turns", "tcp")];

/// An allocation, and a socket that it may send to, with a channel.
async fn bound(
    coturn: &Coturn,
    (scheme, transport): (&str, &str),
    credentials: Credentials,
) -> (Relay, UdpSocket) {
    let pem = std::fs::read(coturn.authority()).unwrap();
    let client = TurnClient::new()
        .unwrap()
        .trusting(ClientTls::from_pem(&pem).unwrap());
    let request = RelayRequest::new(credentials);
    let uri = format!("{scheme}:127.0.0.1:{}?transport={transport}", coturn.port());
    let relay = client
        .allocate(&uri.parse().unwrap(), &request)
        .await
        .unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    relay.bind(peer.local_addr().unwrap()).await.unwrap();
    (relay, peer)
}

fn ann() -> Credentials {
    Credentials {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    }
}

/// One datagram to the peer and one back.
async fn exchange(relay: &mut Relay, peer: &UdpSocket, text: &str) {
    let address = peer.local_addr().unwrap();
    relay.send(address, text.as_bytes()).await.unwrap();
    let mut buffer = [0; 100];
    let (length, from): (usize, SocketAddr) = peer.recv_from(&mut buffer).await.unwrap();
    assert_eq!(
        (&buffer[..length], from),
        (text.as_bytes(), relay.relayed()[0])
    );
    peer.send_to(text.as_bytes(), from).await.unwrap();
    assert_eq!(
        relay.recv().await.unwrap(),
        (address, text.as_bytes().to_vec())
    );
}

/// Refreshed every second, with a nonce that is stale at every second refresh: longer than the server would keep it.
async fn lives_on(coturn: &Coturn, way: (&str, &str), credentials: Credentials) {
    let (mut relay, peer) = bound(coturn, way, credentials).await;
    let relayed = relay.relayed();
    for second in 0..7 {
        exchange(&mut relay, &peer, &format!("second {second}")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    exchange(&mut relay, &peer, "at the end").await;
    assert_eq!(
        (relay.allocations(), relay.relayed()),
        (1, relayed),
        "{way:?}"
    );
    relay.release().await;
}

#[tokio::test]
async fn an_allocation_outlives_many_short_lifetimes_and_stale_nonces() {
    let test = async {
        let coturn = Coturn::with_user(&["--max-allocate-lifetime=2", "--stale-nonce=1"]).unwrap();
        let [udp, tcp, tls] = WAYS.map(|way| lives_on(&coturn, way, ann()));
        tokio::join!(udp, tcp, tls);
    };
    timeout(HANG_GUARD, test).await.expect("it does not hang");
}

#[tokio::test]
async fn so_does_one_of_time_limited_credentials() {
    let test = async {
        let coturn = Coturn::start(&[
            "--use-auth-secret",
            "--static-auth-secret=north",
            "--allow-loopback-peers",
            "--max-allocate-lifetime=2",
            "--stale-nonce=1",
        ])
        .unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (username, password) = time_limited(
            b"north",
            "anna",
            Duration::from_secs(600),
            now,
            CredentialHash::Sha1,
        );
        let credentials = || Credentials {
            username: username.clone(),
            password: password.clone(),
        };
        let [udp, tcp, tls] = WAYS.map(|way| lives_on(&coturn, way, credentials()));
        tokio::join!(udp, tcp, tls);
    };
    timeout(HANG_GUARD, test).await.expect("it does not hang");
}

#[tokio::test]
async fn an_allocation_that_the_server_forgot_is_made_anew_with_its_channel() {
    let test = async {
        for way in WAYS {
            let mut coturn = Coturn::with_user(&["--max-allocate-lifetime=2"]).unwrap();
            let (mut relay, peer) = bound(&coturn, way, ann()).await;
            exchange(&mut relay, &peer, "before").await;
            coturn.restart().unwrap();
            relay.reallocated(2).await.unwrap();
            relay.bind(peer.local_addr().unwrap()).await.unwrap();
            exchange(&mut relay, &peer, "after").await;
        }
    };
    timeout(HANG_GUARD, test).await.expect("it does not hang");
}
