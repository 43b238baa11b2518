//! The TURN client against servers that the tests script: silent, redirecting, refusing, echoing, breaking.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nilas_net::dns::{ServerAddress, ServerResolver, ServerTransport};
use nilas_net::relay::{
    Credentials, Families, RelayError, RelayRequest, RelaySendError, RelayStage, TurnClient,
};
use nilas_stun::{Class, ErrorCode, Key, Message, MessageBuilder, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use common::HANG_GUARD;

/// What a scripted server does.
#[derive(Clone, Copy)]
enum Script {
    Silent,
    Redirect(SocketAddr),
    Refuse(u16),
    /// It relays, to peers that send everything back; but for those at `FORBIDDEN`.
    Echo,
}

const FORBIDDEN: &str = "192.0.2.66:9";
const PEER: &str = "192.0.2.1:9";
const RELAYED: &str = "198.51.100.1:50000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn request() -> RelayRequest {
    RelayRequest::new(Credentials {
        username: "anna".into(),
        password: "secret".into(),
    })
}

fn client() -> TurnClient {
    // No test here asks the DNS.
    TurnClient::with_resolver(ServerResolver::with_servers(&[address("127.0.0.1:9")]).unwrap())
}

fn at(transport: ServerTransport, address: SocketAddr) -> ServerAddress {
    ServerAddress {
        transport,
        address,
        server_name: None,
    }
}

/// The answer to a message, as the script has it.
fn answer(script: Script, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    if matches!(script, Script::Silent) {
        return None;
    }
    if bytes[0] >> 6 == 1 {
        return Some(bytes.to_vec());
    }
    let message = Message::parse(bytes).expect("the client sends STUN");
    let mut buffer = [0; 2048];
    let id = message.transaction_id();
    let method = message.method();
    if message.class() == Class::Indication {
        let mut data =
            MessageBuilder::new(&mut buffer, Class::Indication, Method::DATA, id).unwrap();
        let peer = message.xor_peer_address().unwrap().unwrap();
        data.xor_peer_address(peer).unwrap();
        data.data(message.data().unwrap()).unwrap();
        let length = data.finish();
        return Some(buffer[..length].to_vec());
    }
    let key = Key::long_term_md5("anna", "test", "secret").unwrap();
    let signed = message.authenticate(&key).is_ok();
    let forbidden =
        message.xor_peer_address().unwrap() == Some(SocketAddr::new(address(FORBIDDEN).ip(), 0));
    let error = match script {
        Script::Redirect(_) => Some(300),
        Script::Refuse(code) => Some(code),
        _ if !signed => Some(ErrorCode::UNAUTHENTICATED.code()),
        _ if forbidden => Some(403),
        _ => None,
    };
    let class = if error.is_some() {
        Class::ErrorResponse
    } else {
        Class::SuccessResponse
    };
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id).unwrap();
    if let Some(code) = error {
        builder.error_code(code, "because").unwrap();
    }
    match script {
        Script::Redirect(to) => {
            builder.alternate_server(to).unwrap();
        }
        _ if error == Some(401) => {
            builder.realm("test").unwrap();
            builder.nonce("nonce").unwrap();
        }
        _ if error.is_none() && method == Method::ALLOCATE => {
            builder.xor_relayed_address(address(RELAYED)).unwrap();
            builder.xor_mapped_address(from).unwrap();
            builder.lifetime(600).unwrap();
        }
        _ if error.is_none() && method == Method::REFRESH => {
            builder
                .lifetime(message.lifetime().unwrap().unwrap_or(600))
                .unwrap();
        }
        _ => {}
    }
    if signed {
        builder.message_integrity(&key).unwrap();
    }
    let length = builder.finish();
    Some(buffer[..length].to_vec())
}

/// A scripted server on UDP. What it counts are the requests.
async fn udp(script: Script) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = answer(script, from, &buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    (address, count)
}

/// A scripted server on TCP. It counts connections, and breaks each at a message that a peer is sent `break`.
async fn tcp(script: Script) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, from, script));
        }
    });
    (address, count)
}

async fn serve(mut stream: TcpStream, from: SocketAddr, script: Script) {
    loop {
        let mut message = vec![0; 4];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        let body = usize::from(u16::from_be_bytes([message[2], message[3]]));
        let rest = if message[0] >> 6 == 1 {
            body.next_multiple_of(4)
        } else {
            16 + body
        };
        message.resize(4 + rest, 0);
        if stream.read_exact(&mut message[4..]).await.is_err() {
            return;
        }
        if message.windows(5).any(|bytes| bytes == b"break") {
            return;
        }
        if let Some(answer) = answer(script, from, &message) {
            stream.write_all(&answer).await.unwrap();
        }
    }
}

async fn guarded<T>(test: impl Future<Output = T>) -> T {
    timeout(HANG_GUARD, test).await.expect("it does not hang")
}

