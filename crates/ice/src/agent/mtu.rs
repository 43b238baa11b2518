//! How long a datagram may be on the selected path (RFC 8899: Datagram Packetization Layer Path MTU Discovery).
//!
//! What probes is a check of the peer, with PADDING (RFC 5780 section 7.6) up to the length in question. Whatever the peer
//! answers with its integrity, if only that it does not know PADDING, says that the probe arrived. One is under way at a time; it
//! has a pacing slot like any check, and that it is lost means nothing but that it may have been too long: neither
//! the pair nor consent suffers.
//!
//! The base is 1,280 bytes (RFC 8899 section 5.1.2), which is probed first, and then the longest of all: most paths take as
//! much as Ethernet does. Where that is lost three times the search goes by halves through a table of lengths that networks have
//! (RFC 8899 section 5.3.2). After ten minutes what lies above is tried again. A length above the base is confirmed every 15
//! seconds in which data was sent; where that fails the path has become a black hole, and all begins anew with the base.
//!
//! Where the base is lost, too, but 576 bytes pass, the search goes on below it. Where nothing is answered nothing is
//! known, and the base stands.

use core::net::SocketAddr;
use core::time::Duration;

use nilas_turn::Time;
use nilas_turn::client::{Framing, MAX_HEAD};
use smallvec::SmallVec;

use super::Agent;
use super::pair::PairId;
use super::relay::head_length;
use super::transaction::{Purpose, Schedule, Transaction};
use super::trickle::scoped;
use crate::candidate::CandidateType;
use crate::config::Mtu;
use crate::event::Event;
use crate::path::{Departure, Via};
use crate::shared::Shared;

/// Lengths of IP packets that networks have, and some between them. The longest that is asked for comes after those that
/// are shorter.
const LENGTHS: [u16; 15] = [
    576, 1_024, 1_200, BASE, 1_340, 1_380, 1_400, 1_420, 1_440, 1_460, 1_480, 1_492, 1_500, 4_352,
    9_000,
];
/// RFC 8899 section 5.1.2: BASE_PLPMTU. All of IPv6 takes so much.
const BASE: u16 = 1_280;
/// RFC 8899 section 5.1.2.
const MAX_PROBES: u8 = 3;
/// RFC 8899 section 5.1.1: PROBE_TIMER, 1 s at the least. It should be 15 s where the round trip is not known; here it is.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// RFC 8899 section 5.1.1: PMTU_RAISE_TIMER.
const RAISE: Duration = Duration::from_secs(600);
/// RFC 8899 section 5.1.1: CONFIRMATION_TIMER.
const CONFIRM: Duration = Duration::from_secs(15);
/// A path that was just selected may soon be left for a better one.
const SETTLE: Duration = Duration::from_millis(500);
/// Paths whose lengths are remembered while others carry the data.
const MAX_LEFT: usize = 4;

/// A pair of a generation.
type PathName = (u32, PairId);

/// What is known of a path: that it takes one length and not another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Search {
    /// The longest that has passed, as an index of the table.
    passed: Option<u8>,
    /// The shortest that has not; as many as there are if all may.
    failed: u8,
}

/// The search on the path that carries the data.
#[derive(Debug)]
pub(super) struct Discovery {
    /// The longest packet that is tried, in bytes.
    longest: u16,
    path: Option<PathName>,
    search: Search,
    /// Probes of one length in a row that were not answered.
    lost: u8,
    in_flight: bool,
    /// When there is something to do, unless a probe is under way.
    next: Time,
    raise_at: Time,
    /// Datagrams of data sent by the last confirmation.
    packets_sent: u64,
    left: SmallVec<[(PathName, Search); MAX_LEFT]>,
}

impl Search {
    const fn new(count: u8) -> Self {
        Self {
            passed: None,
            failed: count,
        }
    }

    /// The next length to try, of so many of which `base` is the one to begin with: `None` if nothing is left to find out.
    const fn next(&self, base: u8, count: u8) -> Option<u8> {
        match self.passed {
            None if self.failed > base => Some(base),
            None if self.failed > 0 => Some(0),
            None => None,
            Some(passed) if self.failed == count && passed + 1 < count => Some(count - 1),
            Some(passed) if self.failed > passed + 1 => Some(passed + (self.failed - passed) / 2),
            Some(_) => None,
        }
    }

    fn pass(&mut self, index: u8) {
        self.passed = self.passed.max(Some(index));
        // A late answer to what was given up.
        self.failed = self.failed.max(index + 1);
    }

