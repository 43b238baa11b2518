//! An agent: one end of a session, before and after there is a path.

use std::sync::Arc;

use nilas_ice::{
    AddressPolicy, Candidate, GatheringState, Parameters, Role, SelectedPair, State, Stats, Verdict,
};
use nilas_net::signaling::{Signal, Ticket, TicketError};

use crate::config::Config;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::events::Events;
use crate::exchange::{self, SignalReceiver, SignalSender};
use crate::sender::Sender;
use crate::session::{Control, Request, Session};
use crate::signals::{Outgoing, deliver, describe};

/// One end of a session. It gathers candidates from the moment it is made.
///
/// It has to be told what the peer says, and to tell the peer what it says itself; how, is the
/// application's choice:
///
/// - [`exchange`](Self::exchange) with any [`SignalSender`] and [`SignalReceiver`];
/// - [`next_signal`](Self::next_signal) and [`signal`](Self::signal), one by one;
/// - [`ticket`](Self::ticket) and [`accept`](Self::accept), all at once.
///
/// All calls take `&self`, so that they can run side by side. The session is closed when its agent,
/// connection and senders are all dropped, or by [`close`](Self::close).
///
/// ```
/// use nilas::{Agent, Config};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nilas::Error> {
/// // Both ends are on this machine, and it may have nothing but loopback.
/// let a = Agent::new(Config::controlling().loopback(true)).await?;
/// let b = Agent::new(Config::controlled().loopback(true)).await?;
/// let (from_a, from_b) = (a.ticket().await?, b.ticket().await?);
/// a.accept(&from_b).await?;
/// b.accept(&from_a).await?;
/// let (mut a, mut b) = (a.connect().await?, b.connect().await?);
/// a.send(b"hello").await?;
/// let mut buffer = [0; 1500];
/// let length = b.recv(&mut buffer).await?;
/// assert_eq!(&buffer[..length], b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Agent {
    session: Arc<Session>,
    outgoing: Outgoing,
}

