//! Everything that can go wrong for an application, and what to do about it.

use core::fmt;
use std::io;

use nilas_ice::{AgentError, CandidateLineError, NoPath, SendError, Verdict};
use nilas_net::signaling::{RendezvousError, TicketError};

use crate::server::ServerError;

/// Why an operation of this crate failed. The text tells the user what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system gave no randomness or no list of interfaces.
    System(io::Error),
    /// A server of the configuration cannot be used.
    Server(ServerError),
    /// The engine refused a call; nothing has changed.
    Agent(AgentError),
    /// The line that should be a candidate is none.
    Candidate(CandidateLineError),
    /// No pair works, for this reason. [`Agent::restart`](crate::Agent::restart) tries anew.
    Failed(Option<Verdict>),
    /// There is no path to send on.
    NoPath(NoPath),
    /// The operating system refused the datagram.
    Send(SendError),
    /// A DSCP was configured, and this operating system offers no way to mark each datagram.
    DscpUnsupported,
    /// The socket can take nothing more at this moment.
    WouldBlock,
    /// The buffer is smaller than the datagram, which stays first in the queue.
    BufferTooSmall {
        /// What the datagram needs, in bytes.
        needed: usize,
    },
    /// The segment size of a batch is zero.
    EmptySegment,
    /// Another [`Connection`](crate::Connection) of this agent exists.
    ConnectionTaken,
    /// The agent was closed, or the runtime it lives on has ended.
    Closed,
    /// The ticket cannot be made or used.
    Ticket(TicketError),
    /// The rendezvous failed.
    Rendezvous(RendezvousError),
    /// An application's own signaling failed, for the reason it gave.
    Signaling(Box<dyn core::error::Error + Send + Sync>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(
                f,
                "the operating system refuses what every session needs: {error}"
            ),
            Self::Server(error) => error.fmt(f),
            Self::Agent(error) => error.fmt(f),
            Self::Candidate(error) => error.fmt(f),
            Self::Failed(Some(verdict)) => verdict.fmt(f),
            Self::Failed(None) => f.write_str("no path to the peer was found: restart to try anew"),
            Self::NoPath(reason) => reason.fmt(f),
            Self::Send(error) => f.write_str(match error {
                SendError::Unreachable => {
                    "the peer's address cannot be reached from here at this moment"
                }
                SendError::PermissionDenied => {
                    "a firewall of this machine forbids sending to the peer"
                }
                SendError::TooLarge => {
                    "the datagram is too large for the path: send at most 1,200 bytes at once"
                }
                _ => "the operating system refused to send the datagram",
            }),
            Self::DscpUnsupported => f.write_str(
                "datagrams can be marked with a DSCP on Linux only: leave the configuration's dscp away",
            ),
            Self::WouldBlock => {
                f.write_str("the socket is full: try again shortly, or wait with `send`")
            }
            Self::BufferTooSmall { needed } => {
                write!(f, "the next datagram needs a buffer of {needed} bytes")
            }
            Self::EmptySegment => f.write_str("a batch needs datagrams of one byte at the least"),
            Self::ConnectionTaken => f.write_str(
                "the agent's connection is in use: drop that one before asking for another",
            ),
            Self::Closed => f.write_str("the session is closed"),
            Self::Ticket(error) => error.fmt(f),
            Self::Rendezvous(error) => error.fmt(f),
            Self::Signaling(error) => write!(f, "signaling failed: {error}"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            Self::Signaling(error) => Some(&**error),
            // What these say is said already: as sources they would be said twice.
            _ => None,
        }
    }
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::UnknownAgent => Self::Closed,
            error => Self::Agent(error),
        }
    }
}

impl From<CandidateLineError> for Error {
    fn from(error: CandidateLineError) -> Self {
        Self::Candidate(error)
    }
}

impl From<NoPath> for Error {
    fn from(reason: NoPath) -> Self {
        Self::NoPath(reason)
    }
}

impl From<TicketError> for Error {
    fn from(error: TicketError) -> Self {
        Self::Ticket(error)
    }
}

impl From<RendezvousError> for Error {
    fn from(error: RendezvousError) -> Self {
        Self::Rendezvous(error)
    }
}
