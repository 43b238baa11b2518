//! Who a user is: static users, and users whose credentials were made with a shared secret.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use nilas_stun::{Key, opaque_string, userhash};
use sha1::Sha1;

use super::config::ConfigError;

/// A user's key, as a request is verified with it.
#[derive(Debug)]
pub(super) struct Credential {
    /// What USERNAME says; the key id of a token.
    pub(super) username: Box<str>,
    /// What quotas are charged to.
    pub(super) account: Box<str>,
    pub(super) origin: Origin,
    pub(super) algorithm: Algorithm,
    pub(super) key: Key,
}

/// Where a credential comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Static,
    /// Time-limited, until so many seconds since 1970.
    Secret {
        expiry: u64,
    },
    /// Of a token that is good until so many seconds since 1970.
    Token {
        expiry: u64,
    },
}

/// How the key was made from the password (RFC 8489 section 18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha256,
    /// The key is no hash of a password: of a token (RFC 7635 section 5).
    None,
}

impl Algorithm {
    fn key(
        self,
        username: &str,
        realm: &str,
        password: &str,
    ) -> Result<Key, nilas_stun::CredentialError> {
        match self {
            Self::Sha256 => Key::long_term_sha256(username, realm, password),
            Self::Md5 | Self::None => Key::long_term_md5(username, realm, password),
        }
    }
}

/// The static users, by name and by USERHASH.
#[derive(Clone, Default)]
pub(super) struct Users {
    by_name: BTreeMap<Box<str>, User>,
    by_hash: BTreeMap<[u8; 32], Box<str>>,
}

#[derive(Clone)]
struct User {
    md5: Arc<Credential>,
    sha256: Arc<Credential>,
}

impl Users {
    pub(super) fn add(
        &mut self,
        realm: &str,
        name: &str,
        password: &str,
    ) -> Result<(), ConfigError> {
        let name = opaque_string(name).map_err(ConfigError::Credential)?;
        if self.by_name.contains_key(&*name) {
            return Err(ConfigError::DuplicateUser);
        }
        let credential = |algorithm: Algorithm| {
            Ok(Arc::new(Credential {
                username: (&*name).into(),
                account: (&*name).into(),
                origin: Origin::Static,
                algorithm,
                key: algorithm
                    .key(&name, realm, password)
                    .map_err(ConfigError::Credential)?,
            }))
        };
        let user = User {
            md5: credential(Algorithm::Md5)?,
            sha256: credential(Algorithm::Sha256)?,
        };
        let hash = userhash(&name, realm).map_err(ConfigError::Credential)?;
        self.by_name.insert((&*name).into(), user);
        self.by_hash.insert(hash, (&*name).into());
        Ok(())
    }

    pub(super) fn find(&self, name: &str, algorithm: Algorithm) -> Option<&Arc<Credential>> {
        let user = self.by_name.get(name)?;
        Some(match algorithm {
            Algorithm::Sha256 => &user.sha256,
            Algorithm::Md5 | Algorithm::None => &user.md5,
        })
    }

    pub(super) fn name_of(&self, hash: &[u8; 32]) -> Option<&str> {
        self.by_hash.get(hash).map(|name| &**name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl fmt::Debug for Users {
    /// Names nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.by_name.len())
    }
}

/// A secret that the server shares with whoever makes time-limited credentials.
#[derive(Clone)]
pub(super) struct Secret(Hmac<Sha1>);

impl Secret {
    pub(super) fn new(secret: &[u8]) -> Self {
        // HMAC hashes a key longer than a block and pads a shorter one: RFC 2104 knows no wrong length.
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// The credential that this secret makes of a user name, if the name has the form `expiry` or `expiry:user`.
    pub(super) fn credential(
        &self,
        username: &str,
        realm: &str,
        algorithm: Algorithm,
    ) -> Option<Credential> {
        let (expiry, account) = split_username(username)?;
        let mut mac = self.0.clone();
        mac.update(username.as_bytes());
        let password = BASE64.encode(&mac.finalize().into_bytes());
        Some(Credential {
            username: username.into(),
            account: account.into(),
            origin: Origin::Secret { expiry },
            algorithm,
            key: algorithm.key(username, realm, &password).ok()?,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The expiry in seconds since 1970, and whom quotas are charged to: the user whatever the expiry, so that fresh
/// credentials bring no fresh quota.
fn split_username(username: &str) -> Option<(u64, &str)> {
    let (expiry, account) = username.split_once(':').unwrap_or((username, username));
    if !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let account = if account.is_empty() {
        username
    } else {
        account
    };
    Some((expiry.parse().ok()?, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_shared_secrets() {
        assert_eq!(
            split_username("1700000000:ann"),
            Some((1_700_000_000, "ann"))
        );
        assert_eq!(
            split_username("1700000000"),
            Some((1_700_000_000, "1700000000"))
        );
        assert_eq!(split_username("1:ann:bob"), Some((1, "ann:bob")));
        for wrong in [
            "",
            "ann",
            "ann:1700000000",
            "-1:ann",
            "+1:ann",
            "99999999999999999999999:a",
        ] {
            assert_eq!(split_username(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_of_a_credential_is_shown() {
        let mut users = Users::default();
        users.add("realm", "ann", "password").unwrap();
        assert_eq!(format!("{users:?}"), "1 users");
        assert_eq!(
            users.add("realm", "ann", "other"),
            Err(ConfigError::DuplicateUser)
        );
        assert_eq!(format!("{:?}", Secret::new(b"secret")), "Secret");
    }
}
