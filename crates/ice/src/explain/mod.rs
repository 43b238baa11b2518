//! What happened in a recorded session, and why: typed values first, and words second.
//!
//! | room | what lives there |
//! |---|---|
//! | this file | the values |
//! | `story` | how they are read from a recording |
//! | `pairs` | how each pair ended |
//! | `advice` | what would have to change |
//! | `words` | the sentences |

mod advice;
mod pairs;
mod story;
mod words;

use core::net::SocketAddr;

use serde::Serialize;

use crate::candidate::CandidateType;
use crate::event::{Role, State};
use crate::io::SendError;
use crate::recording::RecordingError;
use crate::verdict::Verdict;

/// What happened to the agents of a recorded engine. `Display` puts it into sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The version of nilas that recorded.
    pub recorded_by: String,
    /// What it was told to say about the recording.
    pub note: String,
    /// When the last recorded call was, in milliseconds since the engine began.
    pub until_ms: f64,
    /// Whether the recording has its end; if not, the session went on.
    pub complete: bool,
    /// The agents, in the order in which they were made.
    pub agents: Vec<AgentStory>,
}

/// What happened to an agent. Times are milliseconds since it began to gather.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgentStory {
    /// The role in the end.
    pub role: Option<Role>,
    /// What came of it.
    pub outcome: Outcome,
    /// Each state, and when it was told.
    pub states: Vec<Told>,
    /// The path that carried data last.
    pub path: Option<PathStory>,
    /// The configured servers, and what came of each.
    pub servers: Vec<ServerStory>,
    /// Its own candidates.
    pub local_candidates: Vec<CandidateStory>,
    /// The peer's.
    pub remote_candidates: Vec<CandidateStory>,
    /// When the peer's parameters came first.
    pub remote_parameters_ms: Option<f64>,
    /// How often either side restarted.
    pub restarts: u32,
    /// Every pair, the one that carries the data first.
    pub pairs: Vec<PairStory>,
    /// What took long.
    pub slow: Vec<Slow>,
    /// What would have to change to get a direct path. Empty where there was one in the end.
    pub for_direct: Vec<Advice>,
}

/// What came of an agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
#[non_exhaustive]
pub enum Outcome {
    /// It had a path to the end.
    Connected {
        /// Whether a TURN server relayed, for either side.
        relayed: bool,
    },
    /// It had a path, and lost it.
    Lost {
        /// Whether a TURN server relayed.
        relayed: bool,
    },
    /// It never had a path.
    Failed {
        /// Why.
        verdict: Verdict,
    },
    /// The peer's parameters never came, and nobody waited for them to: it only gathered.
    OnlyGathered,
    /// The recording ends before there was a path, and before that was given up.
    Undecided,
}

/// A state that was told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Told {
    /// When.
    pub at_ms: f64,
    /// The state.
    pub state: State,
    /// Why.
    pub verdict: Option<Verdict>,
}

/// The pair that carried the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathStory {
    /// The type of the local candidate.
    pub local_type: CandidateType,
    /// Its address.
    pub local: SocketAddr,
    /// The type of the remote candidate.
    pub remote_type: CandidateType,
    /// Its address.
    pub remote: SocketAddr,
    /// When the first path of all was there.
    pub first_path_ms: f64,
    /// When a pair was first nominated.
    pub nominated_ms: Option<f64>,
    /// The round trip, as it was measured last.
    pub round_trip_ms: Option<f64>,
}

/// A configured server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ServerStory {
    /// Its URI.
    pub url: String,
    /// What came of it.
    #[serde(flatten)]
    pub end: ServerEnd,
}

