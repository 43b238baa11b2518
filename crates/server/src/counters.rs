//! What a server has done, in numbers that never name anybody.

use core::sync::atomic::{AtomicU64, Ordering};

use nilas_turn::server::Counters as TurnCounters;

use crate::rendezvous::RendezvousCounts;

/// What a server has done since it began. Take two and subtract for rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Datagrams that came over UDP.
    pub udp_received: u64,
    /// Answers that went out over UDP.
    pub udp_answered: u64,
    /// Datagrams that were neither STUN nor ChannelData, or broke its rules, or are nothing to be answered.
    pub udp_ignored: u64,
    /// Answers that the system did not take, mostly because its buffer was full. The client asks again.
    pub udp_not_sent: u64,
    /// Connections of STUN and TURN accepted over TCP and TLS.
    pub tcp_accepted: u64,
    /// Connections of STUN and TURN, and sessions of DTLS, refused because there were too many.
    pub tcp_refused: u64,
    /// Answers that went out over TCP and TLS.
    pub tcp_answered: u64,
    /// HTTP connections accepted.
    pub http_accepted: u64,
    /// HTTP connections refused, as there were too many.
    pub http_refused: u64,
    /// Relayed datagrams that the system did not take, mostly because a buffer was full.
    pub relay_not_sent: u64,
    /// Datagrams lost between two threads of the relay, because the other was busy.
    pub handovers_lost: u64,
    /// Peers' datagrams lost because a client on TCP or TLS did not read.
    pub stream_data_lost: u64,
    /// Streams closed because a message took too long, in either direction.
    pub streams_slow: u64,
    /// Ports that relays have now, reserved ones included.
    pub ports_in_use: usize,
    /// Users that have allocations now.
    pub users: usize,
    /// What the relay's cores have counted, together.
    pub turn: TurnCounters,
    /// The rendezvous.
    pub rendezvous: RendezvousCounts,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) udp_received: Counter,
    pub(crate) udp_answered: Counter,
    pub(crate) udp_not_sent: Counter,
    pub(crate) tcp_accepted: Counter,
    pub(crate) tcp_refused: Counter,
    pub(crate) tcp_answered: Counter,
    pub(crate) http_accepted: Counter,
    pub(crate) http_refused: Counter,
    pub(crate) relay_not_sent: Counter,
    pub(crate) handovers_lost: Counter,
    pub(crate) stream_data_lost: Counter,
    pub(crate) streams_slow: Counter,
}

impl Counters {
    pub(crate) fn stats(&self, rendezvous: RendezvousCounts, turn: TurnCounters) -> ServerStats {
        ServerStats {
            udp_received: self.udp_received.value(),
            udp_answered: self.udp_answered.value(),
            udp_ignored: turn.not_stun + turn.malformed + turn.unexpected + turn.unknown_method,
            udp_not_sent: self.udp_not_sent.value(),
            tcp_accepted: self.tcp_accepted.value(),
            tcp_refused: self.tcp_refused.value(),
            tcp_answered: self.tcp_answered.value(),
            http_accepted: self.http_accepted.value(),
            http_refused: self.http_refused.value(),
            relay_not_sent: self.relay_not_sent.value(),
            handovers_lost: self.handovers_lost.value(),
            stream_data_lost: self.stream_data_lost.value(),
            streams_slow: self.streams_slow.value(),
            ports_in_use: 0,
            users: 0,
            turn,
            rendezvous,
        }
    }
}
