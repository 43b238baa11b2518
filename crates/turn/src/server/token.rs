//! Tokens of an authorization server (RFC 7635): sealed with a key that it shares with this server, they hold the
//! key of a session. Keys are given by the operator (RFC 7635 section 4.1.2).
//!
//! Tokens are sealed with AES-GCM, as in the RFC's samples: A256GCM is the one algorithm that "MUST" be supported (RFC 7635
//! section 4.1.1), and A128GCM stands beside it in the samples. AES-CBC with HMAC, which RFC 7635 section 6.2 describes for
//! whoever uses it, is not taken. The text leaves open how long its tag is and what the token's nonce holds, as its
//! initialization vector is zero; so two implementations would have to agree on more than the RFC. And a key's
//! length would not tell any more which of the two it is for.

use core::fmt;
use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, Nonce, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use data_encoding::{BASE64, HEXLOWER};
use nilas_stun::Key;
use sha2::{Digest, Sha256};

use super::config::ConfigError;
use super::credential::{Algorithm, Credential, Origin};

/// RFC 7635 section 7: how far clocks may differ, in seconds.
const DELTA: u64 = 5;
/// RFC 7635 section 6.2: the length of the nonce is the algorithm's, and GCM's is twelve bytes.
const NONCE_LENGTH: usize = 12;
/// A session key of more bytes than this is none that HMAC could use.
const MAX_KEY_LENGTH: usize = 64;

/// The keys shared with authorization servers, by their ids, and the name under which these know the server.
#[derive(Clone)]
pub(super) struct TokenKeys {
    pub(super) server_name: Box<str>,
    keys: BTreeMap<Box<str>, Sealing>,
}

#[derive(Clone)]
enum Sealing {
    Aes128(Aes128Gcm),
    Aes256(Aes256Gcm),
}

