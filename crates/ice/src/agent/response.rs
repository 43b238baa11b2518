//! Answers to what this agent asked (RFC 8445 section 7.2.5).

use core::net::SocketAddr;

use nilas_stun::{Authenticated, Class, ErrorCode, Message, TransactionId};

use super::Agent;
use super::generation::{LocalCandidate, Origin};
use super::pair::PairId;
use super::transaction::{Purpose, Transaction};
use super::translator::reflexive_preference;
use super::trickle::plain;
use crate::candidate::{CandidateType, priority};
use crate::event::{Event, Role};
use crate::ids::SocketId;
use crate::shared::Shared;
use crate::stats::PairState;
use nilas_turn::Time;

const ROLE_CONFLICT: u16 = ErrorCode::ROLE_CONFLICT.code();
const FORBIDDEN: u16 = ErrorCode::FORBIDDEN.code();

impl Agent {
    pub(crate) fn has_transaction(&self, id: TransactionId) -> bool {
        self.transactions
            .iter()
            .any(|transaction| transaction.id == id)
    }

    /// A response whose transaction id leads here.
    pub(crate) fn handle_response(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        let id = message.transaction_id();
        let Some(index) = self
            .transactions
            .iter()
            .position(|transaction| transaction.id == id)
        else {
            shared.counters.unknown_transaction += 1;
            return;
        };
        let transaction = self.transactions[index].clone();
        let symmetric = self.sockets[usize::from(transaction.socket)].id == socket
            && plain(transaction.destination) == plain(remote);
        let (Purpose::Check { generation, .. }
        | Purpose::Consent { generation, .. }
        | Purpose::Probe { generation, .. }) = transaction.purpose
        else {
            if !symmetric {
                shared.counters.asymmetric += 1;
                return;
            }
            self.transactions.swap_remove(index);
            self.job_answered(shared, now, &transaction, message);
            return;
        };
        let key = self
            .generation(generation)
            .and_then(|generation| generation.remote.as_ref())
            .map(|remote| &remote.key);
        let Some(authenticated) = key.and_then(|key| message.authenticate(key).ok()) else {
            // An error without integrity may be forged: it is remembered for the verdict only.
            if let (true, Class::ErrorResponse, Ok(Some(error))) =
                (symmetric, message.class(), message.error_code())
            {
                let code = error.code();
                if let Some(generation) = self.generation_mut(generation) {
                    generation.rejected = Some(code);
                }
            }
            shared.counters.unauthenticated += 1;
            return;
        };
        self.transactions.swap_remove(index);
        if !symmetric {
            // RFC 8445 section 7.2.5.2.1.
            shared.counters.asymmetric += 1;
            match transaction.purpose {
                Purpose::Check { pair, nominate, .. } if generation == self.current.number => {
                    self.check_failed(shared, now, pair, nominate);
                }
                Purpose::Probe { pair, length, .. } => {
                    self.probe_lost(shared, now, (generation, pair), length);
                }
                _ => {}
            }
            return;
        }
        if let Purpose::Probe {
            generation,
            pair,
            length,
        } = transaction.purpose
        {
            // An error says as well that it arrived, such as 420 of a peer that does not know PADDING.
            self.probe_answered(shared, now, (generation, pair), length);
        }
        match message.class() {
            Class::SuccessResponse => {
                self.check_succeeded(shared, now, &transaction, authenticated)
            }
            _ => self.check_refused(shared, now, &transaction, authenticated),
        }
    }

