//! Checks of the peer (RFC 8445 section 7.3).

use core::net::SocketAddr;
use core::time::Duration;

use nilas_stun::{Authenticated, TransactionId};

use super::Agent;
use super::generation::{EarlyCheck, Nominating};
use super::trickle::plain;
use crate::candidate::{Candidate, CandidateType, Foundation, Transport};
use crate::event::{Role, State};
use crate::ids::SocketId;
use crate::io::Handled;
use crate::shared::{Answer, Response, Shared};
use crate::stats::PairState;
use nilas_turn::Time;

/// Checks before the peer's description that are remembered, each of another address.
const MAX_EARLY: usize = 32;
/// Where no round trip is known, a check of ours that is younger is not doubled; with each doubling it may
/// be twice as old.
const YOUNG: Duration = Duration::from_millis(5);
/// So often a check under way is doubled. Two agents that did so without end would keep each other
/// busy on a path whose round trip is longer than they take it to be.
pub(super) const MAX_RETRIGGERS: u8 = 6;

/// The transaction ids of the latest checks, and where they came from.
///
/// A check that comes again from the same address is a retransmission; from another, somebody has
/// caught and replayed it. STUN itself has no defence against that: this one is cheap, and what an
/// older replay can still cause is a check to an address that cannot answer it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Half of the random bits of the id. Two ids that agree in it are one in 2^32.
    ids: [u32; 8],
    /// Half of a keyed digest of the address, for each.
    from: [u32; 8],
    next: u8,
}

impl Recent {
    pub(super) fn peek(&self) -> u64 {
        u64::from(self.ids[0] ^ self.from[7]) ^ u64::from(self.next)
    }

    fn is_replay(&mut self, shared: &Shared, id: TransactionId, remote: SocketAddr) -> bool {
        let [.., a, b, c, d, _, _, _, _] = *id.as_bytes();
        let id = u32::from_be_bytes([a, b, c, d]);
        let from = shared.demux.digest_of(remote) as u32;
        if let Some(known) = self.ids.iter().position(|known| *known == id) {
            return self.from[known] != from;
        }
        let next = usize::from(self.next);
        (self.ids[next], self.from[next]) = (id, from);
        self.next = (self.next + 1) % self.ids.len() as u8;
        false
    }
}

impl Agent {
    /// A check whose integrity was verified with the local password of a generation.
    pub(crate) fn handle_check(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        socket: SocketId,
        remote: SocketAddr,
        check: Authenticated<'_>,
    ) -> Handled {
        if self
            .recent_checks
            .is_replay(shared, check.transaction_id(), remote)
        {
            shared.counters.replayed += 1;
            return Handled::NotOurs;
        }
        // RFC 7675 sections 5.1 and 5.2: where consent was lost nothing is sent any more, not even an answer: the
        // peer would take it for consent, and stay on a path that this side has given up.
        let lost = self.generation(generation);
        if lost.is_some_and(super::generation::Generation::consent_lost) {
            return Handled::NotOurs;
        }
        // Nor where the address was gone: it may have come back, but is another candidate then, on another socket. An
        // answer would let the peer take a pair for valid that this side has none of.
        let index = self.socket_index(socket);
        if index.is_some_and(|index| !self.sockets[usize::from(index)].usable) {
            return Handled::NotOurs;
        }
        let Some(answer) = self.examine(shared, now, generation, socket, remote, &check) else {
            return Handled::Consumed;
        };
        let id = check.transaction_id();
        let slot = self.id.0.slot;
        shared.respond(Response {
            slot,
            generation,
            socket,
            remote,
            id,
            answer,
        });
        Handled::Consumed
    }

