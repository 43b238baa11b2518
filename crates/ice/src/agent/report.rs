//! Statistics with W3C's names.

use super::Agent;
use super::carried::Traffic;
use super::generation::{Generation, RemoteCandidate};
use super::pair::{Pair, PairId};
use crate::candidate::{Candidate, CandidateAddress, CandidateType, Transport};
use crate::recording::{LocalView, PairName, PairView};
use crate::shared::Shared;
use crate::stats::{CandidatePairStats, CandidateStats, Stats, TransportStats};
use nilas_turn::Time;

const TRANSPORT: &str = "T";

impl Agent {
    /// The transport, and the pairs and candidates of the generation that carries the data, or that
    /// is being checked.
    pub(crate) fn stats(&self, shared: &Shared, now: Time) -> Vec<Stats> {
        let timestamp = milliseconds(now);
        let traffic = self.traffic(self.received(shared));
        let carrier = self.carrier();
        let selected =
            carrier.and_then(|generation| Some(pair_name(generation, generation.selected?)));
        let mut stats = vec![Stats::Transport(TransportStats {
            timestamp,
            id: TRANSPORT.into(),
            packets_sent: traffic.packets_sent,
            packets_received: traffic.packets_received,
            bytes_sent: traffic.bytes_sent,
            bytes_received: traffic.bytes_received,
            ice_role: self.role,
            ice_local_username_fragment: self.current.local.ufrag.to_string(),
            ice_state: self.state,
            selected_candidate_pair_id: selected,
            selected_candidate_pair_changes: self.selected_changes,
            max_payload: self.path.load().ok().map(|path| path.max_payload()),
        })];
        for generation in core::iter::once(&self.current).chain(self.previous.as_deref()) {
            self.report(generation, traffic, timestamp, &mut stats);
        }
        stats
    }

    /// What a recording sees of it: the local candidates and the pairs of all generations.
    pub(crate) fn views(&self) -> (Vec<LocalView>, Vec<PairView>) {
        let (mut locals, mut pairs) = (Vec::new(), Vec::new());
        for generation in core::iter::once(&self.current).chain(self.previous.as_deref()) {
            let base = |socket: u16| self.sockets.get(usize::from(socket));
            locals.extend(generation.locals.iter().filter_map(|local| {
                Some(LocalView {
                    agent: self.id,
                    generation: generation.number,
                    kind: local.kind,
                    address: local.address,
                    base: base(local.socket)?.address,
                    url: self.server_url(local).map(Into::into),
                })
            }));
            pairs.extend(generation.pairs.iter().filter_map(|(id, pair)| {
                let (base, remote) = (
                    base(pair.socket)?,
                    generation.remotes.get(usize::from(pair.remote))?,
                );
                let local = pair.valid_local.and_then(|local| {
                    let local = generation.locals.get(usize::from(local))?;
                    Some((local.kind, local.address))
                });
                Some(PairView {
                    name: PairName {
                        agent: self.id,
                        generation: generation.number,
                        slot: id.slot,
                        version: id.generation.get(),
                    },
                    base: base.address,
                    base_kind: base.kind(),
                    remote: remote.address,
                    remote_kind: remote.candidate.kind,
                    tcp: matches!(remote.candidate.transport, Transport::Tcp(_)),
                    state: pair.state,
                    local,
                    nominated: pair.nominated,
                    selected: generation.selected == Some(id),
                    died: pair.died_at.is_some(),
                    refused: self.is_refused(pair.socket, remote.address),
                    requests_sent: pair.requests_sent,
                    responses_received: pair.responses_received,
                    requests_received: pair.requests_received,
                    consent_requests_sent: pair.consent_requests_sent,
                    round_trip: pair.round_trip,
                })
            }));
        }
        (locals, pairs)
    }

