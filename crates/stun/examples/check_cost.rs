//! Builds and verifies a 96-byte connectivity check a thousand times each, for an instruction count:
//!
//! ```sh
//! cargo build --release -p nilas-stun --example check_cost
//! for part in build verify; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="check_cost::${part}_check" \
//!         target/release/examples/check_cost
//! done
//! ```
//!
//! The number after "Collected", divided by a thousand, is the cost of one check. `floor_build` and
//! `floor_verify` in place of `build` and `verify` give the cost of the same bytes laid by hand, with
//! nothing checked that is not needed: what is left of a check when the message layer is taken away.
//! valgrind has no SHA instructions and counts SHA-1 in software; the wall-clock figures that the
//! program prints are those of the processor.

#![expect(
    clippy::disallowed_types,
    reason = "this program measures time; the library does not"
)]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use nilas_stun::{Class, Fingerprint, Key, Message, MessageBuilder, Method, TransactionId};
use sha1::Sha1;

const ROUNDS: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let password = "VOkJxbRl1RmTxUk/WvJxBt";
    let key = Key::short_term(password)?;
    let prepared = Hmac::<Sha1>::new_from_slice(password.as_bytes())?;
    let (mut by_hand, mut built) = ([0; 96], [0; 128]);

    floor_build_check(&mut by_hand, &prepared);
    let length = build_check(&mut built, &key)?;
    assert_eq!(
        built[..length],
        by_hand,
        "both ways must write the same check"
    );

    let floor_build = time(|| floor_build_check(black_box(&mut by_hand), black_box(&prepared)));
    let build = time(|| {
        build_check(black_box(&mut built), black_box(&key)).expect("it was built before");
    });
    let floor_verify = time(|| {
        assert!(floor_verify_check(
            black_box(&by_hand),
            black_box(&prepared)
        ));
    });
    let verify = time(|| {
        let verified = verify_check(black_box(&built[..length]), black_box(&key));
        assert!(verified.expect("it was built whole"));
    });
    println!("build  {build:>10.1?}   by hand {floor_build:>10.1?}");
    println!("verify {verify:>10.1?}   by hand {floor_verify:>10.1?}");
    Ok(())
}

/// The time that one call takes, on average.
fn time(mut call: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        call();
    }
    start.elapsed() / ROUNDS
}

#[inline(never)]
fn build_check(buffer: &mut [u8], key: &Key) -> Result<usize, Box<dyn Error>> {
    let id = TransactionId::new(*b"0123456789ab");
    let mut builder = MessageBuilder::new(buffer, Class::Request, Method::BINDING, id)?;
    builder
        .username_pair("remoteuf", "localufr")?
        .priority(0x6E00_01FF)?
        .ice_controlling(0x932F_F9B1_5126_3B36)?
        .message_integrity(key)?
        .fingerprint()?;
    Ok(builder.finish())
}

#[inline(never)]
fn verify_check(bytes: &[u8], key: &Key) -> Result<bool, Box<dyn Error>> {
    let message = Message::parse(bytes)?;
    let request = message.authenticate(key)?;
    Ok(message.fingerprint() == Fingerprint::Valid
        && request.username()?.is_some()
        && request.priority()?.is_some()
        && request.ice_controlling()?.is_some())
}

#[inline(never)]
fn floor_build_check(bytes: &mut [u8; 96], key: &Hmac<Sha1>) {
    bytes[..8].copy_from_slice(&[0x00, 0x01, 0x00, 0x44, 0x21, 0x12, 0xA4, 0x42]);
    bytes[8..20].copy_from_slice(b"0123456789ab");
    bytes[20..24].copy_from_slice(&[0x00, 0x06, 0x00, 0x11]);
    bytes[24..44].copy_from_slice(b"remoteuf:localufr\0\0\0");
    bytes[44..48].copy_from_slice(&[0x00, 0x24, 0x00, 0x04]);
    bytes[48..52].copy_from_slice(&0x6E00_01FF_u32.to_be_bytes());
    bytes[52..56].copy_from_slice(&[0x80, 0x2A, 0x00, 0x08]);
    bytes[56..64].copy_from_slice(&0x932F_F9B1_5126_3B36_u64.to_be_bytes());
    let mut mac = key.clone();
    mac.update(&bytes[..64]);
    let hmac = mac.finalize().into_bytes();
    bytes[64..68].copy_from_slice(&[0x00, 0x08, 0x00, 0x14]);
    bytes[68..88].copy_from_slice(&hmac);
    bytes[3] = 0x4C;
    let crc = crc32fast::hash(&bytes[..88]) ^ 0x5354_554E;
    bytes[88..92].copy_from_slice(&[0x80, 0x28, 0x00, 0x04]);
    bytes[92..].copy_from_slice(&crc.to_be_bytes());
}

#[inline(never)]
fn floor_verify_check(bytes: &[u8; 96], key: &Hmac<Sha1>) -> bool {
    let crc = crc32fast::hash(&bytes[..88]) ^ 0x5354_554E;
    let mut covered = [0; 64];
    covered.copy_from_slice(&bytes[..64]);
    covered[3] = 0x44;
    let mut mac = key.clone();
    mac.update(&covered);
    mac.verify_slice(&bytes[68..88]).is_ok() && bytes[92..] == crc.to_be_bytes()
}
