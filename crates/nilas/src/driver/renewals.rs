//! Fresh credentials for the TURN servers whose secrets are known, twice a day.

use nilas_ice::{AgentConfig, Time};

use super::Driver;
use crate::secret::{RENEWAL, Secret};

/// A secret, and the servers of an agent that share it, by their numbers.
pub(super) type Shared = (Secret, Vec<usize>);

/// What an agent with this configuration has to be given fresh credentials for.
pub(super) fn shared(secrets: &[Secret], config: &AgentConfig) -> Vec<Shared> {
    let servers_of = |secret: &Secret| (secret.clone(), secret.servers(config));
    secrets.iter().map(servers_of).collect()
}

impl Driver {
    /// Gives all agents fresh credentials when their time has come. Looked at before the engine does anything, also where the
    /// machine has slept meanwhile: whatever it allocates then it allocates with these.
    pub(super) fn renew_credentials(&mut self, now: Time) {
        if self.renew_at.is_none_or(|at| at > now) {
            return;
        }
        self.renew_at = None;
        for (id, hosted) in &mut self.agents {
            for (secret, servers) in &mut hosted.secrets {
                secret.renew();
                // It may be closing.
                if let Ok(mut agent) = self.engine.agent(*id) {
                    for server in servers {
                        let _ = agent.set_turn_credentials(now, *server, &secret.made);
                    }
                }
                self.renew_at = Some(now + RENEWAL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nilas_ice::{Credentials, Engine, EngineConfig};
    use nilas_net::Clock;

    use super::*;
    use crate::Config;
    use crate::inbox::Inbox;
    use crate::sockets::SocketTable;

    #[tokio::test]
    async fn credentials_of_a_secret_are_made_anew_twice_a_day() {
        let engine = Engine::new(EngineConfig::default(), [7; 32]);
        let sockets = Arc::new(SocketTable::new(false));
        let mut driver = Driver::new(engine, Clock::start(), sockets, None);
        let config = Config::controlling()
            .turn("turn:192.0.2.1", "ann", "password")
            .and_then(|config| config.turn_with_secret("turn:192.0.2.2", "north", "bob"))
            .unwrap();
        let inbox = Arc::new(Inbox::new(1_000));
        let added = driver.add(config.agent, config.servers, inbox).unwrap();
        let due = driver.renew_at.expect("there is a secret");
        assert!(due >= Time::ZERO + RENEWAL);
        // As they would stand after half a day.
        let old = Credentials {
            username: "1700000000:bob".into(),
            password: "old".into(),
        };
        let made = |driver: &mut Driver| {
            let (secret, servers) = &mut driver.agents.get_mut(&added.agent).unwrap().secrets[0];
            assert_eq!(*servers, [1], "and not the one that has a password");
            std::mem::replace(&mut secret.made, old.clone())
        };
        let first = made(&mut driver);
        driver.renew_credentials(Time::ZERO + RENEWAL / 2);
        assert_eq!(made(&mut driver), old);
        driver.renew_credentials(due);
        let fresh = made(&mut driver);
        assert!(
            fresh.username >= first.username && fresh != old,
            "{fresh:?}"
        );
        assert_eq!(driver.renew_at, Some(due + RENEWAL));
    }
}
