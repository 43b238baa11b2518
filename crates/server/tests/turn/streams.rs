//! Over TCP, TLS and DTLS.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_net::stream::{StreamDeadlines, StreamRequest, StreamTransport, open};
use nilas_server::ServerConfig;
use nilas_turn::client::Families;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::certificate::Certificate;
use crate::support::{GUARD, Relayed, V4, config, credentials, echo, start};

fn with_tls(certificate: &Certificate) -> ServerConfig {
    let mut config = config();
    config.tls = vec![SocketAddr::new(V4, 0)];
    config.certificate = Some(certificate.files());
    config
}

async fn over(
    transport: StreamTransport,
    server: SocketAddr,
    certificate: &Certificate,
) -> Relayed {
    let request = StreamRequest::new(server, transport);
    let stream = open(&request, &certificate.client, &StreamDeadlines::default())
        .await
        .unwrap();
    Relayed::stream(stream, credentials())
}

fn tls() -> StreamTransport {
    StreamTransport::Tls {
        server_name: "localhost".to_owned(),
    }
}

fn dtls() -> StreamTransport {
    StreamTransport::Dtls {
        server_name: "localhost".to_owned(),
    }
}

#[tokio::test]
async fn where_the_certificate_does_not_serve_for_dtls_there_is_tls_alone() {
    let server = start(with_tls(&Certificate::new())).await;
    assert_eq!(server.addresses.dtls, server.addresses.tls);
    server.stop().await;

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = Certificate::with_key(&key);
    let server = start(with_tls(&certificate)).await;
    assert_eq!(server.addresses.dtls, []);
    let mut client = over(tls(), server.addresses.tls[0], &certificate).await;
    client.allocate().await;
    server.stop().await;
}

#[tokio::test]
async fn every_transport_reaches_every_other() {
    let certificate = Certificate::new();
    let server = start(with_tls(&certificate)).await;
    let (plain, secure) = (server.addresses.stun_tcp[0], server.addresses.tls[0]);
    // TLS is understood on the plain port, too, and the other way round.
    let ways = [
        (StreamTransport::Tcp, plain),
        (StreamTransport::Tcp, secure),
        (tls(), secure),
        (tls(), plain),
        (dtls(), secure),
    ];
    for (number, (transport, address)) in ways.iter().enumerate() {
        let mut a = over(transport.clone(), *address, &certificate).await;
        let (transport, address) = &ways[(number + 1) % ways.len()];
        let mut b = over(transport.clone(), *address, &certificate).await;
        echo(&mut a, &mut b).await;
    }
    // A client that is gone takes its allocation along, but for DTLS, where only silence tells.
    server
        .until("streams are gone", |stats| {
            stats.turn.streams == 0 && stats.turn.allocations <= 2
        })
        .await;
    server.stop().await;
}

#[tokio::test]
async fn https_and_turn_share_a_port() {
    let certificate = Certificate::new();
    let server = start(with_tls(&certificate)).await;
    let address = server.addresses.tls[0];
    let request = StreamRequest::new(address, tls());
    // Without ALPN the first byte tells; this client offers `stun.turn` and speaks HTTP nevertheless, which is
    // nothing to TURN.
    let stream = open(&request, &certificate.client, &StreamDeadlines::default())
        .await
        .unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 2_000];
    let end = timeout(GUARD, reader.read(&mut buffer)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");

    for alpn in [&[][..], &[b"http/1.1".to_vec()][..]] {
        let mut stream = certificate.connect(address, alpn).await;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read = timeout(GUARD, stream.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    assert_eq!(server.handle.stats().http_accepted, 2);
    let mut client = over(tls(), address, &certificate).await;
    client.allocate().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_data_and_then_its_stream() {
    let mut config = config();
    config.stun_message_time = Duration::from_millis(300);
    let server = start(config).await;
    let stream = TcpStream::connect(server.addresses.stun_tcp[0])
        .await
        .unwrap();
    let stream = nilas_net::stream::Stream::from_tcp(stream).unwrap();
    let mut client = Relayed::stream(stream, credentials());
    let relayed = client.allocate().await[0];
    let peer = UdpSocket::bind((V4, 0)).await.unwrap();
    assert_eq!(client.bind(peer.local_addr().unwrap()).await, None);
    // The client reads nothing any more. What fits nowhere is dropped, and the stream is cut when nothing moves.
    let begun = std::time::Instant::now();
    while server.handle.stats().turn.allocations > 0 {
        assert!(begun.elapsed() < GUARD, "{:#?}", server.handle.stats());
        for _ in 0..64 {
            peer.send_to(&[7; 8_000], relayed).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stats = server.handle.stats();
    assert_eq!(stats.streams_slow, 1);
    assert!(stats.stream_data_lost > 0);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn misframed_oversize_slow_and_silent_streams_are_closed() {
    let certificate = Certificate::new();
    let mut config = with_tls(&certificate);
    config.stun_message_time = Duration::from_millis(100);
    config.stun_idle_time = Duration::from_millis(200);
    let server = start(config).await;
    // Garbage; ChannelData before there is an allocation; a length no stranger's message has; a wrong cookie;
    // a message and a handshake that are begun and not ended; nothing at all.
    let beginnings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x40, 0, 0, 4, 1, 2, 3, 4],
        &[0, 1, 0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42],
        &[0, 1, 0, 0, 1, 2, 3, 4],
        &[0, 1, 0, 0, 0x21],
        &[22, 3, 1, 2],
        &[],
    ];
    for address in [server.addresses.stun_tcp[0], server.addresses.tls[0]] {
        for bytes in beginnings {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let end = timeout(GUARD, stream.read(&mut [0; 16])).await;
            assert!(
                matches!(end, Ok(Ok(0) | Err(_))),
                "{address} {bytes:?} {end:?}"
            );
        }
    }
    server
        .until("nothing is left", |stats| stats.turn.streams == 0)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let config = with_tls(&first);
    let server = start(config.clone()).await;
    let address = server.addresses.tls[0];
    let mut before = over(tls(), address, &first).await;
    before.allocate().await;
    first.take_from(&second);
    server.handle.reload(&config).unwrap();
    for transport in [tls(), dtls()] {
        let request = StreamRequest::new(address, transport.clone());
        let deadlines = StreamDeadlines::default();
        // The workers hear of it one after the other, and the next connection may be another's.
        let begun = std::time::Instant::now();
        let stream = loop {
            match open(&request, &second.client, &deadlines).await {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < GUARD, "{error}"),
            }
        };
        Relayed::stream(stream, credentials()).allocate().await;
    }
    // Who was there stays.
    let peer = UdpSocket::bind((V4, 0)).await.unwrap();
    assert_eq!(before.bind(peer.local_addr().unwrap()).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_udp_client_reaches_one_on_tcp() {
    let server = start(config()).await;
    let stream = TcpStream::connect(server.addresses.stun_tcp[0])
        .await
        .unwrap();
    let stream = nilas_net::stream::Stream::from_tcp(stream).unwrap();
    let mut a = Relayed::stream(stream, credentials());
    let mut b = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    echo(&mut a, &mut b).await;
    server.stop().await;
}
