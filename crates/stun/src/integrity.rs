//! MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489 section 14.5, RFC 8489 section 14.6).

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;

use hmac::block_api::HmacCore;
use hmac::digest::Output;
use hmac::digest::block_api::{Buffer, CoreProxy};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::attribute::ATTRIBUTE_HEADER_LENGTH;
use crate::header::HEADER_LENGTH;
use crate::message::Message;

/// Length of the value of MESSAGE-INTEGRITY in bytes.
pub(crate) const SHA1_LENGTH: usize = 20;
/// Length of the value of MESSAGE-INTEGRITY-SHA256 in bytes, unless it is truncated.
pub(crate) const SHA256_LENGTH: usize = 32;
/// Block length of SHA-1 and of SHA-256 in bytes.
const HASH_BLOCK_LENGTH: usize = 64;
/// RFC 8489 section 14.6: the shortest truncation of MESSAGE-INTEGRITY-SHA256.
pub(crate) const SHA256_MINIMUM_LENGTH: usize = 16;

/// An HMAC key, prepared once per credential: both inner and outer hash have taken it in already.
///
/// [`short_term`](Self::short_term) and its siblings start from passwords. The state for SHA-256
/// exists only in keys that were made for it, and lies apart, so that ICE's keys stay small.
// In this order, so that [`has_sha256`](Self::has_sha256) reads the last line of memory that is needed.
#[derive(Clone)]
#[repr(C)]
pub struct Key {
    sha1: HmacCore<Sha1>,
    sha256: Option<Box<HmacCore<Sha256>>>,
}

impl Key {
    /// A key from the bytes that HMAC takes, such as a stored H(A1), for MESSAGE-INTEGRITY only.
    #[must_use]
    pub fn from_hmac_key(bytes: &[u8]) -> Self {
        Self {
            sha1: hmac_state(bytes),
            sha256: None,
        }
    }

    /// A key from the bytes that HMAC takes, for MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256.
    #[must_use]
    pub fn from_hmac_key_with_sha256(bytes: &[u8]) -> Self {
        Self {
            sha1: hmac_state(bytes),
            sha256: Some(Box::new(hmac_state(bytes))),
        }
    }

    /// Whether the key can make and check MESSAGE-INTEGRITY-SHA256.
    #[must_use]
    pub const fn has_sha256(&self) -> bool {
        self.sha256.is_some()
    }

    pub(crate) fn hmac_sha1(&self, covered: Covered<'_>) -> Output<Hmac<Sha1>> {
        covered.feed(self.mac_sha1()).finalize().into_bytes()
    }

    fn mac_sha1(&self) -> Hmac<Sha1> {
        Hmac::compose(self.sha1.clone(), Buffer::<HmacCore<Sha1>>::default())
    }

    pub(crate) fn hmac_sha256(&self, covered: Covered<'_>) -> Option<Output<Hmac<Sha256>>> {
        let mac = self.mac_sha256()?;
        Some(covered.feed(mac).finalize().into_bytes())
    }

    fn mac_sha256(&self) -> Option<Hmac<Sha256>> {
        let state = self.sha256.as_ref()?;
        Some(Hmac::compose(
            HmacCore::clone(state),
            Buffer::<HmacCore<Sha256>>::default(),
        ))
    }
}

impl fmt::Debug for Key {
    /// Prints no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("sha256", &self.has_sha256())
            .finish_non_exhaustive()
    }
}

fn hmac_state<D: hmac::EagerHash>(bytes: &[u8]) -> HmacCore<D> {
    // HMAC hashes a key longer than a block and pads a shorter one: RFC 2104 knows no wrong length.
    HmacCore::new_from_slice(bytes).expect("HMAC takes keys of any length")
}

/// What an integrity attribute covers: the message before it, with an adjusted length field.
#[derive(Clone, Copy)]
pub(crate) struct Covered<'a> {
    before: &'a [u8],
    length: [u8; 2],
}