    fn check_succeeded(
        &mut self,
        shared: &mut Shared,
        now: Time,
        transaction: &Transaction,
        response: Authenticated<'_>,
    ) {
        let round_trip = transaction.round_trip(now);
        self.round_trip = round_trip.or(self.round_trip);
        let (Purpose::Check {
            generation,
            pair: id,
            ..
        }
        | Purpose::Consent {
            generation,
            pair: id,
        }
        | Purpose::Probe {
            generation,
            pair: id,
            ..
        }) = transaction.purpose
        else {
            return;
        };
        self.confirm_consent(generation, id, now);
        if generation == self.current.number {
            self.pair_answered(shared, now, id);
        }
        if let Some(pair) = self
            .generation_mut(generation)
            .and_then(|generation| generation.pairs.get_mut(id))
        {
            pair.responses_received += 1;
            pair.answered();
            if let Some(round_trip) = round_trip {
                pair.measured(round_trip);
            }
        }
        if generation == self.current.number {
            self.consider_move(shared, now);
        }
        if generation != self.current.number {
            return;
        }
        let Purpose::Check { nominate, role, .. } = transaction.purpose else {
            return self.mapped_anew(shared, id, &response);
        };
        // Whoever knows a password answers a check, whichever fragment of ours it names (RFC 8445 section 7.3). As long as
        // these may be parameters with which the peer answered an older generation, only its own checks show that it
        // holds them together with ours.
        self.current.exchanged |= self.current.answers_due == 0;
        // RFC 8445 section 7.2.5.3.1.
        let mapped = match response.xor_mapped_address() {
            Ok(Some(mapped)) => plain(mapped),
            _ => return self.check_failed(shared, now, id, nominate),
        };
        let Some(pair) = self.current.pairs.get(id) else {
            return;
        };
        let (socket, foundation) = (pair.socket, pair.foundation);
        let destination = transaction.destination;
        if !self.know_remote(shared, socket, destination) {
            // Another session of this engine has this path: data could not be told apart.
            self.bind_apart(shared, socket);
            return self.check_failed(shared, now, id, true);
        }
        let valid_local = self.local_of(socket, mapped);
        let nominations = self.current.nominations;
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return;
        };
        pair.state = PairState::Succeeded;
        if !pair.is_valid() {
            pair.begin(now);
        }
        let known_as = pair.valid_local.replace(valid_local);
        pair.answered_after = now.since(transaction.sent_at);
        // RFC 8445 section 7.2.5.3.4: by our nomination, or by the peer's that came before.
        let nominated = match role {
            Role::Controlling => nominate,
            Role::Controlled => pair.nomination_seen,
        };
        // With renomination the highest value stands; one without, or with a lower one, is an old one.
        let nominated = nominated && pair.nomination == nominations;
        if !nominate && pair.nominate {
            // The nomination is still on its way; this was an earlier check.
        } else {
            pair.repeat.stop();
            pair.nominate = false;
            self.forget_checks(id);
        }
        match known_as {
            None => self.pair_answered(shared, now, id),
            Some(before) if before != valid_local => self.tell_anew(shared, id),
            Some(_) => {}
        }
        self.current.thaw(foundation);
        if nominated && role == self.role {
            self.nominated(shared, now, id);
        }
        self.select(shared, now);
        self.consider_move(shared, now);
        self.path_is_back(shared, now, id);
    }

    /// A NAT that has forgotten a path gives it another address: to the peer it is another pair, and here the same one with another
    /// local candidate.
    fn mapped_anew(&mut self, shared: &mut Shared, id: PairId, response: &Authenticated<'_>) {
        let Ok(Some(mapped)) = response.xor_mapped_address() else {
            return;
        };
        let generation = &self.current;
        let known = generation.pairs.get(id).and_then(|pair| {
            let local = generation.locals.get(usize::from(pair.valid_local?))?;
            Some((pair.socket, plain(local.address)))
        });
        let Some((socket, _)) = known.filter(|(_, known_as)| *known_as != plain(mapped)) else {
            return;
        };
        let local = self.local_of(socket, plain(mapped));
        if let Some(pair) = self.current.pairs.get_mut(id)
            && pair.valid_local.replace(local) != Some(local)
        {
            self.tell_anew(shared, id);
        }
    }

    /// The pair that carries the data has another local candidate than was told.
    fn tell_anew(&mut self, shared: &mut Shared, id: PairId) {
        if self.current.selected == Some(id)
            && let Some(pair) = self.selected_pair()
        {
            self.selected_changes += 1;
            self.emit(shared, Event::SelectedPairChange(pair));
        }
    }

    /// The local candidate of a mapped address; a new one is peer-reflexive.
    pub(super) fn local_of(&mut self, socket: u16, mapped: SocketAddr) -> u16 {
        let (own, component) = (self.sockets[usize::from(socket)], self.component());
        let base = plain(own.address);
        let mut fallback = 0;
        for (index, local) in self.current.locals.iter().enumerate() {
            if self.sockets[usize::from(local.socket)].tcp() != own.tcp() {
                continue;
            }
            if plain(local.address) == mapped {
                return index as u16;
            }
            if plain(local.address) == base {
                fallback = index as u16;
            } else if local.socket == socket && local.kind == CandidateType::Host && mapped == base
            {
                // The base is told as what it is outside.
                return index as u16;
            }
        }
        if self.current.locals.len() >= 2 * usize::from(self.settings.max_peer_reflexive).max(64) {
            return fallback;
        }
        self.current.locals.push(LocalCandidate {
            address: mapped,
            socket,
            kind: CandidateType::Prflx,
            origin: Origin::Local,
            removed: false,
            priority: match own.tcp() {
                None => priority(
                    CandidateType::Prflx,
                    reflexive_preference(&own, mapped),
                    component,
                ),
                Some(_) => own.priority(CandidateType::Prflx, component),
            },
            foundation: 2_000_000 + own.foundation,
        });
        self.current.locals.len() as u16 - 1
    }

    fn check_refused(
        &mut self,
        shared: &mut Shared,
        now: Time,
        transaction: &Transaction,
        response: Authenticated<'_>,
    ) {
        let code = match response.error_code() {
            Ok(Some(error)) => error.code(),
            _ => 0,
        };
        match (transaction.purpose, code) {
            (
                Purpose::Check {
                    generation,
                    pair,
                    role,
                    ..
                },
                ROLE_CONFLICT,
            ) if generation == self.current.number => {
                self.repair_role(shared, pair, role);
            }
            // RFC 7675 section 5.2: the peer revokes its consent.
            (
                Purpose::Check {
                    generation, pair, ..
                }
                | Purpose::Consent { generation, pair }
                | Purpose::Probe {
                    generation, pair, ..
                },
                FORBIDDEN,
            ) => {
                self.revoke_consent(shared, now, generation, pair);
            }
            (
                Purpose::Check {
                    generation,
                    pair,
                    nominate,
                    ..
                },
                code,
            ) if generation == self.current.number => {
                self.current.rejected = Some(code);
                self.check_failed(shared, now, pair, nominate);
            }
            _ => {}
        }
    }

    /// RFC 8445 section 7.2.5.1: the peer insists on the role that this agent had in the request.
    fn repair_role(&mut self, shared: &mut Shared, pair: PairId, role: Role) {
        // If the role has changed since, the conflict is already healed and the answer is stale.
        if role == self.role {
            self.switch_role(shared);
            self.new_tie_breaker(shared);
        }
        if let Some(entry) = self.current.pairs.get_mut(pair) {
            if entry.state == PairState::InProgress {
                entry.state = PairState::Waiting;
            }
            self.current.trigger(pair, true);
        }
    }

    pub(super) fn switch_role(&mut self, shared: &mut Shared) {
        self.tie_breaker_before = self.tie_breaker;
        shared.counters.role_switches += 1;
        self.change_role(shared, self.role.opposite());
    }
}
