//! The floor: the same messages with their bytes laid by hand and a prepared HMAC key, nothing checked
//! that is not needed. What is left of a check when the message layer is taken away.

use std::net::SocketAddrV4;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// A key that both hashes of HMAC have taken in.
pub(crate) type PreparedKey = Hmac<Sha1>;

pub(crate) fn prepare(password: &str) -> PreparedKey {
    // HMAC takes keys of any length.
    Hmac::new_from_slice(password.as_bytes()).expect("a key")
}

pub(crate) fn build_request(
    bytes: &mut [u8; 96],
    key: &PreparedKey,
    id: &[u8; 12],
    priority: u32,
    tie_breaker: u64,
) {
    bytes[..8].copy_from_slice(&[0x00, 0x01, 0x00, 0x44, 0x21, 0x12, 0xA4, 0x42]);
    bytes[8..20].copy_from_slice(id);
    bytes[20..24].copy_from_slice(&[0x00, 0x06, 0x00, 0x11]);
    bytes[24..44].copy_from_slice(b"remoteuf:localufr\0\0\0");
    bytes[44..48].copy_from_slice(&[0x00, 0x24, 0x00, 0x04]);
    bytes[48..52].copy_from_slice(&priority.to_be_bytes());
    bytes[52..56].copy_from_slice(&[0x80, 0x2A, 0x00, 0x08]);
    bytes[56..64].copy_from_slice(&tie_breaker.to_be_bytes());
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

pub(crate) fn verify_request(bytes: &[u8; 96], key: &PreparedKey) -> bool {
    let crc = crc32fast::hash(&bytes[..88]) ^ 0x5354_554E;
    let mut covered = [0; 64];
    covered.copy_from_slice(&bytes[..64]);
    covered[3] = 0x44;
    let mut mac = key.clone();
    mac.update(&covered);
    mac.verify_slice(&bytes[68..88]).is_ok() && bytes[92..] == crc.to_be_bytes()
}

pub(crate) fn build_response(
    bytes: &mut [u8; 64],
    key: &PreparedKey,
    id: &[u8; 12],
    mapped: SocketAddrV4,
) {
    bytes[..8].copy_from_slice(&[0x01, 0x01, 0x00, 0x24, 0x21, 0x12, 0xA4, 0x42]);
    bytes[8..20].copy_from_slice(id);
    bytes[20..26].copy_from_slice(&[0x00, 0x20, 0x00, 0x08, 0x00, 0x01]);
    bytes[26..28].copy_from_slice(&(mapped.port() ^ 0x2112).to_be_bytes());
    bytes[28..32].copy_from_slice(&(mapped.ip().to_bits() ^ 0x2112_A442).to_be_bytes());
    let mut mac = key.clone();
    mac.update(&bytes[..32]);
    let hmac = mac.finalize().into_bytes();
    bytes[32..36].copy_from_slice(&[0x00, 0x08, 0x00, 0x14]);
    bytes[36..56].copy_from_slice(&hmac);
    bytes[3] = 0x2C;
    let crc = crc32fast::hash(&bytes[..56]) ^ 0x5354_554E;
    bytes[56..60].copy_from_slice(&[0x80, 0x28, 0x00, 0x04]);
    bytes[60..].copy_from_slice(&crc.to_be_bytes());
}

pub(crate) fn verify_response(bytes: &[u8; 64], key: &PreparedKey) -> bool {
    let crc = crc32fast::hash(&bytes[..56]) ^ 0x5354_554E;
    let mut covered = [0; 32];
    covered.copy_from_slice(&bytes[..32]);
    covered[3] = 0x24;
    let mut mac = key.clone();
    mac.update(&covered);
    mac.verify_slice(&bytes[36..56]).is_ok() && bytes[60..] == crc.to_be_bytes()
}