impl<'a> Covered<'a> {
    /// `before` is the message up to the attribute, at least a header; `value_length` the length
    /// of the attribute's value.
    #[inline]
    pub(crate) fn new(before: &'a [u8], value_length: usize) -> Self {
        // RFC 8489 section 14.5, RFC 8489 section 14.6: the length field points to the end of the
        // attribute while the HMAC is computed, whatever follows later. It fits: the attribute lies
        // inside a message whose length does.
        let length = before.len() - HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH + value_length;
        Self {
            before,
            length: (length as u16).to_be_bytes(),
        }
    }

    #[inline]
    fn feed<M: Mac>(self, mut mac: M) -> M {
        // A whole block of the hash at once, if there is one, spares its buffer three copies.
        if let Some((start, rest)) = self.before.split_first_chunk::<HASH_BLOCK_LENGTH>() {
            let mut block = *start;
            block[2..4].copy_from_slice(&self.length);
            mac.update(&block);
            mac.update(rest);
        } else {
            mac.update(&self.before[..2]);
            mac.update(&self.length);
            mac.update(&self.before[4..]);
        }
        mac
    }
}

/// Which attribute protects a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum IntegrityAlgorithm {
    /// MESSAGE-INTEGRITY: HMAC-SHA1.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256.
    Sha256,
}

/// Proof that a message passed its integrity check; only [`Message::authenticate`] makes one.
///
/// Everything the message's accessors report was covered by the check.
#[derive(Clone, Copy, Debug)]
pub struct Authenticated<'a> {
    message: Message<'a>,
    algorithm: IntegrityAlgorithm,
}

impl<'a> Authenticated<'a> {
    /// Which attribute was checked. A response must use the algorithm of its request
    /// (RFC 8489 section 9.1.3, RFC 8489 section 9.1.4).
    #[must_use]
    pub const fn algorithm(&self) -> IntegrityAlgorithm {
        self.algorithm
    }

    /// The message itself.
    #[must_use]
    pub const fn message(&self) -> Message<'a> {
        self.message
    }
}

impl<'a> Deref for Authenticated<'a> {
    type Target = Message<'a>;

    fn deref(&self) -> &Message<'a> {
        &self.message
    }
}

impl<'a> Message<'a> {
    /// Checks the message's integrity, in constant time, against a key.
    ///
    /// MESSAGE-INTEGRITY-SHA256 decides if it is present and the key can check it, otherwise
    /// MESSAGE-INTEGRITY. A truncated MESSAGE-INTEGRITY-SHA256 is refused; a usage that allows it
    /// calls [`authenticate_truncated`](Self::authenticate_truncated).
    ///
    /// # Errors
    /// [`IntegrityError`] says whether the check failed or could not be made.
    pub fn authenticate(&self, key: &Key) -> Result<Authenticated<'a>, IntegrityError> {
        // RFC 8489 section 14.6: the full 32 bytes unless the usage allows truncation.
        self.authenticate_truncated(key, SHA256_LENGTH)
    }

    /// [`authenticate`](Self::authenticate) for a usage that allows MESSAGE-INTEGRITY-SHA256 to be
    /// truncated to `minimum_length` bytes, at least 16 whatever is given.
    ///
    /// # Errors
    /// [`IntegrityError`] says whether the check failed or could not be made.
    pub fn authenticate_truncated(
        &self,
        key: &Key,
        minimum_length: usize,
    ) -> Result<Authenticated<'a>, IntegrityError> {
        // RFC 8489 section 9.1.3, RFC 8489 section 9.2.4: MESSAGE-INTEGRITY-SHA256 if present. A key
        // without SHA-256 is an agent of RFC 5389, to which the attribute is one of those to ignore.
        let sha256 = self.message_integrity_sha256();
        if let (Some((before, value)), Some(mac)) = (sha256, key.mac_sha256()) {
            verify_sha256(mac, before, value, minimum_length)?;
            return Ok(Authenticated {
                message: *self,
                algorithm: IntegrityAlgorithm::Sha256,
            });
        }
        match self.message_integrity() {
            Some((before, value)) => verify_sha1(key, before, value)?,
            None if sha256.is_some() => return Err(IntegrityError::UnsupportedAlgorithm),
            None => return Err(IntegrityError::Missing),
        }
        Ok(Authenticated {
            message: *self,
            algorithm: IntegrityAlgorithm::Sha1,
        })
    }
}

