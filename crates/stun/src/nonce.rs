//! The nonce cookie: which security features a server has, said where nobody on the path can take
//! it away unnoticed (RFC 8489 section 9.2).

/// The feature bits at the start of a NONCE (RFC 8489 section 18.1).
///
/// ```
/// use nilas_stun::SecurityFeatures;
///
/// let features = SecurityFeatures::of_nonce("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA").unwrap();
/// assert!(features.contains(SecurityFeatures::PASSWORD_ALGORITHMS) == false);
/// assert!(SecurityFeatures::of_nonce("f//499k954d6OL34oL9FSTvy64sA").is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct SecurityFeatures(u32);

/// What every nonce cookie begins with.
const COOKIE_PREFIX: &[u8; 9] = b"obMatJos2";

/// The base64 alphabet of RFC 4648.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl SecurityFeatures {
    /// No feature, said by a server of RFC 8489.
    pub const NONE: Self = Self(0);
    /// Bit 0: the server lists PASSWORD-ALGORITHMS.
    pub const PASSWORD_ALGORITHMS: Self = Self(1 << 23);
    /// Bit 1: the server takes USERHASH in place of USERNAME.
    pub const USERNAME_ANONYMITY: Self = Self(1 << 22);

    /// Length of the nonce cookie in bytes.
    pub const COOKIE_LENGTH: usize = 13;

    /// The features that a nonce announces, or `None` if it does not begin with a nonce cookie.
    #[must_use]
    pub fn of_nonce(nonce: &str) -> Option<Self> {
        let (cookie, _) = nonce
            .as_bytes()
            .split_first_chunk::<{ Self::COOKIE_LENGTH }>()?;
        let (prefix, encoded) = cookie.split_at(COOKIE_PREFIX.len());
        if prefix != COOKIE_PREFIX {
            return None;
        }
        let mut bits = 0;
        for character in encoded {
            let digit = BASE64.iter().position(|candidate| candidate == character)?;
            // The alphabet has 64 characters, so the position fits.
            bits = bits << 6 | digit as u32;
        }
        Some(Self(bits))
    }

    /// The nonce cookie that a server puts in front of its nonce.
    #[must_use]
    pub fn cookie(self) -> [u8; Self::COOKIE_LENGTH] {
        let mut cookie = [0; Self::COOKIE_LENGTH];
        let (prefix, encoded) = cookie.split_at_mut(COOKIE_PREFIX.len());
        prefix.copy_from_slice(COOKIE_PREFIX);
        for (place, shift) in encoded.iter_mut().zip([18, 12, 6, 0]) {
            *place = BASE64[(self.0 >> shift & 0x3F) as usize];
        }
        cookie
    }

    /// Both sets of features together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all features of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::SecurityFeatures;

    #[test]
    fn cookies_read_as_they_were_written() {
        let all = SecurityFeatures::PASSWORD_ALGORITHMS.union(SecurityFeatures::USERNAME_ANONYMITY);
        assert_eq!(&SecurityFeatures::NONE.cookie(), b"obMatJos2AAAA");
        assert_eq!(
            &SecurityFeatures::PASSWORD_ALGORITHMS.cookie(),
            b"obMatJos2gAAA"
        );
        assert_eq!(&all.cookie(), b"obMatJos2wAAA");
        for features in [
            SecurityFeatures::NONE,
            SecurityFeatures::USERNAME_ANONYMITY,
            all,
        ] {
            let cookie = features.cookie();
            let nonce = core::str::from_utf8(&cookie).expect("base64 is ASCII");
            assert_eq!(SecurityFeatures::of_nonce(nonce), Some(features));
        }
    }

    #[test]
    fn what_is_no_cookie_announces_nothing() {
        for nonce in [
            "",
            "obMatJos2AAA",
            "obMatJos2AA-A",
            "obMatJos3AAAA",
            "xobMatJos2AAAA",
        ] {
            assert_eq!(SecurityFeatures::of_nonce(nonce), None, "{nonce}");
        }
    }
}
