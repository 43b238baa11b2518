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
    /// A lite agent has neither STUN nor TURN servers (RFC 8445 section 5.2).
    LiteHasHostsOnly,
    /// The parameters break the grammar.
    Parameters(ParametersError),
    /// The peer's parameters changed only in part: a restart needs a new ufrag and a new password.
    PartialRestart,
    /// The candidate is not of the peer's current generation.
    StaleCandidate,
    /// The candidate is a name, uses another component than 1 or a transport that the agent does not (TCP, unless
    /// it was configured), or has an address that no check may go to.
    UnusableCandidate,
    /// The peer told as many candidates as are accepted.
    TooManyCandidates,
    /// The peer has said that there are no more candidates.
    AfterEndOfCandidates,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAgent => "there is no such agent, or it was closed",
            Self::TooManyAgents => "the engine has as many agents as its configuration allows",
            Self::UfragInUse => "another agent of this engine has the same ufrag: choose another, or let the agent make one",
            Self::LiteHasHostsOnly => {
                "a lite agent has host candidates only: leave out its STUN and TURN servers, and relay-only"
            }
            Self::Parameters(error) => return error.fmt(f),
            Self::PartialRestart => "ufrag and pwd must both change in a restart",
            Self::StaleCandidate => "the candidate belongs to another generation (ufrag) of the session",
            Self::UnusableCandidate => {
                "the candidate cannot be used: only addresses of component 1 that can be sent to are, over UDP, and over TCP where that was asked for"
            }
            Self::TooManyCandidates => "the peer told more candidates than are accepted",
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