    /// A length that had passed before is a black hole now: then nothing is known any more.
    fn fail(&mut self, index: u8, count: u8) {
        match self.passed {
            Some(passed) if index <= passed => *self = Self::new(count),
            _ => self.failed = self.failed.min(index),
        }
    }
}

impl Discovery {
    pub(super) fn new(mtu: Mtu) -> Option<Box<Self>> {
        let Mtu::Discover(longest) = mtu else {
            return None;
        };
        let mut discovery = Self {
            longest,
            path: None,
            search: Search::new(0),
            lost: 0,
            in_flight: false,
            next: Time::ZERO,
            raise_at: Time::ZERO,
            packets_sent: 0,
            left: SmallVec::new(),
        };
        discovery.search = Search::new(discovery.count());
        Some(Box::new(discovery))
    }

    /// How many lengths there are.
    fn count(&self) -> u8 {
        let shorter = |length: &&u16| **length < self.longest;
        LENGTHS.iter().filter(shorter).count() as u8 + 1
    }

    /// The length of a packet in bytes. STUN counts in steps of four.
    fn length(&self, index: u8) -> u16 {
        let length = LENGTHS.get(usize::from(index)).copied();
        length.map_or(self.longest, |length| length.min(self.longest)) & !3
    }

    fn base(&self) -> u8 {
        let base = LENGTHS.iter().position(|length| *length == BASE);
        base.map_or(0, |base| base as u8).min(self.count() - 1)
    }

    fn turn(&self) -> Option<u8> {
        self.search.next(self.base(), self.count())
    }

    /// The longest packet that has passed on this path.
    fn known(&self, path: PathName) -> Option<u16> {
        let left = self.left.iter().find(|(name, _)| *name == path);
        let search = match self.path == Some(path) {
            true => self.search,
            false => left?.1,
        };
        search.passed.map(|index| self.length(index))
    }

    /// The data has moved.
    fn follow(&mut self, path: PathName, now: Time) {
        if let Some(old) = self.path.replace(path) {
            self.left.push((old, self.search));
        }
        let count = self.count();
        // Each generation has pairs of its own.
        self.left.retain(|(name, _)| name.0 == path.0);
        let known = self.left.iter().position(|(name, _)| *name == path);
        self.search = known.map_or_else(|| Search::new(count), |index| self.left.remove(index).1);
        if self.left.len() == MAX_LEFT {
            self.left.remove(0);
        }
        (self.lost, self.in_flight) = (0, false);
        // What was known before is confirmed at once, sent or not.
        self.packets_sent = known.map_or(0, |_| u64::MAX);
        (self.next, self.raise_at) = (now + SETTLE, now + RAISE);
    }

    /// A probe of this length has come to its end, one way or the other.
    fn ended(&mut self, now: Time, change: impl FnOnce(&mut Search)) {
        (self.in_flight, self.lost) = (false, 0);
        let was_searching = self.turn().is_some();
        change(&mut self.search);
        self.next = now;
        if self.turn().is_none() {
            self.next = now + CONFIRM;
            if was_searching {
                self.raise_at = now + RAISE;
            }
        }
    }
}

impl Agent {
    /// The path whose length is to be found out: one that carries data and was settled, and no connection.
    fn mtu_path(&self) -> Option<PathName> {
        let own = &self.current;
        let selected = own.selected.filter(|_| own.concluded && !self.lite)?;
        let pair = own.pairs.get(selected)?;
        let is_tcp = self.sockets[usize::from(pair.socket)].tcp().is_some();
        (!is_tcp && !own.consent_lost()).then_some((own.number, selected))
    }

    pub(super) fn mtu_deadline(&self) -> Option<Time> {
        let discovery = self.mtu.as_ref()?;
        let path = self.mtu_path()?;
        if discovery.path != Some(path) {
            return Some(Time::ZERO);
        }
        (!discovery.in_flight).then_some(discovery.next)
    }

