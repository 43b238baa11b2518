//! Whatever a builder writes, the parser reads; whatever it was keyed with, it verifies with.

use std::net::SocketAddr;

use nilas_stun::{
    AddressFamily, ChangeRequest, Class, ErrorCode, Fingerprint, Icmp, IntegrityAlgorithm,
    IntegrityError, Key, Message, MessageBuilder, Method, PasswordAlgorithm, TransactionId,
};
use proptest::collection::vec;
use proptest::prelude::*;

const CLASSES: [Class; 4] = [
    Class::Request,
    Class::Indication,
    Class::SuccessResponse,
    Class::ErrorResponse,
];

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(&CLASSES[..])
}

fn method() -> impl Strategy<Value = Method> {
    (0..=0xFFF_u16).prop_map(|number| Method::new(number).expect("twelve bits"))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

fn family() -> impl Strategy<Value = AddressFamily> {
    prop_oneof![Just(AddressFamily::Ipv4), Just(AddressFamily::Ipv6)]
}

/// Text of fewer than 128 characters, also beyond ASCII.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..128).prop_map(String::from_iter)
}

fn password() -> impl Strategy<Value = String> {
    "[ -~]{1,80}"
}

/// Types that this crate does not know, of both kinds.
fn unknown_type() -> impl Strategy<Value = u16> {
    prop_oneof![0x2000..0x7FFF_u16, 0x9000..0xFFFF_u16]
}

