//! Who sends a request (RFC 8489 section 9.2.4, RFC 7635 section 7). Nothing else makes a [`Caller`], and nothing
//! without one changes state (RFC 8656 section 21.1.1).

use core::net::SocketAddr;
use std::sync::Arc;

use nilas_stun::{Authenticated, IntegrityAlgorithm, Message, PasswordAlgorithm, SecurityFeatures};

use super::common::Common;
use super::config::ServerConfig;
use super::credential::{Algorithm, Credential, Origin};
use super::nonce::{Nonce, is_valid};

/// What PASSWORD-ALGORITHMS lists, the best first.
pub(super) const PASSWORD_ALGORITHMS: [PasswordAlgorithm<'static>; 2] =
    [PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5];

/// A request whose sender is known.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    pub(super) request: Authenticated<'a>,
    pub(super) credential: Arc<Credential>,
    /// What protects the answer.
    pub(super) answer_with: IntegrityAlgorithm,
}

/// Why the sender of a request is not known.
#[derive(Debug)]
pub(super) enum Unknown {
    /// No credentials at all: 401.
    Missing,
    /// The wrong ones: 401.
    Wrong,
    /// Not what RFC 8489 says a request with credentials is: 400.
    Malformed,
    /// The right ones, under a nonce that is not valid any more: 438.
    Stale,
}

/// The features that the server's nonces announce.
pub(super) fn features(config: &ServerConfig) -> SecurityFeatures {
    // RFC 8489 section 9.2.4 lets a server take USERHASH. It leads to a name only where all names are known
    // beforehand, so it is not offered next to time-limited credentials or tokens.
    if config.secrets.is_empty() && config.tokens.is_none() && !config.users.is_empty() {
        SecurityFeatures::PASSWORD_ALGORITHMS.union(SecurityFeatures::USERNAME_ANONYMITY)
    } else {
        SecurityFeatures::PASSWORD_ALGORITHMS
    }
}

/// A nonce for a client.
pub(super) fn nonce(common: &Common, config: &ServerConfig, client: SocketAddr, now: u64) -> Nonce {
    Nonce::new(&common.nonce_key, features(config), client, now)
}

/// Makes the checks of RFC 8489 section 9.2.4 in their order. `existing` is the credential of the allocation that
/// the request is about; `now` is in seconds since 1970.
pub(super) fn authenticate<'a>(
    common: &Common,
    config: &ServerConfig,
    message: Message<'a>,
    client: SocketAddr,
    existing: Option<&Arc<Credential>>,
    now: u64,
) -> Result<Caller<'a>, Unknown> {
    use nilas_stun::AttributeType as T;
    if message.value(T::MESSAGE_INTEGRITY).is_none()
        && message.value(T::MESSAGE_INTEGRITY_SHA256).is_none()
    {
        return Err(Unknown::Missing);
    }
    let realm = message.realm().map_err(|_| Unknown::Malformed)?;
    let nonce = message.nonce().map_err(|_| Unknown::Malformed)?;
    let username = message.username().map_err(|_| Unknown::Malformed)?;
    let hash = message.userhash().map_err(|_| Unknown::Malformed)?;
    let (Some(realm), Some(nonce)) = (realm, nonce) else {
        return Err(Unknown::Malformed);
    };
    if username.is_none() && hash.is_none() {
        return Err(Unknown::Malformed);
    }
    let chosen = chosen_algorithm(&message, nonce)?;
    let algorithm = chosen.unwrap_or(Algorithm::Md5);

    let username = match (username, hash) {
        (Some(username), _) => username,
        (None, Some(hash)) => config.users.name_of(&hash).ok_or(Unknown::Wrong)?,
        (None, None) => return Err(Unknown::Malformed),
    };
    // A key is made with the server's realm; who names another one does not mean this server.
    if realm != &*config.realm {
        return Err(Unknown::Wrong);
    }
    let (request, credential) = verify(config, message, username, algorithm, existing, now)?;

    if !is_valid(
        nonce,
        &common.nonce_key,
        features(config),
        client,
        now,
        config.nonce_lifetime,
    ) {
        return Err(Unknown::Stale);
    }
    // RFC 8489 section 9.2.4: SHA-256 in every answer, unless the request chose no password algorithm.
    // RFC 7635 section 7: MESSAGE-INTEGRITY where the key is a token's; HMAC-SHA256 only for whoever used it.
    let answer_with = match (credential.algorithm, chosen) {
        (Algorithm::None, _) => request.algorithm(),
        (_, Some(_)) => IntegrityAlgorithm::Sha256,
        (_, None) => IntegrityAlgorithm::Sha1,
    };
    Ok(Caller {
        request,
        credential,
        answer_with,
    })
}

/// RFC 8489 section 9.2.4: PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS, or neither, in which case it is MD5.
fn chosen_algorithm(message: &Message<'_>, nonce: &str) -> Result<Option<Algorithm>, Unknown> {
    let announced = SecurityFeatures::of_nonce(nonce)
        .is_some_and(|features| features.contains(SecurityFeatures::PASSWORD_ALGORITHMS));
    if !announced {
        // Not a nonce of this server, and it will be stale.
        return Ok(None);
    }
    let list = message
        .password_algorithms()
        .map_err(|_| Unknown::Malformed)?;
    let one = message
        .password_algorithm()
        .map_err(|_| Unknown::Malformed)?;
    match (list, one) {
        (None, None) => Ok(None),
        // RFC 8489 section 9.2.4: the list must be what the server sent. Someone on the path who took SHA-256 out
        // of it is found out here.
        (Some(list), Some(one)) if list.clone().eq(PASSWORD_ALGORITHMS) => match one {
            PasswordAlgorithm::SHA_256 => Ok(Some(Algorithm::Sha256)),
            PasswordAlgorithm::MD5 => Ok(Some(Algorithm::Md5)),
            _ => Err(Unknown::Malformed),
        },
        _ => Err(Unknown::Malformed),
    }
}

/// Finds the user's key and checks the integrity with it.
fn verify<'a>(
    config: &ServerConfig,
    message: Message<'a>,
    username: &str,
    algorithm: Algorithm,
    existing: Option<&Arc<Credential>>,
    now: u64,
) -> Result<(Authenticated<'a>, Arc<Credential>), Unknown> {
    let check = |credential: &Arc<Credential>| {
        message
            .authenticate(&credential.key)
            .map(|request| (request, Arc::clone(credential)))
            .map_err(|_| Unknown::Wrong)
    };
    if let (Some(token), Some(tokens)) = (message.access_token(), &config.tokens) {
        let credential = tokens
            .credential(username, token, now)
            .ok_or(Unknown::Wrong)?;
        return check(&Arc::new(credential));
    }
    // A static user is looked up each time: one that is removed is out.
    if let Some(credential) = config.users.find(username, algorithm) {
        return check(credential);
    }
    // RFC 8656 section 6: an allocation keeps its key, also when the secret that made it is replaced.
    // RFC 7635 section 9: requests but Allocate and Refresh come without their token.
    if let Some(existing) = existing
        && *existing.username == *username
        && existing.origin != Origin::Static
        && (existing.algorithm == algorithm || existing.algorithm == Algorithm::None)
        && let Ok(found) = check(existing)
    {
        return Ok(found);
    }
    for secret in &config.secrets {
        let Some(credential) = secret.credential(username, &config.realm, algorithm) else {
            break;
        };
        if let Ok(request) = message.authenticate(&credential.key) {
            return Ok((request, Arc::new(credential)));
        }
    }
    Err(Unknown::Wrong)
}
