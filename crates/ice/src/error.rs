//! Wrong use of the engine, as values.

use core::fmt;

use crate::parameters::ParametersError;

/// Why a call on an agent was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentError {
    /// There is no such agent (any more).
    UnknownAgent,
    /// The engine has as many agents as its configuration allows.
    TooManyAgents,
    /// Another agent of this engine has the same username fragment.
    UfragInUse,
    /// A lite agent has neither STUN nor TURN servers (RFC 8445 section 5.2), and asks no gateway for a port.
    LiteHasHostsOnly,
    /// The parameters break the grammar.
    Parameters(ParametersError),
    /// The peer's parameters changed only in part: a restart needs a new ufrag and a new password.
    PartialRestart,
    /// The candidate is not of the peer's current generation.
    StaleCandidate,
    /// The candidate is a name, is of another component than the agent or uses a transport that the agent does not (TCP, unless
    /// it was configured), or has an address that no check may go to.
    UnusableCandidate,
    /// The peer told as many candidates as are accepted.
    TooManyCandidates,
    /// The peer has said that there are no more candidates.
    AfterEndOfCandidates,
    /// There is no such session (any more).
    UnknownSession,
    /// The session has no such stream, or its stream was closed.
    UnknownStream,
    /// More streams, or more components of a stream, than a session may have; or a stream without any.
    SessionTooLarge,
    /// The peer's description of a stream has no parameters of ICE.
    NoIce,
    /// The agent has no TURN server of this number.
    UnknownServer,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAgent => "there is no such agent, or it was closed",
            Self::TooManyAgents => "the engine has as many agents as its configuration allows",
            Self::UfragInUse => "another agent of this engine has the same ufrag: choose another, or let the agent make one",
            Self::LiteHasHostsOnly => {
                "a lite agent has host candidates only: leave out its STUN and TURN servers, port mapping, and relay-only"
            }
            Self::Parameters(error) => return error.fmt(f),
            Self::PartialRestart => "ufrag and pwd must both change in a restart",
            Self::StaleCandidate => "the candidate belongs to another generation (ufrag) of the session",
            Self::UnusableCandidate => {
                "the candidate cannot be used: only addresses of the agent's own component (1 for an agent on its own) that can be sent to are, over UDP, and over TCP where that was asked for"
            }
            Self::TooManyCandidates => "the peer told more candidates than are accepted",
            Self::UnknownSession => "there is no such session, or it was closed",
            Self::UnknownStream => "the session has no such stream, or the stream was closed",
            Self::SessionTooLarge => "a session has at most 16 streams of 1 to 4 components each",
            Self::NoIce => "the peer's description of the stream has no ufrag and password: it does not offer ICE there",
            Self::UnknownServer => "the agent's configuration has no TURN server of this number",
            Self::AfterEndOfCandidates => "the peer had said that there are no more candidates",
        })
    }
}

impl core::error::Error for AgentError {}

impl From<ParametersError> for AgentError {
    fn from(error: ParametersError) -> Self {
        Self::Parameters(error)
    }
}
