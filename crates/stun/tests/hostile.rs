//! Bytes that nobody should send: refused with a reason, or read without surprise; never a panic.

use nilas_stun::{
    AttributeError, AttributeType, Class, Fingerprint, Key, Message, MessageBuilder, Method,
    ParseError, TransactionId, is_stun, stream_message_length,
};

#[path = "../../../fuzz/src/stun_message.rs"]
mod stun_message;
#[expect(
    dead_code,
    reason = "what the vectors were keyed with is not needed here"
)]
mod vectors;

use vectors::{
    SAMPLE_IPV4_RESPONSE, SAMPLE_IPV6_RESPONSE, SAMPLE_LONG_TERM_REQUEST, SAMPLE_REQUEST,
    SHA256_REQUEST, SHA256_REQUEST_AS_PRINTED,
};

const VECTORS: [&[u8]; 6] = [
    &SAMPLE_REQUEST,
    &SAMPLE_IPV4_RESPONSE,
    &SAMPLE_IPV6_RESPONSE,
    &SAMPLE_LONG_TERM_REQUEST,
    &SHA256_REQUEST,
    &SHA256_REQUEST_AS_PRINTED,
];

fn with_attribute(attribute_type: u16, value: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let id = TransactionId::new([3; 12]);
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
    builder.raw(attribute_type, value).unwrap();
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

#[test]
fn every_truncation_is_refused() {
    for vector in &VECTORS[..5] {
        for length in 0..vector.len() {
            let cut = &vector[..length];
            let error = Message::parse(cut).unwrap_err();
            let expected = if length < 20 {
                ParseError::TooShort
            } else {
                ParseError::WrongLength
            };
            assert_eq!(error, expected, "{length}");
            assert!(!is_stun(cut));
            stun_message::check(cut);
        }
    }
}

#[test]
fn every_truncation_with_a_length_to_match_is_read_or_refused() {
    for vector in VECTORS {
        for length in 20..vector.len() {
            let mut cut = vector[..length].to_vec();
            cut[2..4].copy_from_slice(&u16::try_from(length - 20).unwrap().to_be_bytes());
            stun_message::check(&cut);
        }
    }
}

#[test]
fn every_bit_flip_breaks_the_fingerprint_or_the_message() {
    for vector in VECTORS {
        for place in 0..vector.len() {
            for bit in 0..8 {
                let mut flipped = vector.to_vec();
                flipped[place] ^= 1 << bit;
                stun_message::check(&flipped);
                let Ok(message) = Message::parse(&flipped) else {
                    continue;
                };
                assert_ne!(
                    message.fingerprint(),
                    Fingerprint::Valid,
                    "byte {place} bit {bit}"
                );
            }
        }
    }
}

#[test]
fn every_byte_at_every_place_of_a_short_message() {
    let message = with_attribute(0x0006, b"ab");
    for place in 0..message.len() {
        for value in 0..=u8::MAX {
            let mut changed = message.clone();
            changed[place] = value;
            stun_message::check(&changed);
        }
    }
}

#[test]
fn attributes_that_reach_beyond_the_message_are_refused() {
    for length in [5_u16, 8, 0x7FFF, 0xFFFD, 0xFFFF] {
        let mut bytes = with_attribute(0x0006, b"abcd");
        bytes[22..24].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            Message::parse(&bytes).unwrap_err(),
            ParseError::TruncatedAttribute,
            "{length}"
        );
        // The same behind the integrity, where values are not looked at.
        let mut buffer = vec![0; 256];
        let id = TransactionId::new([3; 12]);
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
        builder
            .message_integrity(&Key::from_hmac_key(b"key"))
            .unwrap();
        let end = builder.finish();
        buffer[end..end + 4].copy_from_slice(&[0x77, 0x77, 0, 0]);
        buffer[end + 2..end + 4].copy_from_slice(&length.to_be_bytes());
        buffer[2..4].copy_from_slice(&u16::try_from(end + 4 - 20).unwrap().to_be_bytes());
        assert_eq!(
            Message::parse(&buffer[..end + 4]).unwrap_err(),
            ParseError::TruncatedAttribute
        );
    }
}

#[test]
fn each_sign_of_another_protocol_has_its_error() {
    let good = with_attribute(0x0006, b"ab");
    let error = |place: usize, value: u8| {
        let mut bad = good.clone();
        bad[place] = value;
        Message::parse(&bad).unwrap_err()
    };
    assert_eq!(error(0, 0x80), ParseError::NotStun);
    assert_eq!(error(0, 0x40), ParseError::NotStun);
    assert_eq!(error(4, 0x20), ParseError::WrongCookie);
    assert_eq!(error(3, 4), ParseError::WrongLength);
    assert_eq!(error(3, 9), ParseError::WrongLength);
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(
        Message::parse(&longer).unwrap_err(),
        ParseError::WrongLength
    );
    // A length that is no multiple of four, though it ends the datagram.
    longer[3] += 1;
    assert_eq!(
        Message::parse(&longer).unwrap_err(),
        ParseError::WrongLength
    );
}

