//! Credentials: from user names and passwords to HMAC keys (RFC 8489 section 9).

use alloc::borrow::Cow;
use core::fmt;

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::integrity::Key;

impl Key {
    /// The short-term key of a password, for MESSAGE-INTEGRITY: what ICE uses.
    ///
    /// ```
    /// let key = nilas_stun::Key::short_term("VOkJxbRl1RmTxUk/WvJxBt")?;
    /// assert!(!format!("{key:?}").contains("VOk"));
    /// # Ok::<(), nilas_stun::CredentialError>(())
    /// ```
    ///
    /// # Errors
    /// [`CredentialError`] if the password is empty or has characters that OpaqueString excludes.
    pub fn short_term(password: &str) -> Result<Self, CredentialError> {
        // RFC 8489 section 9.1.1: key = OpaqueString(password).
        Ok(Self::from_hmac_key(opaque_string(password)?.as_bytes()))
    }

    /// The short-term key of a password, for MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256.
    ///
    /// # Errors
    /// [`CredentialError`] if the password is empty or has characters that OpaqueString excludes.
    pub fn short_term_with_sha256(password: &str) -> Result<Self, CredentialError> {
        Ok(Self::from_hmac_key_with_sha256(
            opaque_string(password)?.as_bytes(),
        ))
    }

    /// The long-term key of password algorithm MD5, which is also the one used when no algorithm
    /// was negotiated. It serves both integrity attributes.
    ///
    /// # Errors
    /// [`CredentialError`] if a part is empty or has characters that OpaqueString excludes.
    pub fn long_term_md5(
        username: &str,
        realm: &str,
        password: &str,
    ) -> Result<Self, CredentialError> {
        Ok(Self::from_hmac_key_with_sha256(&long_term_hash::<Md5>(
            username, realm, password,
        )?))
    }

    /// The long-term key of password algorithm SHA-256. It serves both integrity attributes.
    ///
    /// # Errors
    /// [`CredentialError`] if a part is empty or has characters that OpaqueString excludes.
    pub fn long_term_sha256(
        username: &str,
        realm: &str,
        password: &str,
    ) -> Result<Self, CredentialError> {
        Ok(Self::from_hmac_key_with_sha256(&long_term_hash::<Sha256>(
            username, realm, password,
        )?))
    }
}

/// The value of USERHASH, which stands in for USERNAME where user names are to stay private.
///
/// # Errors
/// [`CredentialError`] if a part is empty or has characters that OpaqueString excludes.
pub fn userhash(username: &str, realm: &str) -> Result<[u8; 32], CredentialError> {
    // RFC 8489 section 14.4: SHA-256(OpaqueString(username) ":" OpaqueString(realm)).
    let mut hash = Sha256::new();
    hash.update(opaque_string(username)?.as_bytes());
    hash.update(b":");
    hash.update(opaque_string(realm)?.as_bytes());
    Ok(hash.finalize().into())
}

fn long_term_hash<D: Digest>(
    username: &str,
    realm: &str,
    password: &str,
) -> Result<hmac::digest::Output<D>, CredentialError> {
    // RFC 8489 section 9.2.2: username ":" OpaqueString(realm) ":" OpaqueString(password), where
    // OpaqueString has been applied to the username already; applying it again changes nothing.
    // "With any quotes and trailing nulls removed": some servers send them around their realm.
    let mut hash = D::new();
    hash.update(opaque_string(bare(username))?.as_bytes());
    hash.update(b":");
    hash.update(opaque_string(bare(realm))?.as_bytes());
    hash.update(b":");
    hash.update(opaque_string(password.trim_end_matches('\0'))?.as_bytes());
    Ok(hash.finalize())
}

