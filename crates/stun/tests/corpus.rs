//! The fuzz target's corpus, replayed by an ordinary test run.
//!
//! The seeds are written by this file: `NILAS_WRITE_SEEDS=1 cargo test -p nilas-stun --test corpus seeds`.
//! What a fuzzer adds beside them, found crashes above all, is replayed as well.

use std::fs;
use std::path::PathBuf;

use nilas_stun::{
    AddressFamily, BuildError, ChangeRequest, Class, ErrorCode, Icmp, Key, MessageBuilder, Method,
    PasswordAlgorithm, SecurityFeatures, TransactionId, userhash,
};

#[path = "../../../fuzz/src/stun_message.rs"]
mod stun_message;
mod vectors;

use vectors::{
    LONG_TERM_PASSWORD, LONG_TERM_USERNAME, PASSWORD, REALM, SAMPLE_IPV4_RESPONSE,
    SAMPLE_IPV6_RESPONSE, SAMPLE_LONG_TERM_REQUEST, SAMPLE_REQUEST, SHA256_REQUEST,
    SHA256_REQUEST_AS_PRINTED,
};

const ID: TransactionId = TransactionId::new(*b"nilas's seed");

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/stun_message")
}

#[test]
fn the_corpus_replays() {
    let mut files: Vec<_> = fs::read_dir(corpus())
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    files.sort();
    for file in &files {
        let data = fs::read(file).expect("a file of the corpus can be read");
        // A failing assertion does not know the file; the captured output names it.
        println!("{}", file.display());
        stun_message::check(&data);
    }
    assert!(files.len() >= seeds().len(), "only {} files", files.len());
}

#[test]
fn the_seeds_are_what_this_file_writes() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how a person asks this test to write"
    )]
    let write = std::env::var_os("NILAS_WRITE_SEEDS").is_some();
    for (name, bytes) in seeds() {
        let file = corpus().join(name);
        if write {
            fs::create_dir_all(corpus()).expect("the folder of the corpus can be made");
            fs::write(&file, &bytes).expect("a seed can be written");
        }
        let stored = fs::read(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; write the seeds as said above", file.display())
        });
        assert_eq!(
            stored, bytes,
            "{name} is stale; write the seeds as said above"
        );
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("rfc5769-2.1-request", SAMPLE_REQUEST.to_vec()),
        ("rfc5769-2.2-ipv4-response", SAMPLE_IPV4_RESPONSE.to_vec()),
        ("rfc5769-2.3-ipv6-response", SAMPLE_IPV6_RESPONSE.to_vec()),
        (
            "rfc5769-2.4-long-term-request",
            SAMPLE_LONG_TERM_REQUEST.to_vec(),
        ),
        ("rfc8489-b.1-as-printed", SHA256_REQUEST_AS_PRINTED.to_vec()),
        ("rfc8489-b.1-corrected", SHA256_REQUEST.to_vec()),
        ("check", seed(Class::Request, Method::BINDING, check)),
        (
            "role-conflict",
            seed(Class::ErrorResponse, Method::BINDING, role_conflict),
        ),
        (
            "unauthenticated",
            seed(Class::ErrorResponse, Method::ALLOCATE, unauthenticated),
        ),
        (
            "authenticated",
            seed(Class::Request, Method::ALLOCATE, authenticated),
        ),
        (
            "unknown-attribute",
            seed(Class::ErrorResponse, Method::BINDING, unknown_attribute),
        ),
        ("behavior", seed(Class::Request, Method::BINDING, behavior)),
        ("allocate", seed(Class::Request, Method::ALLOCATE, allocate)),
        (
            "allocated",
            seed(Class::SuccessResponse, Method::ALLOCATE, allocated),
        ),
        ("send", seed(Class::Indication, Method::SEND, send)),
        ("stun-uri", b"stuns:stun.example.org:443".to_vec()),
        (
            "turn-uri",
            b"turn:[2001:db8::1]:3478?transport=tcp".to_vec(),
        ),
    ]
}

