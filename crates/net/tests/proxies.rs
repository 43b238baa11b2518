//! Streams through proxies of the tests' own, and through what is none.

mod common;

use std::net::SocketAddr;

use common::{Authority, Directory, HANG_GUARD};
use nilas_net::stream::{
    CertifiedKeyStore, ClientTls, Proxy, ProxyRefusal, Stream, StreamCause, StreamDeadlines,
    StreamError, StreamRemote, StreamRequest, StreamStage, StreamTransport, accept_tls, open,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a proxy was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    target: String,
    credentials: Option<String>,
}

/// Serves one connection: returns what was asked, and then connects to `server` whatever it was.
async fn http_proxy(listener: TcpListener, server: SocketAddr, want: Option<&str>) -> Asked {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap().split(' ');
    assert_eq!(words.next(), Some("CONNECT"));
    let target = words.next().unwrap().to_owned();
    let host = format!("Host: {target}");
    assert!(head.contains(&host), "{head}");
    let credentials = lines
        .find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "))
        .map(ToOwned::to_owned);
    if credentials.as_deref() == want {
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 here\r\n\r\n";
        client.write_all(answer).await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        tokio::spawn(splice(client, server));
    } else {
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        client.write_all(answer).await.unwrap();
    }
    Asked {
        target,
        credentials,
    }
}

async fn socks_proxy(listener: TcpListener, server: SocketAddr, want: Option<&str>) -> Asked {
    let (mut client, _) = listener.accept().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), 5);
    let methods = read_vector(&mut client).await;
    let mut credentials = None;
    if want.is_some() {
        if !methods.contains(&2) {
            client.write_all(&[5, 0xff]).await.unwrap();
            return Asked {
                target: String::new(),
                credentials,
            };
        }
        client.write_all(&[5, 2]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 1);
        let user = String::from_utf8(read_vector(&mut client).await).unwrap();
        let password = String::from_utf8(read_vector(&mut client).await).unwrap();
        credentials = Some(format!("{user}:{password}"));
        let status = u8::from(credentials.as_deref() != want);
        client.write_all(&[1, status]).await.unwrap();
        if status != 0 {
            return Asked {
                target: String::new(),
                credentials,
            };
        }
    } else {
        client.write_all(&[5, 0]).await.unwrap();
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(client.read_u32().await.unwrap()).to_string(),
        4 => std::net::Ipv6Addr::from(client.read_u128().await.unwrap()).to_string(),
        3 => String::from_utf8(read_vector(&mut client).await).unwrap(),
        other => panic!("address type {other}"),
    };
    let port = client.read_u16().await.unwrap();
    // The bound address is a name here, and as long as it can be.
    let mut answer = vec![5, 0, 0, 3, 255];
    answer.extend_from_slice(&[b'x'; 255 + 2]);
    client.write_all(&answer).await.unwrap();
    let server = TcpStream::connect(server).await.unwrap();
    tokio::spawn(splice(client, server));
    Asked {
        target: format!("{host} {port}"),
        credentials,
    }
}

async fn read_vector(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await.unwrap())];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn splice(mut client: TcpStream, mut server: TcpStream) {
    // Either side may end it.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A server that greets and then echoes, so that a proxy that ate a byte is found out.
async fn greeter() -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        greet(Stream::from_tcp(tcp).unwrap()).await;
    });
    address
}

async fn greet(stream: Stream) {
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 100];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        writer.write_all(&buffer[..length]).await.unwrap();
    }
}

async fn check(stream: Stream) {
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(b", world").await.unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 100];
    while received.len() < 12 {
        let length = reader.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0);
        received.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(received, b"hello, world");
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn name(host: &str) -> StreamRemote {
    StreamRemote::Name {
        host: host.to_owned(),
        port: 443,
    }
}

async fn through(
    proxy: &str,
    remote: StreamRemote,
    transport: StreamTransport,
    roots: &Authority,
) -> Result<Stream, StreamError> {
    let proxy: Proxy = proxy.parse().unwrap();
    let request = StreamRequest {
        remote,
        local: None,
        transport,
        proxy: Some(proxy),
    };
    let tls = ClientTls::from_pem(roots.pem().as_bytes()).unwrap();
    let opening = async { open(&request, &tls, &StreamDeadlines::default()).await };
    tokio::time::timeout(HANG_GUARD, opening).await.unwrap()
}

async fn through_tcp(proxy: &str, remote: StreamRemote) -> Result<Stream, StreamError> {
    through(proxy, remote, StreamTransport::Tcp, &Authority::new()).await
}

#[tokio::test]
async fn http_connect_opens_the_way_for_each_kind_of_server() {
    for (remote, target) in [
        (
            StreamRemote::Address("192.0.2.1:443".parse().unwrap()),
            "192.0.2.1:443",
        ),
        (
            StreamRemote::Address("[2001:db8::1]:443".parse().unwrap()),
            "[2001:db8::1]:443",
        ),
        (name("turn.example.org"), "turn.example.org:443"),
    ] {
        let (listener, address) = listen().await;
        let proxy = tokio::spawn(http_proxy(listener, greeter().await, None));
        check(
            through_tcp(&format!("http://{address}"), remote)
                .await
                .unwrap(),
        )
        .await;
        let asked = proxy.await.unwrap();
        assert_eq!(asked.target, target);
        assert_eq!(asked.credentials, None);
    }
}

