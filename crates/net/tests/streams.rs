//! TCP and TLS streams over loopback, and what goes wrong with them.

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Authority, Directory, HANG_GUARD};
use nilas_net::stream::{
    CertificateError, CertifiedKeyStore, ClientTls, Stream, StreamCause, StreamDeadlines,
    StreamError, StreamRemote, StreamRequest, StreamStage, StreamTransport, accept_tls, open,
};
use tokio::net::TcpListener;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn tls_to(remote: SocketAddr, server_name: &str) -> StreamRequest {
    StreamRequest::new(
        remote,
        StreamTransport::Tls {
            server_name: server_name.to_owned(),
        },
    )
}

/// Sends everything back until the other side ends.
async fn echo(stream: Stream) {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = [0; 5000];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => writer.write_all(&buffer[..length]).await.unwrap(),
        }
    }
}

async fn exchange(stream: Stream) {
    let (mut reader, mut writer) = stream.into_split();
    let message: Vec<u8> = (0_u32..100_000).flat_map(u32::to_be_bytes).collect();
    let sent = message.clone();
    let sender = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer
    });
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while received.len() < message.len() {
        let length = reader.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "after {} bytes", received.len());
        received.extend_from_slice(&buffer[..length]);
    }
    assert!(received == message);
    // When the writer goes, the other side sees the end, and so does the reader.
    drop(sender.await.unwrap());
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
}

/// A TLS server with a certificate for these names that echoes on every connection.
async fn tls_server(authority: &Authority, names: &[&str], alpn: &[&[u8]]) -> SocketAddr {
    let directory = Directory::new();
    let (certificate, key) = directory.write_identity(&authority.issue(names));
    let store = CertifiedKeyStore::load(&certificate, &key).unwrap();
    let config = store.server_config(alpn).unwrap();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                if let Ok(stream) = accept_tls(tcp, config, HANG_GUARD).await {
                    echo(stream).await;
                }
            });
        }
    });
    address
}

async fn try_open(request: &StreamRequest, roots: &Authority) -> Result<Stream, StreamError> {
    let tls = ClientTls::from_pem(roots.pem().as_bytes()).unwrap();
    open(request, &tls, &StreamDeadlines::default()).await
}

#[tokio::test]
async fn tcp_carries_bytes_both_ways_and_their_end() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        echo(Stream::from_tcp(tcp).unwrap()).await;
    });
    let mut request = StreamRequest::new(address, StreamTransport::Tcp);
    request.local = Some("127.0.0.9".parse().unwrap());
    let stream = try_open(&request, &Authority::new()).await.unwrap();
    assert_eq!(stream.local_address().ip().to_string(), "127.0.0.9");
    exchange(stream).await;
}

#[tokio::test]
async fn tls_carries_bytes_to_the_server_that_was_meant() {
    let authority = Authority::new();
    let address = tls_server(&authority, &["turn.example.org", "127.0.0.1", "::1"], &[]).await;
    for name in [
        "turn.example.org",
        "TURN.example.org.",
        "127.0.0.1",
        "[::1]",
    ] {
        let stream = try_open(&tls_to(address, name), &authority).await.unwrap();
        exchange(stream).await;
    }
}

