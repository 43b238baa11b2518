//! Time-limited credentials of a TURN server that shares a secret with whoever hands them out.
//!
//! The user name is `expiry:user`, with the expiry in seconds since 1970; the password is the HMAC of the
//! user name under the secret, in Base64. Servers verify it without keeping anything. The scheme (known as
//! the TURN REST API) was never an RFC; this is what coturn and its peers do.

use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// The hash under the password.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum CredentialHash {
    /// HMAC-SHA1: what every server understands.
    #[default]
    Sha1,
    /// HMAC-SHA256: for servers that are set to it.
    Sha256,
}

/// A user name and a password that are good until `now + ttl`, for the server that knows `secret`. `now`
/// is the time since 1970 began; fractions of a second are dropped. `user` may be empty: then the user
/// name is the expiry alone.
///
/// ```
/// use std::time::Duration;
/// use nilas_net::creds::{CredentialHash, time_limited};
///
/// let now = Duration::from_secs(1_700_000_000);
/// let (username, password) =
///     time_limited(b"north", "anna", Duration::from_secs(3600), now, CredentialHash::Sha1);
/// assert_eq!(username, "1700003600:anna");
/// assert_eq!(password.len(), 28);
/// ```
#[must_use]
pub fn time_limited(
    secret: &[u8],
    user: &str,
    ttl: Duration,
    now: Duration,
    hash: CredentialHash,
) -> (String, String) {
    let expiry = now.saturating_add(ttl).as_secs();
    let username = if user.is_empty() {
        expiry.to_string()
    } else {
        format!("{expiry}:{user}")
    };
    let password = match hash {
        CredentialHash::Sha1 => mac::<Hmac<Sha1>>(secret, &username),
        CredentialHash::Sha256 => mac::<Hmac<Sha256>>(secret, &username),
    };
    (username, password)
}

fn mac<M: Mac + KeyInit>(secret: &[u8], username: &str) -> String {
    // RFC 2104: the key may have any length, so this cannot fail.
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(username.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_that_openssl_computes() {
        // printf %s 1700003600:anna | openssl dgst -sha1 -hmac north -binary | base64
        let at = |hash| {
            let now = Duration::from_millis(1_700_000_000_999);
            time_limited(b"north", "anna", Duration::from_secs(3600), now, hash)
        };
        let (username, password) = at(CredentialHash::Sha1);
        assert_eq!(username, "1700003600:anna");
        assert_eq!(password, "+MLxLOEoYnWwCOD+2dzOXWFtASg=");
        assert_eq!(
            at(CredentialHash::Sha256).1,
            "1LYejOMHFeGGdSE99UWrYiLK0G+u7caTuKqfpsHucSM="
        );
    }

    #[test]
    fn no_user_and_no_end_are_possible() {
        let (username, _) =
            time_limited(b"", "", Duration::MAX, Duration::ZERO, CredentialHash::Sha1);
        assert_eq!(username, u64::MAX.to_string());
    }
}