#[tokio::test]
async fn socks5_opens_the_way_for_each_kind_of_server() {
    for (remote, target) in [
        (
            StreamRemote::Address("192.0.2.1:443".parse().unwrap()),
            "192.0.2.1 443",
        ),
        (
            StreamRemote::Address("[2001:db8::1]:443".parse().unwrap()),
            "2001:db8::1 443",
        ),
        (name("turn.example.org"), "turn.example.org 443"),
    ] {
        let (listener, address) = listen().await;
        let proxy = tokio::spawn(socks_proxy(listener, greeter().await, None));
        check(
            through_tcp(&format!("socks5://{address}"), remote)
                .await
                .unwrap(),
        )
        .await;
        let asked = proxy.await.unwrap();
        assert_eq!(asked.target, target);
    }
}

#[tokio::test]
async fn tls_goes_through_both_and_is_with_the_server() {
    let authority = Authority::new();
    let directory = Directory::new();
    let (certificate, key) = directory.write_identity(&authority.issue(&["turn.example.org"]));
    let store = CertifiedKeyStore::load(&certificate, &key).unwrap();
    for scheme in ["http", "socks5"] {
        let (listener, server) = listen().await;
        let config = store.server_config(&[]).unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            greet(accept_tls(tcp, config, HANG_GUARD).await.unwrap()).await;
        });
        let (listener, address) = listen().await;
        if scheme == "http" {
            tokio::spawn(http_proxy(listener, server, None));
        } else {
            tokio::spawn(socks_proxy(listener, server, None));
        }
        let transport = StreamTransport::Tls {
            server_name: String::from("turn.example.org"),
        };
        let proxy = format!("{scheme}://{address}");
        let stream = through(&proxy, name("turn.example.org"), transport, &authority).await;
        check(stream.unwrap()).await;
    }
}

#[tokio::test]
async fn credentials_are_given_and_their_refusal_is_said() {
    let remote = || StreamRemote::Address("192.0.2.1:443".parse().unwrap());
    // "anna:secret" in Base64.
    let basic = Some("YW5uYTpzZWNyZXQ=");
    let (listener, address) = listen().await;
    let proxy = tokio::spawn(http_proxy(listener, greeter().await, basic));
    let url = format!("http://anna:secret@{address}");
    check(through_tcp(&url, remote()).await.unwrap()).await;
    assert_eq!(proxy.await.unwrap().credentials.as_deref(), basic);

    let (listener, address) = listen().await;
    let proxy = tokio::spawn(socks_proxy(listener, greeter().await, Some("anna:secret")));
    let url = format!("socks5://anna:secret@{address}");
    check(through_tcp(&url, remote()).await.unwrap()).await;
    assert_eq!(
        proxy.await.unwrap().credentials.as_deref(),
        Some("anna:secret")
    );

    for (user, given) in [("", false), ("anna:wrong@", true)] {
        for scheme in ["http", "socks5"] {
            let (listener, address) = listen().await;
            let server = "127.0.0.1:9".parse().unwrap();
            if scheme == "http" {
                tokio::spawn(http_proxy(listener, server, basic));
            } else {
                tokio::spawn(socks_proxy(listener, server, Some("anna:secret")));
            }
            let url = format!("{scheme}://{user}{address}");
            let error = through_tcp(&url, remote()).await.unwrap_err();
            assert_eq!(error.stage, StreamStage::Proxy);
            let StreamCause::Proxy(refusal) = error.cause else {
                panic!("{error}");
            };
            assert_eq!(refusal, ProxyRefusal::Credentials { given }, "{scheme}");
            assert!(!error.to_string().contains("wrong"));
        }
    }
}

/// A proxy that answers everything with the same bytes and ends.
async fn answer(scheme: &str, bytes: Vec<u8>) -> StreamError {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        // The client may be gone before all of it is written.
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
    });
    let remote = StreamRemote::Address("192.0.2.1:443".parse().unwrap());
    through_tcp(&format!("{scheme}://{address}"), remote)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn refusals_have_their_reason_and_garbage_is_no_proxy() {
    let refusal = |error: StreamError| match error.cause {
        StreamCause::Proxy(refusal) => refusal,
        _ => panic!("{error}"),
    };
    let forbidden = b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec();
    assert_eq!(
        refusal(answer("http", forbidden).await),
        ProxyRefusal::Http { status: 403 }
    );
    assert_eq!(
        refusal(answer("http", b"SSH-2.0-x\r\n".to_vec()).await),
        ProxyRefusal::NoProxy
    );
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'x'; 100_000]].concat();
    assert_eq!(
        refusal(answer("http", endless).await),
        ProxyRefusal::NoProxy
    );

    let refused = vec![5, 0, 5, 2, 0, 1];
    assert_eq!(
        refusal(answer("socks5", refused).await),
        ProxyRefusal::Socks { reply: 2 }
    );
    for garbage in [
        &b"HTTP/1.1 400\r\n"[..],
        &[5, 9],
        &[5, 0, 4, 0, 0, 1],
        &[5, 0, 5, 0, 0, 9],
    ] {
        assert_eq!(
            refusal(answer("socks5", garbage.to_vec()).await),
            ProxyRefusal::NoProxy
        );
    }
    for (scheme, part) in [
        ("http", &b"HTTP/1.1 20"[..]),
        ("socks5", &[5, 0, 5, 0, 0, 1, 9]),
    ] {
        let error = answer(scheme, part.to_vec()).await;
        assert!(matches!(error.cause, StreamCause::Io(_)), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_would_be_more_than_a_name_is_not_asked_for() {
    let (listener, address) = listen().await;
    for host in ["a\r\nX: y", "", "a b", &"a".repeat(300)] {
        for scheme in ["http", "socks5"] {
            let error = through_tcp(&format!("{scheme}://{address}"), name(host))
                .await
                .unwrap_err();
            let StreamCause::Proxy(refusal) = error.cause else {
                panic!("{error}");
            };
            assert_eq!(refusal, ProxyRefusal::Name);
        }
    }
    drop(listener);
}
