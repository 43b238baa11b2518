//! Agents that have gathered before they are needed.

use std::collections::VecDeque;
use std::mem;

use nilas_ice::GatheringState;

use crate::agent::Agent;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// Agents that gather ahead: W3C's iceCandidatePoolSize, the candidate pool of RFC 8829 section 3.5.4.
///
/// Whoever expects a call answers it with candidates that are there already, and checks begin at once. That
/// has its price: each agent keeps its sockets, and its bindings and allocations on the servers, for as long as it
/// waits.
///
/// RFC 8829 empties the pool with the first session, because it belongs to that. This one belongs to the endpoint, and
/// another agent takes the place of each that is taken.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nilas::Error> {
/// let endpoint = nilas::Endpoint::new()?;
/// let mut pool = endpoint.pool(nilas::Config::controlled(), 2).await?;
/// // Some time later, somebody calls.
/// let agent = pool.take().await?;
/// # let _ = agent;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    config: Config,
    /// The one that has gathered for longest comes first.
    waiting: VecDeque<Agent>,
}

impl Pool {
    pub(crate) async fn new(
        endpoint: Endpoint,
        config: Config,
        size: usize,
    ) -> Result<Self, Error> {
        let mut waiting = VecDeque::new();
        for _ in 0..size {
            waiting.push_back(endpoint.agent(config.clone()).await?);
        }
        Ok(Self {
            endpoint,
            config,
            waiting,
        })
    }

    /// An agent, the one that has gathered for longest. Another begins to gather in its place.
    ///
    /// The role of the pool's configuration is a first guess only: if the peer has it, too, the protocol heals that.
    ///
    /// # Errors
    /// As of [`Endpoint::agent`]. The pool is as it was then.
    pub async fn take(&mut self) -> Result<Agent, Error> {
        let new = self.endpoint.agent(self.config.clone()).await?;
        match self.waiting.front_mut() {
            Some(oldest) => {
                let taken = mem::replace(oldest, new);
                self.waiting.rotate_left(1);
                Ok(taken)
            }
            None => Ok(new),
        }
    }

    /// Waits until all agents have found what they can.
    ///
    /// # Errors
    /// [`Error::Closed`] when the runtime shuts down.
    pub async fn gathered(&self) -> Result<(), Error> {
        for agent in &self.waiting {
            let control = agent.control();
            let gathered = control
                .wait(|snapshot| (snapshot.gathering == GatheringState::Complete).then_some(()));
            gathered.await.ok_or(Error::Closed)?;
        }
        Ok(())
    }
}
