//! What a STUN server answers: Binding requests, without credentials and without state.

use core::net::SocketAddr;

use nilas_stun::{
    AttributeType, BuildError, Class, ErrorCode, Fingerprint, Message, MessageBuilder, Method,
};

/// Room for the largest answer.
pub(crate) const MAX_ANSWER: usize = 128;
/// More unknown attributes than these are not listed: the answer must not grow with what a stranger sends.
const MAX_UNKNOWN_LISTED: usize = 8;

/// The comprehension-required attributes of RFC 8489. In a Binding request without authentication the server
/// understands them and has no use for them.
///
/// RFC 5780 section 7.2: CHANGE-REQUEST is not among them. The 420 that it gets tells the client that this
/// server does not do NAT behavior discovery.
const UNDERSTOOD: [AttributeType; 11] = [
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
];

/// Writes the answer to what came from `source`: its length, or `None` where there is none.
pub(crate) fn answer(
    received: &[u8],
    source: SocketAddr,
    buffer: &mut [u8; MAX_ANSWER],
) -> Option<usize> {
    // RFC 8489 section 6.3: what is wrong in any of these ways is silently discarded, and so are methods
    // that the server does not support.
    let request = Message::parse(received).ok()?;
    if request.class() != Class::Request || request.method() != Method::BINDING {
        return None;
    }
    let fingerprint = request.fingerprint();
    if fingerprint == Fingerprint::Invalid {
        return None;
    }
    // The largest answer fits: 20 + 8 + 20 + 24 + 8 bytes are less than MAX_ANSWER.
    build(&request, source, fingerprint == Fingerprint::Valid, buffer).ok()
}

fn build(
    request: &Message<'_>,
    source: SocketAddr,
    with_fingerprint: bool,
    buffer: &mut [u8; MAX_ANSWER],
) -> Result<usize, BuildError> {
    let mut unknown = [0; MAX_UNKNOWN_LISTED];
    let mut count = 0;
    for attribute in request.attributes() {
        let kind = attribute.attribute_type;
        if kind.is_comprehension_required()
            && !UNDERSTOOD.contains(&kind)
            && count < MAX_UNKNOWN_LISTED
        {
            unknown[count] = kind.0;
            count += 1;
        }
    }
    // RFC 8489 section 6.3.1.1: no SOFTWARE, and no reason phrase either, so that a forged source address
    // gets as little as possible out of it.
    let mut builder = if count == 0 {
        let mut builder = MessageBuilder::new(
            buffer,
            Class::SuccessResponse,
            Method::BINDING,
            request.transaction_id(),
        )?;
        builder.xor_mapped_address(canonical(source))?;
        builder
    } else {
        // RFC 8489 section 6.3.1: 420 with the list.
        let mut builder = MessageBuilder::new(
            buffer,
            Class::ErrorResponse,
            Method::BINDING,
            request.transaction_id(),
        )?;
        builder
            .error_code(ErrorCode::UNKNOWN_ATTRIBUTE.code(), "")?
            .unknown_attributes(&unknown[..count])?;
        builder
    };
    // RFC 8489 section 7: the usage decides on FINGERPRINT; here, whoever sends one gets one.
    if with_fingerprint {
        builder.fingerprint()?;
    }
    Ok(builder.finish())
}