#[tokio::test]
async fn data_comes_back_from_a_peer_over_udp_and_tcp() {
    guarded(async {
        let servers = [
            at(ServerTransport::Udp, udp(Script::Echo).await.0),
            at(ServerTransport::Tcp, tcp(Script::Echo).await.0),
        ];
        for server in servers {
            let mut relay = client().allocate_at(&server, &request()).await.unwrap();
            assert_eq!(relay.relayed(), [address(RELAYED)]);
            assert_eq!(relay.mapped(), Some(relay.local_address()));
            let peer = address(PEER);
            relay.permit(peer).await.unwrap();
            for text in ["by indication", "by channel", ""] {
                relay.send(peer, text.as_bytes()).await.unwrap();
                let (from, data) = relay.recv().await.unwrap();
                assert_eq!((from, data.as_slice()), (peer, text.as_bytes()));
                relay.bind(peer).await.unwrap();
            }
            relay.release().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_the_server_refuses_is_an_error_with_its_code() {
    guarded(async {
        let server = at(ServerTransport::Udp, udp(Script::Echo).await.0);
        let relay = client().allocate_at(&server, &request()).await.unwrap();
        for _ in 0..2 {
            let refused = relay.permit(address(FORBIDDEN)).await;
            assert!(
                matches!(refused, Err(RelaySendError::PeerRefused { code: 403, .. })),
                "{refused:?}"
            );
        }
        let other_family = relay.permit(address("[2001:db8::1]:9")).await;
        assert!(matches!(other_family, Err(RelaySendError::Family { .. })));
        // Others are as before.
        relay.bind(address(PEER)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_redirection_is_followed_and_a_circle_is_not() {
    guarded(async {
        let (last, _) = udp(Script::Echo).await;
        let (first, _) = udp(Script::Redirect(last)).await;
        let server = at(ServerTransport::Udp, first);
        let relay = client().allocate_at(&server, &request()).await.unwrap();
        assert_eq!(relay.server().address, last);

        // A server that sends its clients to itself, and two that send them to each other.
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let own = socket.local_addr().unwrap();
        let (other, asked) = udp(Script::Redirect(own)).await;
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer = answer(Script::Redirect(other), from, &buffer[..length]).unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        let error = client()
            .allocate_at(&at(ServerTransport::Udp, own), &request())
            .await
            .unwrap_err();
        assert!(
            matches!(error, RelayError::Redirected { to, .. } if to == own),
            "{error:?}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    })
    .await;
}

#[tokio::test]
async fn no_more_than_four_redirections_are_followed() {
    guarded(async {
        for (redirections, arrives) in [(4, true), (5, false)] {
            let (mut to, reached) = udp(Script::Echo).await;
            for _ in 0..redirections {
                to = udp(Script::Redirect(to)).await.0;
            }
            let server = at(ServerTransport::Udp, to);
            let outcome = client().allocate_at(&server, &request()).await;
            assert_eq!(outcome.is_ok(), arrives, "{redirections}: {outcome:?}");
            assert_eq!(reached.load(Ordering::Relaxed) > 0, arrives);
        }
    })
    .await;
}

#[tokio::test]
async fn each_failure_has_its_stage() {
    guarded(async {
        let mut request = request();
        request.allocate = Duration::from_millis(200);
        // No port that the system gives to anybody who asks for one.
        let nobody = address("127.0.0.1:9");
        let cases = [
            (
                at(ServerTransport::Udp, udp(Script::Silent).await.0),
                RelayStage::Allocate,
                "in time",
            ),
            (
                at(ServerTransport::Tcp, tcp(Script::Silent).await.0),
                RelayStage::Allocate,
                "in time",
            ),
            (
                at(ServerTransport::Udp, udp(Script::Refuse(486)).await.0),
                RelayStage::Allocate,
                "486",
            ),
            (
                at(ServerTransport::Udp, nobody),
                RelayStage::Connect,
                "no server listens",
            ),
            (
                at(ServerTransport::Tcp, nobody),
                RelayStage::Connect,
                "refused",
            ),
            (
                at(ServerTransport::Tls, tcp(Script::Silent).await.0),
                RelayStage::Handshake,
                "TLS",
            ),
        ];
        let authority = common::Authority::new();
        request.deadlines.handshake = Duration::from_millis(200);
        let tls = nilas_net::stream::ClientTls::from_pem(authority.pem().as_bytes()).unwrap();
        let client = client().trusting(tls);
        for (server, stage, word) in cases {
            let error = client.allocate_at(&server, &request).await.unwrap_err();
            assert_eq!(error.stage(), stage, "{server:?}: {error}");
            assert!(error.to_string().contains(word), "{server:?}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such() {
    guarded(async {
        let server = at(ServerTransport::Udp, udp(Script::Echo).await.0);
        let mut request = request();
        request.credentials.password = "wrong".into();
        let error = client().allocate_at(&server, &request).await.unwrap_err();
        assert!(
            error.to_string().contains("user name or password"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_does_not_delay_another_way() {
    guarded(async {
        // The same port: silent on UDP, a relay on TCP. UDP alone would have been given up after 60 s.
        let (address, _) = tcp(Script::Echo).await;
        let silent = UdpSocket::bind(address).await.unwrap();
        let mut request = request();
        request.families = Families::V4;
        request.allocate = HANG_GUARD * 2;
        request.transports = vec![ServerTransport::Udp, ServerTransport::Tcp];
        let uri = format!("turn:{address}").parse().unwrap();
        let relay = client().allocate(&uri, &request).await.unwrap();
        assert_eq!(relay.server().transport, ServerTransport::Tcp);
        drop(silent);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_its_peers_are_bound_again() {
    guarded(async {
        let (address, connections) = tcp(Script::Echo).await;
        let server = at(ServerTransport::Tcp, address);
        let mut relay = client().allocate_at(&server, &request()).await.unwrap();
        let peer = self::address(PEER);
        relay.bind(peer).await.unwrap();
        relay.send(peer, b"break").await.unwrap();
        relay.reallocated(2).await.unwrap();
        assert_eq!(connections.load(Ordering::Relaxed), 2);
        relay.bind(peer).await.unwrap();
        relay.send(peer, b"again").await.unwrap();
        assert_eq!(relay.recv().await.unwrap(), (peer, b"again".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_is_given_back() {
    guarded(async {
        let (address, count) = udp(Script::Echo).await;
        let relay = client()
            .allocate_at(&at(ServerTransport::Udp, address), &request())
            .await
            .unwrap();
        let before = count.load(Ordering::Relaxed);
        drop(relay);
        while count.load(Ordering::Relaxed) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
