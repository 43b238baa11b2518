//! An engine and its driver, for several agents.

use std::io::Write;
use std::sync::Arc;

use nilas_ice::{AgentId, Counters, Dscp, Engine, EngineConfig, RecordingOptions};
use nilas_net::{Clock, UdpSocket, os_seed};
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::config::Config;
use crate::driver::{Driver, MAX_REQUESTS, Tape};
use crate::error::Error;
use crate::inbox::Inbox;
use crate::pool::Pool;
use crate::session::{Added, Request, Session, ask};
use crate::sockets::SocketTable;
use crate::streams::Streams;

/// Hosts agents: one task with one engine, for as many as its configuration allows.
///
/// [`Agent::new`] makes an endpoint for each agent, which is right for a handful. A server with
/// hundreds of sessions puts them all on one, or on one per core.
///
/// The task ends when the endpoint, its clones and all handles of its agents are dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nilas::Error> {
/// let endpoint = nilas::Endpoint::new()?;
/// let first = endpoint.agent(nilas::Config::controlling()).await?;
/// let second = endpoint.agent(nilas::Config::controlled()).await?;
/// assert_ne!(first.local_parameters().ufrag, second.local_parameters().ufrag);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    requests: mpsc::Sender<Request>,
    closings: mpsc::UnboundedSender<AgentId>,
    sockets: Arc<SocketTable>,
    clock: Clock,
}

impl Endpoint {
    /// An endpoint with the defaults, on the present tokio runtime, which needs I/O and time enabled.
    ///
    /// # Errors
    /// [`Error::System`] when the operating system has no randomness.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> Result<Self, Error> {
        Self::with_config(EngineConfig::default())
    }

    /// An endpoint whose engine is configured so: with a [`shared_port`](EngineConfig::shared_port), all its agents share
    /// one UDP socket for each local address.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), nilas::Error> {
    /// let mut config = nilas::ice::EngineConfig::default();
    /// config.shared_port = Some(0); // any that is free; a firewall wants to know which
    /// let endpoint = nilas::Endpoint::with_config(config)?;
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_config(config: EngineConfig) -> Result<Self, Error> {
        let is_shared = config.shared_port.is_some();
        let engine = Engine::new(config, os_seed().map_err(Error::System)?);
        Ok(Self::drive(engine, is_shared, None))
    }

    /// The same, and all that its engine is given and decides is recorded, for `nilas replay` and `nilas explain`.
    /// A recording holds addresses and no secrets: neither passwords nor application data.
    ///
    /// It is written by the driver's own task, a little at a time; `to` should not block for long. When writing fails
    /// the recording ends, with a warning in the log, and the sessions go on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir();
    /// let file = std::fs::File::create(directory.join("session.nilasrec"))?;
    /// let endpoint = nilas::Endpoint::recorded(Default::default(), Default::default(), file)?;
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn recorded(
        config: EngineConfig,
        options: RecordingOptions,
        to: impl Write + Send + 'static,
    ) -> Result<Self, Error> {
        let is_shared = config.shared_port.is_some();
        let engine = Engine::recorded(config, os_seed().map_err(Error::System)?, options);
        Ok(Self::drive(engine, is_shared, Some(Tape::new(to))))
    }

    fn drive(engine: Engine, is_shared: bool, tape: Option<Tape>) -> Self {
        let (requests, to_serve) = mpsc::channel(MAX_REQUESTS);
        // Bounded by the number of agents: each sends one when it is dropped, where nothing can wait.
        let (closings, to_close) = mpsc::unbounded_channel();
        let (clock, sockets) = (Clock::start(), Arc::new(SocketTable::new(is_shared)));
        let driver = Driver::new(engine, clock, Arc::clone(&sockets), tape);
        tokio::spawn(driver.run(to_serve, to_close));
        Self {
            requests,
            closings,
            sockets,
            clock,
        }
    }

    /// A new agent, which begins to gather candidates at once.
    ///
    /// # Errors
    /// [`Error::Agent`] when the engine is full or the configured credentials cannot be used;
    /// [`Error::DscpUnsupported`].
    pub async fn agent(&self, config: impl Into<Config>) -> Result<Agent, Error> {
        let config = config.into().renewed();
        let (dscp, ecn) = marks(&config)?;
        let inbox = Arc::new(Inbox::new(config.receive_queue_bytes));
        let (agent, servers) = (Box::new(config.agent), Box::new(config.servers));
        let for_driver = Arc::clone(&inbox);
        let added = ask(&self.requests, |reply| Request::Add {
            config: agent,
            servers,
            inbox: for_driver,
            ecn,
            reply,
        })
        .await?;
        Ok(self.hold(added, inbox, dscp))
    }

    fn hold(&self, added: Added, inbox: Arc<Inbox>, dscp: Dscp) -> Agent {
        let (requests, closings) = (self.requests.clone(), self.closings.clone());
        let sockets = Arc::clone(&self.sockets);
        Agent::from_session(Session::new(
            added, inbox, dscp, requests, closings, sockets, self.clock,
        ))
    }

    /// A new session of several data streams, as many as there are numbers, each of so many components; all begin to gather at
    /// once. Credentials of the configuration are those of one stream.
    ///
    /// # Errors
    /// As of [`agent`](Self::agent), and [`Error::Agent`] for none or more than 16 streams, or for a stream of none or
    /// more than 4 components.
    pub async fn streams(
        &self,
        config: impl Into<Config>,
        components: &[u16],
    ) -> Result<Streams, Error> {
        let config = config.into().renewed();
        let (dscp, ecn) = marks(&config)?;
        let limit = config.receive_queue_bytes;
        let inbox = |_| Arc::new(Inbox::new(limit));
        let stream = |count: &u16| (0..*count).map(inbox).collect();
        let inboxes: Vec<Vec<_>> = components.iter().map(stream).collect();
        let (agent, servers) = (Box::new(config.agent), Box::new(config.servers));
        let for_driver = inboxes.clone();
        let added = ask(&self.requests, |reply| Request::AddStreams {
            config: agent,
            servers,
            inboxes: for_driver,
            ecn,
            reply,
        })
        .await?;
        let agents = added.agents.into_iter().zip(inboxes);
        let agents = agents.map(|(added, inboxes)| {
            let pairs = added.into_iter().zip(inboxes);
            pairs
                .map(|(added, inbox)| self.hold(added, inbox, dscp))
                .collect()
        });
        let requests = self.requests.clone();
        Ok(Streams::new(
            added.session,
            agents.collect(),
            requests,
            added.state,
        ))
    }

    /// So many agents that begin to gather at once, to be taken when they are needed.
    ///
    /// # Errors
    /// As of [`agent`](Self::agent), of the first that fails.
    pub async fn pool(&self, config: impl Into<Config>, size: usize) -> Result<Pool, Error> {
        Pool::new(self.clone(), config.into(), size).await
    }

    /// What the endpoint has dropped so far, by reason: datagrams that were nobody's, malformed, forged or
    /// replayed, and what its bounds kept away.
    ///
    /// # Errors
    /// [`Error::Closed`] when the runtime has ended.
    pub async fn counters(&self) -> Result<Counters, Error> {
        ask(&self.requests, |reply| Request::Counters { reply }).await
    }
}

/// How packets are marked, and whether it is told how they were.
fn marks(config: &Config) -> Result<(Dscp, bool), Error> {
    let dscp = config.agent.dscp;
    if dscp != Dscp::DEFAULT && !UdpSocket::MARKS_DSCP {
        return Err(Error::DscpUnsupported);
    }
    Ok((dscp, config.ecn))
}