    fn report(
        &self,
        generation: &Generation,
        traffic: Traffic,
        timestamp: f64,
        stats: &mut Vec<Stats>,
    ) {
        let number = generation.number;
        for (index, local) in generation.locals.iter().enumerate() {
            let id = format!("L{number}.{index}");
            let mut told = candidate(id, timestamp, &self.candidate(generation, local));
            told.url = self.server_url(local).map(Into::into);
            told.relay_protocol = self.relay_protocol(local).map(Into::into);
            stats.push(Stats::LocalCandidate(told));
        }
        for (index, remote) in generation.remotes.iter().enumerate() {
            let id = format!("R{number}.{index}");
            let mut told = candidate(id, timestamp, &remote.candidate);
            if self.settings.mdns && !is_signalled(generation, remote) {
                told.address = None;
            }
            stats.push(Stats::RemoteCandidate(told));
        }
        for (id, pair) in generation.pairs.iter() {
            stats.push(Stats::CandidatePair(
                self.report_pair(generation, id, pair, traffic, timestamp),
            ));
        }
    }

    fn report_pair(
        &self,
        generation: &Generation,
        id: PairId,
        pair: &Pair,
        traffic: Traffic,
        timestamp: f64,
    ) -> CandidatePairStats {
        let number = generation.number;
        let host = generation
            .locals
            .iter()
            .position(|local| local.socket == pair.socket)
            .unwrap_or_default();
        let local = pair.valid_local.map_or(host, usize::from);
        let carried = self.traffic_of(number, id, traffic);
        let when = |time: Time| Some(milliseconds(time)).filter(|_| time > Time::ZERO);
        CandidatePairStats {
            timestamp,
            id: pair_name(generation, id),
            transport_id: TRANSPORT.into(),
            local_candidate_id: format!("L{number}.{local}"),
            remote_candidate_id: format!("R{number}.{}", pair.remote),
            state: pair.state,
            nominated: pair.nominated,
            packets_sent: carried.packets_sent,
            packets_received: carried.packets_received,
            bytes_sent: carried.bytes_sent,
            bytes_received: carried.bytes_received,
            last_packet_sent_timestamp: when(carried.last_sent),
            last_packet_received_timestamp: when(carried.last_received),
            total_round_trip_time: pair.total_round_trip.as_secs_f64(),
            current_round_trip_time: pair.round_trip.map(|round_trip| round_trip.as_secs_f64()),
            requests_received: pair.requests_received.into(),
            requests_sent: pair.requests_sent.into(),
            responses_received: pair.responses_received.into(),
            responses_sent: pair.responses_sent.into(),
            consent_requests_sent: pair.consent_requests_sent.into(),
            packets_discarded_on_send: carried.packets_discarded,
            bytes_discarded_on_send: carried.bytes_discarded,
        }
    }
}

/// Whether signaling has told the address of a remote candidate, with any port. A peer-reflexive one may be what a name
/// hides, and statistics travel (draft-ietf-mmusic-mdns-ice-candidates-03, 3.3.1).
fn is_signalled(generation: &Generation, remote: &RemoteCandidate) -> bool {
    let is_told = |other: &RemoteCandidate| {
        let told = other.candidate.ip_address();
        other.candidate.kind != CandidateType::Prflx
            && told.is_some_and(|told| told.ip() == remote.address.ip())
    };
    let is_learned = remote.candidate.kind == CandidateType::Prflx;
    !is_learned || generation.remotes.iter().any(is_told)
}

fn pair_name(generation: &Generation, id: PairId) -> String {
    format!("P{}.{}.{}", generation.number, id.slot, id.generation)
}

fn milliseconds(time: Time) -> f64 {
    time.as_nanos() as f64 / 1e6
}

fn candidate(id: String, timestamp: f64, candidate: &Candidate) -> CandidateStats {
    let (address, port) = match &candidate.address {
        CandidateAddress::Ip(address) => (address.ip().to_string(), address.port()),
        CandidateAddress::Name { name, port } => (name.to_string(), *port),
    };
    let (protocol, tcp_type) = match &candidate.transport {
        Transport::Udp => ("udp", None),
        Transport::Tcp(tcp_type) => ("tcp", Some(*tcp_type)),
        Transport::Other(token) => (&**token, None),
    };
    CandidateStats {
        timestamp,
        id,
        transport_id: TRANSPORT.into(),
        address: Some(address),
        port,
        protocol: protocol.into(),
        tcp_type,
        candidate_type: candidate.kind,
        priority: candidate.priority,
        foundation: candidate.foundation.to_string(),
        url: None,
        relay_protocol: None,
        related_address: candidate.related.map(|related| related.ip().to_string()),
        related_port: candidate.related.map(|related| related.port()),
        username_fragment: candidate.ufrag.as_ref().map(ToString::to_string),
    }
}