#[test]
fn values_of_a_wrong_length_are_errors_that_name_the_attribute() {
    type Read = for<'a> fn(&Message<'a>) -> Option<AttributeError>;
    let cases: [(AttributeType, &[usize], Read); 24] = [
        (AttributeType::MAPPED_ADDRESS, &[8, 20], |m| {
            m.mapped_address().err()
        }),
        (AttributeType::XOR_MAPPED_ADDRESS, &[8, 20], |m| {
            m.xor_mapped_address().err()
        }),
        (AttributeType::ALTERNATE_SERVER, &[8, 20], |m| {
            m.alternate_server().err()
        }),
        (AttributeType::RESPONSE_ORIGIN, &[8, 20], |m| {
            m.response_origin().err()
        }),
        (AttributeType::OTHER_ADDRESS, &[8, 20], |m| {
            m.other_address().err()
        }),
        (AttributeType::XOR_PEER_ADDRESS, &[8, 20], |m| {
            m.xor_peer_address().err()
        }),
        (AttributeType::XOR_RELAYED_ADDRESS, &[8, 20], |m| {
            m.xor_relayed_address().err()
        }),
        (AttributeType::USERHASH, &[32], |m| m.userhash().err()),
        (AttributeType::PRIORITY, &[4], |m| m.priority().err()),
        (AttributeType::ICE_CONTROLLING, &[8], |m| {
            m.ice_controlling().err()
        }),
        (AttributeType::ICE_CONTROLLED, &[8], |m| {
            m.ice_controlled().err()
        }),
        (AttributeType::CHANGE_REQUEST, &[4], |m| {
            m.change_request().err()
        }),
        (AttributeType::RESPONSE_PORT, &[2, 4], |m| {
            m.response_port().err()
        }),
        (AttributeType::CHANNEL_NUMBER, &[4], |m| {
            m.channel_number().err()
        }),
        (AttributeType::LIFETIME, &[4], |m| m.lifetime().err()),
        (AttributeType::REQUESTED_ADDRESS_FAMILY, &[4], |m| {
            m.requested_address_family().err()
        }),
        (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[4], |m| {
            m.additional_address_family().err()
        }),
        (AttributeType::EVEN_PORT, &[1], |m| m.even_port().err()),
        (AttributeType::REQUESTED_TRANSPORT, &[4], |m| {
            m.requested_transport().err()
        }),
        (AttributeType::RESERVATION_TOKEN, &[8], |m| {
            m.reservation_token().err()
        }),
        (AttributeType::ICMP, &[8], |m| m.icmp().err()),
        (AttributeType::CONNECTION_ID, &[4], |m| {
            m.connection_id().err()
        }),
        (
            AttributeType::UNKNOWN_ATTRIBUTES,
            &[0, 2, 4, 6, 8, 20, 32],
            |m| m.unknown_attributes().err(),
        ),
        (AttributeType::PASSWORD_ALGORITHM, &[4], |m| {
            m.password_algorithm().err()
        }),
    ];
    for (attribute, lengths, read) in cases {
        for length in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 19, 20, 21, 31, 32, 33] {
            if lengths.contains(&length) {
                continue;
            }
            let bytes = with_attribute(attribute.0, &vec![0; length]);
            let error = read(&Message::parse(&bytes).unwrap());
            let expected = AttributeError::Length { attribute, length };
            let named = match error {
                // Zeros as a family or as a list are named for that first.
                Some(AttributeError::AddressFamily {
                    attribute: named,
                    family: 0,
                })
                | Some(AttributeError::Structure { attribute: named }) => named == attribute,
                error => error == Some(expected),
            };
            assert!(named, "{attribute} of {length} bytes: {error:?}");
        }
        for &length in lengths {
            let mut value = vec![0; length];
            // A family where one is expected: IPv4 for the short form, IPv6 for the long one.
            if lengths == [8, 20] {
                value[1] = if length == 8 { 1 } else { 2 };
            }
            if matches!(
                attribute,
                AttributeType::REQUESTED_ADDRESS_FAMILY | AttributeType::ADDITIONAL_ADDRESS_FAMILY
            ) {
                value[0] = 1;
            }
            let bytes = with_attribute(attribute.0, &value);
            assert_eq!(
                read(&Message::parse(&bytes).unwrap()),
                None,
                "{attribute} of {length}"
            );
        }
    }
}