    /// The answer to a check; `None` where there is none yet.
    fn examine(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        socket: SocketId,
        remote: SocketAddr,
        check: &Authenticated<'_>,
    ) -> Option<Answer> {
        if let answer @ Some(_) = unknown_attributes(check) {
            return answer;
        }
        let (Ok(Some(priority)), Ok(Some(username)), Some(socket)) = (
            check.priority(),
            check.username(),
            self.socket_index(socket),
        ) else {
            return Some(Answer::BadRequest);
        };
        let answer = self.examine_role(shared, check);
        if answer != Answer::Success {
            return Some(answer);
        }
        // A NAT may have given this component the port by which it knew another. If the peer took the pair for valid, the
        // data of one would come out of the other. A departure from RFC 8445 section 7.3, which answers at once: as long as that
        // cannot be told there is no answer, and the peer asks again.
        if self.is_of_another_component(generation, priority)? {
            return Some(Answer::BadRequest);
        }
        if self.lite {
            self.peer_is_alive(shared, now, generation, socket, remote);
        }
        // A check of the generation before is answered, and that is all there is to it.
        if generation != self.current.number {
            return Some(Answer::Success);
        }
        let theirs = username.split_once(':').map_or("", |(_, theirs)| theirs);
        let nominating = Nominating {
            by_flag: check.use_candidate(),
            by_value: check.nomination().ok().flatten(),
        };
        let is_shared = shared.mux.is_shared(self.sockets[usize::from(socket)].id);
        if is_shared && !self.know_remote(shared, socket, remote) {
            // Another session has this path. If the peer took it for valid, its data would go astray.
            self.bind_apart(shared, socket);
            return Some(Answer::BadRequest);
        }
        match &self.current.remote {
            Some(known) if *known.ufrag == *theirs => {
                self.check_arrived(shared, now, socket, remote, priority, nominating);
            }
            // The peer is a restart ahead of its signaling, or its description has not come yet:
            // RFC 8445 section 7.3 has the answer sent at once and the rest done when it comes.
            _ => self.remember_check(shared, socket, remote, theirs, priority, nominating),
        }
        Some(Answer::Success)
    }

    fn remember_check(
        &mut self,
        shared: &mut Shared,
        socket: u16,
        remote: SocketAddr,
        ufrag: &str,
        priority: u32,
        nominating: Nominating,
    ) {
        let early = &mut self.current.early;
        if let Some(known) = early.iter_mut().find(|early| {
            early.socket == socket && early.remote == remote && *early.ufrag == *ufrag
        }) {
            known.nominating.by_flag |= nominating.by_flag;
            known.nominating.by_value = known.nominating.by_value.max(nominating.by_value);
            return;
        }
        if early.len() >= MAX_EARLY || ufrag.len() > 256 {
            shared.counters.early_checks_forgotten += 1;
            return;
        }
        early.push(EarlyCheck {
            socket,
            remote,
            ufrag: ufrag.into(),
            priority,
            nominating,
        });
    }

    /// Takes up the checks that came before the peer's description.
    pub(super) fn recall_checks(&mut self, shared: &mut Shared, now: Time) {
        let Some(ufrag) = self
            .current
            .remote
            .as_ref()
            .map(|remote| remote.ufrag.clone())
        else {
            return;
        };
        let names = |early: &EarlyCheck| *early.ufrag == *ufrag;
        let all = core::mem::take(&mut self.current.early);
        // Those of a restart that the peer's signaling has yet to tell wait on.
        let (named, others): (Vec<_>, _) = all.into_iter().partition(names);
        self.current.early = others;
        for early in named {
            self.check_arrived(
                shared,
                now,
                early.socket,
                early.remote,
                early.priority,
                early.nominating,
            );
        }
    }