    /// Sends the probe that is due.
    pub(super) fn fire_mtu(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        if self.mtu_deadline().is_none_or(|at| at > now) {
            return None;
        }
        let path = self.mtu_path()?;
        let (pace_at, packets_sent) = (self.pace_at.max(shared.pace_at), self.path.packets_sent());
        let discovery = self.mtu.as_mut()?;
        if discovery.path != Some(path) {
            discovery.follow(path, now);
            return None;
        }
        if pace_at > now {
            discovery.next = pace_at;
            return None;
        }
        if discovery.turn().is_none() && discovery.raise_at <= now {
            discovery.search.failed = discovery.count();
            discovery.raise_at = now + RAISE;
        }
        let index = match discovery.turn() {
            Some(index) => index,
            None => {
                // Whoever sends writes this at any time: it is no input, and has to be recorded.
                let has_sent = discovery.lost > 0
                    || shared
                        .source
                        .observe(packets_sent != discovery.packets_sent);
                discovery.packets_sent = packets_sent;
                let above = |passed: &u8| *passed > discovery.base();
                match discovery.search.passed.filter(above) {
                    Some(passed) if has_sent => passed,
                    Some(_) => {
                        discovery.next = discovery.raise_at.min(now + CONFIRM);
                        return None;
                    }
                    None => {
                        discovery.next = discovery.raise_at;
                        return None;
                    }
                }
            }
        };
        self.send_probe(shared, now, path, index, buffer)
    }

    fn send_probe(
        &mut self,
        shared: &mut Shared,
        now: Time,
        (generation, id): PathName,
        index: u8,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        let pair = self.current.pairs.get_mut(id)?;
        pair.requests_sent += 1;
        let round_trip = pair.round_trip.or(self.round_trip).unwrap_or_default();
        let socket = pair.socket;
        let remote = self.current.remote_address(self.current.pairs.get(id)?);
        let destination = scoped(remote, self.sockets[usize::from(socket)].address);
        let transaction_id = shared
            .demux
            .transaction_id(&mut shared.source, self.id.0.slot);
        let purpose = Purpose::Probe {
            generation,
            pair: id,
            length: index,
        };
        let wait = (round_trip * 4).max(LEAST_WAIT);
        let schedule = Schedule::Once { wait };
        let transaction =
            Transaction::new(transaction_id, purpose, socket, destination, now, schedule);
        let departure = self.encode(now, &transaction, buffer);
        if departure.is_none() {
            // The driver has no room for so much.
            self.probe_ended(shared, now, (generation, id), |discovery| {
                let count = discovery.count();
                discovery.ended(now, |search| search.fail(index, count));
            });
            return None;
        }
        self.transactions.push(transaction);
        self.mtu.as_mut()?.in_flight = true;
        self.pace_at = now + self.pacing();
        shared.pace_at = now + shared.config.pacing_floor;
        departure
    }

    /// The bytes of the message of a probe, without what is put around it.
    pub(super) fn probe_length(
        &self,
        index: u8,
        via: Via,
        framing: Option<Framing>,
        remote: SocketAddr,
    ) -> usize {
        let length = self.mtu.as_ref().map_or(0, |own| own.length(index));
        let datagram = usize::from(length).saturating_sub(headers(via, remote));
        match via {
            Via::Socket { .. } => datagram.saturating_sub(head_length(framing)),
            Via::Stream(_) => datagram,
        }
    }

    /// The peer has answered a probe.
    pub(super) fn probe_answered(
        &mut self,
        shared: &mut Shared,
        now: Time,
        path: PathName,
        index: u8,
    ) {
        self.probe_ended(shared, now, path, |discovery| {
            discovery.ended(now, |search| search.pass(index));
        });
    }

    /// Nobody has answered a probe in time.
    pub(super) fn probe_lost(&mut self, shared: &mut Shared, now: Time, path: PathName, index: u8) {
        self.probe_ended(shared, now, path, |discovery| {
            let count = discovery.count();
            discovery.in_flight = false;
            discovery.lost += 1;
            discovery.next = now;
            if discovery.lost >= MAX_PROBES {
                discovery.ended(now, |search| search.fail(index, count));
            }
        });
    }

    /// The system refuses to send a datagram because of its length. Nothing else that the engine sends is so long.
    pub(crate) fn too_large(&mut self, shared: &mut Shared, now: Time) {
        let probe = |transaction: &Transaction| match transaction.purpose {
            Purpose::Probe {
                generation,
                pair,
                length,
            } => Some(((generation, pair), length)),
            _ => None,
        };
        let found = self
            .transactions
            .iter()
            .position(|own| probe(own).is_some());
        let Some(at) = found else { return };
        if let Some((path, index)) = probe(&self.transactions.swap_remove(at)) {
            self.probe_ended(shared, now, path, |discovery| {
                let count = discovery.count();
                discovery.ended(now, |search| search.fail(index, count));
            });
        }
    }

