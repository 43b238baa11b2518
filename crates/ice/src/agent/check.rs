//! Connectivity checks go out (RFC 8445 sections 6.1.4, 7.2.2 and 14).

use core::time::Duration;

use nilas_stun::{BuildError, Class, MessageBuilder, Method};

use super::generation::{Generation, LocalCredentials, RemoteCredentials};
use super::pair::PairId;
use super::reflexive_tcp::PATIENCE;
use super::relay::{enclose, head_length, indication_id};
use super::transaction::{Due, Purpose, RTO, Schedule, Transaction};
use super::trickle::scoped;
use super::{Agent, Socket};
use crate::candidate::CandidateType;
use crate::event::Role;
use crate::path::{Departure, NoPath};
use crate::shared::Shared;
use crate::stats::PairState;
use nilas_turn::Time;

/// What a free pacing slot is used for, most urgent first.
enum Work {
    Triggered(PairId),
    /// A request to a TURN server.
    Relay,
    Gather {
        job: u16,
        socket: u16,
        server: core::net::SocketAddr,
    },
    Ordinary(PairId),
    Repeat(PairId),
}

/// How a check came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Triggered,
    Ordinary,
    Repeat,
    /// To keep a standby known to the NATs on its way.
    Warm,
}

impl Agent {
    /// Retransmits, and ends what has timed out.
    pub(super) fn fire_transactions(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        while let Some(index) = self
            .transactions
            .iter()
            .position(|transaction| transaction.due <= now)
        {
            if self.transactions[index].fire(now) == Due::TimedOut {
                let transaction = self.transactions.swap_remove(index);
                self.timed_out(shared, now, &transaction);
                if self.current.concluded && self.transactions.is_empty() {
                    // From now on there is one at a time.
                    self.transactions.shrink_to_fit();
                }
                continue;
            }
            let transaction = self.transactions[index].clone();
            if let Some(transmit) = self.encode(now, &transaction, buffer) {
                return Some(transmit);
            }
        }
        None
    }

    /// Uses a pacing slot, if this agent and the engine have one and there is work for it.
    pub(super) fn fire_paced(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        // RFC 8445 section 14.2: a new transaction every Ta, and none sooner, engine-wide as well.
        if self.paced_deadline().is_none_or(|at| at > now) {
            return None;
        }
        if shared.pace_at > now {
            self.awaits_slot = true;
            return None;
        }
        let departure = match self.next_work(now)? {
            Work::Triggered(pair) => self.send_check(shared, now, pair, Lead::Triggered, buffer),
            Work::Ordinary(pair) => self.send_check(shared, now, pair, Lead::Ordinary, buffer),
            Work::Repeat(pair) => self.send_check(shared, now, pair, Lead::Repeat, buffer),
            Work::Relay => self.fire_relay(shared, now, buffer),
            Work::Gather {
                job,
                socket,
                server,
            } => {
                let is_tcp = self.sockets[usize::from(socket)].tcp().is_some();
                if is_tcp && !self.reach_server(shared, now, socket, server) {
                    // RFC 6544 section 4.1: the connection has the slot of the question.
                    self.pace_at = now + self.pacing();
                    return None;
                }
                let id = shared
                    .demux
                    .transaction_id(&mut shared.source, self.id.0.slot);
                let purpose = Purpose::Gather {
                    generation: self.current.number,
                    job,
                };
                let schedule = match is_tcp {
                    true => Schedule::Once { wait: PATIENCE },
                    false => Schedule::Short,
                };
                let transaction = Transaction::new(id, purpose, socket, server, now, schedule);
                self.send_new(now, transaction, buffer)
            }
        }?;
        self.pace_at = now + self.pacing();
        shared.pace_at = now + shared.config.pacing_floor;
        Some(departure)
    }

    fn send_new(
        &mut self,
        now: Time,
        transaction: Transaction,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        let departure = self.encode(now, &transaction, buffer);
        self.transactions.push(transaction);
        departure
    }

