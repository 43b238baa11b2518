//! What the commands tell while they run.

use nilas_ice::{Candidate, CandidateError, CandidateType, State, TcpType, Transport};
use serde::Serialize;

use super::pairs::PairView;

/// One thing to tell. As JSON it is an object with `event`, and `peer` where there are several.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A sentence that a person should read.
    Note { text: String },
    /// The code under which the other side is awaited, and what to type there.
    Code {
        code: String,
        command: String,
        expires_in_s: Option<u64>,
    },
    /// The line to paste on the other side.
    Ticket { ticket: String },
    /// A line of what the other side sends.
    Data { data: String },
    /// A local candidate was found.
    Candidate(CandidateView),
    /// A server answers and sees an address that is a candidate already.
    NoNat { server: String, rtt_ms: f64 },
    /// A server gave no candidate.
    ServerError {
        url: String,
        error_code: u16,
        text: String,
    },
    /// A candidate is missing, and no server is to blame: a port is in use, or the gateway forwards none.
    CandidateError { text: String },
    /// A pair appeared, or its state changed.
    Pair(PairView),
    /// The agent's state changed.
    State {
        state: State,
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
    },
    /// Data takes this pair from now on.
    Selected {
        #[serde(flatten)]
        pair: PairView,
        why: String,
    },
}

impl From<CandidateError> for Event {
    fn from(error: CandidateError) -> Self {
        let (url, error_code, text) = (error.url, error.error_code, error.error_text);
        if url.is_empty() {
            return Self::CandidateError { text };
        }
        Self::ServerError {
            url,
            error_code,
            text,
        }
    }
}

/// A local candidate and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CandidateView {
    #[serde(rename = "type")]
    pub(crate) kind: CandidateType,
    pub(crate) address: String,
    /// Of one of TCP: who opens its connections (RFC 6544 section 4.5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_type: Option<TcpType>,
    /// The address of the local socket, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    /// The server that told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The round-trip time to that server, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtt_ms: Option<f64>,
    /// How long the server took to give it, with all that goes before (name, connection, login), in
    /// milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found_ms: Option<f64>,
    pub(crate) priority: u32,
}

impl CandidateView {
    /// The candidate as it is known without its server. The ufrag is left out: it is half of a credential.
    pub(crate) fn new(candidate: &Candidate) -> Self {
        Self {
            kind: candidate.kind,
            address: candidate.address.to_string(),
            tcp_type: match candidate.transport {
                Transport::Tcp(tcp_type) => Some(tcp_type),
                _ => None,
            },
            base: candidate.related.map(|related| related.to_string()),
            server: None,
            rtt_ms: None,
            found_ms: None,
            priority: candidate.priority,
        }
    }
}