fn build(
    class: Class,
    method: Method,
    id: TransactionId,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> Vec<u8> {
    let mut buffer = vec![0xEE; 8_192];
    let mut builder =
        MessageBuilder::new(&mut buffer, class, method, id).expect("room for a header");
    write(&mut builder);
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

proptest! {
    // Seeded by a fixed number, so that a run is the same everywhere; PROPTEST_RNG_SEED changes it.
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(8_489),
        ..ProptestConfig::default()
    })]

    #[test]
    fn header(class in class(), method in method(), id in any::<[u8; 12]>()) {
        let id = TransactionId::new(id);
        let bytes = build(class, method, id, |_| ());
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.class(), class);
        prop_assert_eq!(message.method(), method);
        prop_assert_eq!(message.transaction_id(), id);
        prop_assert_eq!(message.bytes(), &bytes[..]);
        prop_assert_eq!(message.attributes().count(), 0);
    }

    #[test]
    fn addresses(
        id in any::<[u8; 12]>(),
        addresses in vec(address(), 7),
    ) {
        let [mapped, xor_mapped, alternate, origin, other, peer, relayed] = addresses[..] else {
            unreachable!("seven were asked for");
        };
        let bytes = build(Class::SuccessResponse, Method::BINDING, TransactionId::new(id), |b| {
            b.mapped_address(mapped).unwrap();
            b.xor_mapped_address(xor_mapped).unwrap();
            b.alternate_server(alternate).unwrap();
            b.response_origin(origin).unwrap();
            b.other_address(other).unwrap();
            b.xor_peer_address(peer).unwrap();
            b.xor_relayed_address(relayed).unwrap();
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.mapped_address(), Ok(Some(mapped)));
        prop_assert_eq!(message.xor_mapped_address(), Ok(Some(xor_mapped)));
        prop_assert_eq!(message.alternate_server(), Ok(Some(alternate)));
        prop_assert_eq!(message.response_origin(), Ok(Some(origin)));
        prop_assert_eq!(message.other_address(), Ok(Some(other)));
        prop_assert_eq!(message.xor_peer_address(), Ok(Some(peer)));
        prop_assert_eq!(message.xor_relayed_address(), Ok(Some(relayed)));
    }

    #[test]
    fn texts(
        username in text(),
        realm in text(),
        nonce in text(),
        software in text(),
        domain in "[a-z0-9.-]{0,255}",
    ) {
        let username = username.chars().take(127).collect::<String>();
        let bytes = build(Class::Request, Method::ALLOCATE, TransactionId::new([1; 12]), |b| {
            b.username(&username).unwrap();
            b.realm(&realm).unwrap();
            b.nonce(&nonce).unwrap();
            b.software(&software).unwrap();
            b.alternate_domain(&domain).unwrap();
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.username(), Ok(Some(&username[..])));
        prop_assert_eq!(message.realm(), Ok(Some(&realm[..])));
        prop_assert_eq!(message.nonce(), Ok(Some(&nonce[..])));
        prop_assert_eq!(message.software(), Ok(Some(&software[..])));
        prop_assert_eq!(message.alternate_domain(), Ok(Some(&domain[..])));
    }

    #[test]
    fn numbers_and_flags(
        priority in any::<u32>(),
        tiebreaker in any::<u64>(),
        change_ip in any::<bool>(),
        change_port in any::<bool>(),
        response_port in any::<u16>(),
        padding in 0..1_500_usize,
        use_candidate in any::<bool>(),
    ) {
        let change = ChangeRequest { change_ip, change_port };
        let bytes = build(Class::Request, Method::BINDING, TransactionId::new([1; 12]), |b| {
            b.priority(priority).unwrap();
            b.ice_controlling(tiebreaker).unwrap();
            b.ice_controlled(!tiebreaker).unwrap();
            b.change_request(change).unwrap();
            b.response_port(response_port).unwrap();
            b.padding(padding).unwrap();
            if use_candidate {
                b.use_candidate().unwrap();
            }
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.priority(), Ok(Some(priority)));
        prop_assert_eq!(message.ice_controlling(), Ok(Some(tiebreaker)));
        prop_assert_eq!(message.ice_controlled(), Ok(Some(!tiebreaker)));
        prop_assert_eq!(message.change_request(), Ok(Some(change)));
        prop_assert_eq!(message.response_port(), Ok(Some(response_port)));
        prop_assert_eq!(message.padding().map(<[u8]>::len), Some(padding));
        prop_assert_eq!(message.use_candidate(), use_candidate);
    }

    #[test]
    fn turn(
        channel in any::<u16>(),
        lifetime in any::<u32>(),
        data in vec(any::<u8>(), 0..1_500),
        requested in family(),
        additional in family(),
        reserve_next in any::<bool>(),
        protocol in any::<u8>(),
        token in any::<[u8; 8]>(),
        icmp in any::<(u8, u8, u32)>(),
        connection in any::<u32>(),
    ) {
        let icmp = Icmp { icmp_type: icmp.0, code: icmp.1, error_data: icmp.2 };
        let bytes = build(Class::Request, Method::ALLOCATE, TransactionId::new([1; 12]), |b| {
            b.channel_number(channel).unwrap();
            b.lifetime(lifetime).unwrap();
            b.data(&data).unwrap();
            b.requested_address_family(requested).unwrap();
            b.additional_address_family(additional).unwrap();
            b.even_port(reserve_next).unwrap();
            b.requested_transport(protocol).unwrap();
            b.dont_fragment().unwrap();
            b.reservation_token(token).unwrap();
            b.address_error_code(requested, ErrorCode::INSUFFICIENT_CAPACITY).unwrap();
            b.icmp(icmp).unwrap();
            b.connection_id(connection).unwrap();
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.channel_number(), Ok(Some(channel)));
        prop_assert_eq!(message.lifetime(), Ok(Some(lifetime)));
        prop_assert_eq!(message.data(), Some(&data[..]));
        prop_assert_eq!(message.requested_address_family(), Ok(Some(requested)));
        prop_assert_eq!(message.additional_address_family(), Ok(Some(additional)));
        prop_assert_eq!(message.even_port(), Ok(Some(reserve_next)));
        prop_assert_eq!(message.requested_transport(), Ok(Some(protocol)));
        prop_assert!(message.dont_fragment());
        prop_assert_eq!(message.reservation_token(), Ok(Some(token)));
        let refused = message.address_error_code().unwrap().unwrap();
        prop_assert_eq!(refused.family, requested);
        prop_assert_eq!(refused.error, ErrorCode::INSUFFICIENT_CAPACITY);
        prop_assert_eq!(message.icmp(), Ok(Some(icmp)));
        prop_assert_eq!(message.connection_id(), Ok(Some(connection)));
    }

    #[test]
    fn errors_and_lists(
        code in 300..700_u16,
        reason in text(),
        unknown in vec(any::<u16>(), 0..20),
        algorithms in vec((any::<u16>(), vec(any::<u8>(), 0..20)), 0..5),
    ) {
        let algorithms: Vec<_> = algorithms
            .iter()
            .map(|(number, parameters)| PasswordAlgorithm::new(*number, parameters))
            .collect();
        let bytes = build(Class::ErrorResponse, Method::BINDING, TransactionId::new([1; 12]), |b| {
            b.error_code(code, &reason).unwrap();
            b.unknown_attributes(&unknown).unwrap();
            b.password_algorithms(&algorithms).unwrap();
            if let Some(first) = algorithms.first() {
                b.password_algorithm(*first).unwrap();
            }
        });
        let message = Message::parse(&bytes).unwrap();
        let error = message.error_code().unwrap().unwrap();
        prop_assert_eq!(error.code(), code);
        prop_assert_eq!(error.reason(), &reason);
        let read: Vec<_> = message.unknown_attributes().unwrap().unwrap().collect();
        prop_assert_eq!(read, unknown);
        let read: Vec<_> = message.password_algorithms().unwrap().unwrap().collect();
        prop_assert_eq!(&read, &algorithms);
        prop_assert_eq!(message.password_algorithm(), Ok(algorithms.first().copied()));
    }

    #[test]
    fn unknown_attributes_keep_value_and_order(
        attributes in vec((unknown_type(), vec(any::<u8>(), 0..70)), 0..12),
    ) {
        let bytes = build(Class::Request, Method::BINDING, TransactionId::new([1; 12]), |b| {
            for (attribute_type, value) in &attributes {
                b.raw(*attribute_type, value).unwrap();
            }
        });
        let message = Message::parse(&bytes).unwrap();
        let read: Vec<_> =
            message.attributes().map(|raw| (raw.attribute_type.0, raw.value.to_vec())).collect();
        prop_assert_eq!(&read, &attributes);
        let unknown: Vec<_> = message.unknown_comprehension_required().collect();
        let expected: Vec<_> =
            attributes.iter().map(|(kind, _)| *kind).filter(|kind| *kind < 0x8000).collect();
        prop_assert_eq!(unknown, expected);
    }

    #[test]
    fn integrity(
        password in password(),
        data in vec(any::<u8>(), 0..200),
        sha256 in any::<bool>(),
        fingerprint in any::<bool>(),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let key = Key::short_term_with_sha256(&password).unwrap();
        let algorithm =
            if sha256 { IntegrityAlgorithm::Sha256 } else { IntegrityAlgorithm::Sha1 };
        let mut covered = 0;
        let mut bytes = build(Class::Request, Method::BINDING, TransactionId::new([1; 12]), |b| {
            b.data(&data).unwrap();
            b.integrity(&key, algorithm).unwrap();
            covered = 20 + 4 + data.len().next_multiple_of(4) + if sha256 { 36 } else { 24 };
            if fingerprint {
                b.fingerprint().unwrap();
            }
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.authenticate(&key).unwrap().algorithm(), algorithm);
        let expected = if fingerprint { Fingerprint::Valid } else { Fingerprint::Absent };
        prop_assert_eq!(message.fingerprint(), expected);
        let other = Key::short_term_with_sha256(&format!("{password}!")).unwrap();
        prop_assert_eq!(message.authenticate(&other).unwrap_err(), IntegrityError::Mismatch);

        // One bit changed anywhere that is covered is noticed: by the parser, by the integrity.
        let place = flip.index(covered);
        bytes[place] ^= 1 << bit;
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(message.authenticate(&key).is_err(), "byte {place} bit {bit}");
            if fingerprint {
                prop_assert_ne!(message.fingerprint(), Fingerprint::Valid);
            }
        }
    }

    #[test]
    fn authorization_and_mobility(
        token in vec(any::<u8>(), 0..600), name in text(), ticket in vec(any::<u8>(), 0..100)
    ) {
        let bytes = build(Class::Request, Method::REFRESH, TransactionId::new([3; 12]), |b| {
            b.access_token(&token).unwrap();
            b.third_party_authorization(&name).unwrap();
            b.mobility_ticket(&ticket).unwrap();
        });
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.access_token(), Some(&token[..]));
        prop_assert_eq!(message.third_party_authorization(), Ok(Some(&name[..])));
        prop_assert_eq!(message.mobility_ticket(), Some(&ticket[..]));
    }
}
