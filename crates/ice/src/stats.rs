//! Figures with the names of W3C's webrtc-stats: all of its RTCIceCandidatePairStats, RTCIceCandidateStats and
//! RTCTransportStats that ICE can know. `availableOutgoingBitrate` and its like are congestion control's, what begins with `dtls`,
//! `tls` or `srtp` the session layer's.

use serde::Serialize;

use crate::candidate::{CandidateType, TcpType};
use crate::event::{Role, State};

/// One object of an RTCStatsReport; `type` tells which.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Stats {
    /// RTCIceCandidatePairStats.
    #[serde(rename = "candidate-pair")]
    CandidatePair(CandidatePairStats),
    /// RTCIceCandidateStats of a local candidate.
    #[serde(rename = "local-candidate")]
    LocalCandidate(CandidateStats),
    /// RTCIceCandidateStats of a remote candidate.
    #[serde(rename = "remote-candidate")]
    RemoteCandidate(CandidateStats),
    /// RTCTransportStats.
    #[serde(rename = "transport")]
    Transport(TransportStats),
}

/// RTCStatsIceCandidatePairState.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairState {
    /// Held back until a pair of the same foundation has shown the way.
    Frozen,
    /// Not yet checked.
    Waiting,
    /// A check is under way.
    InProgress,
    /// A check failed.
    Failed,
    /// A check succeeded.
    Succeeded,
}

/// RTCIceCandidatePairStats. Times in milliseconds since the engine began, durations in seconds.
///
/// Data counts for the pair that carried it when it went, or that was selected when it came: while only one side has
/// moved to another pair, what comes by that one is the old one's, too. All pairs together have what the transport has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CandidatePairStats {
    /// Milliseconds since the engine began.
    pub timestamp: f64,
    /// The name of this object in the report.
    pub id: String,
    /// The transport's id.
    pub transport_id: String,
    /// The local candidate's id.
    pub local_candidate_id: String,
    /// The remote candidate's id.
    pub remote_candidate_id: String,
    /// The state of its checks.
    pub state: PairState,
    /// Whether it was nominated.
    pub nominated: bool,
    /// Datagrams of application data sent.
    pub packets_sent: u64,
    /// Datagrams of application data received.
    pub packets_received: u64,
    /// Bytes of application data sent.
    pub bytes_sent: u64,
    /// Bytes of application data received.
    pub bytes_received: u64,
    /// When application data was last sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_packet_sent_timestamp: Option<f64>,
    /// When application data last came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_packet_received_timestamp: Option<f64>,
    /// The sum of all measured round trips, in seconds.
    pub total_round_trip_time: f64,
    /// The latest measured round trip, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_round_trip_time: Option<f64>,
    /// Checks received, retransmissions included.
    pub requests_received: u64,
    /// Checks sent for the first time, consent checks not counted.
    pub requests_sent: u64,
    /// Answers received to checks.
    pub responses_received: u64,
    /// Answers sent to checks.
    pub responses_sent: u64,
    /// Consent checks sent (RFC 7675).
    pub consent_requests_sent: u64,
    /// Datagrams of application data that the system refused to send.
    pub packets_discarded_on_send: u64,
    /// Bytes of application data that the system refused to send.
    pub bytes_discarded_on_send: u64,
}

/// RTCIceCandidateStats.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CandidateStats {
    /// Milliseconds since the engine began.
    pub timestamp: f64,
    /// The name of this object in the report.
    pub id: String,
    /// The transport's id.
    pub transport_id: String,
    /// The address, or the name. None for a peer-reflexive candidate of a peer whose addresses may be hidden behind names
    /// ([`AgentConfig::mdns`](crate::AgentConfig::mdns)), unless signaling has told that address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port.
    pub port: u16,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Who opens the connection of a TCP candidate (RTCIceTcpCandidateType).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_type: Option<TcpType>,
    /// How the address was found.
    pub candidate_type: CandidateType,
    /// The priority.
    pub priority: u32,
    /// The foundation.
    pub foundation: String,
    /// The server that told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How the TURN server of a relayed candidate is reached: `udp`, `tcp`, `tls` or `dtls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_protocol: Option<String>,
    /// The related address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related_address: Option<String>,
    /// The related port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related_port: Option<u16>,
    /// The username fragment of its generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// The part of RTCTransportStats that ICE knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransportStats {
    /// Milliseconds since the engine began.
    pub timestamp: f64,
    /// The name of this object in the report.
    pub id: String,
    /// Datagrams of application data sent.
    pub packets_sent: u64,
    /// Datagrams of application data received.
    pub packets_received: u64,
    /// Bytes of application data sent.
    pub bytes_sent: u64,
    /// Bytes of application data received.
    pub bytes_received: u64,
    /// The role.
    pub ice_role: Role,
    /// The username fragment of the current generation.
    pub ice_local_username_fragment: String,
    /// The state.
    pub ice_state: State,
    /// The id of the pair that carries the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_candidate_pair_id: Option<String>,
    /// How often that pair changed.
    pub selected_candidate_pair_changes: u32,
    /// The most bytes of data that one datagram may hold on the present path, as far as is known. Not one of W3C's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload: Option<usize>,
}
