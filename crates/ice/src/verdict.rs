//! Why a session is as it is: a typed value first, and words second.

use core::fmt;

use serde::Serialize;

/// Why an agent is disconnected or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
#[non_exhaustive]
pub enum Verdict {
    /// The peer's parameters never came.
    NoRemoteParameters,
    /// This machine has no usable address.
    NoLocalCandidates,
    /// The peer told no candidate that this agent can use.
    NoRemoteCandidates,
    /// Local and remote candidates cannot be paired, such as IPv4 only with IPv6 only.
    NothingToPair,
    /// Pairs were checked and none answered, though both sides are behind NATs or firewalls.
    RelayNeeded {
        /// How many pairs were checked.
        pairs: u32,
    },
    /// Pairs were checked and none answered, and no TURN server gave an address.
    NoRelay {
        /// How many pairs were checked.
        pairs: u32,
    },
    /// Pairs were checked, relayed ones among them, and none answered.
    RelayFailed {
        /// How many pairs were checked.
        pairs: u32,
    },
    /// Pairs were checked, the peer's checks arrived, and none of ours was answered.
    OneWay {
        /// How many pairs were checked.
        pairs: u32,
    },
    /// The peer refused or could not verify our checks.
    Rejected {
        /// The STUN error code of the last answer.
        code: u16,
    },
    /// This agent is lite, and no check of the peer has nominated a pair.
    NotChecked,
    /// The connection that carries the data broke (RFC 6544 section 11.1). It is being opened again, or awaited.
    ConnectionBroken,
    /// The peer stopped answering consent checks (RFC 7675), or sending them to a lite agent.
    ConsentExpired,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRemoteParameters => f.write_str(
                "the peer's description never came: check that the signaling reaches both sides",
            ),
            Self::NoLocalCandidates => f.write_str(
                "this machine has no usable network address: check that an interface is up, or let the filter admit one",
            ),
            Self::NoRemoteCandidates => f.write_str(
                "the peer told no usable candidate: check that its network is up and that signaling carries its candidates",
            ),
            Self::NothingToPair => f.write_str(
                "the two sides have no address family in common: one needs an address of the other's family, or a relay",
            ),
            Self::RelayNeeded { pairs } => write!(
                f,
                "none of {pairs} candidate pairs answered: the NATs or firewalls between the two sides let nothing direct through, so a relay (TURN) is needed",
            ),
            Self::NoRelay { pairs } => write!(
                f,
                "none of {pairs} candidate pairs answered, and no TURN server gave an address: check the server, the user and the password",
            ),
            Self::RelayFailed { pairs } => write!(
                f,
                "none of {pairs} candidate pairs answered, not even by way of the relay: the peer is gone, or cannot reach the relay either",
            ),
            Self::OneWay { pairs } => write!(
                f,
                "checks of the peer arrive but none of ours on {pairs} candidate pairs is answered: something drops packets towards the peer; a relay (TURN) is needed",
            ),
            Self::Rejected { code } => write!(
                f,
                "the peer answered with error {code}: the two descriptions do not belong to the same session",
            ),
            Self::NotChecked => f.write_str(
                "this agent is lite and waits for checks, but the peer nominated no pair: the peer's packets do not arrive, or this side's candidates do not reach it",
            ),
            Self::ConnectionBroken => f.write_str(
                "the connection to the peer broke and is being opened again: nothing can be sent until then",
            ),
            Self::ConsentExpired => f.write_str(
                "the peer stopped answering: it is gone, or the path to it is broken; restart to look for another",
            ),
        }
    }
}
