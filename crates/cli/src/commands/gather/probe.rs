//! How far a STUN server is: one Binding transaction of its own, from a socket of its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nilas_ice::StunServer;
use nilas_stun::{Class, Message, MessageBuilder, Method, TransactionId};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

/// RFC 8489 section 6.2.1: the first retransmission comes after 500 ms, and each pause doubles.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);
/// Three transmissions: a person waits for this.
const TRANSMISSIONS: u32 = 3;

/// The round-trip time to the server, or `None` where it does not answer; why not is the agent's to say.
pub(super) async fn round_trip(server: &StunServer) -> Option<Duration> {
    let address = lookup_host((server.host.as_str(), server.port))
        .await
        .ok()?
        .next()?;
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await.ok()?;
    socket.connect(address).await.ok()?;
    for attempt in 0..TRANSMISSIONS {
        // Each has an id of its own, so that an answer tells which of them it belongs to.
        let seed = nilas_net::os_seed().ok()?;
        let id = TransactionId::new(*seed.first_chunk()?);
        let mut request = [0; 64];
        let length = request_into(&mut request, id)?;
        let sent = Instant::now();
        socket.send(&request[..length]).await.ok()?;
        let answered = timeout(FIRST_TIMEOUT * 2_u32.pow(attempt), answer(&socket, id)).await;
        match answered {
            Ok(Some(())) => return Some(sent.elapsed()),
            // The network says that nobody is there.
            Ok(None) => return None,
            Err(_) => {}
        }
    }
    None
}

fn request_into(buffer: &mut [u8], id: TransactionId) -> Option<usize> {
    let mut builder = MessageBuilder::new(buffer, Class::Request, Method::BINDING, id).ok()?;
    builder.fingerprint().ok()?;
    Some(builder.finish())
}

async fn answer(socket: &UdpSocket, id: TransactionId) -> Option<()> {
    let mut buffer = [0; 1_500];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        if let Ok(message) = Message::parse(&buffer[..length])
            && message.transaction_id() == id
            && message.class() == Class::SuccessResponse
        {
            return Some(());
        }
    }
}
