//! Several data streams and components with one peer.

use nilas_ice::{IceDescription, SessionId, State};
use tokio::sync::{mpsc, watch};

use crate::agent::Agent;
use crate::error::Error;
use crate::session::{Request, ask};

/// The data streams of one session, each of one or more components: ICE without BUNDLE, or with RTP and RTCP on two ports
/// (RFC 8445 section 4). [`Endpoint::streams`](crate::Endpoint::streams) makes it.
///
/// Every component is an [`Agent`] with a [`Connection`](crate::Connection) of its own. They share one role and one pacing,
/// and what works for one is tried first for the others. The components of a stream share their credentials: each
/// tells the same description, one that is told to one of them is told to all, and a restart is the stream's.
///
/// An application whose signaling is offers and answers exchanges a [`description`](Self::description) and an
/// [`answer`](Self::answer) for each `m=` section; one that trickles exchanges each agent's signals.
///
/// ```
/// use nilas::{Config, Endpoint};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nilas::Error> {
/// // Both ends are on this machine, and it may have nothing but loopback.
/// let a = Endpoint::new()?.streams(Config::controlling().loopback(true), &[2, 1]).await?;
/// let b = Endpoint::new()?.streams(Config::controlled().loopback(true), &[2, 1]).await?;
/// for stream in 0..2 {
///     b.set_remote_description(stream, a.description(stream).await?).await?;
///     a.set_remote_description(stream, b.answer(stream).await?).await?;
/// }
/// let mut rtcp = a.agent(0, 2).unwrap().connect().await?;
/// let at_b = b.agent(0, 2).unwrap().connect().await?;
/// rtcp.send(b"a report").await?;
/// # drop(at_b);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Streams {
    session: SessionId,
    /// By stream and component.
    agents: Vec<Vec<Agent>>,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
}

impl Streams {
    pub(crate) const fn new(
        session: SessionId,
        agents: Vec<Vec<Agent>>,
        requests: mpsc::Sender<Request>,
        state: watch::Receiver<State>,
    ) -> Self {
        Self {
            session,
            agents,
            requests,
            state,
        }
    }

    /// The agent of a component, from 1, of a stream, from 0.
    pub fn agent(&self, stream: usize, component: u16) -> Option<&Agent> {
        let place = usize::from(component).checked_sub(1)?;
        self.agents.get(stream)?.get(place)
    }

    /// All agents, to be used apart: by stream, and then by component.
    pub fn into_agents(self) -> Vec<Vec<Agent>> {
        self.agents
    }

    /// Waits until all candidates of a stream are found, and gives what an `m=` section of an offer says of it: its
    /// parameters and the candidates of all components.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Agent`] if there is no such stream.
    pub async fn description(&self, stream: usize) -> Result<IceDescription, Error> {
        let session = self.session;
        loop {
            for agent in self.agents.get(stream).into_iter().flatten() {
                agent.gathered().await?;
            }
            let request = |reply| Request::Description {
                session,
                stream,
                reply,
            };
            let description = ask(&self.requests, request).await?;
            // Otherwise it has restarted since, and its agents are about to say so.
            if description.end_of_candidates {
                return Ok(description);
            }
        }
    }

    /// The same of an answer: it does not name the peer's candidates of the pairs that were nominated, as a later offer of the
    /// controlling side does (RFC 8839 section 4.4.2).
    ///
    /// # Errors
    /// As of [`description`](Self::description).
    pub async fn answer(&self, stream: usize) -> Result<IceDescription, Error> {
        let mut description = self.description(stream).await?;
        description.remote_candidates.clear();
        Ok(description)
    }

    /// Takes in what an `m=` section of the peer says of a stream. Other parameters than before are the peer's restart.
    /// Candidates that cannot be used are passed over (RFC 8839 section 5.1).
    ///
    /// # Errors
    /// [`Error::Agent`] when it offers no ICE, or its parameters cannot be used.
    pub async fn set_remote_description(
        &self,
        stream: usize,
        description: IceDescription,
    ) -> Result<(), Error> {
        let session = self.session;
        let description = Box::new(description);
        ask(&self.requests, |reply| Request::RemoteDescription {
            session,
            stream,
            description,
            reply,
        })
        .await
    }

    /// The state of all components together: the rules of W3C's RTCPeerConnection.iceConnectionState.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Waits until the state is another than `state`, and gives it. A state that passes quickly may not be seen.
    pub async fn state_other_than(&self, state: State) -> State {
        let mut states = self.state.clone();
        match states.wait_for(|now| *now != state).await {
            Ok(now) => *now,
            // The driver has ended, which closes all agents.
            Err(_) => State::Closed,
        }
    }
}
