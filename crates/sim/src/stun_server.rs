//! The answer of a STUN server: where a Binding request came from (RFC 8489 section 6.3.1).

use core::net::SocketAddr;

use nilas_stun::{Class, Message, MessageBuilder, Method};

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