impl TokenKeys {
    pub(super) fn new(server_name: &str) -> Self {
        Self {
            server_name: server_name.into(),
            keys: BTreeMap::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        server_name: &str,
        key_id: &str,
        key: &[u8],
    ) -> Result<(), ConfigError> {
        if *server_name != *self.server_name {
            return Err(ConfigError::ServerName);
        }
        if key_id.is_empty() || self.keys.contains_key(key_id) {
            return Err(ConfigError::KeyId);
        }
        let key = match key.len() {
            16 => Aes128Gcm::new_from_slice(key).map(Sealing::Aes128),
            32 => Aes256Gcm::new_from_slice(key).map(Sealing::Aes256),
            _ => return Err(ConfigError::TokenKeyLength),
        }
        .map_err(|_| ConfigError::TokenKeyLength)?;
        self.keys.insert(key_id.into(), key);
        Ok(())
    }

    /// The credential in a token, or `None` if the token is not authentic or not good at this time, in seconds
    /// since 1970.
    pub(super) fn credential(&self, key_id: &str, token: &[u8], now: u64) -> Option<Credential> {
        // RFC 7635 section 7: the key id is in USERNAME.
        let sealing = self.keys.get(key_id)?;
        // RFC 7635 section 6.2 ends by saying that a token is encoded in base64, and its samples are not. A token
        // as such begins with a zero, the upper half of a small length, which no base64 does.
        let decoded;
        let token = if token.first() == Some(&0) {
            token
        } else {
            decoded = BASE64.decode(token).ok()?;
            &decoded[..]
        };
        let plain = self.open(sealing, token)?;
        let Contents {
            key,
            timestamp,
            lifetime,
        } = Contents::parse(&plain)?;
        // RFC 7635 section 7: lifetime + Delta > abs(RDnew - TS).
        if u64::from(lifetime) + DELTA <= now.abs_diff(timestamp) {
            return None;
        }
        Some(Credential {
            username: key_id.into(),
            // A key id is shared by all users of an authorization server; a session key is one user's.
            account: format!("{key_id}#{}", HEXLOWER.encode(&Sha256::digest(key)[..8])).into(),
            // RFC 7635 section 9: lifetime + Delta - abs(RDnew - TS) from now on.
            origin: Origin::Token {
                expiry: (now + u64::from(lifetime) + DELTA).saturating_sub(now.abs_diff(timestamp)),
            },
            algorithm: Algorithm::None,
            // RFC 7635 section 5: the session key itself is HMAC's.
            key: Key::from_hmac_key_with_sha256(key),
        })
    }

    fn open(&self, sealing: &Sealing, token: &[u8]) -> Option<Vec<u8>> {
        let ([high, low], rest) = token.split_first_chunk::<2>()?;
        // CVE-2026-43994: the length is the sender's word. Only the one that the algorithm has is taken.
        if usize::from(u16::from_be_bytes([*high, *low])) != NONCE_LENGTH {
            return None;
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LENGTH>()?;
        let payload = Payload {
            msg: sealed,
            // RFC 7635 section 6.2: a token of another server is none of ours.
            aad: self.server_name.as_bytes(),
        };
        match sealing {
            Sealing::Aes128(cipher) => cipher.decrypt(&Nonce::<Aes128Gcm>::from(*nonce), payload),
            Sealing::Aes256(cipher) => cipher.decrypt(&Nonce::<Aes256Gcm>::from(*nonce), payload),
        }
        .ok()
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token keys", self.keys.len())
    }
}

/// What is sealed (RFC 7635 section 6.2).
struct Contents<'a> {
    key: &'a [u8],
    /// Seconds since 1970.
    timestamp: u64,
    /// In seconds.
    lifetime: u32,
}

impl<'a> Contents<'a> {
    fn parse(plain: &'a [u8]) -> Option<Self> {
        let ([high, low], rest) = plain.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > MAX_KEY_LENGTH {
            return None;
        }
        let (key, rest) = rest.split_at_checked(length)?;
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let lifetime: [u8; 4] = rest.try_into().ok()?;
        Some(Self {
            key,
            // Whole seconds are in the first 48 bits.
            timestamp: u64::from_be_bytes(*timestamp) >> 16,
            lifetime: u32::from_be_bytes(lifetime),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7635 appendix A.
    const SERVER_NAME: &str = "blackdow.carleon.gov";
    const LONG_TERM_KEY: &[u8; 32] = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
    const MAC_KEY: &[u8; 20] = b"ZksjpweoixXmvn67534m";
    const TIMESTAMP: u64 = 92_470_300_704_768 >> 16;
    const TOKEN_256: [u8; 64] = *b"\x00\x0c\x68\x34\x6a\x33\x6b\x32\x6c\x32\x6e\x34\x62\
        \x35\x61\x7e\xf1\x34\xa3\xd5\xe4\x4e\x9a\x19\xcc\x7d\
        \xc1\x04\xb0\xc0\x3d\x03\xb2\xa5\x51\xd8\xfd\xf5\xcd\
        \x3b\x6d\xca\x6f\x10\xcf\xb7\x7e\x5b\x2d\xde\xc8\x4d\
        \x29\x3a\x5c\x50\x49\x93\x59\xf0\xc2\xe2\x6f\x76";
    const TOKEN_128: [u8; 64] = *b"\x00\x0c\x68\x34\x6a\x33\x6b\x32\x6c\x32\x6e\x34\x62\
        \x35\x7f\xb9\xe9\x9f\x08\x27\xbe\x3d\xf1\xe1\xbd\x65\
        \x14\x93\xd3\x03\x1d\x36\xdf\x57\x07\x97\x84\xae\xe5\
        \xea\xcb\x65\xfa\xd4\xf2\x7f\xab\x1a\x3f\x97\x97\x4b\
        \x69\xf8\x51\xb2\x4b\xf5\xaf\x09\xed\xa3\x57\xe0";

    fn keys() -> TokenKeys {
        let mut keys = TokenKeys::new(SERVER_NAME);
        keys.add(SERVER_NAME, "256", LONG_TERM_KEY).unwrap();
        keys.add(SERVER_NAME, "128", &LONG_TERM_KEY[..16]).unwrap();
        keys
    }

    #[test]
    fn the_samples_of_the_rfc_open() {
        for (id, token) in [("256", TOKEN_256), ("128", TOKEN_128)] {
            let plain = keys().open(&keys().keys[id], &token).expect(id);
            let contents = Contents::parse(&plain).unwrap();
            assert_eq!(contents.key, MAC_KEY);
            assert_eq!((contents.timestamp, contents.lifetime), (TIMESTAMP, 3_600));
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_and_in_both_spellings() {
        let keys = keys();
        let encoded = BASE64.encode(&TOKEN_256);
        for token in [&TOKEN_256[..], encoded.as_bytes()] {
            let credential = keys.credential("256", token, TIMESTAMP + 100).unwrap();
            assert_eq!(
                credential.origin,
                Origin::Token {
                    expiry: TIMESTAMP + 3_605
                }
            );
        }
        let at = |now| keys.credential("256", &TOKEN_256, now).is_some();
        assert!(at(TIMESTAMP + 3_604) && at(TIMESTAMP - 3_604));
        assert!(!at(TIMESTAMP + 3_605) && !at(TIMESTAMP - 3_605));
    }

    #[test]
    fn what_is_not_authentic_opens_nothing() {
        let keys = keys();
        for place in 0..TOKEN_256.len() {
            let mut token = TOKEN_256;
            token[place] ^= 1;
            assert!(
                keys.credential("256", &token, TIMESTAMP).is_none(),
                "{place}"
            );
        }
        for length in 0..TOKEN_256.len() {
            assert!(
                keys.credential("256", &TOKEN_256[..length], TIMESTAMP)
                    .is_none()
            );
        }
        assert!(keys.credential("128", &TOKEN_256, TIMESTAMP).is_none());
        assert!(keys.credential("none", &TOKEN_256, TIMESTAMP).is_none());
        let mut elsewhere = TokenKeys::new("other.example");
        elsewhere
            .add("other.example", "256", LONG_TERM_KEY)
            .unwrap();
        assert!(elsewhere.credential("256", &TOKEN_256, TIMESTAMP).is_none());
    }

    #[test]
    fn a_nonce_length_beyond_the_token_is_refused_before_it_is_used() {
        // CVE-2026-43994.
        let mut token = TOKEN_256;
        for length in [0_u16, 11, 13, 63, 64, 256, u16::MAX] {
            token[..2].copy_from_slice(&length.to_be_bytes());
            assert!(keys().credential("256", &token, TIMESTAMP).is_none());
        }
    }
}
