//! One component of several (RFC 8445 section 4): where it stands in its session, and what it shares with those
//! beside it.
//!
//! Each component is an agent of its own, with sockets, candidates, pairs and a path. What RFC 8445 has once for a
//! session or a data stream is the same for all of its agents: `engine/session.rs` sees to that after everything
//! that happens to one of them.

use core::cmp::Reverse;
use core::net::IpAddr;

use nilas_turn::Time;

use super::generation::{Generation, LocalCredentials};
use super::pair::PairId;
use super::{Agent, Event};
use crate::candidate::{Candidate, CandidateType, Foundation};
use crate::event::Role;
use crate::ids::SessionId;
use crate::io::SelectedPair;
use crate::shared::Shared;
use crate::stats::PairState;

/// The most components of a stream. RFC 8445 section 4 has 1 for RTP and 2 for RTCP.
pub(crate) const MAX_COMPONENTS: u16 = 4;

/// Where an agent stands in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) session: SessionId,
    pub(crate) stream: u16,
    /// The components of all streams: the bound of pairs is theirs together (RFC 8445 section 6.1.2.5).
    pub(crate) members: u16,
    /// Pairs of the others that are Waiting or In-Progress, for the RTO (RFC 8445 section 14.3).
    pub(crate) open_beside: u16,
}

/// What is one for a whole session (RFC 8445 section 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    role: Role,
    tie_breaker: u64,
    tie_breaker_before: u64,
}

/// What a new component takes over.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) component: u16,
    pub(crate) seat: Seat,
    /// Unless it is the first of the session.
    pub(crate) roles: Option<Roles>,
    /// Unless it is the first of its stream.
    pub(crate) local: Option<LocalCredentials>,
}

/// What a component that restarts brings to the others of its stream.
#[derive(Debug)]
pub(crate) struct Lead {
    local: LocalCredentials,
    by_own_restart: bool,
    answers_due: u8,
    /// The peer's username fragment, where it is known.
    theirs: Option<Box<str>>,
}

/// What makes two pairs of a session ones of the same foundation (RFC 8445 section 6.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairFoundation {
    local: u32,
    remote: Foundation,
    /// RFC 8445 section 7.3.1.3: a peer-reflexive candidate's foundation is none of the others'. So this is whose it is.
    learned: Option<(u32, u16)>,
}

/// A pair as the session sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairStanding {
    pub(crate) id: PairId,
    pub(crate) foundation: PairFoundation,
    pub(crate) state: PairState,
    pub(crate) priority: u64,
}

/// What a component would use a pacing slot for; the most urgent is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    Triggered,
    Gathering,
    Ordinary(Reverse<u64>),
    Repeat,
}

/// What of an agent its session compares with what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) state: crate::event::State,
    /// A pair was nominated.
    pub(crate) concluded: bool,
    generation: u32,
    has_previous: bool,
}

impl Agent {
    /// 1 for an agent on its own.
    pub(crate) const fn component(&self) -> u16 {
        if self.component == 0 {
            1
        } else {
            self.component
        }
    }

    /// Whether it is a component of a session.
    pub(crate) const fn is_member(&self) -> bool {
        self.component > 0
    }

    pub(crate) const fn facts(&self) -> Facts {
        Facts {
            state: self.state,
            concluded: self.current.concluded,
            generation: self.current.number,
            has_previous: self.previous.is_some(),
        }
    }

    pub(crate) const fn roles(&self) -> Roles {
        Roles {
            role: self.role,
            tie_breaker: self.tie_breaker,
            tie_breaker_before: self.tie_breaker_before,
        }
    }

    /// Another component has found a role conflict, or healed one.
    pub(crate) fn take_roles(&mut self, shared: &mut Shared, roles: Roles) {
        if self.role != roles.role {
            self.change_role(shared, roles.role);
        }
        self.set_roles(roles);
    }

    /// Of an agent that is new, or has been told so.
    pub(super) const fn set_roles(&mut self, roles: Roles) {
        self.role = roles.role;
        self.tie_breaker = roles.tie_breaker;
        self.tie_breaker_before = roles.tie_breaker_before;
    }