#[tokio::test]
async fn the_client_asks_for_turn_by_alpn() {
    let authority = Authority::new();
    let address = tls_server(&authority, &["a.example"], &[b"http/1.1", b"stun.turn"]).await;
    exchange(
        try_open(&tls_to(address, "a.example"), &authority)
            .await
            .unwrap(),
    )
    .await;
    let address = tls_server(&authority, &["a.example"], &[b"http/1.1"]).await;
    let error = try_open(&tls_to(address, "a.example"), &authority)
        .await
        .unwrap_err();
    assert!(matches!(error.cause, StreamCause::Protocol(_)), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let address = tls_server(&authority, &["turn.example.org"], &[]).await;
    for name in ["example.org", "x.turn.example.org", "127.0.0.1"] {
        let error = try_open(&tls_to(address, name), &authority)
            .await
            .unwrap_err();
        assert_eq!(error.stage, StreamStage::Handshake);
        assert!(
            matches!(error.cause, StreamCause::Certificate(_)),
            "{error}"
        );
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
    let error = try_open(&tls_to(address, "no name"), &authority)
        .await
        .unwrap_err();
    assert!(matches!(error.cause, StreamCause::ServerName(_)), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_refused() {
    let address = tls_server(&Authority::new(), &["turn.example.org"], &[]).await;
    let request = tls_to(address, "turn.example.org");
    let error = try_open(&request, &Authority::new()).await.unwrap_err();
    assert!(
        matches!(error.cause, StreamCause::Certificate(_)),
        "{error}"
    );
    assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
}

#[tokio::test]
async fn a_new_certificate_serves_the_next_client() {
    let old = Authority::new();
    let new = Authority::new();
    let directory = Directory::new();
    let (certificate, key) = directory.write_identity(&old.issue(&["a.example"]));
    let store = CertifiedKeyStore::load(&certificate, &key).unwrap();
    let config = store.server_config(&[]).unwrap();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(accept_tls(tcp, Arc::clone(&config), HANG_GUARD));
        }
    });
    let request = tls_to(address, "a.example");
    try_open(&request, &old).await.unwrap();
    assert!(try_open(&request, &new).await.is_err());

    directory.write_identity(&new.issue(&["a.example"]));
    store.reload().unwrap();
    try_open(&request, &new).await.unwrap();
    assert!(try_open(&request, &old).await.is_err());

    // A mistake leaves what was there.
    directory.write("key.pem", &old.issue(&["a.example"]).key);
    assert_eq!(store.reload(), Err(CertificateError::Mismatch));
    directory.write("certificate.pem", "");
    let error = store.reload().unwrap_err();
    assert!(error.to_string().contains("certificate.pem"), "{error}");
    try_open(&request, &new).await.unwrap();
}

#[tokio::test]
async fn a_port_without_a_listener_and_one_without_tls_say_so() {
    let authority = Authority::new();
    // Bound, so that nobody else can listen there, and not listening.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = deaf.local_addr().unwrap();
    let error = try_open(&tls_to(address, "a.example"), &authority)
        .await
        .unwrap_err();
    assert_eq!(error.stage, StreamStage::Connect);
    assert!(
        matches!(&error.cause, StreamCause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused),
        "{error}"
    );

    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (_, mut writer) = Stream::from_tcp(tcp).unwrap().into_split();
            writer.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        }
    });
    let error = try_open(&tls_to(address, "a.example"), &authority)
        .await
        .unwrap_err();
    assert_eq!(error.stage, StreamStage::Handshake, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_costs_the_deadline_of_its_stage() {
    // The kernel accepts, nobody answers. Time is virtual: it moves when all that is left is to wait.
    let (_listener, address) = listen().await;
    let authority = Authority::new();
    let tls = ClientTls::from_pem(authority.pem().as_bytes()).unwrap();
    let deadlines = StreamDeadlines {
        connect: Duration::from_secs(3600),
        proxy: Duration::from_secs(2),
        handshake: Duration::from_secs(3),
    };
    let mut request = tls_to(address, "a.example");
    let start = tokio::time::Instant::now();
    let error = open(&request, &tls, &deadlines).await.unwrap_err();
    assert_eq!(error.stage, StreamStage::Handshake);
    assert!(start.elapsed() >= deadlines.handshake);
    assert!(matches!(error.cause, StreamCause::TimedOut));

    request.proxy = Some(format!("http://{address}").parse().unwrap());
    let start = tokio::time::Instant::now();
    let error = open(&request, &tls, &deadlines).await.unwrap_err();
    assert_eq!(error.stage, StreamStage::Proxy);
    assert!(start.elapsed() >= deadlines.proxy);
    assert!(matches!(error.cause, StreamCause::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_swallowed_connect_ends_at_its_deadline() {
    // A listener whose queue is full drops SYNs, as a firewall does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let authority = Authority::new();
    let tls = ClientTls::from_pem(authority.pem().as_bytes()).unwrap();
    let request = StreamRequest::new(address, StreamTransport::Tcp);
    let deadlines = StreamDeadlines {
        connect: Duration::from_secs(4),
        ..StreamDeadlines::default()
    };
    let mut fill = Vec::new();
    let error = loop {
        let start = tokio::time::Instant::now();
        match open(&request, &tls, &deadlines).await {
            Ok(stream) => fill.push(stream),
            Err(error) => {
                assert_eq!(start.elapsed(), deadlines.connect);
                break error;
            }
        }
        assert!(fill.len() < 100, "the queue never fills");
    };
    assert_eq!(error.stage, StreamStage::Connect);
    assert!(matches!(error.cause, StreamCause::TimedOut), "{error}");
    assert!(error.to_string().contains("firewall"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error_and_not_a_wait() {
    let authority = Authority::new();
    let address = "127.0.0.1:9".parse().unwrap();
    let mut request = StreamRequest::new(address, StreamTransport::Tcp);
    request.local = Some("::1".parse().unwrap());
    let error = try_open(&request, &authority).await.unwrap_err();
    assert!(matches!(error.cause, StreamCause::Io(_)), "{error}");

    request.remote = StreamRemote::Name {
        host: String::from("turn.example.org"),
        port: 3478,
    };
    let error = try_open(&request, &authority).await.unwrap_err();
    assert!(
        matches!(error.cause, StreamCause::NameWithoutProxy),
        "{error}"
    );

    request.transport = StreamTransport::Dtls {
        server_name: String::from("turn.example.org"),
    };
    request.proxy = Some("socks5://127.0.0.1".parse().unwrap());
    let error = try_open(&request, &authority).await.unwrap_err();
    assert!(
        matches!(error.cause, StreamCause::DatagramsThroughProxy),
        "{error}"
    );
}

/// The environment belongs to the whole process: the test below runs this one in a process of its own.
#[tokio::test]
#[ignore = "run by the_file_that_ssl_cert_file_names_is_the_system_s_roots"]
async fn child_with_roots_of_the_environment() {
    let address = std::env::var("NILAS_TEST_SERVER").unwrap().parse().unwrap();
    let tls = match ClientTls::system() {
        Ok(tls) => tls,
        Err(error) => {
            println!("roots: {error}");
            return;
        }
    };
    let request = tls_to(address, "turn.example.org");
    match open(&request, &tls, &StreamDeadlines::default()).await {
        Ok(_) => println!("trusted"),
        Err(error) => println!("refused: {error}"),
    }
}

#[tokio::test]
async fn the_file_that_ssl_cert_file_names_is_the_system_s_roots() {
    let authority = Authority::new();
    let address = tls_server(&authority, &["turn.example.org"], &[]).await;
    let directory = Directory::new();
    let good = directory.write("good.pem", &authority.pem());
    let other = directory.write("other.pem", &Authority::new().pem());
    let missing = directory.path().join("missing.pem");
    for (file, expected) in [(good, "trusted"), (other, "refused:"), (missing, "roots:")] {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_with_roots_of_the_environment",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR")
            .env("NILAS_TEST_SERVER", address.to_string())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(HANG_GUARD, child)
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{}: {text}", file.display());
    }
}
