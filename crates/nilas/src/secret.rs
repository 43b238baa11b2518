//! Secrets that TURN servers share with the application, and the credentials that are made with them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nilas_ice::{AgentConfig, Credentials};
use nilas_net::creds::{CredentialHash, time_limited};

use crate::server::ServerErrorReason;

/// How long credentials hold: sessions last hours, and a relay asks for them all the time.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Others are made when these are half over, so that whatever is allocated begins with half a day at least.
pub(crate) const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// A secret, and what was made with it last.
#[derive(Clone)]
pub(crate) struct Secret {
    secret: String,
    user: String,
    pub(crate) made: Credentials,
}

impl Secret {
    /// # Errors
    /// The secret is empty, or this machine's clock stands before 1970.
    pub(crate) fn new(secret: &str, user: &str) -> Result<Self, ServerErrorReason> {
        if secret.is_empty() {
            return Err(ServerErrorReason::EmptySecret);
        }
        Ok(Self {
            secret: secret.to_owned(),
            user: user.to_owned(),
            made: make(secret, user).ok_or(ServerErrorReason::Clock)?,
        })
    }

    /// Makes credentials that hold from now on. Where the clock stands before 1970 meanwhile, the old ones have to do.
    pub(crate) fn renew(&mut self) {
        if let Some(made) = make(&self.secret, &self.user) {
            self.made = made;
        }
    }

    /// The servers of this configuration that have them, by their numbers.
    pub(crate) fn servers(&self, config: &AgentConfig) -> Vec<usize> {
        let servers = config.turn_servers.iter().enumerate();
        servers
            .filter(|(_, server)| server.credentials == self.made)
            .map(|(number, _)| number)
            .collect()
    }
}

fn make(secret: &str, user: &str) -> Option<Credentials> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let (secret, hash) = (secret.as_bytes(), CredentialHash::default());
    let (username, password) = time_limited(secret, user, LIFETIME, now, hash);
    Some(Credentials { username, password })
}

impl fmt::Debug for Secret {
    /// The secret stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}