/// Text without trailing nulls and without the pair of quotes around it, if there is one.
fn bare(text: &str) -> &str {
    let text = text.trim_end_matches('\0');
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

/// Prepares and enforces the OpaqueString profile of RFC 8265 on a user name, realm or password.
///
/// Text of printable ASCII characters and spaces, such as an ice-pwd, comes back as it is.
///
/// # Errors
/// [`CredentialError`] if the text is empty or has characters that the profile excludes.
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, CredentialError> {
    if text.is_empty() {
        return Err(CredentialError::Empty);
    }
    // Printable ASCII, the space included, is allowed and left as it is by every rule of the profile.
    if text.bytes().all(|byte| matches!(byte, 0x20..=0x7E)) {
        return Ok(Cow::Borrowed(text));
    }
    enforce_opaque_string(text)
}

#[cfg(feature = "std")]
fn enforce_opaque_string(text: &str) -> Result<Cow<'_, str>, CredentialError> {
    use precis_profiles::OpaqueString;
    use precis_profiles::precis_core::profile::PrecisFastInvocation;

    OpaqueString::enforce(text).map_err(|_| CredentialError::Disallowed)
}

#[cfg(not(feature = "std"))]
fn enforce_opaque_string(text: &str) -> Result<Cow<'_, str>, CredentialError> {
    // An ASCII control character is excluded with or without the tables.
    Err(if text.is_ascii() {
        CredentialError::Disallowed
    } else {
        CredentialError::NotAscii
    })
}

/// Why text cannot be part of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CredentialError {
    /// The user name, realm or password is empty.
    Empty,
    /// It has a character that the OpaqueString profile of RFC 8265 excludes.
    Disallowed,
    /// It has a character beyond ASCII, and this build lacks the Unicode tables (feature `std`).
    NotAscii,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a user name, realm or password is empty",
            Self::Disallowed => {
                "a user name, realm or password has a character that RFC 8265 excludes, such as a control character"
            }
            Self::NotAscii => {
                "a user name, realm or password goes beyond ASCII, which needs nilas-stun's feature `std`"
            }
        })
    }
}

impl core::error::Error for CredentialError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_ascii_is_its_own_opaque_string() {
        let printable: alloc::string::String = (' '..='~').collect();
        assert_eq!(opaque_string(&printable).as_deref(), Ok(&printable[..]));
        #[cfg(feature = "std")]
        {
            // The short way must be the same as the long one.
            assert_eq!(
                enforce_opaque_string(&printable).as_deref(),
                Ok(&printable[..])
            );
        }
    }

    #[test]
    fn what_the_profile_excludes_is_an_error() {
        assert_eq!(opaque_string(""), Err(CredentialError::Empty));
        for text in ["\0", "a\tb", "line\n", "\u{7F}"] {
            assert_eq!(
                opaque_string(text),
                Err(CredentialError::Disallowed),
                "{text:?}"
            );
        }
        assert!(Key::short_term("").is_err());
        assert!(Key::long_term_md5("user", "", "pass").is_err());
        assert!(userhash("", "realm").is_err());
    }

    #[cfg(feature = "std")]
    #[test]
    fn beyond_ascii_spaces_are_mapped_and_letters_composed() {
        // RFC 8265: spaces beyond ASCII become U+0020, then Unicode normalization form C.
        assert_eq!(opaque_string("a\u{3000}b").as_deref(), Ok("a b"));
        assert_eq!(opaque_string("e\u{301}").as_deref(), Ok("\u{E9}"));
        assert_eq!(opaque_string("\u{AD}"), Err(CredentialError::Disallowed));
    }

    #[cfg(not(feature = "std"))]
    #[test]
    fn beyond_ascii_the_tables_are_missed() {
        assert_eq!(opaque_string("\u{E9}"), Err(CredentialError::NotAscii));
    }

    #[test]
    fn quotes_and_trailing_nulls_are_no_part_of_a_long_term_key() {
        let plain = long_term_hash::<Md5>("user", "realm", "pass").unwrap();
        let dressed = long_term_hash::<Md5>("\"user\"", "\"realm\"\0\0", "pass\0").unwrap();
        assert_eq!(plain, dressed);
        assert_ne!(
            plain,
            long_term_hash::<Md5>("user", "realm\"", "pass").unwrap()
        );
        assert_eq!(bare("\""), "\"");
    }
}