type Write = fn(&mut MessageBuilder<'_>) -> Result<(), BuildError>;

fn seed(class: Class, method: Method, write: Write) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let mut builder =
        MessageBuilder::new(&mut buffer, class, method, ID).expect("room for a header");
    write(&mut builder).expect("the seeds keep the rules");
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

fn short_term() -> Key {
    Key::short_term(PASSWORD).expect("the password is ASCII")
}

fn check(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .username_pair("remote", "local")?
        .priority(0x6E00_01FF)?
        .ice_controlling(0x0123_4567_89AB_CDEF)?
        .use_candidate()?
        .message_integrity(&short_term())?
        .fingerprint()?;
    Ok(())
}

fn role_conflict(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .error(ErrorCode::ROLE_CONFLICT)?
        .software("nilas")?
        .message_integrity(&short_term())?
        .fingerprint()?;
    Ok(())
}

fn nonce() -> String {
    let features =
        SecurityFeatures::PASSWORD_ALGORITHMS.union(SecurityFeatures::USERNAME_ANONYMITY);
    let cookie = features.cookie();
    format!("{}a nonce", String::from_utf8_lossy(&cookie))
}

fn unauthenticated(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .error(ErrorCode::UNAUTHENTICATED)?
        .realm(REALM)?
        .nonce(&nonce())?
        .password_algorithms(&[PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5])?
        .alternate_server(([192, 0, 2, 1], 3478).into())?
        .alternate_domain("turn.example.org")?
        .mapped_address(([192, 0, 2, 2], 50_000).into())?;
    Ok(())
}

fn authenticated(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    let key = Key::long_term_sha256(LONG_TERM_USERNAME, REALM, LONG_TERM_PASSWORD)
        .expect("the credentials of the vectors are allowed");
    let hash = userhash(LONG_TERM_USERNAME, REALM).expect("so are they here");
    builder
        .userhash(&hash)?
        .realm(REALM)?
        .nonce(&nonce())?
        .password_algorithms(&[PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5])?
        .password_algorithm(PasswordAlgorithm::SHA_256)?
        .message_integrity(&key)?
        .message_integrity_sha256(&key, 20)?
        .fingerprint()?;
    Ok(())
}

fn unknown_attribute(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .error(ErrorCode::UNKNOWN_ATTRIBUTE)?
        .unknown_attributes(&[0x7001, 0x7002, 0x7003])?
        .raw(0x7001, b"odd")?
        .raw(0x9001, &[])?;
    Ok(())
}

fn behavior(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .change_request(ChangeRequest {
            change_ip: true,
            change_port: false,
        })?
        .response_port(50_000)?
        .response_origin(([192, 0, 2, 1], 3478).into())?
        .other_address(([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], 3479).into())?
        .padding(30)?;
    Ok(())
}

fn allocate(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .lifetime(600)?
        .requested_transport(17)?
        .requested_address_family(AddressFamily::Ipv6)?
        .additional_address_family(AddressFamily::Ipv6)?
        .even_port(true)?
        .dont_fragment()?
        .reservation_token(*b"8 bytes.")?
        .channel_number(0x4000)?
        .connection_id(7)?;
    Ok(())
}

fn allocated(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .xor_relayed_address(([192, 0, 2, 1], 50_000).into())?
        .xor_relayed_address(([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], 50_000).into())?
        .xor_mapped_address(([0x2001, 0xDB8, 0, 0, 0, 0, 0, 2], 40_000).into())?
        .address_error_code(AddressFamily::Ipv4, ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)?;
    Ok(())
}

fn send(builder: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
    builder
        .xor_peer_address(([192, 0, 2, 3], 9).into())?
        .xor_peer_address(([192, 0, 2, 4], 9).into())?
        .data(b"application data")?
        .icmp(Icmp {
            icmp_type: 3,
            code: 4,
            error_data: 1_280,
        })?;
    Ok(())
}
