//! An agent's pairs, as its statistics tell them.

use std::collections::HashMap;

use nilas_ice::{
    CandidatePairStats, CandidateStats, CandidateType, PairState, SelectedPair, Stats,
};
use serde::Serialize;

/// One end of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Endpoint {
    #[serde(rename = "type")]
    pub(crate) kind: CandidateType,
    pub(crate) address: String,
}

/// A candidate pair, as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PairView {
    /// Its name in the statistics; stays the same while types and state change.
    #[serde(skip)]
    pub(crate) id: String,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    #[serde(rename = "pair_state")]
    pub(crate) state: PairState,
    pub(crate) nominated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtt_ms: Option<f64>,
}

impl PairView {
    /// All pairs of a report, in its order.
    pub(crate) fn all(stats: &[Stats]) -> Vec<Self> {
        let mut candidates = HashMap::new();
        for entry in stats {
            if let Stats::LocalCandidate(candidate) | Stats::RemoteCandidate(candidate) = entry {
                candidates.insert(candidate.id.as_str(), candidate);
            }
        }
        let pair = |pair: &CandidatePairStats| {
            Some(Self {
                id: pair.id.clone(),
                local: Endpoint::of(candidates.get(pair.local_candidate_id.as_str())?),
                remote: Endpoint::of(candidates.get(pair.remote_candidate_id.as_str())?),
                state: pair.state,
                nominated: pair.nominated,
                rtt_ms: pair
                    .current_round_trip_time
                    .map(|seconds| round_ms(seconds * 1e3)),
            })
        };
        stats
            .iter()
            .filter_map(|entry| {
                if let Stats::CandidatePair(stats) = entry {
                    pair(stats)
                } else {
                    None
                }
            })
            .collect()
    }

    /// The pair that carries the data.
    pub(crate) fn selected(pair: &SelectedPair) -> Self {
        let endpoint = |candidate: &nilas_ice::Candidate| Endpoint {
            kind: candidate.kind,
            address: candidate.address.to_string(),
        };
        Self {
            id: String::new(),
            local: endpoint(&pair.local),
            remote: endpoint(&pair.remote),
            state: PairState::Succeeded,
            nominated: pair.nominated,
            rtt_ms: pair
                .round_trip
                .map(|round_trip| round_ms(round_trip.as_secs_f64() * 1e3)),
        }
    }

    /// Whether both name the same two ends.
    pub(crate) fn same_ends(&self, other: &Self) -> bool {
        self.local.address == other.local.address && self.remote.address == other.remote.address
    }

    /// Whether this is the other side's pair, seen from its other end.
    pub(crate) fn mirrors(&self, other: &Self) -> bool {
        self.local.address == other.remote.address && self.remote.address == other.local.address
    }
}

impl Endpoint {
    fn of(candidate: &CandidateStats) -> Self {
        let address = candidate.address.as_deref().unwrap_or("hidden");
        let port = candidate.port;
        let address = if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        };
        Self {
            kind: candidate.candidate_type,
            address,
        }
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.address.starts_with('[')
    }

    /// The address without its port.
    pub(crate) fn host(&self) -> &str {
        self.address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host)
    }
}

/// Milliseconds to the microsecond, which is as much as anybody can read.
pub(crate) fn round_ms(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_without_their_port() {
        let endpoint = |address: &str| Endpoint {
            kind: CandidateType::Host,
            address: address.to_owned(),
        };
        assert_eq!(endpoint("192.0.2.1:99").host(), "192.0.2.1");
        assert_eq!(endpoint("[2001:db8::1]:99").host(), "[2001:db8::1]");
        assert!(endpoint("[2001:db8::1]:99").is_ipv6());
    }

    #[test]
    fn milliseconds_are_kept_to_the_microsecond() {
        assert_eq!(round_ms(0.123_456_7), 0.123);
    }
}
