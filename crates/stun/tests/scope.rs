//! Which attributes count, and in which order: behind the integrity nothing does but what the RFC
//! names, the first of several wins, FINGERPRINT is last.

use nilas_stun::{
    AttributeType, BuildError, Class, Fingerprint, IntegrityAlgorithm, IntegrityError, Key,
    Message, MessageBuilder, Method, TransactionId,
};

const ID: TransactionId = TransactionId::new([9; 12]);

fn key() -> Key {
    Key::short_term_with_sha256("a password").unwrap()
}

fn build(write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0xEE; 512];
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
    write(&mut builder);
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

/// Appends an attribute behind everything, as a builder does not.
fn append(message: &mut Vec<u8>, attribute_type: u16, value: &[u8]) {
    message.extend_from_slice(&attribute_type.to_be_bytes());
    message.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u16::try_from(message.len() - 20).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

fn types(message: &Message<'_>) -> Vec<AttributeType> {
    message
        .attributes()
        .map(|attribute| attribute.attribute_type)
        .collect()
}

#[test]
fn attributes_behind_message_integrity_are_ignored() {
    let mut bytes = build(|b| {
        b.priority(1)
            .and_then(|b| b.message_integrity(&key()))
            .unwrap();
    });
    append(&mut bytes, 0x0025, &[]); // USE-CANDIDATE, by an attacker
    append(&mut bytes, 0x0024, &[0, 0, 0, 2]);
    append(&mut bytes, 0x7777, &[1]);
    let message = Message::parse(&bytes).unwrap();
    let request = message.authenticate(&key()).unwrap();
    assert!(!request.use_candidate());
    assert_eq!(request.priority(), Ok(Some(1)));
    assert_eq!(request.value(AttributeType::USE_CANDIDATE), None);
    assert_eq!(request.unknown_comprehension_required().count(), 0);
    assert_eq!(
        types(&request),
        [AttributeType::PRIORITY, AttributeType::MESSAGE_INTEGRITY]
    );
}

#[test]
fn attributes_behind_message_integrity_sha256_are_ignored() {
    let mut bytes = build(|b| {
        b.priority(1)
            .and_then(|b| b.message_integrity_sha256(&key(), 32))
            .unwrap();
    });
    append(&mut bytes, 0x0025, &[]);
    let message = Message::parse(&bytes).unwrap();
    let request = message.authenticate(&key()).unwrap();
    assert_eq!(request.algorithm(), IntegrityAlgorithm::Sha256);
    assert!(!request.use_candidate());
}

#[test]
fn an_attribute_between_both_integrities_is_ignored_though_the_second_covers_it() {
    let mut bytes = build(|b| {
        b.message_integrity(&key()).unwrap();
    });
    append(&mut bytes, 0x0025, &[]);
    append(&mut bytes, 0x001C, &[0; 32]);
    let message = Message::parse(&bytes).unwrap();
    assert!(!message.use_candidate());
    assert_eq!(
        types(&message),
        [
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256
        ]
    );
}

#[test]
fn sha256_decides_if_the_key_can_check_it() {
    let mut bytes = build(|b| {
        b.message_integrity(&key())
            .and_then(|b| b.message_integrity_sha256(&key(), 32))
            .and_then(|b| b.fingerprint())
            .unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.fingerprint(), Fingerprint::Valid);
    let request = message.authenticate(&key()).unwrap();
    assert_eq!(request.algorithm(), IntegrityAlgorithm::Sha256);
    let sha1_only = Key::short_term("a password").unwrap();
    assert_eq!(
        message.authenticate(&sha1_only).unwrap().algorithm(),
        IntegrityAlgorithm::Sha1
    );

    // A wrong MESSAGE-INTEGRITY-SHA256 is not made good by a right MESSAGE-INTEGRITY.
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        message.authenticate(&key()).unwrap_err(),
        IntegrityError::Mismatch
    );
    assert!(message.authenticate(&sha1_only).is_ok());
}

#[test]
fn both_orders_of_the_integrities_are_understood() {
    // RFC 8489 section 9 lets MESSAGE-INTEGRITY follow MESSAGE-INTEGRITY-SHA256 as well.
    let sha256_only = build(|b| {
        b.priority(7)
            .and_then(|b| b.message_integrity_sha256(&key(), 32))
            .unwrap();
    });
    let mut bytes = sha256_only;
    append(&mut bytes, 0x0008, &[0; 20]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        types(&message),
        [
            AttributeType::PRIORITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
            AttributeType::MESSAGE_INTEGRITY
        ]
    );
    assert!(message.authenticate(&key()).is_ok());
    let sha1_only = Key::short_term("a password").unwrap();
    assert_eq!(
        message.authenticate(&sha1_only).unwrap_err(),
        IntegrityError::Mismatch
    );
}

#[test]
fn without_integrity_nothing_is_authenticated() {
    let bytes = build(|b| {
        b.priority(1).and_then(|b| b.fingerprint()).unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        message.authenticate(&key()).unwrap_err(),
        IntegrityError::Missing
    );

    let bytes = build(|b| {
        b.message_integrity_sha256(&key(), 32).unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    let sha1_only = Key::short_term("a password").unwrap();
    assert_eq!(
        message.authenticate(&sha1_only).unwrap_err(),
        IntegrityError::UnsupportedAlgorithm
    );
}

#[test]
fn truncated_sha256_is_taken_only_where_the_usage_allows_it() {
    for length in [16, 20, 24, 28, 32] {
        let bytes = build(|b| {
            b.message_integrity_sha256(&key(), length).unwrap();
        });
        let message = Message::parse(&bytes).unwrap();
        let strict = message.authenticate(&key()).map(|_| ());
        let expected = if length == 32 {
            Ok(())
        } else {
            Err(IntegrityError::WrongLength)
        };
        assert_eq!(strict, expected, "{length}");
        for minimum in [0, 16, 20, 32] {
            let lenient = message.authenticate_truncated(&key(), minimum).map(|_| ());
            let expected = if length >= minimum {
                Ok(())
            } else {
                Err(IntegrityError::WrongLength)
            };
            assert_eq!(lenient, expected, "{length} of at least {minimum}");
        }
    }
}

#[test]
fn sha256_of_a_length_outside_the_rules_is_refused_by_both_sides() {
    for length in [0, 4, 12, 15, 17, 18, 31, 33, 36, 64] {
        let mut buffer = [0; 256];
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
        assert_eq!(
            builder
                .message_integrity_sha256(&key(), length)
                .unwrap_err(),
            BuildError::InvalidValue {
                attribute: AttributeType::MESSAGE_INTEGRITY_SHA256
            }
        );

        let mut bytes = build(|_| ());
        append(&mut bytes, 0x001C, &vec![0; length]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.authenticate_truncated(&key(), 0).unwrap_err(),
            IntegrityError::WrongLength,
            "{length}"
        );
    }
    for length in [0, 16, 19, 21, 24] {
        let mut bytes = build(|_| ());
        append(&mut bytes, 0x0008, &vec![0; length]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.authenticate(&key()).unwrap_err(),
            IntegrityError::WrongLength
        );
    }
}

#[test]
fn a_fingerprint_that_is_not_last_is_invalid_and_ends_the_message() {
    let mut bytes = build(|b| {
        b.fingerprint().unwrap();
    });
    assert_eq!(
        Message::parse(&bytes).unwrap().fingerprint(),
        Fingerprint::Valid
    );
    append(&mut bytes, 0x0025, &[]);
    append(&mut bytes, 0x0008, &[0; 20]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.fingerprint(), Fingerprint::Invalid);
    assert!(!message.use_candidate());
    assert_eq!(
        message.authenticate(&key()).unwrap_err(),
        IntegrityError::Missing
    );
    assert_eq!(types(&message), [AttributeType::FINGERPRINT]);

    let mut bytes = build(|_| ());
    append(&mut bytes, 0x8028, &[0; 8]);
    assert_eq!(
        Message::parse(&bytes).unwrap().fingerprint(),
        Fingerprint::Invalid
    );
}

#[test]
fn the_first_of_several_attributes_is_read_and_all_are_listed() {
    let peers = [
        "192.0.2.1:1".parse().unwrap(),
        "[2001:db8::1]:2".parse().unwrap(),
    ];
    let bytes = build(|b| {
        b.priority(1).and_then(|b| b.priority(2)).unwrap();
        b.xor_peer_address(peers[0])
            .and_then(|b| b.xor_peer_address(peers[1]))
            .unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.priority(), Ok(Some(1)));
    assert_eq!(message.xor_peer_address(), Ok(Some(peers[0])));
    let all: Result<Vec<_>, _> = message.xor_peer_addresses().collect();
    assert_eq!(all.unwrap(), peers);
    assert_eq!(message.attributes().count(), 4);
}

#[test]
fn a_second_integrity_attribute_counts_for_nothing() {
    for attribute_type in [0x0008, 0x001C] {
        let mut bytes = build(|b| {
            b.priority(1).unwrap();
            match attribute_type {
                0x0008 => b.message_integrity(&key()).unwrap(),
                _ => b.message_integrity_sha256(&key(), 32).unwrap(),
            };
        });
        let length = if attribute_type == 0x0008 { 20 } else { 32 };
        append(&mut bytes, attribute_type, &vec![0; length]);
        let message = Message::parse(&bytes).unwrap();
        assert!(message.authenticate(&key()).is_ok());
        assert_eq!(message.attributes().count(), 2);
    }
}

#[test]
fn unknown_attributes_are_kept_and_reported() {
    let bytes = build(|b| {
        b.raw(0x7001, b"abc")
            .and_then(|b| b.raw(0x9001, &[]))
            .unwrap();
        b.priority(1).and_then(|b| b.raw(0x0002, &[])).unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    let unknown: Vec<_> = message.unknown_comprehension_required().collect();
    assert_eq!(unknown, [0x7001, 0x0002]);
    let beyond: Vec<_> = message
        .comprehension_required_beyond(&[AttributeType(0x7001)])
        .collect();
    assert_eq!(beyond, [0x0024, 0x0002]);
    assert_eq!(message.value(AttributeType(0x7001)), Some(&b"abc"[..]));

    let answer = build(|b| {
        b.error_code(420, "Unknown Attribute")
            .and_then(|b| b.unknown_attributes(&unknown))
            .unwrap();
    });
    let answer = Message::parse(&answer).unwrap();
    assert_eq!(answer.error_code().unwrap().unwrap().code(), 420);
    let reported: Vec<_> = answer.unknown_attributes().unwrap().unwrap().collect();
    assert_eq!(reported, unknown);
}

#[test]
fn types_that_share_their_low_bits_are_told_apart() {
    // The parser notes types by six bits; 0x8020 and XOR-MAPPED-ADDRESS 0x0020 share them.
    let bytes = build(|b| {
        b.raw(0x8020, &[0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.xor_mapped_address(), Ok(None));
}

#[test]
fn builders_keep_the_order_of_the_end_of_a_message() {
    let mut buffer = [0; 256];
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
    builder.message_integrity(&key()).unwrap();
    assert_eq!(builder.priority(1).unwrap_err(), BuildError::OutOfOrder);
    assert_eq!(
        builder.message_integrity(&key()).unwrap_err(),
        BuildError::OutOfOrder
    );
    builder.message_integrity_sha256(&key(), 16).unwrap();
    assert_eq!(
        builder.message_integrity(&key()).unwrap_err(),
        BuildError::OutOfOrder
    );
    builder.fingerprint().unwrap();
    assert_eq!(builder.fingerprint().unwrap_err(), BuildError::OutOfOrder);
    assert_eq!(builder.use_candidate().unwrap_err(), BuildError::OutOfOrder);
    assert_eq!(builder.finish(), 20 + 24 + 20 + 8);

    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
    let sha1_only = Key::short_term("a password").unwrap();
    assert_eq!(
        builder
            .message_integrity_sha256(&sha1_only, 32)
            .unwrap_err(),
        BuildError::KeyWithoutSha256
    );
    for about_integrity in [0x0008, 0x001C, 0x8028] {
        assert_eq!(
            builder.raw(about_integrity, &[]).unwrap_err(),
            BuildError::InvalidValue {
                attribute: AttributeType(about_integrity)
            }
        );
    }
    assert_eq!(builder.finish(), 20, "what failed left nothing behind");
}

#[test]
fn builders_refuse_values_that_the_rfc_excludes() {
    let mut buffer = vec![0; 1 << 17];
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::ErrorResponse, Method::BINDING, ID).unwrap();
    let too_long = |attribute| BuildError::ValueTooLong { attribute };
    let invalid = |attribute| BuildError::InvalidValue { attribute };

    builder.username(&"u".repeat(508)).unwrap();
    assert_eq!(
        builder.username(&"u".repeat(509)).unwrap_err(),
        too_long(AttributeType::USERNAME)
    );
    assert_eq!(
        builder
            .username_pair(&"u".repeat(254), &"u".repeat(254))
            .unwrap_err(),
        too_long(AttributeType::USERNAME)
    );
    builder.realm(&"\u{1F9CA}".repeat(127)).unwrap();
    for text in ["r".repeat(128), "\u{E9}".repeat(128)] {
        assert_eq!(
            builder.realm(&text).unwrap_err(),
            too_long(AttributeType::REALM)
        );
        assert_eq!(
            builder.nonce(&text).unwrap_err(),
            too_long(AttributeType::NONCE)
        );
        assert_eq!(
            builder.software(&text).unwrap_err(),
            too_long(AttributeType::SOFTWARE)
        );
        assert_eq!(
            builder.error_code(400, &text).unwrap_err(),
            too_long(AttributeType::ERROR_CODE)
        );
    }
    for code in [0, 299, 700, u16::MAX] {
        assert_eq!(
            builder.error_code(code, "").unwrap_err(),
            invalid(AttributeType::ERROR_CODE)
        );
    }
    assert_eq!(
        builder.alternate_domain("b\u{FC}cher.example").unwrap_err(),
        invalid(AttributeType::ALTERNATE_DOMAIN)
    );
    assert_eq!(
        builder.alternate_domain(&"d".repeat(256)).unwrap_err(),
        too_long(AttributeType::ALTERNATE_DOMAIN)
    );
    for data in [65_536, 70_000] {
        assert_eq!(
            builder.data(&vec![0; data]).unwrap_err(),
            BuildError::MessageTooLong
        );
    }
}

#[test]
fn a_message_of_the_greatest_length_is_written_and_read() {
    let mut buffer = vec![0; 1 << 17];
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, ID).unwrap();
    builder.data(&vec![7; 0xFFFC - 4 - 8]).unwrap();
    builder.fingerprint().unwrap();
    let length = builder.finish();
    assert_eq!(length, 20 + 0xFFFC);
    let message = Message::parse(&buffer[..length]).unwrap();
    assert_eq!(message.fingerprint(), Fingerprint::Valid);
    assert_eq!(message.data().unwrap().len(), 0xFFFC - 12);

    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, ID).unwrap();
    builder.data(&vec![7; 0xFFFC - 4]).unwrap();
    assert_eq!(
        builder.fingerprint().unwrap_err(),
        BuildError::MessageTooLong
    );
}
