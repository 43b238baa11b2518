//! Choices an operator makes.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use nilas_stun::{AddressFamily, AttributeType, CredentialError, opaque_string};

use super::credential::{Secret, Users};
use super::io::ListenerId;
use super::peer_rule::PeerRule;
use super::token::TokenKeys;

/// The longest realm in bytes, so that the answer to a first Allocate request is at most five times as long.
const MAX_REALM: usize = 60;
/// The most bytes of a realm and a name for authorization servers together, padded, for the same reason.
const MAX_REALM_AND_NAME: usize = 56;

/// What a server is to be. All cores of a server have the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    pub(super) realm: Box<str>,
    pub(super) users: Users,
    pub(super) secrets: Vec<Secret>,
    pub(super) tokens: Option<TokenKeys>,
    /// Whether the expiry of time-limited credentials ends allocations, too: they cannot be refreshed any more.
    /// Otherwise it only stands against new ones, so that no long call is cut.
    pub strict_expiry: bool,
    /// How long a nonce is valid. RFC 8656 section 5: at most an hour.
    pub nonce_lifetime: Duration,
    /// The lifetime of an allocation whose client asks for none, or for less (RFC 8656 section 6: ten minutes).
    pub default_lifetime: Duration,
    /// The longest lifetime of an allocation (RFC 8656 section 7.2: an hour at most).
    pub max_lifetime: Duration,
    /// The families of relayed transport addresses that there are.
    pub families: RelayFamilies,
    /// Whether datagrams to peers can be sent with the DF bit set; else DONT-FRAGMENT is refused with 420.
    pub dont_fragment: bool,
    /// Whether there are TCP allocations (RFC 6062).
    pub tcp_relay: bool,
    /// Whether a client may go on from another address (RFC 8016).
    pub mobility: bool,
    /// The four listeners of NAT behavior discovery (RFC 5780), if there are two addresses.
    pub discovery: Option<Discovery>,
    /// Which peers clients may reach.
    pub peer_rule: PeerRule,
    /// How many allocations a user may have at one time.
    pub max_allocations_per_user: usize,
    /// How many allocations there may be at one time.
    pub max_allocations: usize,
    /// Bytes of application data a second that pass for one user, in both directions together; more are dropped.
    pub user_bandwidth: Option<u64>,
    /// Bytes of application data a second that pass for all, in both directions together; more are dropped.
    pub total_bandwidth: Option<u64>,
    /// How many permissions a relayed transport address may have.
    pub max_permissions: usize,
    /// How many channels a relayed transport address may have, at most 4096.
    pub max_channels: usize,
    /// How many connections to peers an allocation may have (RFC 6062).
    pub max_connections: usize,
    /// Where clients are sent when this server drains or redirects: the first of their family.
    pub alternate_servers: Vec<AlternateServer>,
    /// Whether all clients are sent elsewhere.
    pub redirect: bool,
    /// What SOFTWARE says, if anything: it tells attackers, too.
    pub software: Option<Box<str>>,
    /// An address without credentials gets 1,000 errors at once, and then one in each such interval; zero for as
    /// many as it likes. The challenge that every client begins with is one, so a load test from one address wants
    /// zero.
    pub error_interval: Duration,
    /// A stream that says nothing for so long, and has no allocation, is closed.
    pub stream_patience: Duration,
}

/// The families of relayed transport addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayFamilies {
    /// There are IPv4 ones.
    pub ipv4: bool,
    /// There are IPv6 ones.
    pub ipv6: bool,
}

impl RelayFamilies {
    pub(super) const fn has(self, family: AddressFamily) -> bool {
        match family {
            AddressFamily::Ipv4 => self.ipv4,
            AddressFamily::Ipv6 => self.ipv6,
        }
    }
}

/// Two addresses and two ports of each (RFC 5780 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The listener on the first address and the first port, and the two.
    pub primary: (ListenerId, SocketAddr),
    /// The listener on the first address and the second port.
    pub primary_other_port: ListenerId,
    /// The listener on the second address and the first port.
    pub alternate_same_port: ListenerId,
    /// The listener on the second address and the second port, and the two.
    pub alternate: (ListenerId, SocketAddr),
}

/// A server to which clients can be sent (RFC 8489 section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlternateServer {
    /// Its address.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub domain: Option<Box<str>>,
}