    /// RFC 8445 sections 7.3.1.3 to 7.3.1.5.
    fn check_arrived(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: u16,
        remote: SocketAddr,
        priority: u32,
        nominating: Nominating,
    ) {
        (self.current.exchanged, self.current.answers_due) = (true, 0);
        // RFC 7675 section 5.1: once consent is lost, these credentials are of no use any more.
        if self.state == State::Failed && self.current.consent_lost() {
            return;
        }
        if !self.know_remote(shared, socket, remote) {
            return;
        }
        let Some(candidate) = self.learn(shared, socket, plain(remote), priority) else {
            return;
        };
        let is_nominating = nominating.by_flag || nominating.by_value.is_some();
        let nominates = is_nominating && self.role == Role::Controlled;
        let pair = (socket, candidate);
        let Some(id) = self.pair_for_check(now, pair, nominates, &mut shared.counters) else {
            return;
        };
        let (nominations, round_trip) = (self.current.nominations, self.round_trip);
        let renominates = self.renominates();
        // A check that is under way on a connection is not lost.
        let is_tcp = self.sockets[usize::from(socket)].tcp().is_some();
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return;
        };
        pair.requests_received += 1;
        pair.responses_sent += 1;
        // With renomination a value says which of several nominations stands.
        let nomination = match nominating.by_value {
            Some(value) if renominates => Some(value),
            _ => nominating.by_flag.then_some(0),
        };
        // Once the peer gives values, a nomination without one is an old one.
        let stale = |value: u32| value < nominations;
        let nomination = nomination.filter(|value| self.role == Role::Controlled && !stale(*value));
        let nominates = nomination.is_some();
        pair.nomination = pair.nomination.max(nomination.unwrap_or(0));
        self.current.nominations = nominations.max(pair.nomination);
        if self.lite {
            if nominates {
                self.nominated_by_peer(shared, now, id);
            }
            return;
        }
        match pair.state {
            // RFC 8445 section 7.3.1.5: a valid pair is nominated at once.
            PairState::Succeeded => {
                if nominates {
                    self.nominated(shared, now, id);
                }
                return;
            }
            // A departure from section 7.3.1.4, which always checks anew: a check of ours that was
            // sent within the last round trip reaches the peer after the peer has opened its NAT by
            // sending this one, so another would only double the traffic.
            PairState::InProgress => {
                let young = round_trip
                    .unwrap_or(YOUNG)
                    .max(YOUNG * (1 << pair.retriggers));
                if is_tcp || pair.retriggers == MAX_RETRIGGERS || now.since(pair.checked_at) < young
                {
                    pair.nomination_seen |= nominates;
                    return;
                }
                pair.retriggers += 1;
                pair.state = PairState::Waiting;
            }
            _ => pair.state = PairState::Waiting,
        }
        pair.nomination_seen |= nominates;
        self.cancel_checks(id);
        self.current.trigger(id, false);
        if self.state == State::Failed {
            self.revive(shared, now);
        }
    }

    /// The remote candidate of this address; a new one is peer-reflexive (RFC 8445 section 7.3.1.3).
    fn learn(
        &mut self,
        shared: &mut Shared,
        socket: u16,
        remote: SocketAddr,
        priority: u32,
    ) -> Option<u16> {
        let tcp = self.sockets[usize::from(socket)].tcp();
        if let Some(known) = self.current.remote_at(remote, tcp.is_some()) {
            self.current.remotes[usize::from(known)].removed = false;
            return Some(known);
        }
        let learned = self
            .current
            .remotes
            .iter()
            .filter(|known| known.candidate.kind == CandidateType::Prflx)
            .count();
        if learned >= usize::from(self.settings.max_peer_reflexive) {
            shared.counters.peer_reflexive_refused += 1;
            return None;
        }
        let foundation = Foundation::from_number(3_000_000 + learned as u32);
        let told = shared.nat64.back(remote);
        let mut candidate = Candidate::new(CandidateType::Prflx, told, priority, foundation);
        candidate.component = self.component();
        if let Some(tcp_type) = tcp {
            candidate.transport = Transport::Tcp(tcp_type.opposite());
        }
        Some(self.insert_remote(candidate, remote))
    }
}

/// RFC 8489 section 6.3.1: attributes that must be understood and are not.
fn unknown_attributes(check: &Authenticated<'_>) -> Option<Answer> {
    let (mut count, mut types) = (0, [0; 4]);
    for unknown in check.unknown_comprehension_required().take(types.len()) {
        types[usize::from(count)] = unknown;
        count += 1;
    }
    (count > 0).then_some(Answer::UnknownAttributes { count, types })
}
