//! Nonces that the server need not remember: the time, under a keyed hash with the client's address. A request
//! without credentials costs no memory.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use data_encoding::BASE64_NOPAD;
use hmac::{Hmac, Mac};
use nilas_stun::SecurityFeatures;
use sha2::Sha256;

/// Bytes of the time: seconds since 1970, of which 32 bits count.
const TIME_LENGTH: usize = 4;
/// Bytes of the hash: to forge one takes 2^63 requests, each while its second lasts.
const HASH_LENGTH: usize = 8;
/// Time and hash in base64.
const ENCODED_LENGTH: usize = (TIME_LENGTH + HASH_LENGTH) / 3 * 4;
/// The length of a nonce in bytes.
const NONCE_LENGTH: usize = SecurityFeatures::COOKIE_LENGTH + ENCODED_LENGTH;

/// A nonce as it stands in NONCE: ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce([u8; NONCE_LENGTH]);

impl Nonce {
    /// The nonce for a client at a time, in seconds since 1970.
    pub(super) fn new(
        key: &Hmac<Sha256>,
        features: SecurityFeatures,
        client: SocketAddr,
        now: u64,
    ) -> Self {
        // RFC 8489 section 9.2: the nonce cookie comes first.
        let cookie = features.cookie();
        let time = (now as u32).to_be_bytes();
        let hash = hash(key, &cookie, time, client).finalize().into_bytes();
        let mut plain = [0; TIME_LENGTH + HASH_LENGTH];
        plain[..TIME_LENGTH].copy_from_slice(&time);
        plain[TIME_LENGTH..].copy_from_slice(&hash[..HASH_LENGTH]);
        let mut nonce = [0; NONCE_LENGTH];
        nonce[..cookie.len()].copy_from_slice(&cookie);
        // Twelve bytes are sixteen characters of base64.
        BASE64_NOPAD.encode_mut(&plain, &mut nonce[cookie.len()..]);
        Self(nonce)
    }

    pub(super) fn as_str(&self) -> &str {
        // A cookie and base64 are ASCII; an empty nonce is the harmless rest.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Whether a nonce was made by this server, with these features, for this client, and is not older than its lifetime.
pub(super) fn is_valid(
    nonce: &str,
    key: &Hmac<Sha256>,
    features: SecurityFeatures,
    client: SocketAddr,
    now: u64,
    lifetime: Duration,
) -> bool {
    let Ok(nonce) = <&[u8; NONCE_LENGTH]>::try_from(nonce.as_bytes()) else {
        return false;
    };
    let (cookie, encoded) = nonce.split_at(SecurityFeatures::COOKIE_LENGTH);
    let mut plain = [0; TIME_LENGTH + HASH_LENGTH];
    if cookie != features.cookie() || BASE64_NOPAD.decode_mut(encoded, &mut plain).is_err() {
        return false;
    }
    let (time, value) = plain.split_at(TIME_LENGTH);
    let time = [time[0], time[1], time[2], time[3]];
    // Servers that share a secret have clocks that differ: a time that lies ahead counts as now.
    let age = (now as u32)
        .wrapping_sub(u32::from_be_bytes(time))
        .cast_signed();
    u64::from(age.max(0).cast_unsigned()) <= lifetime.as_secs()
        && hash(key, cookie, time, client)
            .verify_truncated_left(value)
            .is_ok()
}

/// RFC 8489 section 9.2.4: no two clients have the same nonce unless they have the same address and port.
fn hash(
    key: &Hmac<Sha256>,
    cookie: &[u8],
    time: [u8; TIME_LENGTH],
    client: SocketAddr,
) -> Hmac<Sha256> {
    let mut mac = key.clone();
    // The features are covered, so that nobody on the path can change them unnoticed.
    mac.update(cookie);
    mac.update(&time);
    let address = match client.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    mac.update(&address.octets());
    mac.update(&client.port().to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use hmac::KeyInit;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn key() -> Hmac<Sha256> {
        Hmac::new_from_slice(b"key").unwrap()
    }

    fn client() -> SocketAddr {
        "192.0.2.1:50000".parse().unwrap()
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time() {
        let features = SecurityFeatures::PASSWORD_ALGORITHMS;
        let nonce = Nonce::new(&key(), features, client(), NOW);
        let valid =
            |features, client, now| is_valid(nonce.as_str(), &key(), features, client, now, HOUR);
        assert_eq!(nonce.as_str().len(), 29);
        assert!(valid(features, client(), NOW) && valid(features, client(), NOW + 3_600));
        assert!(
            valid(features, client(), NOW - 5),
            "of a server whose clock is ahead"
        );
        assert!(!valid(features, client(), NOW + 3_601));
        assert!(!valid(SecurityFeatures::NONE, client(), NOW));
        for other in ["192.0.2.1:50001", "192.0.2.2:50000"] {
            assert!(!valid(features, other.parse().unwrap(), NOW), "{other}");
        }
    }

    #[test]
    fn a_changed_nonce_is_none() {
        let features = SecurityFeatures::PASSWORD_ALGORITHMS;
        let nonce = Nonce::new(&key(), features, client(), NOW);
        for place in 0..NONCE_LENGTH {
            let mut changed = nonce;
            changed.0[place] = if changed.0[place] == b'A' { b'B' } else { b'A' };
            assert!(
                !is_valid(changed.as_str(), &key(), features, client(), NOW, HOUR),
                "{place}"
            );
        }
        for other in ["", "obMatJos2gAAA", "é"] {
            assert!(!is_valid(other, &key(), features, client(), NOW, HOUR));
        }
    }
}