impl ServerConfig {
    /// A server of this realm without users, with every limit at its default.
    ///
    /// # Errors
    /// The realm is empty, too long, or has characters that RFC 8265 excludes.
    pub fn new(realm: &str) -> Result<Self, ConfigError> {
        let realm = opaque_string(realm).map_err(ConfigError::Credential)?;
        if realm.len() > MAX_REALM {
            return Err(ConfigError::RealmTooLong);
        }
        Ok(Self {
            realm: realm.into(),
            users: Users::default(),
            secrets: Vec::new(),
            tokens: None,
            strict_expiry: false,
            nonce_lifetime: Duration::from_secs(1_800),
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3_600),
            families: RelayFamilies {
                ipv4: true,
                ipv6: false,
            },
            dont_fragment: true,
            tcp_relay: true,
            mobility: true,
            discovery: None,
            peer_rule: PeerRule::default(),
            max_allocations_per_user: 128,
            max_allocations: 1 << 20,
            user_bandwidth: None,
            total_bandwidth: None,
            max_permissions: 256,
            max_channels: 256,
            max_connections: 64,
            alternate_servers: Vec::new(),
            redirect: false,
            software: None,
            error_interval: Duration::from_millis(5),
            stream_patience: Duration::from_secs(30),
        })
    }

    /// Lets a user in with a password.
    ///
    /// # Errors
    /// A part is empty or has characters that RFC 8265 excludes; the user is there already.
    pub fn add_user(&mut self, name: &str, password: &str) -> Result<(), ConfigError> {
        self.users.add(&self.realm, name, password)
    }

    /// Lets users in with credentials that were made with this secret: the user name is `expiry:user`, with the
    /// expiry in seconds since 1970, and the password the base64 of the HMAC-SHA1 of the user name. Several secrets
    /// hold at once, so that they can be changed.
    ///
    /// # Errors
    /// The secret is empty.
    pub fn add_secret(&mut self, secret: &[u8]) -> Result<(), ConfigError> {
        if secret.is_empty() {
            return Err(ConfigError::EmptySecret);
        }
        self.secrets.push(Secret::new(secret));
        Ok(())
    }

    /// Lets users in with tokens (RFC 7635) of an authorization server that knows this server by a name and shares
    /// a key with it: 32 bytes for AEAD_AES_256_GCM, 16 for AEAD_AES_128_GCM.
    ///
    /// # Errors
    /// A key of another length; a key id that is empty, or there already; another name than before, or one that is
    /// empty or too long.
    pub fn add_token_key(
        &mut self,
        server_name: &str,
        key_id: &str,
        key: &[u8],
    ) -> Result<(), ConfigError> {
        let room =
            MAX_REALM_AND_NAME - self.realm.len().next_multiple_of(4).min(MAX_REALM_AND_NAME);
        if server_name.is_empty() || server_name.len().next_multiple_of(4) > room {
            return Err(ConfigError::ServerName);
        }
        self.tokens
            .get_or_insert_with(|| TokenKeys::new(server_name))
            .add(server_name, key_id, key)
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The comprehension-required attributes that a server of this configuration understands.
    pub(super) fn understood(&self) -> Vec<AttributeType> {
        let optional = [
            (AttributeType::ACCESS_TOKEN, self.tokens.is_some()),
            (AttributeType::DONT_FRAGMENT, self.dont_fragment),
            (AttributeType::CHANGE_REQUEST, self.discovery.is_some()),
            (AttributeType::RESPONSE_PORT, self.discovery.is_some()),
            (AttributeType::PADDING, self.discovery.is_some()),
            // ICE's, which no server of STUN or TURN understands.
            (AttributeType::PRIORITY, false),
            (AttributeType::USE_CANDIDATE, false),
        ];
        let known = AttributeType::KNOWN.iter().copied();
        known
            .filter(|attribute| {
                attribute.is_comprehension_required() && !optional.contains(&(*attribute, false))
            })
            .collect()
    }

    /// RFC 8656 section 7.2: what the client asks for, between the default and the longest lifetime.
    pub(super) fn lifetime(&self, asked: Option<u32>) -> Duration {
        let asked = Duration::from_secs(u64::from(asked.unwrap_or(0)));
        asked.min(self.max_lifetime).max(self.default_lifetime)
    }
}

/// Why a configuration is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A realm, user name or password is empty or has characters that RFC 8265 excludes.
    Credential(CredentialError),
    /// The realm has more than 60 bytes.
    RealmTooLong,
    /// The user is there already.
    DuplicateUser,
    /// A secret without bytes.
    EmptySecret,
    /// A key for tokens that has neither 16 nor 32 bytes.
    TokenKeyLength,
    /// A key id for tokens that is empty or there already.
    KeyId,
    /// The name for authorization servers is empty, longer than 56 bytes with the realm, or not the one given
    /// before.
    ServerName,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(error) => error.fmt(f),
            Self::RealmTooLong => write!(
                f,
                "the realm has more than {MAX_REALM} bytes: take a shorter one, such as a domain name"
            ),
            Self::DuplicateUser => f.write_str("the same user is given twice: remove one"),
            Self::EmptySecret => f.write_str("a shared secret is empty: take 32 random bytes"),
            Self::TokenKeyLength => f.write_str(
                "a token key has 16 bytes (AES-128-GCM) or 32 bytes (AES-256-GCM); AES-CBC with HMAC is not taken",
            ),
            Self::KeyId => f.write_str("a token key needs an id of its own"),
            Self::ServerName => write!(
                f,
                "authorization servers know this server by one name, of at most {MAX_REALM_AND_NAME} bytes with the realm"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}