    /// Whether the priority that a check carries is one of another component: it ends in 256 less the component (RFC 8445
    /// sections 5.1.2.1 and 7.1.1), unless the peer has a formula of its own (section 5.1.2). Its candidates show which;
    /// `None` while it has told none.
    pub(super) fn is_of_another_component(&self, generation: u32, priority: u32) -> Option<bool> {
        let of = |priority: u32| 256 - (priority & 0xFF) as u16;
        let (own, named) = (self.component(), of(priority));
        if !self.is_member() || named > MAX_COMPONENTS || named == own {
            return Some(false);
        }
        let remotes = &self.generation(generation)?.remotes;
        let remotes = remotes.iter().map(|remote| &remote.candidate);
        let mut told = remotes
            .filter(|candidate| candidate.kind != CandidateType::Prflx)
            .peekable();
        told.peek()?;
        Some(told.all(|candidate| of(candidate.priority) == own))
    }

    pub(crate) fn local_credentials(&self) -> LocalCredentials {
        self.current.local.clone()
    }

    /// What the others of its stream have the same.
    pub(crate) fn lead(&self) -> Lead {
        Lead {
            local: self.local_credentials(),
            by_own_restart: self.current.by_own_restart,
            answers_due: self.current.answers_due,
            theirs: { self.current.remote.as_ref() }.map(|remote| (*remote.ufrag).into()),
        }
    }

    pub(crate) fn follows(&self, lead: &Lead) -> bool {
        *self.current.local.ufrag == *lead.local.ufrag
    }

    /// Another component of the stream has restarted: RFC 8445 section 9 has the whole stream do so.
    pub(crate) fn follow(&mut self, shared: &mut Shared, now: Time, lead: &Lead) {
        // The other may have restarted because an address is gone, before this one was told.
        let lost = self.lose_addresses(shared, now);
        self.begin_generation(shared, now, lead.local.clone(), lead.theirs.as_deref());
        self.previous_path_is_gone(shared, now, |socket| lost.contains(&socket));
        self.current.by_own_restart = lead.by_own_restart;
        self.current.answers_due = lead.answers_due;
        self.update_state(shared, now);
    }