    /// Sends a check; for a relayed pair without a permission, the request for one instead, and the check
    /// has its turn afterwards.
    fn send_check(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: PairId,
        lead: Lead,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        let pair = self.current.pairs.get(id)?;
        let (socket, remote) = (pair.socket, self.current.remote_address(pair));
        if self.sockets[usize::from(socket)].tcp().is_some() {
            match self.connect(shared, now, socket, remote) {
                Some(true) => {}
                Some(false) => {
                    self.await_connection(now, id);
                    // The connection has the slot of the check.
                    self.pace_at = now + self.pacing();
                    return None;
                }
                None => {
                    // What carries the data stays until something takes its place.
                    let gives_up = self.current.selected != Some(id);
                    self.check_failed(shared, now, id, gives_up);
                    return None;
                }
            }
        }
        match self.may_check(now, socket, remote) {
            Some(true) => {
                let warm = lead == Lead::Triggered
                    && self
                        .current
                        .pairs
                        .get(id)
                        .is_some_and(|pair| self.is_keeping_warm(pair));
                let lead = if warm { Lead::Warm } else { lead };
                let transaction = self.begin_check(shared, now, id, lead)?;
                self.send_new(now, transaction, buffer)
            }
            Some(false) => {
                match lead {
                    Lead::Triggered => self.current.trigger(id, true),
                    Lead::Ordinary | Lead::Warm => {}
                    // The permission is being asked for again; the next repetition may have it.
                    Lead::Repeat => {
                        if let Some(pair) = self.current.pairs.get_mut(id) {
                            pair.repeat.advance(now);
                        }
                    }
                }
                self.fire_relay(shared, now, buffer)
            }
            None => {
                self.check_failed(shared, now, id, true);
                None
            }
        }
    }

    fn next_work(&mut self, now: Time) -> Option<Work> {
        if self.current.remote.is_some()
            && let Some(pair) = self.current.next_triggered()
        {
            return Some(Work::Triggered(pair));
        }
        if self.relay_deadline().is_some_and(|at| at <= now) {
            return Some(Work::Relay);
        }
        if let Some((job, socket, server)) = self.next_job(now) {
            return Some(Work::Gather {
                job,
                socket,
                server,
            });
        }
        self.current.remote.as_ref()?;
        if let Some(pair) = self.current.next_ordinary(!self.is_member()) {
            return Some(Work::Ordinary(pair));
        }
        let due = |generation: &Generation| {
            generation
                .pairs
                .iter()
                .filter_map(|(id, pair)| pair.repeat.at.filter(|at| *at <= now).map(|at| (at, id)))
                .min()
        };
        due(&self.current).map(|(_, pair)| Work::Repeat(pair))
    }

    /// When `fire_paced` has work and a slot of this agent's own.
    pub(super) fn paced_deadline(&self) -> Option<Time> {
        // RFC 8445 section 2.5: a lite agent sends no checks, and has no servers to ask.
        if self.lite {
            return None;
        }
        let generation = &self.current;
        let mut work = self
            .jobs_deadline()
            .into_iter()
            .chain(self.relay_deadline())
            .min();
        if generation.remote.is_some() {
            let triggered = generation.pairs.iter().any(|(_, pair)| pair.is_queued());
            if triggered || generation.has_ordinary(!self.is_member()) {
                work = Some(Time::ZERO);
            } else {
                let repeats = generation
                    .pairs
                    .iter()
                    .filter_map(|(_, pair)| pair.repeat.at);
                work = work.into_iter().chain(repeats).min();
            }
        }
        work.map(|at| at.max(self.pace_at))
    }

    /// A check of a pair of the current generation, as a transaction of its own.
    ///
    /// One that leads is retransmitted and its timing out is the pair's failure; a repeated one is
    /// sent once and only shortens the wait.
    fn begin_check(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: PairId,
        lead: Lead,
    ) -> Option<Transaction> {
        let leads = matches!(lead, Lead::Triggered | Lead::Ordinary);
        // RFC 8445 section 14.3, for the checklists of the session.
        let open =
            self.current.pairs.iter().filter(|(_, pair)| {
                matches!(pair.state, PairState::Waiting | PairState::InProgress)
            });
        let rto = (self.pacing() * (open.count() as u32 + self.open_beside())).max(RTO);
        if leads {
            self.cancel_checks(id);
        }
        let reliable = self.sockets[usize::from(self.current.pairs.get(id)?.socket)]
            .tcp()
            .is_some();
        let round_trip = self.round_trip;
        let destination = self.current.remote_address(self.current.pairs.get(id)?);
        let pair = self.current.pairs.get_mut(id)?;
        let (socket, nominate) = (pair.socket, pair.nominate);
        pair.requests_sent += 1;
        if pair.state != PairState::Succeeded {
            pair.state = PairState::InProgress;
        }
        let estimate = pair.round_trip.or(round_trip);
        if leads {
            pair.checked_at = now;
            if !reliable {
                pair.repeat.start(now, estimate);
            }
        } else if lead == Lead::Repeat {
            pair.repeat.advance(now);
        }
        let schedule = match leads && !reliable {
            true => Schedule::Retransmitted { rto },
            // RFC 6544 section 7.1: TCP sees to retransmission.

            // As long as the one that leads may take.
            false => Schedule::Once { wait: RTO * 79 },
        };
        let purpose = Purpose::Check {
            generation: self.current.number,
            pair: id,
            role: self.role,
            nominate,
            leads,
        };
        let destination = scoped(destination, self.sockets[usize::from(socket)].address);
        let transaction_id = shared
            .demux
            .transaction_id(&mut shared.source, self.id.0.slot);
        Some(Transaction::new(
            transaction_id,
            purpose,
            socket,
            destination,
            now,
            schedule,
        ))
    }

