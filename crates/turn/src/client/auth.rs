//! The long-term credential mechanism, the client's side (RFC 8489 section 9.2).

use core::fmt;

use nilas_stun::{
    AttributeType, Authenticated, BuildError, IntegrityAlgorithm, Key, Message, MessageBuilder,
    PasswordAlgorithm, SecurityFeatures, userhash,
};

/// A user name and password of a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name; time-limited ones begin with the time they end.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// The password stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What is known of the server's realm, and how requests are signed.
#[derive(Debug)]
pub(super) struct Auth {
    credentials: Credentials,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    realm: Box<str>,
    nonce: Box<str>,
    key: Key,
    /// The server's PASSWORD-ALGORITHMS, to be given back as it is.
    algorithms: Option<Box<[u8]>>,
    algorithm: Algorithm,
    userhash: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// `None` if the credentials cannot be used in STUN.
    fn key(self, credentials: &Credentials, realm: &str) -> Option<Key> {
        let Credentials { username, password } = credentials;
        match self {
            Self::Md5 => Key::long_term_md5(username, realm, password),
            Self::Sha256 => Key::long_term_sha256(username, realm, password),
        }
        .ok()
    }
}

/// What an error response with a nonce leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The request is to be made again, as a new transaction.
    Retry,
    /// The same credentials were refused before.
    Refused,
    /// The response contradicts the nonce cookie: somebody on the path weakens it.
    Tampered,
    /// The credentials cannot be used.
    Unusable,
    /// It lacks what a challenge has.
    Malformed,
}

impl Auth {
    pub(super) const fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            known: None,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.known.is_some()
    }

    /// Takes in the realm and nonce of a 401 or 438 (RFC 8489 section 9.2.5).
    pub(super) fn challenge(
        &mut self,
        response: &Message<'_>,
        stale: bool,
        authenticated: bool,
    ) -> Challenge {
        let (Ok(Some(nonce)), Ok(realm), Ok(algorithms)) = (
            response.nonce(),
            response.realm(),
            response.password_algorithms(),
        ) else {
            return Challenge::Malformed;
        };
        let features = SecurityFeatures::of_nonce(nonce).unwrap_or(SecurityFeatures::NONE);
        if features.contains(SecurityFeatures::PASSWORD_ALGORITHMS) && algorithms.is_none() {
            return Challenge::Tampered;
        }
        let known_realm = self.known.as_ref().map(|known| known.realm.clone());
        let Some(realm) = realm.map(Into::into).or(known_realm) else {
            return Challenge::Malformed;
        };
        // The first algorithm on the server's list that we know; MD5 where there is no list.
        let algorithm = match algorithms {
            None => Some(Algorithm::Md5),
            Some(mut listed) => listed.find_map(|offered| match offered {
                PasswordAlgorithm::MD5 => Some(Algorithm::Md5),
                PasswordAlgorithm::SHA_256 => Some(Algorithm::Sha256),
                _ => None,
            }),
        };
        let Some(algorithm) = algorithm else {
            return Challenge::Unusable;
        };
        if let Some(known) = &mut self.known
            && known.realm == realm
            && known.algorithm == algorithm
        {
            // RFC 8489 section 9.2.5: no retry with what was refused already.
            if !stale && authenticated {
                return Challenge::Refused;
            }
            known.nonce = nonce.into();
            return Challenge::Retry;
        }
        let Some(key) = algorithm.key(&self.credentials, &realm) else {
            return Challenge::Unusable;
        };
        let Credentials { username, .. } = &self.credentials;
        let userhash = match features.contains(SecurityFeatures::USERNAME_ANONYMITY) {
            true => userhash(username, &realm).ok(),
            false => None,
        };
        let algorithms = response
            .value(AttributeType::PASSWORD_ALGORITHMS)
            .map(Into::into);
        self.known = Some(Known {
            realm,
            nonce: nonce.into(),
            key,
            algorithms,
            algorithm,
            userhash,
        });
        Challenge::Retry
    }

    /// Adds what RFC 8489 section 9.2.3 wants to a request, MESSAGE-INTEGRITY last.
    pub(super) fn sign(&self, message: &mut MessageBuilder<'_>) -> Result<(), BuildError> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        match &known.userhash {
            Some(hash) => message.userhash(hash)?,
            None => message.username(&self.credentials.username)?,
        };
        message.realm(&known.realm)?;
        message.nonce(&known.nonce)?;
        let Some(algorithms) = &known.algorithms else {
            message.message_integrity(&known.key)?;
            return Ok(());
        };
        message.raw(AttributeType::PASSWORD_ALGORITHMS, algorithms)?;
        message.password_algorithm(match known.algorithm {
            Algorithm::Md5 => PasswordAlgorithm::MD5,
            Algorithm::Sha256 => PasswordAlgorithm::SHA_256,
        })?;
        // RFC 8489 section 9.2.5: with PASSWORD-ALGORITHMS, MESSAGE-INTEGRITY-SHA256 only.
        message.message_integrity_sha256(&known.key, 32)?;
        Ok(())
    }

    pub(super) fn key_and_stand_in(
        &self,
        stand_in: impl FnOnce(&Credentials) -> Credentials,
    ) -> Option<(&Key, Key)> {
        let known = self.known.as_ref()?;
        let stand_in = stand_in(&self.credentials);
        let stand_in = known.algorithm.key(&stand_in, &known.realm)?;
        Some((&known.key, stand_in))
    }

    /// A response that our key authenticates, with the integrity that was agreed on.
    pub(super) fn verify<'a>(&self, response: &Message<'a>) -> Option<Authenticated<'a>> {
        let known = self.known.as_ref()?;
        let authenticated = response.authenticate(&known.key).ok()?;
        // Otherwise somebody could strip the stronger one.
        let expected =
            known.algorithms.is_none() || authenticated.algorithm() == IntegrityAlgorithm::Sha256;
        expected.then_some(authenticated)
    }
}
