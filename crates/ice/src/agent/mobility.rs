//! The machine's addresses change under a session (RFC 8445 section 9, RFC 8838 section 13).
//!
//! A path whose address is gone is left at once, for a standby or by a restart. New addresses become
//! candidates. Once the end of candidates was told, that takes a restart (RFC 8838 section 13), during which the old path
//! stays; unless both sides offer `continual` gathering: then candidates come and go in place, and what is new is checked
//! beside the path that carries the data.

use core::net::IpAddr;

use nilas_turn::Time;

use super::Agent;
use super::consent::EXPIRY;
use super::generation::LocalCandidate;
use super::local::MAX_LOCALS;
use super::pair::Pair;
use crate::event::{Event, GatheringState, RestartReason};
use crate::path::NoPath;
use crate::shared::Shared;

/// When to restart because of what has changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartDue {
    No,
    At(Time),
    /// It came due while the peer had yet to answer the one before.
    WhenAnswered,
}

impl RestartDue {
    pub(super) const fn at(self) -> Option<Time> {
        match self {
            Self::At(time) => Some(time),
            Self::No | Self::WhenAnswered => None,
        }
    }
}

impl Agent {
    /// The addresses of this machine were told anew.
    pub(crate) fn addresses_changed(&mut self, shared: &mut Shared, now: Time) {
        if self.closed || self.gathering == GatheringState::New {
            return;
        }
        let Some(interfaces) = shared.interfaces.take() else {
            return;
        };
        self.forget_refusals(now);
        let mut admitted = Vec::new();
        for interface in &interfaces {
            let addresses = interface.addresses.iter().copied();
            admitted.extend(addresses.filter(|address| self.settings.admits(interface, *address)));
        }
        shared.interfaces = Some(interfaces);
        let changed = self.learn_costs(shared);
        self.moves.forgive();
        let known = |ip: &IpAddr| {
            self.sockets
                .iter()
                .any(|own| own.is_udp_host() && own.usable && own.address.ip() == *ip)
        };
        let appeared = !admitted.iter().all(known);
        let lost = self.lose_addresses(shared, now);
        for socket in changed {
            self.tell_again(shared, socket);
        }
        self.unregister_names(shared, &lost);
        // The prefix was that of the network before.
        self.ask_for_translator(shared);
        let in_place = self.is_continual() && self.has_room_for_more();
        // A slow server may keep the generation gathering that has nominated a path already: a candidate of it is paired by
        // nobody any more, unless both sides offer that.
        let takes_more = !self.current.concluded || self.is_continual();
        if self.gathering == GatheringState::Gathering && takes_more {
            self.interfaces_seen = false;
            self.look_at_interfaces(shared);
        } else if appeared && in_place {
            self.gather_more(shared);
        } else if appeared {
            self.restart_due = RestartDue::At(now.max(self.restart_after));
        }
        // What was still to come may have been of an address that is gone.
        self.finish_gathering(shared);
        self.previous_path_is_gone(shared, now, |socket| lost.contains(&socket));
        self.give_up(shared, now, |pair| lost.contains(&pair.socket));
    }

    /// Addresses that this machine has no more take with them what was allocated from there. Says whose sockets they were.
    pub(super) fn lose_addresses(&mut self, shared: &mut Shared, now: Time) -> Vec<u16> {
        let Some(interfaces) = &shared.interfaces else {
            return Vec::new();
        };
        let filter = self.settings.filter();
        let is_kept = |ip: IpAddr| {
            let mut there = interfaces.iter();
            there.any(|interface| interface.addresses.contains(&ip) && filter.keeps(interface, ip))
        };
        let lost: Vec<u16> = (0..self.sockets.len() as u16)
            .filter(|index| {
                let own = &self.sockets[usize::from(*index)];
                own.relay.is_none() && own.usable && !is_kept(own.address.ip())
            })
            .collect();
        for socket in &lost {
            self.sockets[usize::from(*socket)].usable = false;
            self.take_back(shared, *socket);
            self.carrier_is_gone(shared, now, *socket);
        }
        lost
    }

    /// What the networks of the own addresses cost now, a relay as much as the network it is reached by. Says for which
    /// sockets that is something else than before.
    fn learn_costs(&mut self, shared: &Shared) -> Vec<u16> {
        let mut changed = Vec::new();
        for index in 0..self.sockets.len() {
            let own = self.sockets[index];
            let address = match own.relay {
                Some(relay) => self.reached_from(relay),
                None => Some(own.address.ip()),
            };
            let Some(address) = address else {
                continue;
            };
            let cost = shared.network_cost(address);
            if own.network_cost != cost {
                self.sockets[index].network_cost = cost;
                changed.push(index as u16);
            }
        }
        changed
    }