    /// RFC 8445 section 7.3.1.4: cancels the checks of a pair that are under way. Late responses still
    /// count, of the latest few.
    pub(super) fn cancel_checks(&mut self, id: PairId) {
        let number = self.current.number;
        let is_of_pair = |transaction: &Transaction| matches!(transaction.purpose, Purpose::Check { generation, pair, .. } if generation == number && pair == id);
        let mut under_way = 0;
        for transaction in self
            .transactions
            .iter_mut()
            .filter(|transaction| is_of_pair(transaction))
        {
            transaction.cancel();
            under_way += 1;
        }
        if under_way >= MAX_CHECKS_OF_PAIR
            && let Some(oldest) = self
                .transactions
                .iter()
                .enumerate()
                .filter(|(_, transaction)| is_of_pair(transaction))
                .min_by_key(|(_, transaction)| transaction.sent_at)
                .map(|(index, _)| index)
        {
            self.transactions.swap_remove(oldest);
        }
    }

    /// Forgets the checks of a pair that are not needed any more.
    pub(super) fn forget_checks(&mut self, id: PairId) {
        let number = self.current.number;
        self.transactions.retain(|transaction| {
            !matches!(transaction.purpose, Purpose::Check { generation, pair, .. } if generation == number && pair == id)
        });
    }

    /// Writes the request of a transaction, for the first time or again.
    pub(super) fn encode(
        &self,
        now: Time,
        transaction: &Transaction,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        let socket = &self.sockets[usize::from(transaction.socket)];
        let (from, to) = (transaction.socket, transaction.destination);
        let (via, framing) = match transaction.purpose {
            // RFC 8489 section 6.2.2: a server takes messages as they are.
            Purpose::Gather { .. } if socket.tcp().is_some() => {
                (self.via_to_server(from, to)?, None)
            }
            _ => self.route(now, from, to)?,
        };
        let inner = buffer.get_mut(head_length(framing)..)?;
        let size = match transaction.purpose {
            Purpose::Gather { .. } => Some(encode_question(transaction, inner)),
            Purpose::Check {
                generation,
                pair,
                role,
                nominate,
                ..
            } => {
                let pair = self.current.pairs.get(pair).filter(|_| nominate);
                let nomination = pair.map(|pair| pair.nomination);
                self.encode_check(transaction, generation, role, nomination, socket, inner)
            }
            Purpose::Consent { generation, pair } => {
                let nomination = self.standing_nomination(generation, pair);
                self.encode_check(
                    transaction,
                    generation,
                    self.role,
                    nomination,
                    socket,
                    inner,
                )
            }
            Purpose::Probe {
                generation, length, ..
            } => {
                let length = self.probe_length(length, via, framing, transaction.destination);
                // A driver's buffer may be shorter: then it is not sent.
                let inner = inner.get_mut(..length)?;
                self.encode_check(transaction, generation, self.role, None, socket, inner)
            }
        };
        // It can only fail for lack of room, and then like a lost datagram.
        let size = enclose(framing, indication_id(transaction.id), buffer, size?.ok()?)?;
        Some(Departure { via, size })
    }

