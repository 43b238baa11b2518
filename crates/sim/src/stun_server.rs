//! A STUN server: it says where a Binding request came from (RFC 8489 section 6.3.1).

use core::net::SocketAddr;
use std::collections::BTreeMap;

use nilas_stun::{Class, Message, MessageBuilder, Method, stream_message_length};

use crate::tcp::Happened;
use crate::world::{NodeId, NodeKind, World};

/// A STUN server at work.
#[derive(Debug, Default)]
pub(crate) struct StunNode {
    /// What came on each connection and is no whole message yet.
    streams: BTreeMap<u32, Vec<u8>>,
}

impl World {
    /// Something happened on a connection to a STUN server.
    pub(crate) fn stun_stream(&mut self, node: NodeId, id: u32, happened: Happened) {
        let now = self.now();
        let place = self.node_mut(node);
        let client = place.tcp.connection(id).map(|connection| connection.remote);
        let came = place.tcp.take(id);
        let NodeKind::StunServer(server) = &mut place.kind else {
            return;
        };
        let bytes = server.streams.entry(id).or_default();
        bytes.extend(came);
        let mut answers = Vec::new();
        let mut speaks_stun = true;
        while speaks_stun {
            match stream_message_length(bytes) {
                Ok(Some(length)) if length <= bytes.len() => {
                    let message: Vec<_> = bytes.drain(..length).collect();
                    answers.extend(client.and_then(|client| answer(&message, client)));
                }
                Ok(_) => break,
                Err(_) => speaks_stun = false,
            }
        }
        if !speaks_stun || matches!(happened, Happened::Ended(_)) {
            server.streams.remove(&id);
        }
        for answer in answers {
            place.tcp.write(now, id, &answer);
        }
        if !speaks_stun {
            place.tcp.close(now, id);
        }
    }
}

/// The response to a datagram from `remote`; `None` if it is no Binding request.
pub(crate) fn answer(datagram: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::parse(datagram).ok()?;
    if request.class() != Class::Request || request.method() != Method::BINDING {
        return None;
    }
    // RFC 8489 section 6.3.1: unknown comprehension-required attributes are answered with 420.
    let unknown: Vec<u16> = request.unknown_comprehension_required().collect();
    let class = if unknown.is_empty() {
        Class::SuccessResponse
    } else {
        Class::ErrorResponse
    };
    let mut buffer = vec![0; 1280];
    let mut response = MessageBuilder::new(
        &mut buffer,
        class,
        Method::BINDING,
        request.transaction_id(),
    )
    .ok()?;
    if unknown.is_empty() {
        response.xor_mapped_address(remote).ok()?;
    } else {
        response
            .error_code(420, "Unknown Attribute")
            .ok()?
            .unknown_attributes(&unknown)
            .ok()?;
    }
    response.fingerprint().ok()?;
    let length = response.finish();
    buffer.truncate(length);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use nilas_stun::{AttributeType, TransactionId};

    use super::*;

    fn request(attribute: Option<u16>) -> Vec<u8> {
        let mut buffer = vec![0; 64];
        let id = TransactionId::new([3; 12]);
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
        if let Some(number) = attribute {
            builder.raw(AttributeType(number), &[1]).expect("room");
        }
        let length = builder.finish();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn tells_where_a_request_came_from() {
        for remote in ["192.0.2.1:1234", "[2001:db8::1]:1234"] {
            let remote = remote.parse().expect("an address");
            let answer = answer(&request(None), remote).expect("an answer");
            let answer = Message::parse(&answer).expect("a message");
            assert_eq!(answer.class(), Class::SuccessResponse);
            assert_eq!(answer.transaction_id(), TransactionId::new([3; 12]));
            assert_eq!(
                answer.xor_mapped_address().expect("an address"),
                Some(remote)
            );
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let remote = "192.0.2.1:1234".parse().expect("an address");
        let answer = answer(&request(Some(0x7fff)), remote).expect("an answer");
        let answer = Message::parse(&answer).expect("a message");
        let code = answer
            .error_code()
            .expect("well-formed")
            .expect("an ERROR-CODE");
        assert_eq!((answer.class(), code.code()), (Class::ErrorResponse, 420));
    }

    #[test]
    fn is_silent_to_anything_else() {
        let remote = "192.0.2.1:1234".parse().expect("an address");
        let mut indication = request(None);
        indication[1] = 0x11;
        for datagram in [&b""[..], b"hello", &indication] {
            assert_eq!(answer(datagram, remote), None);
        }
    }
}