    /// Tells the candidates of a socket once more, with what its network costs now: where the peer controls, it is the
    /// peer who chooses.
    fn tell_again(&self, shared: &mut Shared, socket: u16) {
        if !self.is_continual() {
            return;
        }
        for local in &self.current.locals {
            if local.socket == socket && !local.removed && self.is_told(local) {
                let told = self.candidate(&self.current, local);
                self.emit(shared, Event::Candidate(told));
            }
        }
    }

    /// Local addresses are gone, and a restart is under way: what carried the data meanwhile may have gone with them.
    pub(super) fn previous_path_is_gone(
        &mut self,
        shared: &mut Shared,
        now: Time,
        is_gone: impl Fn(u16) -> bool,
    ) {
        let socket = self.previous.as_deref().and_then(|previous| {
            let pair = previous.pairs.get(previous.selected?)?;
            Some(pair.socket)
        });
        if !socket.is_some_and(is_gone) {
            return;
        }
        self.end_previous(shared);
        if self.current.selected.is_some() {
            return;
        }
        self.path.publish(Err(NoPath::NotConnected));
        if self.current.remote.is_none() {
            // The peer may still answer the restart, and need not.
            self.current.patience_ends = Some(now + EXPIRY);
        }
        self.update_state(shared, now);
    }

    /// Whether candidates may come and go without a restart: both sides offer it.
    pub(super) fn is_continual(&self) -> bool {
        let remote = self.current.remote.as_ref();
        self.settings.continual && remote.is_some_and(|remote| remote.continual)
    }

    /// Whether new addresses are on their way to become candidates of the present generation.
    pub(super) fn is_gathering_more(&self) -> bool {
        self.gathering == GatheringState::Gathering && self.current.concluded && self.is_continual()
    }

    /// Gathers on the addresses that appeared, within the same generation.
    pub(super) fn gather_more(&mut self, shared: &mut Shared) {
        self.resume_gathering(shared);
        self.interfaces_seen = false;
        self.look_at_interfaces(shared);
    }

    /// Candidates may be told again, within the same generation.
    pub(super) fn resume_gathering(&mut self, shared: &mut Shared) {
        self.gathering = GatheringState::Gathering;
        self.current.local_ended = false;
        self.emit(
            shared,
            Event::GatheringStateChange(GatheringState::Gathering),
        );
    }

    /// Tells the peer that the candidates of a socket are gone.
    pub(super) fn take_back(&mut self, shared: &mut Shared, socket: u16) {
        self.take_back_if(shared, |local| local.socket == socket);
    }

    /// Tells the peer that some candidates are gone, if it takes such news.
    pub(super) fn take_back_if(
        &mut self,
        shared: &mut Shared,
        is_gone: impl Fn(&LocalCandidate) -> bool,
    ) {
        if !self.is_continual() {
            return;
        }
        for index in 0..self.current.locals.len() {
            let local = self.current.locals[index];
            if !is_gone(&local) || local.removed || !self.is_told(&local) {
                continue;
            }
            self.current.locals[index].removed = true;
            let told = self.candidate(&self.current, &self.current.locals[index]);
            self.emit(shared, Event::CandidateRemoved(told));
        }
    }

    /// Pairs whose end is gone for certain, here or there. The one that carries the data hands over.
    pub(super) fn give_up(
        &mut self,
        shared: &mut Shared,
        now: Time,
        is_gone: impl Fn(&Pair) -> bool,
    ) {
        let selected = self.current.selected;
        let mut path_is_gone = false;
        for (id, pair) in self.current.pairs.iter_mut() {
            if is_gone(pair) {
                pair.died(now);
                path_is_gone |= selected == Some(id);
            }
        }
        if path_is_gone {
            self.path_is_gone(shared, now);
        }
        self.consider_move(shared, now);
    }

    /// A restart that addresses asked for, when its time has come.
    pub(super) fn fire_restart(&mut self, shared: &mut Shared, now: Time) {
        if self.restart_due.at().is_some_and(|at| at <= now) {
            self.restart_due = match self.is_unanswered() {
                true => RestartDue::WhenAnswered,
                false => RestartDue::No,
            };
            self.restart_alone(shared, now, RestartReason::AddressesChanged);
        }
    }

    /// The peer has answered a restart. What has come since it was begun, and could not be told in it, is told now.
    pub(super) fn take_up_owed(&mut self, shared: &mut Shared, now: Time) {
        if self.restart_due != RestartDue::WhenAnswered {
            return;
        }
        self.restart_due = RestartDue::No;
        if self.gathering == GatheringState::Gathering {
            return;
        }
        if self.is_continual() && self.has_room_for_more() {
            self.gather_more(shared);
        } else {
            self.restart_due = RestartDue::At(now.max(self.restart_after));
        }
    }

    /// Every candidate keeps its place in the generation, of which a restart makes a new one.
    fn has_room_for_more(&self) -> bool {
        self.current.locals.len() < MAX_LOCALS / 2
    }
}