    fn encode_check(
        &self,
        transaction: &Transaction,
        generation: u32,
        role: Role,
        nomination: Option<u32>,
        socket: &Socket,
        buffer: &mut [u8],
    ) -> Option<Result<usize, BuildError>> {
        let generation = self.generation(generation)?;
        let (local, remote) = (&generation.local, generation.remote.as_ref()?);
        Some(self.write_check(transaction, local, remote, role, nomination, socket, buffer))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the message")]
    fn write_check(
        &self,
        transaction: &Transaction,
        local: &LocalCredentials,
        remote: &RemoteCredentials,
        role: Role,
        nomination: Option<u32>,
        socket: &Socket,
        buffer: &mut [u8],
    ) -> Result<usize, BuildError> {
        let mut message =
            MessageBuilder::new(buffer, Class::Request, Method::BINDING, transaction.id)?;
        // RFC 8445 section 7.2.2: the peer's fragment first.
        message.username_pair(&remote.ufrag, &local.ufrag)?;
        // RFC 8445 section 7.1.1: the priority that a peer-reflexive candidate would have.
        message.priority(socket.priority(CandidateType::Prflx, self.component()))?;
        match role {
            Role::Controlling => message.ice_controlling(self.tie_breaker_of(role))?,
            Role::Controlled => message.ice_controlled(self.tie_breaker_of(role))?,
        };
        if let Some(value) = nomination.filter(|_| role == Role::Controlling) {
            message.use_candidate()?;
            if remote.renomination {
                message.nomination(value)?;
            }
        }
        if let Purpose::Probe { .. } = transaction.purpose {
            message.padding_before(INTEGRITY_BYTES)?;
        }
        message.message_integrity(&remote.key)?;
        message.fingerprint()?;
        Ok(message.finish())
    }

    /// Ta: the slower of both sides' wishes (RFC 8445 section 14.2).
    pub(super) fn pacing(&self) -> Duration {
        let own = self.settings.pacing().max(Duration::from_millis(5));
        match &self.current.remote {
            Some(remote) => own.max(remote.pacing),
            None => own,
        }
    }

    fn timed_out(&mut self, shared: &mut Shared, now: Time, transaction: &Transaction) {
        if let Purpose::Check {
            pair, generation, ..
        }
        | Purpose::Consent { pair, generation } = transaction.purpose
            && let Some(own) = self.generation_mut(generation)
            && let Some(pair) = own.pairs.get_mut(pair)
        {
            pair.missed();
        }
        match transaction.purpose {
            Purpose::Check {
                generation,
                pair,
                leads,
                nominate,
                ..
            } if generation == self.current.number => {
                if leads {
                    self.check_failed(shared, now, pair, nominate);
                }
            }
            Purpose::Gather { generation, job } => {
                self.job_timed_out(shared, now, generation, job);
            }
            Purpose::Probe {
                generation,
                pair,
                length,
            } => self.probe_lost(shared, now, (generation, pair), length),
            Purpose::Check { .. } | Purpose::Consent { .. } => {}
        }
    }

    /// RFC 8445 section 7.2.5.2: the pair failed. A nomination that failed leaves the valid list.
    ///
    /// Section 7.2.5.3.4 then fails the whole checklist. This agent nominates another valid pair
    /// instead, if there is one: no nomination has succeeded, so it is still the first.
    pub(super) fn check_failed(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: PairId,
        nominate: bool,
    ) {
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return;
        };
        pair.repeat.stop();
        if pair.state == PairState::Succeeded && !nominate {
            return;
        }
        pair.state = PairState::Failed;
        pair.retriggers = 0;
        pair.nominate = false;
        pair.valid_local = None;
        if self.current.selected == Some(id) {
            self.leave_path(shared);
            self.current.selected = None;
            self.current.consent = None;
            self.path.publish(Err(NoPath::NotConnected));
            self.publish(now);
            self.select(shared, now);
            self.update_state(shared, now);
        }
    }
}

/// MESSAGE-INTEGRITY and FINGERPRINT.
const INTEGRITY_BYTES: usize = 24 + 8;
/// Checks of one pair whose responses would still count.
const MAX_CHECKS_OF_PAIR: usize = 24;

/// A question for the own address: a Binding request without credentials (RFC 8445 section 5.1.1.2).
fn encode_question(transaction: &Transaction, buffer: &mut [u8]) -> Result<usize, BuildError> {
    let mut message = MessageBuilder::new(buffer, Class::Request, Method::BINDING, transaction.id)?;
    message.fingerprint()?;
    Ok(message.finish())
}
