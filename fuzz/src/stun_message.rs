//! What must hold for any bytes handed to the STUN message layer. The fuzz target runs it on what
//! the fuzzer invents; `crates/stun/tests` run it on the corpus and on hostile input of their own.

use std::fmt::Debug;

use nilas_stun::{
    AttributeType, Class, Fingerprint, IntegrityAlgorithm, Key, Message, MessageBuilder, Method,
    SecurityFeatures, TransactionId, demux, is_stun, stream_message_length,
    uri::{StunUri, TurnUri},
};

/// Parses `data`, reads every attribute, and writes the message again in two ways.
///
/// # Panics
/// If what is written does not read as it was written, or anything else does not hold.
pub(crate) fn check(data: &[u8]) {
    check_text(data);
    let framed = stream_message_length(data);
    let Ok(message) = Message::parse(data) else {
        return;
    };
    assert!(is_stun(data), "what parses looks like STUN");
    assert_eq!(demux::classify(data[0]) == demux::Kind::Stun, data[0] < 4);
    assert_eq!(framed, Ok(Some(data.len())));
    assert_eq!(message.bytes(), data);

    check_integrity(&message);
    check_raw_copy(&message);
    check_typed_copy(&message);
    assert!(!format!("{message:?}").is_empty());
}

/// Text from the wire or from a configuration file.
fn check_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(uri) = text.parse::<StunUri>() {
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
    if let Ok(uri) = text.parse::<TurnUri>() {
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
    if let Some(features) = SecurityFeatures::of_nonce(text) {
        assert_eq!(
            features.cookie(),
            text.as_bytes()[..SecurityFeatures::COOKIE_LENGTH]
        );
    }
}

fn check_integrity(message: &Message<'_>) {
    let keys = [
        Key::from_hmac_key(b"VOkJxbRl1RmTxUk/WvJxBt"),
        Key::from_hmac_key_with_sha256(b"VOkJxbRl1RmTxUk/WvJxBt"),
    ];
    for key in &keys {
        let strict = message.authenticate(key);
        if let Ok(authenticated) = message.authenticate_truncated(key, 0) {
            let full = match authenticated.algorithm() {
                IntegrityAlgorithm::Sha1 => true,
                IntegrityAlgorithm::Sha256 => {
                    message
                        .value(AttributeType::MESSAGE_INTEGRITY_SHA256)
                        .map(<[u8]>::len)
                        == Some(32)
                }
            };
            assert_eq!(authenticated.bytes(), message.bytes());
            assert!(
                strict.is_ok() || !full,
                "only a truncated HMAC may make a difference"
            );
        } else {
            assert!(
                strict.is_err(),
                "what is refused truncated is refused at full length"
            );
        }
    }
    let present = message.value(AttributeType::FINGERPRINT).is_some();
    assert_eq!(message.fingerprint() != Fingerprint::Absent, present);
}

fn is_about_integrity(attribute: AttributeType) -> bool {
    matches!(
        attribute,
        AttributeType::MESSAGE_INTEGRITY
            | AttributeType::MESSAGE_INTEGRITY_SHA256
            | AttributeType::FINGERPRINT
    )
}

/// Copies every attribute as it stands; protects the copy and reads it back.
fn check_raw_copy(message: &Message<'_>) {
    let ordinary: Vec<_> = message
        .attributes()
        .filter(|raw| !is_about_integrity(raw.attribute_type))
        .collect();
    let key = Key::from_hmac_key_with_sha256(b"another key");
    // Room for the copy and the three attributes that follow; what may still fail is the length
    // field of a message that was as long as can be.
    let mut buffer = vec![0xEE; message.bytes().len() + 24 + 36 + 8];
    let mut builder = MessageBuilder::new(
        &mut buffer,
        message.class(),
        message.method(),
        message.transaction_id(),
    )
    .expect("there is room for a header");
    for raw in &ordinary {
        builder
            .raw(raw.attribute_type, raw.value)
            .expect("it fitted into the original");
    }
    let protected = builder
        .message_integrity(&key)
        .and_then(|builder| builder.message_integrity_sha256(&key, 32))
        .and_then(|builder| builder.fingerprint())
        .is_ok();
    let length = builder.finish();

    let copy = Message::parse(&buffer[..length]).expect("what is built parses");
    assert_eq!(copy.class(), message.class());
    assert_eq!(copy.method(), message.method());
    assert_eq!(copy.transaction_id(), message.transaction_id());
    let copied: Vec<_> = copy
        .attributes()
        .filter(|raw| !is_about_integrity(raw.attribute_type))
        .collect();
    assert_eq!(copied, ordinary);
    for raw in &ordinary {
        assert_eq!(
            copy.value(raw.attribute_type),
            message.value(raw.attribute_type)
        );
    }
    if protected {
        assert_eq!(copy.fingerprint(), Fingerprint::Valid);
        let authenticated = copy
            .authenticate(&key)
            .expect("the key is the one it was built with");
        assert_eq!(authenticated.algorithm(), IntegrityAlgorithm::Sha256);
    }
    let unknown: Vec<_> = message.unknown_comprehension_required().collect();
    let copied_unknown: Vec<_> = copy.unknown_comprehension_required().collect();
    assert_eq!(copied_unknown, unknown);
    let beyond = message.comprehension_required_beyond(AttributeType::KNOWN);
    assert_eq!(beyond.collect::<Vec<_>>(), unknown);
}

/// What a typed reader returns, a typed writer can write, and it reads the same again.
fn check_typed_copy(message: &Message<'_>) {
    /// Reads by one method and writes by another. A value that a receiver must take but a sender
    /// may not send, such as a long text, is refused, and that is fine.
    macro_rules! again {
        ($($reader:ident => |$builder:ident, $value:ident| $write:expr;)*) => {$(
            if let Ok(Some($value)) = message.$reader() {
                copy(message, |$builder| $write.is_ok(), |copy| {
                    expect_same(&copy.$reader(), &message.$reader());
                });
            }
        )*};
    }
    again! {
        mapped_address => |b, v| b.mapped_address(v);
        xor_mapped_address => |b, v| b.xor_mapped_address(v);
        username => |b, v| b.username(v);
        userhash => |b, v| b.userhash(&v);
        error_code => |b, v| b.error(v);
        realm => |b, v| b.realm(v);
        nonce => |b, v| b.nonce(v);
        password_algorithm => |b, v| b.password_algorithm(v);
        software => |b, v| b.software(v);
        alternate_server => |b, v| b.alternate_server(v);
        alternate_domain => |b, v| b.alternate_domain(v);
        priority => |b, v| b.priority(v);
        ice_controlling => |b, v| b.ice_controlling(v);
        ice_controlled => |b, v| b.ice_controlled(v);
        change_request => |b, v| b.change_request(v);
        response_origin => |b, v| b.response_origin(v);
        other_address => |b, v| b.other_address(v);
        response_port => |b, v| b.response_port(v);
        channel_number => |b, v| b.channel_number(v);
        lifetime => |b, v| b.lifetime(v);
        xor_peer_address => |b, v| b.xor_peer_address(v);
        xor_relayed_address => |b, v| b.xor_relayed_address(v);
        requested_address_family => |b, v| b.requested_address_family(v);
        additional_address_family => |b, v| b.additional_address_family(v);
        even_port => |b, v| b.even_port(v);
        requested_transport => |b, v| b.requested_transport(v);
        reservation_token => |b, v| b.reservation_token(v);
        address_error_code => |b, v| b.address_error_code(v.family, v.error);
        icmp => |b, v| b.icmp(v);
        connection_id => |b, v| b.connection_id(v);
    }

    if let Ok(Some(list)) = message.password_algorithms() {
        let list: Vec<_> = list.collect();
        copy(
            message,
            |b| b.password_algorithms(&list).is_ok(),
            |copy| {
                let copied = copy
                    .password_algorithms()
                    .expect("it was built")
                    .expect("it is there");
                assert_eq!(copied.collect::<Vec<_>>(), list);
            },
        );
    }
    if let Ok(Some(list)) = message.unknown_attributes() {
        let list: Vec<_> = list.collect();
        copy(
            message,
            |b| b.unknown_attributes(&list).is_ok(),
            |copy| {
                let copied = copy
                    .unknown_attributes()
                    .expect("it was built")
                    .expect("it is there");
                assert_eq!(copied.collect::<Vec<_>>(), list);
            },
        );
    }
    if let Some(data) = message.data() {
        copy(
            message,
            |b| b.data(data).is_ok(),
            |copy| assert_eq!(copy.data(), Some(data)),
        );
    }
    if let Some(padding) = message.padding() {
        copy(
            message,
            |b| b.padding(padding.len()).is_ok(),
            |copy| {
                assert_eq!(copy.padding().map(<[u8]>::len), Some(padding.len()));
            },
        );
    }
    if message.use_candidate() {
        copy(
            message,
            |b| b.use_candidate().is_ok(),
            |copy| assert!(copy.use_candidate()),
        );
    }
    if message.dont_fragment() {
        copy(
            message,
            |b| b.dont_fragment().is_ok(),
            |copy| assert!(copy.dont_fragment()),
        );
    }
    assert!(message.xor_peer_addresses().count() <= message.attributes().count());
    assert!(message.xor_relayed_addresses().count() <= message.attributes().count());
}

/// Writes one attribute into a message of its own, and lets `compare` read it if it could be.
fn copy(
    message: &Message<'_>,
    write: impl FnOnce(&mut MessageBuilder<'_>) -> bool,
    compare: impl FnOnce(&Message<'_>),
) {
    let id: TransactionId = message.transaction_id();
    // The longest value is that of a message as long as can be.
    let mut buffer = vec![0xEE; message.bytes().len().max(1_024) + 8];
    let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::BINDING, id)
        .expect("there is room for a header");
    let written = write(&mut builder);
    let length = builder.finish();
    let copy = Message::parse(&buffer[..length]).expect("what is built parses");
    if written {
        compare(&copy);
    } else {
        assert_eq!(length, 20, "a writer that fails leaves nothing behind");
    }
}

fn expect_same<T: PartialEq + Debug>(copy: &T, original: &T) {
    assert_eq!(copy, original);
}
