//! STUN over the loopback, as a client sees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nilas_server::{Server, ServerConfig, ServerError, ServerHandle, ServerStats};
use nilas_stun::{
    AttributeType, Class, Fingerprint, Message, MessageBuilder, Method, TransactionId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Only a guard against hanging.
const GUARD: Duration = Duration::from_secs(60);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

async fn start(config: ServerConfig) -> (nilas_server::LocalAddresses, ServerHandle) {
    let server = Server::bind(config).await.unwrap();
    let addresses = server.local_addresses().clone();
    let handle = server.handle();
    tokio::spawn(server.run(std::future::pending()));
    (addresses, handle)
}

fn request(number: u8) -> Vec<u8> {
    let mut buffer = [0; 64];
    let id = TransactionId::new([number; 12]);
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
    builder.fingerprint().unwrap();
    let length = builder.finish();
    buffer[..length].to_vec()
}

fn check_answer(bytes: &[u8], number: u8, address: SocketAddr) {
    let answer = Message::parse(bytes).unwrap();
    assert_eq!(answer.class(), Class::SuccessResponse);
    assert_eq!(answer.transaction_id(), TransactionId::new([number; 12]));
    assert_eq!(answer.xor_mapped_address(), Ok(Some(address)));
    assert_eq!(answer.fingerprint(), Fingerprint::Valid);
    assert!(
        answer
            .attributes()
            .all(|attribute| attribute.attribute_type != AttributeType::SOFTWARE)
    );
}

async fn ask_udp(server: SocketAddr) {
    let socket = UdpSocket::bind((server.ip(), 0)).await.unwrap();
    // Connected: an answer from another address would not be received.
    socket.connect(server).await.unwrap();
    let mut buffer = [0; 1500];
    for number in 0..20 {
        socket.send(&request(number)).await.unwrap();
        let length = timeout(GUARD, socket.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        check_answer(&buffer[..length], number, socket.local_addr().unwrap());
    }
}

async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = vec![0; 20];
    stream.read_exact(&mut message).await.unwrap();
    let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
    message.resize(20 + length, 0);
    stream.read_exact(&mut message[20..]).await.unwrap();
    message
}

async fn ask_tcp(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let local = stream.local_addr().unwrap();
    // Byte by byte, then several at once.
    for byte in request(1) {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    check_answer(
        &timeout(GUARD, read_message(&mut stream)).await.unwrap(),
        1,
        local,
    );
    let several = [request(2), request(3), request(4)].concat();
    let (most, rest) = several.split_at(several.len() - 5);
    stream.write_all(most).await.unwrap();
    check_answer(
        &timeout(GUARD, read_message(&mut stream)).await.unwrap(),
        2,
        local,
    );
    stream.write_all(rest).await.unwrap();
    check_answer(
        &timeout(GUARD, read_message(&mut stream)).await.unwrap(),
        3,
        local,
    );
    check_answer(
        &timeout(GUARD, read_message(&mut stream)).await.unwrap(),
        4,
        local,
    );
}

#[tokio::test]
async fn both_transports_and_both_families() {
    let (addresses, _handle) = start(ServerConfig::loopback()).await;
    let count = addresses.stun_udp.len();
    assert_eq!(count, 2, "the loopback interface needs IPv4 and IPv6");
    for address in addresses.stun_udp {
        ask_udp(address).await;
    }
    for address in addresses.stun_tcp {
        ask_tcp(address).await;
    }
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked() {
    let all = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let (addresses, _handle) = start(ServerConfig::on(&all, 0, 0)).await;
    ask_udp(SocketAddr::new(V4, addresses.stun_udp[0].port())).await;
    #[cfg(target_os = "linux")]
    {
        // All of 127.0.0.0/8 is this machine; the system on its own would answer from 127.0.0.1.
        let other = SocketAddr::new("127.9.9.9".parse().unwrap(), addresses.stun_udp[0].port());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(other).await.unwrap();
        socket.send(&request(1)).await.unwrap();
        let mut buffer = [0; 1500];
        let length = timeout(GUARD, socket.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        check_answer(&buffer[..length], 1, socket.local_addr().unwrap());
    }
    let there = std::net::UdpSocket::bind((V6, 0));
    there.expect("the loopback interface needs IPv6");
    ask_udp(SocketAddr::new(V6, addresses.stun_udp[1].port())).await;
}

async fn until_counted(handle: &ServerHandle, wanted: u64, value: fn(&ServerStats) -> u64) {
    let counted = async {
        while value(&handle.stats()) < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let _ = timeout(GUARD, counted).await;
    assert_eq!(value(&handle.stats()), wanted);
}

#[tokio::test]
async fn a_burst_of_one_sender_is_answered_one_by_one() {
    let (addresses, handle) = start(ServerConfig::on(&[V4], 0, 0)).await;
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    socket.connect(addresses.stun_udp[0]).await.unwrap();
    // Few enough for any socket's buffer. Equal lengths and one sender: the kernel may join them.
    let mut missing: std::collections::BTreeSet<u8> = (0..60).collect();
    for number in &missing {
        socket.send(&request(*number)).await.unwrap();
    }
    let mut buffer = [0; 1500];
    while !missing.is_empty() {
        let length = timeout(GUARD, socket.recv(&mut buffer))
            .await
            .expect("an answer is missing")
            .unwrap();
        let number = Message::parse(&buffer[..length])
            .unwrap()
            .transaction_id()
            .as_bytes()[0];
        check_answer(&buffer[..length], number, socket.local_addr().unwrap());
        assert!(missing.remove(&number), "{number} answered twice");
    }
    // An answer may be here before it is counted there.
    until_counted(&handle, 60, |stats| stats.udp_answered).await;
}

#[tokio::test]
async fn what_is_not_a_request_is_passed_over_in_silence() {
    let (addresses, handle) = start(ServerConfig::on(&[V4], 0, 0)).await;
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    socket.connect(addresses.stun_udp[0]).await.unwrap();
    let mut wrong = request(1);
    *wrong.last_mut().unwrap() ^= 1;
    for garbage in [&[][..], &[0xff; 1200], &[0; 20], &wrong] {
        socket.send(garbage).await.unwrap();
    }
    // One socket's datagrams are taken in order, so the first answer shows that there was none before.
    socket.send(&request(9)).await.unwrap();
    let mut buffer = [0; 1500];
    let length = timeout(GUARD, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    check_answer(&buffer[..length], 9, socket.local_addr().unwrap());
    until_counted(&handle, 4, |stats| stats.udp_ignored).await;
}

#[tokio::test]
async fn a_stream_that_is_not_stun_is_closed() {
    let (addresses, _handle) = start(ServerConfig::on(&[V4], 0, 0)).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x00, 0x01, 0x00, 0x03],
        &[0x00, 0x01, 0xff, 0xfc],
    ] {
        let mut stream = TcpStream::connect(addresses.stun_tcp[0]).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut buffer = [0; 16];
        let end = timeout(GUARD, stream.read(&mut buffer)).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

#[tokio::test]
async fn connections_that_idle_or_dawdle_are_closed() {
    let mut config = ServerConfig::on(&[V4], 0, 0);
    config.stun_idle_time = Duration::from_millis(50);
    config.stun_message_time = Duration::from_millis(50);
    let (addresses, _handle) = start(config).await;
    let mut buffer = [0; 16];
    let mut idle = TcpStream::connect(addresses.stun_tcp[0]).await.unwrap();
    assert!(matches!(
        timeout(GUARD, idle.read(&mut buffer)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    let mut slow = TcpStream::connect(addresses.stun_tcp[0]).await.unwrap();
    slow.write_all(&request(1)[..7]).await.unwrap();
    assert!(matches!(
        timeout(GUARD, slow.read(&mut buffer)).await.unwrap(),
        Ok(0) | Err(_)
    ));
}

#[tokio::test]
async fn connections_are_bounded_for_each_source() {
    let mut config = ServerConfig::on(&[V4], 0, 0);
    config.max_stun_connections_per_source = 1;
    let (addresses, handle) = start(config).await;
    let mut first = TcpStream::connect(addresses.stun_tcp[0]).await.unwrap();
    first.write_all(&request(1)).await.unwrap();
    timeout(GUARD, read_message(&mut first)).await.unwrap();
    let mut second = TcpStream::connect(addresses.stun_tcp[0]).await.unwrap();
    let mut buffer = [0; 16];
    assert!(matches!(
        timeout(GUARD, second.read(&mut buffer)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    assert_eq!(handle.stats().tcp_refused, 1);
}

#[tokio::test]
async fn what_cannot_be_bound_says_what_to_do() {
    let taken = std::net::UdpSocket::bind((V4, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = ServerConfig::on(&[], 0, 0);
    config.stun_udp.push(SocketAddr::new(V4, port));
    let error = Server::bind(config.clone()).await.err().unwrap();
    assert!(
        matches!(
            error,
            ServerError::PortInUse {
                protocol: "UDP",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    let listener = std::net::TcpListener::bind((V4, 0)).unwrap();
    config.stun_udp.clear();
    config.rendezvous.push(listener.local_addr().unwrap());
    let error = Server::bind(config.clone()).await.err().unwrap();
    assert!(
        matches!(
            error,
            ServerError::PortInUse {
                protocol: "TCP",
                ..
            }
        ),
        "{error:?}"
    );

    // RFC 5737: an address for documentation, which no machine has.
    config.rendezvous = vec!["192.0.2.1:0".parse().unwrap()];
    let error = Server::bind(config.clone()).await.err().unwrap();
    assert!(
        matches!(error, ServerError::AddressNotAvailable { .. }),
        "{error:?}"
    );

    config.rendezvous.clear();
    let error = Server::bind(config).await.err().unwrap();
    assert!(matches!(error, ServerError::NothingToServe), "{error:?}");
}