/// An IPv4 client's address as such, also where it came through an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use nilas_stun::TransactionId;

    use super::*;

    const ID: TransactionId = TransactionId::new(*b"twelve bytes");

    fn source() -> SocketAddr {
        "192.0.2.7:50000".parse().unwrap()
    }

    fn request(write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        message(Class::Request, Method::BINDING, write)
    }

    fn message(
        class: Class,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let mut buffer = [0; 1280];
        let mut builder = MessageBuilder::new(&mut buffer, class, method, ID).unwrap();
        write(&mut builder);
        let length = builder.finish();
        buffer[..length].to_vec()
    }

    fn answer_to(received: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let mut buffer = [0; MAX_ANSWER];
        answer(received, source, &mut buffer).map(|length| buffer[..length].to_vec())
    }

    #[test]
    fn both_families_learn_their_address() {
        for address in ["192.0.2.7:50000", "[2001:db8::7]:50000"] {
            let address = address.parse().unwrap();
            let bytes = answer_to(&request(|_| {}), address).unwrap();
            let answer = Message::parse(&bytes).unwrap();
            assert_eq!(answer.class(), Class::SuccessResponse);
            assert_eq!(answer.transaction_id(), ID);
            assert_eq!(answer.xor_mapped_address(), Ok(Some(address)));
            assert_eq!(answer.fingerprint(), Fingerprint::Absent);
        }
    }

    #[test]
    fn a_v4_client_of_a_v6_socket_learns_its_v4_address() {
        let bytes = answer_to(
            &request(|_| {}),
            "[::ffff:192.0.2.7]:50000".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(
            Message::parse(&bytes).unwrap().xor_mapped_address(),
            Ok(Some(source()))
        );
    }

    #[test]
    fn fingerprint_is_answered_with_fingerprint_and_a_wrong_one_not_at_all() {
        let mut received = request(|builder| {
            builder.fingerprint().unwrap();
        });
        let bytes = answer_to(&received, source()).unwrap();
        assert_eq!(
            Message::parse(&bytes).unwrap().fingerprint(),
            Fingerprint::Valid
        );
        *received.last_mut().unwrap() ^= 1;
        assert_eq!(answer_to(&received, source()), None);
    }

    #[test]
    fn credentials_do_no_harm() {
        let received = request(|builder| {
            builder
                .username("someone")
                .unwrap()
                .realm("somewhere")
                .unwrap()
                .nonce("n")
                .unwrap();
            builder
                .message_integrity(&nilas_stun::Key::short_term("p").unwrap())
                .unwrap();
        });
        let bytes = answer_to(&received, source()).unwrap();
        assert_eq!(
            Message::parse(&bytes).unwrap().xor_mapped_address(),
            Ok(Some(source()))
        );
    }

    #[test]
    fn what_is_not_known_is_420_with_a_bounded_list() {
        let received = request(|builder| {
            builder.raw(AttributeType(0x7123), b"x").unwrap();
            builder.raw(AttributeType(0xc123), b"optional").unwrap();
            builder.raw(AttributeType::CHANGE_REQUEST, &[0; 4]).unwrap();
        });
        let bytes = answer_to(&received, source()).unwrap();
        let answer = Message::parse(&bytes).unwrap();
        assert_eq!(answer.class(), Class::ErrorResponse);
        assert_eq!(answer.error_code().unwrap().unwrap().code(), 420);
        let unknown: Vec<u16> = answer.unknown_attributes().unwrap().unwrap().collect();
        assert_eq!(unknown, [0x7123, 0x0003]);

        let received = request(|builder| {
            for number in 0x7000..0x7100 {
                builder.raw(AttributeType(number), b"").unwrap();
            }
            builder.fingerprint().unwrap();
        });
        let bytes = answer_to(&received, source()).unwrap();
        assert!(bytes.len() <= 60, "{}", bytes.len());
    }

    #[test]
    fn everything_else_gets_no_answer() {
        for received in [
            message(Class::Indication, Method::BINDING, |_| {}),
            message(Class::SuccessResponse, Method::BINDING, |_| {}),
            message(Class::ErrorResponse, Method::BINDING, |_| {}),
            message(Class::Request, Method::ALLOCATE, |_| {}),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0; 20],
            vec![0xff; 1280],
            vec![],
        ] {
            assert_eq!(answer_to(&received, source()), None);
        }
        let whole = request(|builder| {
            builder.username("someone").unwrap().fingerprint().unwrap();
        });
        for length in 0..whole.len() {
            assert_eq!(answer_to(&whole[..length], source()), None);
        }
    }
}