    /// The username fragments that it is called by.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        core::iter::once(&self.current)
            .chain(self.previous.as_deref())
            .map(|generation| &*generation.local.ufrag)
    }

    /// Whether the peer knows the present parameters, or they lead nowhere: others of the peer are a restart of its.
    pub(crate) fn has_exchanged(&self) -> bool {
        self.current.exchanged || self.state == crate::event::State::Failed
    }

    /// Another component of the stream has.
    pub(crate) const fn set_exchanged(&mut self) {
        self.current.exchanged = true;
    }

    /// RFC 8445 section 14.2: one Ta for the session.
    pub(crate) const fn pace_at(&self) -> Time {
        self.pace_at
    }

    pub(crate) const fn wait_for_pace(&mut self, at: Time) {
        self.pace_at = at;
    }

    /// What it would use a slot for now.
    pub(crate) fn urgency(&self, now: Time) -> Option<Urgency> {
        if self.closed || self.paced_deadline().is_none_or(|at| at > now) {
            return None;
        }
        let has_remote = self.current.remote.is_some();
        let mut pairs = self.current.pairs.iter().filter(|_| has_remote);
        if pairs.any(|(_, pair)| pair.is_queued()) {
            return Some(Urgency::Triggered);
        }
        let gathers = self
            .relay_deadline()
            .into_iter()
            .chain(self.jobs_deadline());
        if gathers.min().is_some_and(|at| at <= now) {
            return Some(Urgency::Gathering);
        }
        let waiting = self
            .current
            .pairs
            .iter()
            .filter(|(_, pair)| pair.state == PairState::Waiting && !self.current.concluded);
        let best = waiting.map(|(_, pair)| pair.priority).max();
        Some(best.map_or(Urgency::Repeat, |priority| {
            Urgency::Ordinary(Reverse(priority))
        }))
    }

    pub(crate) fn pair_states(&self) -> impl Iterator<Item = PairState> {
        self.current.pairs.iter().map(|(_, pair)| pair.state)
    }

    /// Pairs that count for the RTO of the session's checks.
    pub(crate) fn open_pairs(&self) -> u16 {
        let open = |state: &PairState| matches!(state, PairState::Waiting | PairState::InProgress);
        self.pair_states().filter(open).count() as u16
    }

    pub(crate) fn pair_standings(&self) -> impl Iterator<Item = PairStanding> {
        let generation = &self.current;
        generation.pairs.iter().map(|(id, pair)| {
            let (local, index) = pair.foundation;
            let remote = &generation.remotes[usize::from(index)].candidate;
            let learned = remote.kind == CandidateType::Prflx;
            PairStanding {
                id,
                foundation: PairFoundation {
                    local,
                    remote: remote.foundation,
                    learned: learned.then_some((self.id.0.slot, index)),
                },
                state: pair.state,
                priority: pair.priority,
            }
        })
    }

    /// The same of the others.
    pub(super) fn open_beside(&self) -> u32 {
        self.seat
            .as_ref()
            .map_or(0, |seat| u32::from(seat.open_beside))
    }

    /// The most pairs of this component. RFC 8445 section 6.1.2.5 has the bound for all checklists together, and what
    /// is over it go evenly.
    pub(super) fn max_pairs(&self) -> usize {
        let members = self.seat.as_ref().map_or(1, |seat| seat.members.max(1));
        usize::from((self.settings.max_pairs / members).max(1))
    }

    /// So many components share what is bounded for the session.
    pub(crate) fn share_with(&mut self, members: u16) {
        if let Some(seat) = &mut self.seat {
            seat.members = members;
            self.keep_to_max_pairs();
        }
    }

    pub(crate) fn thaw_pair(&mut self, id: PairId) {
        if let Some(pair) = self.current.pairs.get_mut(id)
            && pair.state == PairState::Frozen
        {
            pair.state = PairState::Waiting;
        }
    }

    /// The number of a base in its foundation: of those with one address and server the same.
    ///
    /// RFC 8445 section 5.1.1.3 has foundations for a session, so its components count together. Alone, an agent counts
    /// its own.
    pub(super) fn number_of_base(&self, shared: &mut Shared, ip: IpAddr, group: u16) -> u32 {
        match self.is_member() {
            false => self.sockets.len() as u32,
            true => shared.number_of_base(ip, group),
        }
    }

    /// The local candidates that the peer is told, as they are now.
    pub(crate) fn told_candidates(&self) -> impl Iterator<Item = Candidate> {
        let generation: &Generation = &self.current;
        generation
            .locals
            .iter()
            .filter(|local| self.is_told(local) && !local.removed)
            .map(|local| self.candidate(generation, local))
    }

    /// The pair that was nominated in this generation (RFC 8839 section 4.4.1.2.2), as far as signaling may know it: not with
    /// an own address that is hidden, nor with one that the peer has hidden behind a name. A peer that has not checked
    /// it may not have been told of this generation yet, unless it is a lite one, which never checks.
    pub(crate) fn nominated_pair(&self) -> Option<SelectedPair> {
        let generation: &Generation = &self.current;
        let selected = generation.selected.filter(|_| generation.concluded)?;
        let pair = generation.pairs.get(selected)?;
        let is_known = pair.requests_received > 0 || generation.remote.as_ref()?.lite;
        let told = self.told_pair(generation, pair)?;
        let is_hidden = told.local.kind == CandidateType::Host && self.settings.hides_hosts()
            || told.remote.kind == CandidateType::Prflx && self.settings.mdns;
        Some(told).filter(|_| pair.nominated && is_known && !is_hidden)
    }

    pub(super) fn change_role(&mut self, shared: &mut Shared, role: Role) {
        self.role = role;
        let mut standing = 0;
        for (_, pair) in self.current.pairs.iter_mut() {
            pair.nominate = false;
            if pair.nominated || pair.nomination_seen {
                standing = standing.max(pair.nomination);
            }
        }
        // What it was about to nominate itself is above nothing.
        self.current.nominations = standing;
        self.reprioritize();
        self.emit(shared, Event::RoleChange(role));
    }
}
