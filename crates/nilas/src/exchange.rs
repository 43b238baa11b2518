//! Running an agent over whatever carries its signals.

use std::future::Future;

use nilas_ice::AgentError;
use nilas_net::signaling::{
    CandidateInit, Rendezvous, RendezvousEvent, RendezvousSender, Signal, Ticket,
};
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::Error;
use crate::session::Control;
use crate::signals::{Outgoing, deliver};

/// Carries an agent's signals to its peer: a [`RendezvousSender`], a channel, or an application's own.
///
/// Order must be kept, and nothing may get lost. As the passwords travel here, whoever can read and change
/// signals can stand in for the peer.
pub trait SignalSender: Send {
    /// Hands a signal over. It may wait as long as it likes: signals of the peer are taken meanwhile.
    fn send(&mut self, signal: Signal) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Brings the peer's signals; the other half of a [`SignalSender`].
pub trait SignalReceiver: Send {
    /// Waits for the peer's next signal: `None` when there will be no more.
    fn recv(&mut self) -> impl Future<Output = Result<Option<Signal>, Error>> + Send;
}

impl SignalSender for RendezvousSender {
    async fn send(&mut self, signal: Signal) -> Result<(), Error> {
        Ok(Self::send(self, &signal)?)
    }
}

impl SignalReceiver for Rendezvous {
    async fn recv(&mut self) -> Result<Option<Signal>, Error> {
        loop {
            match Self::recv(self).await? {
                Some(RendezvousEvent::Signal(signal)) => return Ok(Some(signal)),
                Some(RendezvousEvent::PeerLeft) | None => return Ok(None),
                // The roles are healed by ICE, and what is no signal is no reason to end.
                Some(_) => {}
            }
        }
    }
}

impl SignalSender for mpsc::Sender<Signal> {
    async fn send(&mut self, signal: Signal) -> Result<(), Error> {
        // A peer that listens no more has what it needs, or the other half tells that it is gone.
        let _ = Self::send(self, signal).await;
        Ok(())
    }
}

impl SignalReceiver for mpsc::Receiver<Signal> {
    async fn recv(&mut self) -> Result<Option<Signal>, Error> {
        Ok(Self::recv(self).await)
    }
}

/// An agent and its signaling in one call: returns the connection as soon as a pair works.
///
/// The exchange of signals goes on in a task until the signaling ends or the connection is dropped, so
/// that better paths are found and restarts reach the peer.
///
/// ```
/// use nilas::Config;
/// use tokio::sync::mpsc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nilas::Error> {
/// let (to_b, from_a) = mpsc::channel(16);
/// let (to_a, from_b) = mpsc::channel(16);
/// let a = nilas::connect(Config::controlling().loopback(true), to_b, from_b);
/// let b = nilas::connect(Config::controlled().loopback(true), to_a, from_a);
/// let (mut a, mut b) = tokio::try_join!(a, b)?;
/// a.send(b"hello").await?;
/// assert_eq!(b.recv(&mut [0; 1500]).await?, 5);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`Agent::new`], [`Agent::connect`] and the signaling.
pub async fn connect(
    config: impl Into<Config>,
    mut to_peer: impl SignalSender + 'static,
    mut from_peer: impl SignalReceiver + 'static,
) -> Result<Connection, Error> {
    let agent = Agent::new(config).await?;
    // It keeps only the driver alive, not the session: it ends when agent and connection are dropped.
    let control = agent.control();
    let mut exchange = tokio::spawn(async move {
        run(&control, &Outgoing::default(), &mut to_peer, &mut from_peer).await
    });
    tokio::select! {
        biased;
        connection = agent.connect() => connection,
        ended = &mut exchange => {
            match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(ended) => ended?,
                // A panic of the signaling is the caller's.
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime shuts down.
                Err(Err(_)) => return Err(Error::Closed),
            }
            // All has been said, or the peer has left after all it had to say: a pair may still be found.
            agent.connect().await
        }
    }
}

/// Exchanges signals until either side ends.
pub(crate) async fn run(
    control: &Control,
    outgoing: &Outgoing,
    to_peer: &mut impl SignalSender,
    from_peer: &mut impl SignalReceiver,
) -> Result<(), Error> {
    let tell = async {
        while let Some((signal, place)) = control.wait(|snapshot| outgoing.offer(snapshot)).await {
            to_peer.send(signal).await?;
            outgoing.mark(place);
        }
        Ok(())
    };
    let listen = async {
        let mut is_described = false;
        while let Some(signal) = from_peer.recv().await? {
            let is_description = matches!(signal, Signal::Description(_));
            match forgive(deliver(control, signal).await) {
                // Without a first description there is no session. A later one that cannot be used leaves that as it is.
                Err(Error::Agent(
                    wrong @ (AgentError::Parameters(_) | AgentError::PartialRestart),
                )) if is_described => {
                    tracing::warn!("a description of the peer cannot be used: {wrong}");
                }
                other => {
                    other?;
                    is_described |= is_description;
                }
            }
        }
        Ok(())
    };
    // Each goes on while the other waits: two agents that wait to be heard would wait forever.
    tokio::select! {
        ended = tell => ended,
        ended = listen => ended,
    }
}

/// Tells the agent all that a ticket holds.
pub(crate) async fn accept(control: &Control, ticket: &Ticket) -> Result<(), Error> {
    let description = ticket.description().clone();
    let username_fragment = Some(description.ufrag.clone());
    deliver(control, Signal::Description(description)).await?;
    for candidate in ticket.candidates() {
        forgive(deliver(control, Signal::Candidate(CandidateInit::new(candidate))).await)?;
    }
    deliver(control, Signal::EndOfCandidates { username_fragment }).await
}

/// A candidate that is of no use is no reason to end: others may be.
fn forgive(delivered: Result<(), Error>) -> Result<(), Error> {
    match delivered {
        Err(
            Error::Candidate(_)
            | Error::Agent(
                AgentError::StaleCandidate
                | AgentError::UnusableCandidate
                | AgentError::TooManyCandidates
                | AgentError::AfterEndOfCandidates,
            ),
        ) => Ok(()),
        other => other,
    }
}