impl Agent {
    /// An agent with an engine of its own, on the present tokio runtime, which needs I/O and time enabled.
    ///
    /// # Errors
    /// [`Error::System`] when the operating system refuses what every agent needs, and [`Error::Agent`]
    /// when the configured credentials cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn new(config: impl Into<Config>) -> Result<Self, Error> {
        Endpoint::new()?.agent(config).await
    }

    pub(crate) fn from_session(session: Session) -> Self {
        Self {
            session: Arc::new(session),
            outgoing: Outgoing::default(),
        }
    }

    pub(crate) fn control(&self) -> Control {
        self.session.control.clone()
    }

    /// Waits until a pair of addresses works, and gives the connection over it.
    ///
    /// A path that fails later does not end the connection: it is restarted, or dropped.
    ///
    /// # Errors
    /// [`Error::Failed`] with the verdict when no pair works, [`Error::ConnectionTaken`] when the
    /// connection was given out already, and [`Error::Closed`].
    pub async fn connect(&self) -> Result<Connection, Error> {
        let found = self.session.control.wait(|snapshot| match snapshot.state {
            state if state.is_up() => Some(Ok(())),
            State::Failed => Some(Err(Error::Failed(snapshot.verdict))),
            _ => None,
        });
        found.await.ok_or(Error::Closed)??;
        self.connection()
    }

    /// The connection, without waiting for a path: sending on it fails until there is one.
    ///
    /// # Errors
    /// [`Error::ConnectionTaken`] while another connection of this agent exists.
    pub fn connection(&self) -> Result<Connection, Error> {
        Connection::new(Arc::clone(&self.session))
    }

    /// A handle for sending, of which there may be many.
    pub fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.session))
    }

    /// Waits for the next thing to tell the peer: the description, then each candidate as it is found,
    /// then the end of candidates; and all of that again after a restart. `None` once the agent is closed.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    pub async fn next_signal(&self) -> Option<Signal> {
        let (signal, place) = self
            .session
            .control
            .wait(|snapshot| self.outgoing.offer(snapshot))
            .await?;
        self.outgoing.mark(place);
        Some(signal)
    }

    /// Tells the agent what the peer said.
    ///
    /// A description that is not the first is the peer's restart. Signals of later versions are ignored.
    ///
    /// # Errors
    /// [`Error::Candidate`] and [`Error::Agent`] when it cannot be used. Nothing has changed then, and the
    /// session goes on.
    pub async fn signal(&self, signal: Signal) -> Result<(), Error> {
        deliver(&self.session.control, signal).await
    }

    /// Exchanges signals with the peer until the signaling or the agent ends; meanwhile
    /// [`connect`](Self::connect) can wait side by side, such as in `tokio::select!`.
    ///
    /// Candidates of the peer that cannot be used are passed over (RFC 8839 section 5.1), and so are its restarts. What was
    /// not sent when the future is dropped is sent by the next one; a signal that was just received may be lost.
    ///
    /// # Errors
    /// Those of the signaling, and [`Error::Agent`] when the first description cannot be used.
    pub async fn exchange(
        &self,
        to_peer: &mut impl SignalSender,
        from_peer: &mut impl SignalReceiver,
    ) -> Result<(), Error> {
        exchange::run(&self.session.control, &self.outgoing, to_peer, from_peer).await
    }

    /// Waits until all candidates are found, and gives them and the description as one line.
    ///
    /// # Errors
    /// [`Error::Ticket`] when there is no candidate, or not one fits into a ticket, and [`Error::Closed`].
    pub async fn ticket(&self) -> Result<Ticket, Error> {
        let (parameters, mut candidates) = self.gathered().await?;
        if candidates.is_empty() {
            return Err(TicketError::NoCandidates.into());
        }
        // What does not fit is the least useful.
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
        let mut ticket = Ticket::new(describe(&parameters))?;
        for candidate in &candidates {
            match ticket.push_candidate(candidate.to_string()) {
                Err(TicketError::TooLong) if !ticket.candidates().is_empty() => break,
                pushed => pushed?,
            }
        }
        Ok(ticket)
    }

    /// Waits until all candidates are found.
    pub(crate) async fn gathered(&self) -> Result<(Parameters, Vec<Candidate>), Error> {
        let gathered = self.session.control.wait(|snapshot| {
            (snapshot.gathering == GatheringState::Complete)
                .then(|| (snapshot.parameters.clone(), snapshot.candidates()))
        });
        gathered.await.ok_or(Error::Closed)
    }

    /// Takes in the peer's ticket. A second one is the peer's restart.
    ///
    /// # Errors
    /// [`Error::Agent`] when its description cannot be used. Candidates that cannot be used are passed
    /// over.
    pub async fn accept(&self, ticket: &Ticket) -> Result<(), Error> {
        exchange::accept(&self.session.control, ticket).await
    }

    /// The peer's parameters, in the engine's terms; see [`signal`](Self::signal).
    ///
    /// # Errors
    /// [`Error::Agent`] when they break the grammar or change only in part.
    pub async fn set_remote_parameters(&self, parameters: Parameters) -> Result<(), Error> {
        let request = |agent, reply| Request::RemoteParameters {
            agent,
            parameters,
            reply,
        };
        self.session.control.ask(request).await
    }

    /// A candidate of the peer, in the engine's terms; see [`signal`](Self::signal).
    ///
    /// # Errors
    /// [`Error::Agent`] when it is of another generation or of no use.
    pub async fn add_remote_candidate(&self, candidate: Candidate) -> Result<(), Error> {
        let candidate = Box::new(candidate);
        let request = |agent, reply| Request::RemoteCandidate {
            agent,
            candidate,
            reply,
        };
        self.session.control.ask(request).await
    }

    /// The peer has taken a candidate back; see [`signal`](Self::signal). Data that went there moves to another pair.
    ///
    /// # Errors
    /// [`Error::Agent`] when it is of another generation.
    pub async fn remove_remote_candidate(&self, candidate: Candidate) -> Result<(), Error> {
        let candidate = Box::new(candidate);
        let request = |agent, reply| Request::RemoveRemoteCandidate {
            agent,
            candidate,
            reply,
        };
        self.session.control.ask(request).await
    }

    /// The peer has no more candidates in its present generation.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn end_of_remote_candidates(&self) -> Result<(), Error> {
        let request = |agent, reply| Request::EndOfRemoteCandidates {
            agent,
            ufrag: None,
            reply,
        };
        self.session.control.ask(request).await
    }

    /// Restarts ICE (RFC 8445 section 9): the interfaces are listed and candidates gathered anew, and new
    /// signals follow for the peer. A path that works is used until there is a better one.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn restart(&self) -> Result<(), Error> {
        self.session
            .control
            .ask(|agent, reply| Request::Restart { agent, reply })
            .await
    }

    /// Changes which addresses of this machine are used and told, while the session goes on: as a
    /// [restart](Self::restart), if it has begun.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Agent`] for a lite agent that is to use relays only.
    pub async fn set_addresses(&self, addresses: AddressPolicy) -> Result<(), Error> {
        self.session
            .control
            .ask(|agent, reply| Request::Addresses {
                agent,
                addresses,
                reply,
            })
            .await
    }

    /// What happens to the agent. The first who asks is told from the very first event on, the others
    /// from now on.
    pub fn events(&self) -> Events {
        Events::new(self.session.events())
    }

    /// The agent's own parameters of the present generation.
    pub fn local_parameters(&self) -> Parameters {
        self.session.control.snapshot.borrow().parameters.clone()
    }

    /// The candidates found so far in the present generation.
    pub fn local_candidates(&self) -> Vec<Candidate> {
        self.session.control.snapshot.borrow().candidates()
    }

    /// Whether candidates may still come.
    pub fn gathering_state(&self) -> GatheringState {
        self.session.control.snapshot.borrow().gathering
    }

    /// The state of the session.
    pub fn state(&self) -> State {
        self.session.control.snapshot.borrow().state
    }

    /// Why the state is what it is, where there is more to say.
    pub fn verdict(&self) -> Option<Verdict> {
        self.session.control.snapshot.borrow().verdict
    }

    /// The role, which changes when a conflict is healed.
    pub fn role(&self) -> Role {
        self.session.control.snapshot.borrow().role
    }

    /// The pair that carries the data, if there is one.
    pub fn selected_pair(&self) -> Option<SelectedPair> {
        self.session.control.snapshot.borrow().selected.clone()
    }

    /// The figures of W3C's webrtc-stats.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn stats(&self) -> Result<Vec<Stats>, Error> {
        self.session
            .control
            .ask(|agent, reply| Request::Stats { agent, reply })
            .await
    }

    /// Closes the session and its sockets, and waits until that is done. The peer is not told by ICE: it
    /// notices that consent has expired (RFC 7675), unless the application tells it.
    pub async fn close(self) {
        self.session.close().await;
    }
}