    /// Takes in what came of a probe, and tells what that changes.
    fn probe_ended(
        &mut self,
        shared: &mut Shared,
        now: Time,
        path: PathName,
        change: impl FnOnce(&mut Discovery),
    ) {
        let Some(discovery) = self.mtu.as_mut().filter(|own| own.path == Some(path)) else {
            return;
        };
        let before = discovery.known(path);
        change(discovery);
        if discovery.known(path) != before {
            self.republish(now);
            if let Ok(path) = self.path.load() {
                let bytes = path.max_payload();
                self.emit(shared, Event::MaxPayloadChange { bytes });
            }
        }
    }

    /// The longest datagram that may be sent to this pair of the generation that carries the data, with what is put
    /// around it.
    pub(super) fn longest_datagram(
        &self,
        path: PathName,
        via: Via,
        framing: Option<Framing>,
        remote: SocketAddr,
        remote_kind: CandidateType,
    ) -> u16 {
        let known = self.mtu.as_ref().and_then(|own| own.known(path));
        if let Some(length) = known {
            return length.saturating_sub(headers(via, remote) as u16);
        }
        // A translator may make IPv6 of IPv4.
        let datagram = self.settings.mtu.saturating_sub(IPV6_HEADERS);
        // What the peer's relay puts around it on the way to the peer is not known.
        let own = match via {
            Via::Socket { .. } => head_length(framing),
            Via::Stream(_) => 0,
        };
        let far = match remote_kind {
            CandidateType::Relay => MAX_HEAD.saturating_sub(own),
            _ => 0,
        };
        datagram.saturating_sub(far as u16)
    }
}

/// The bytes of the headers of IP and UDP.
const IPV4_HEADERS: u16 = 20 + 8;
const IPV6_HEADERS: u16 = 40 + 8;

/// Those of a datagram on its way. Over a connection to a relay, they are those of the relay's datagrams.
const fn headers(via: Via, remote: SocketAddr) -> usize {
    let destination = match via {
        Via::Socket { destination, .. } => destination,
        Via::Stream(_) => remote,
    };
    match destination {
        SocketAddr::V4(_) => IPV4_HEADERS as usize,
        SocketAddr::V6(_) => IPV6_HEADERS as usize,
    }
}

/// What `Mtu` says before anything was found out.
pub(super) const fn assumed(mtu: Mtu) -> u16 {
    match mtu {
        Mtu::Fixed(length) => length,
        Mtu::Discover(longest) => {
            if longest < BASE {
                longest
            } else {
                BASE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths that are tried on a path that takes so much, and what is found.
    fn search(longest: u16, path: u16) -> (Vec<u16>, Option<u16>) {
        let mut discovery = Discovery::new(Mtu::Discover(longest)).expect("it is to discover");
        let (count, mut tried) = (discovery.count(), Vec::new());
        while let Some(index) = discovery.turn() {
            let length = discovery.length(index);
            tried.push(length);
            match length <= path {
                true => discovery.search.pass(index),
                false => discovery.search.fail(index, count),
            }
        }
        let passed = discovery.search.passed;
        (tried, passed.map(|index| discovery.length(index)))
    }

    #[test]
    fn few_lengths_are_tried_and_the_longest_of_them_that_passes_is_found() {
        assert_eq!(search(1_500, 1_500), (vec![1_280, 1_500], Some(1_500)));
        let (tried, found) = search(1_500, 1_420);
        assert_eq!(tried, [1_280, 1_500, 1_420, 1_460, 1_440]);
        assert_eq!(found, Some(1_420));
        for path in 0..=10_000 {
            for longest in [576, 700, 1_280, 1_300, 1_500, 9_000, u16::MAX] {
                let (tried, found) = search(longest, path);
                let usual = LENGTHS.iter().chain([&longest]);
                let fits = usual.filter(|length| **length <= path.min(longest));
                assert_eq!(
                    found,
                    fits.max().map(|length| length & !3),
                    "{longest} {path}"
                );
                assert!(tried.len() <= 7, "{longest} {path}: {tried:?}");
            }
        }
    }

    #[test]
    fn where_a_length_that_has_passed_is_lost_all_begins_anew() {
        let mut discovery = Discovery::new(Mtu::Discover(1_500)).expect("it is to discover");
        let count = discovery.count();
        discovery.search.pass(count - 1);
        assert_eq!(discovery.turn(), None);
        discovery.search.fail(count - 1, count);
        assert_eq!(discovery.search, Search::new(count));
        assert_eq!(
            discovery.turn().map(|index| discovery.length(index)),
            Some(BASE)
        );
    }
}
