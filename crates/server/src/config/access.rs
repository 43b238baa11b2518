//! Who may use the relay: users, shared secrets, keys of authorization servers (RFC 7635 section 4.1.2).

use core::fmt;

/// Who may use the relay, and how they prove who they are. By default nobody may.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The realm of the long-term credentials (RFC 8489 section 9.2), such as a domain name. `nilas`.
    pub realm: String,
    /// Users with passwords of their own.
    pub users: Vec<User>,
    /// Secrets that are shared with whoever hands out time-limited credentials; several, so that they can be
    /// changed: what was made with any of them is good.
    pub secrets: Vec<Secret>,
    /// Tokens of authorization servers (RFC 7635).
    pub tokens: Option<Tokens>,
    /// Whether an allocation ends when its time-limited credentials do, as they cannot refresh it any more. False:
    /// expired credentials only make no new ones, and no long call is cut.
    pub strict_expiry: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            realm: String::from("nilas"),
            users: Vec::new(),
            secrets: Vec::new(),
            tokens: None,
            strict_expiry: false,
        }
    }
}

impl Access {
    /// Whether there is any way to prove who one is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.secrets.is_empty() && self.tokens.is_none()
    }
}

/// A user with a password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

impl User {
    /// A user of this name and password.
    pub fn new(name: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self {
            name: name.into(),
            password: password.into(),
        }
    }
}

impl fmt::Debug for User {
    /// Names nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

/// What an authorization server and this server agreed upon (RFC 7635).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// The name under which authorization servers know this server.
    pub server_name: String,
    /// The keys; several, so that they can be changed.
    pub keys: Vec<TokenKey>,
}

impl Tokens {
    /// Tokens for a server of this name, sealed with any of these keys.
    pub fn new(server_name: impl Into<String>, keys: Vec<TokenKey>) -> Self {
        Self {
            server_name: server_name.into(),
            keys,
        }
    }
}

/// A key that is shared with an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenKey {
    /// Its id, which a client shows as its user name (RFC 7635 section 7).
    pub id: String,
    /// 32 bytes for AEAD_AES_256_GCM, 16 for AEAD_AES_128_GCM.
    pub key: Secret,
}

impl TokenKey {
    /// A key and its id.
    pub fn new(id: impl Into<String>, key: impl Into<Secret>) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
        }
    }
}

/// Bytes that reach no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes themselves.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