fn verify_sha1(key: &Key, before: &[u8], value: &[u8]) -> Result<(), IntegrityError> {
    // RFC 8489 section 14.5: "the HMAC will be 20 bytes".
    if value.len() != SHA1_LENGTH {
        return Err(IntegrityError::WrongLength);
    }
    Covered::new(before, SHA1_LENGTH)
        .feed(key.mac_sha1())
        .verify_slice(value)
        .map_err(|_| IntegrityError::Mismatch)
}

fn verify_sha256(
    mac: Hmac<Sha256>,
    before: &[u8],
    value: &[u8],
    minimum_length: usize,
) -> Result<(), IntegrityError> {
    // RFC 8489 section 14.6: from 16 to 32 bytes, a multiple of four, and not shorter than the
    // usage allows.
    let shortest = minimum_length.max(SHA256_MINIMUM_LENGTH);
    if !(shortest..=SHA256_LENGTH).contains(&value.len()) || !value.len().is_multiple_of(4) {
        return Err(IntegrityError::WrongLength);
    }
    Covered::new(before, value.len())
        .feed(mac)
        .verify_truncated_left(value)
        .map_err(|_| IntegrityError::Mismatch)
}

/// Why a message is not authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum IntegrityError {
    /// Neither MESSAGE-INTEGRITY nor MESSAGE-INTEGRITY-SHA256.
    Missing,
    /// The HMAC has a length that is not allowed.
    WrongLength,
    /// The HMAC is not that of this message under this key.
    Mismatch,
    /// Only MESSAGE-INTEGRITY-SHA256 is there and the key was not made for it.
    UnsupportedAlgorithm,
}

impl fmt::Display for IntegrityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the message carries no MESSAGE-INTEGRITY",
            Self::WrongLength => "the message integrity has a length that is not allowed",
            Self::Mismatch => "the message integrity does not match: wrong password, or changed on the way",
            Self::UnsupportedAlgorithm => {
                "the message carries only MESSAGE-INTEGRITY-SHA256, which this credential was not prepared for"
            }
        })
    }
}

impl core::error::Error for IntegrityError {}

#[cfg(all(test, feature = "std"))]
#[expect(dead_code, reason = "the other vectors are for the integration tests")]
#[path = "../tests/vectors/mod.rs"]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "std")]
    #[test]
    fn hmac_of_the_rfc_as_printed() {
        // RFC 8489 appendix B.1 printed a length field that counts the header, and an HMAC over it
        // (erratum 6268). No message has that form, but the HMAC shows the key and the computation.
        use super::vectors::{
            LONG_TERM_PASSWORD, LONG_TERM_USERNAME, REALM, SHA256_REQUEST_AS_PRINTED,
        };
        let key = Key::long_term_sha256(LONG_TERM_USERNAME, REALM, LONG_TERM_PASSWORD).unwrap();
        let (before, attribute) = SHA256_REQUEST_AS_PRINTED.split_at(120);
        let covered = Covered {
            before,
            length: [0x00, 0x9C],
        };
        assert_eq!(key.hmac_sha256(covered).unwrap()[..], attribute[4..]);
    }

    #[test]
    fn keys_show_no_secret_and_stay_small() {
        let key = Key::short_term_with_sha256("secret").unwrap();
        assert_eq!(alloc::format!("{key:?}"), "Key { sha256: true, .. }");
        // An agent holds two; SHA-256 lies apart.
        assert!(size_of::<Key>() <= 72, "{}", size_of::<Key>());
    }
}
