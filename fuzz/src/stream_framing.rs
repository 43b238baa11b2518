//! Messages cut out of a stream, by the client's end and the server's (RFC 8656 section 12.5).
//!
//! How the bytes are cut into pieces on their way changes nothing, and what is once said about the beginning of a
//! stream stays said.

use std::net::SocketAddr;

use nilas_stun::{Method, stream_message_length};
use nilas_turn::client::message_length;
use nilas_turn::server::{Counters, Path, StreamId};

use crate::choices::Choices;
use crate::relay::{Relay, User, address};

/// The first byte says how the rest is cut.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let cut = usize::from(choices.byte()).max(1);
    let bytes = data.get(1..).unwrap_or_default();
    beginning(bytes);
    for allocated in [false, true] {
        let whole = serve(bytes, bytes.len().max(1), allocated);
        let pieces = serve(bytes, cut, allocated);
        assert_eq!(whole, pieces, "in pieces of {cut}");
    }
}

fn beginning(bytes: &[u8]) {
    let mut known = Ok(None);
    for end in 0..=bytes.len().min(64) {
        let told = message_length(&bytes[..end]);
        assert!(
            known == Ok(None) || known == told,
            "{known:?}, then {told:?}"
        );
        if let Ok(Some(length)) = told {
            assert!((4..65_536 + 20).contains(&length));
        }
        known = told;
    }
    // The client's end and the message layer agree on what is STUN, but for the first six bits.
    if let (Ok(Some(length)), Ok(Some(same))) = (known, stream_message_length(bytes))
        && bytes.first().is_some_and(|first| first & 0xC0 == 0)
    {
        assert_eq!(length, same);
    }
}

type Outcome = (
    Vec<(SocketAddr, Vec<u8>)>,
    Vec<(Path, Vec<u8>)>,
    Counters,
    bool,
);

/// What a server makes of a stream, with an allocation on it that has a channel, or without.
fn serve(bytes: &[u8], cut: usize, allocated: bool) -> Outcome {
    let mut relay = Relay::default();
    let mut user = User::new(Path::Stream(StreamId(0)), 0);
    let path = user.open(&mut relay);
    if allocated {
        for _ in 0..2 {
            let request = user.sign(Method::ALLOCATE, |builder| {
                builder.requested_transport(17).expect("there is room");
            });
            relay.receive(path, &request);
            user.learn(&relay.sent);
        }
        let peer = address("192.0.2.1:7");
        relay.asked.insert(peer.ip());
        let bind = user.sign(Method::CHANNEL_BIND, |builder| {
            builder
                .channel_number(0x4000)
                .and_then(|b| b.xor_peer_address(peer))
                .expect("there is room");
        });
        relay.receive(path, &bind);
        assert_eq!(relay.server.counters().allocations, 1);
        relay.sent.clear();
    }
    for piece in bytes.chunks(cut) {
        relay.receive(path, piece);
    }
    relay.check();
    let data = relay
        .relayed
        .iter()
        .map(|sent| (sent.peer, sent.bytes.clone()))
        .collect();
    let open = match path {
        Path::Stream(stream) => relay.streams.contains_key(&stream),
        Path::Datagram { .. } => true,
    };
    (data, relay.sent, relay.server.counters(), open)
}