#[test]
fn addresses_of_one_family_in_the_length_of_the_other() {
    for (family, length) in [(1, 20), (2, 8)] {
        let mut value = vec![0; length];
        value[1] = family;
        let bytes = with_attribute(0x0020, &value);
        assert_eq!(
            Message::parse(&bytes).unwrap().xor_mapped_address(),
            Err(AttributeError::Length {
                attribute: AttributeType::XOR_MAPPED_ADDRESS,
                length
            })
        );
    }
    let bytes = with_attribute(0x0020, &[0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        Message::parse(&bytes).unwrap().xor_mapped_address(),
        Err(AttributeError::AddressFamily {
            attribute: AttributeType::XOR_MAPPED_ADDRESS,
            family: 3
        })
    );
}

#[test]
fn error_codes_outside_their_range() {
    let attribute = AttributeType::ERROR_CODE;
    let read = |value: &[u8]| {
        let bytes = with_attribute(attribute.0, value);
        let message = Message::parse(&bytes).unwrap();
        message
            .error_code()
            .map(|error| error.map(|error| error.code()))
    };
    assert_eq!(read(&[0, 0, 4, 87]), Ok(Some(487)));
    // The reserved bits are ignored.
    assert_eq!(read(&[0xFF, 0xFF, 0xFC, 87]), Ok(Some(487)));
    for (class, number) in [(0, 0), (2, 99), (7, 0), (4, 100), (6, 255)] {
        assert_eq!(
            read(&[0, 0, class, number]),
            Err(AttributeError::ErrorCode { attribute })
        );
    }
    assert_eq!(
        read(&[0, 0, 4]),
        Err(AttributeError::Length {
            attribute,
            length: 3
        })
    );
    assert_eq!(
        read(&[0, 0, 4, 0, 0xFF]),
        Err(AttributeError::NotUtf8 { attribute })
    );
    let mut long = vec![b'r'; 4 + 764];
    long[2..4].copy_from_slice(&[4, 0]);
    assert_eq!(
        read(&long),
        Err(AttributeError::Length {
            attribute,
            length: 768
        })
    );
    assert_eq!(read(&long[..767]), Ok(Some(400)));
}

#[test]
fn texts_that_are_not_utf8_or_too_long() {
    for attribute in [
        AttributeType::USERNAME,
        AttributeType::REALM,
        AttributeType::NONCE,
        AttributeType::SOFTWARE,
    ] {
        let read = |value: &[u8]| {
            let bytes = with_attribute(attribute.0, value);
            let message = Message::parse(&bytes).unwrap();
            let text = match attribute {
                AttributeType::USERNAME => message.username(),
                AttributeType::REALM => message.realm(),
                AttributeType::NONCE => message.nonce(),
                _ => message.software(),
            };
            text.map(|text| text.map(str::len))
        };
        assert_eq!(read(b""), Ok(Some(0)));
        assert_eq!(read(&[b'a'; 763]), Ok(Some(763)));
        assert_eq!(
            read(&[b'a'; 764]),
            Err(AttributeError::Length {
                attribute,
                length: 764
            })
        );
        assert_eq!(read(&[0xC3]), Err(AttributeError::NotUtf8 { attribute }));
    }
}

#[test]
fn lists_of_password_algorithms_that_do_not_add_up() {
    let attribute = AttributeType::PASSWORD_ALGORITHMS;
    let read = |value: &[u8]| {
        let bytes = with_attribute(attribute.0, value);
        let message = Message::parse(&bytes).unwrap();
        message
            .password_algorithms()
            .map(|list| list.map(Iterator::count))
    };
    assert_eq!(read(&[]), Ok(Some(0)));
    assert_eq!(read(&[0, 2, 0, 0, 0, 1, 0, 0]), Ok(Some(2)));
    assert_eq!(read(&[0, 2, 0, 1, 9, 0, 0, 0]), Ok(Some(1)));
    for value in [
        &[0][..],
        &[0, 2, 0],
        &[0, 2, 0, 1],
        &[0, 2, 0, 1, 9],
        &[0, 2, 0, 0, 0, 1],
    ] {
        assert_eq!(
            read(value),
            Err(AttributeError::Structure { attribute }),
            "{value:?}"
        );
    }
}

#[test]
fn streams_are_framed_by_their_first_four_bytes() {
    for length in 0..4 {
        assert_eq!(stream_message_length(&SAMPLE_REQUEST[..length]), Ok(None));
    }
    assert_eq!(
        stream_message_length(&SAMPLE_REQUEST[..4]),
        Ok(Some(SAMPLE_REQUEST.len()))
    );
    assert_eq!(stream_message_length(&[0, 1, 0xFF, 0xFC]), Ok(Some(65_552)));
    assert_eq!(
        stream_message_length(&[0x40, 0, 0, 0]),
        Err(ParseError::NotStun)
    );
    assert_eq!(
        stream_message_length(&[0, 1, 0, 2]),
        Err(ParseError::WrongLength)
    );
}
