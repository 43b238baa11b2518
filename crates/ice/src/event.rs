//! What an agent tells its owner, with the names of W3C's RTCIceTransport.

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::io::SelectedPair;
use crate::parameters::Parameters;
use crate::verdict::Verdict;

/// Something the owner of an agent wants to know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// This agent's own parameters are new, because of a restart: send them to the peer.
    LocalParameters(Parameters),
    /// A local candidate was found: send it to the peer (`icecandidate`). It is told once more when the [cost] of its network
    /// has changed, between agents that both offer [`continual`](crate::AgentConfig::continual) gathering.
    ///
    /// [cost]: crate::Interface::cost
    Candidate(Candidate),
    /// A local candidate's address is gone: tell the peer that it can forget it. Only between agents that both offer
    /// [`continual`](crate::AgentConfig::continual) gathering.
    CandidateRemoved(Candidate),
    /// A server could not be used (`icecandidateerror`).
    CandidateError(CandidateError),
    /// Gathering began or ended. `Complete` is also the end-of-candidates to send to the peer; with
    /// [`continual`](crate::AgentConfig::continual) gathering it may begin and end more than once.
    GatheringStateChange(GatheringState),
    /// The agent's state changed.
    StateChange {
        /// The new state.
        state: State,
        /// Why, where there is more to say than the state does.
        verdict: Option<Verdict>,
    },
    /// Another pair carries the data now (`selectedcandidatepairchange`).
    SelectedPairChange(SelectedPair),
    /// The checks are concluded: this pair was nominated (RFC 8445 section 8.1.2).
    Nominated(SelectedPair),
    /// A role conflict was healed by switching the role (RFC 8445 section 7.3.1.1).
    RoleChange(Role),
    /// It was found out how much data one datagram may hold on the present path, or that it is less now (RFC 8899). Only with
    /// [`Mtu::Discover`](crate::Mtu::Discover). Another path may have another value, without this event.
    MaxPayloadChange {
        /// The most bytes: [`Path::max_payload`](crate::Path::max_payload).
        bytes: usize,
    },
    /// A restart would help ([`AgentMut::restart`](crate::AgentMut::restart)), and the agent is not to begin one by itself:
    /// [`AgentConfig::restarts_alone`](crate::AgentConfig::restarts_alone) is off. In a session each component says so for itself. That a
    /// path has died is told once for each time, and that addresses have changed once for each change; that another pair would do
    /// better again at growing intervals, as long as it stands.
    RestartDue(RestartReason),
}

/// What a restart would help against (RFC 8445 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RestartReason {
    /// The path does not answer any more, and no other is known.
    PathDied,
    /// The addresses of this machine are others now, or a server tells another or none, and the peer takes no news of that without
    /// a restart (RFC 8838 section 13).
    AddressesChanged,
    /// Another pair than the nominated one carries the data or would do so better, and the peer does not
    /// offer to nominate again.
    OtherPath,
}

/// Something about a whole session of several streams or components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A stream's checklist has another state.
    ChecklistStateChange {
        /// The stream, from 0 in the order in which they were added.
        stream: usize,
        /// The new state.
        state: ChecklistState,
    },
    /// The state of all components together changed, as [`SessionMut::state`](crate::SessionMut::state) has it.
    StateChange(State),
}

/// How the checks of a data stream stand, or those of a whole session (RFC 8445 sections 6.1.2.1 and 6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecklistState {
    /// Neither of the two.
    Running,
    /// Each component has a nominated pair.
    Completed,
    /// A component has no valid pair, and none can become one.
    Failed,
}

/// RTCIceTransportState.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Gathering, or waiting for the peer's parameters and candidates.
    New,
    /// Checking pairs; none works yet.
    Checking,
    /// A pair works and data can flow; better pairs may still be found.
    Connected,
    /// Checking is over: the pair was nominated and nothing more is to be expected.
    Completed,
    /// The pair stopped answering, or its connection broke; it may come back.
    Disconnected,
    /// No pair works. Only a restart can change that.
    Failed,
    /// The agent was closed.
    Closed,
}

impl State {
    /// Whether data can flow.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Connected | Self::Completed)
    }
}

/// RTCIceGathererState.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatheringState {
    /// Not begun.
    New,
    /// Candidates may still come.
    Gathering,
    /// All candidates of this generation were told.
    Complete,
}

/// RTCIceRole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// This agent nominates.
    Controlling,
    /// This agent follows.
    Controlled,
}

impl Role {
    /// The other role.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Controlling => Self::Controlled,
            Self::Controlled => Self::Controlling,
        }
    }
}

/// RTCPeerConnectionIceErrorEvent: why a server gave no candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CandidateError {
    /// The local address used, if one was.
    pub address: Option<String>,
    /// The local port used, if one was.
    pub port: Option<u16>,
    /// The server, as `stun:host:port`.
    pub url: String,
    /// The STUN error code, or 701 where the server could not be reached.
    pub error_code: u16,
    /// What went wrong, for a person.
    pub error_text: String,
}