/// What came of a server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
#[non_exhaustive]
pub enum ServerEnd {
    /// It told an address.
    Answered {
        /// When.
        at_ms: f64,
    },
    /// It did not answer, or could not be reached.
    Unreachable {
        /// What the agent said of it.
        text: String,
    },
    /// It refused.
    Refused {
        /// With this STUN error code.
        code: u16,
        /// And these words.
        text: String,
    },
    /// Its answer told nothing new: the machine's own address, or one that another server had told.
    NothingNew,
    /// Nothing came of it before the recording, or the session, ended.
    Open,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CandidateStory {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: CandidateType,
    /// Its address, or its name and port.
    pub address: String,
    /// Where it came from.
    #[serde(flatten)]
    pub source: CandidateSource,
    /// When.
    pub at_ms: f64,
    /// When it was taken back, its address gone. Told again since, it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_ms: Option<f64>,
}

/// Where a candidate came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
#[non_exhaustive]
pub enum CandidateSource {
    /// It is an address of this machine.
    Machine,
    /// A server told it.
    Server {
        /// Its URI.
        url: String,
    },
    /// The network's gateway forwards it.
    Gateway,
    /// The peer's answers show it.
    PeerAnswer,
    /// Signaling brought it.
    Signaling,
    /// A check came from there.
    Check,
    /// Signaling brought it, and the agent refused it.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A candidate pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairStory {
    /// The generation of the session that it belongs to, from 0: one more for each restart.
    pub generation: u32,
    /// The local address, which is the base.
    pub local: SocketAddr,
    /// Whether that is a relay's.
    pub local_relayed: bool,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The type of the peer's candidate.
    pub remote_type: CandidateType,
    /// Whether it is of TCP (RFC 6544), and not of UDP.
    pub tcp: bool,
    /// When it was formed.
    pub formed_ms: f64,
    /// When it was first checked.
    pub checked_ms: Option<f64>,
    /// When it was first found to work.
    pub worked_ms: Option<f64>,
    /// Checks sent.
    pub checks: u32,
    /// How it ended.
    #[serde(flatten)]
    pub end: PairEnd,
}

/// How a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
#[non_exhaustive]
pub enum PairEnd {
    /// It carried the data to the end.
    Selected,
    /// It carried data until another took over.
    Replaced,
    /// It carried data until it stopped answering.
    Died,
    /// It worked, and another carried the data.
    NotNeeded,
    /// Nothing answered.
    NoAnswer,
    /// The peer's checks came, and nothing answered ours.
    OneWay,
    /// What came was no good answer: an error, or from another address than we asked.
    Rejected,
    /// The relay refuses to relay to that address.
    RelayRefused,
    /// The system refused to send.
    SendRefused {
        /// Why.
        #[serde(serialize_with = "words::send_error")]
        error: SendError,
    },
    /// It was never checked, because the session was settled or over before its turn.
    NotChecked,
    /// It was still being checked at the end of the session or of the recording.
    Unfinished,
}

/// Something that took long.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
#[non_exhaustive]
pub enum Slow {
    /// Finding the addresses of a name.
    Name {
        /// The name.
        name: String,
        /// How long.
        took_ms: f64,
    },
    /// Connecting to a server.
    Connection {
        /// The server's name or address.
        host: String,
        /// How long.
        took_ms: f64,
    },
    /// A server, from the beginning to its answer.
    Server {
        /// Its URI.
        url: String,
        /// How long.
        took_ms: f64,
    },
    /// The peer's parameters, which signaling brings, from the beginning of gathering.
    Signaling {
        /// How long.
        took_ms: f64,
    },
    /// The peer's candidate of the first path, from the peer's parameters.
    Candidate {
        /// The candidate's address.
        address: SocketAddr,
        /// How long.
        took_ms: f64,
    },
    /// The checks of the first path, from the first one to the answer.
    Checks {
        /// How many.
        checks: u32,
        /// How long.
        took_ms: f64,
    },
    /// There was no path for a while.
    Outage {
        /// When it began.
        at_ms: f64,
        /// How long.
        took_ms: f64,
    },
    /// Giving up (RFC 8863 section 4).
    GivingUp {
        /// How long.
        took_ms: f64,
    },
}

/// Something that would have to change for a direct path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "advice")]
#[non_exhaustive]
pub enum Advice {
    /// This agent was told to use relays only.
    AllowDirect,
    /// This machine needs a network address.
    LocalAddress,
    /// The peer's description or candidates have to reach this side.
    Signaling,
    /// This side has no STUN or TURN server to tell its public address.
    AddStunServer,
    /// This server has to answer, or another has to take its place.
    FixServer {
        /// Its URI.
        url: String,
    },
    /// A firewall on this side has to let UDP out: nothing at all came back.
    LetUdpOut,
    /// The peer told only private addresses: it needs a STUN server, too.
    PeerStunServer,
    /// The two sides need an address family in common.
    CommonFamily,
    /// This side's NAT gives each destination another port: it has to keep one, or forward one.
    LocalNat,
    /// The same of the peer's NAT.
    RemoteNat,
    /// One of the NATs or firewalls between the two has to let packets of the other side in.
    EitherNat,
    /// With IPv6 on both sides there is no NAT in between.
    Ipv6,
    /// Something on the way drops what goes to the peer, whose packets arrive.
    OneWay,
    /// The peer has to be there: it worked until it vanished.
    PeerBack,
}

/// Reads a recording, and tells what happened and why.
///
/// # Errors
/// [`RecordingError`] when it cannot be read.
pub fn explain(recording: &[u8]) -> Result<Explanation, RecordingError> {
    story::read(recording)
}
