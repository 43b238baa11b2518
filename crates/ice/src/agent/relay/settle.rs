//! What the client of an allocation tells, and how allocations end.

use core::net::SocketAddr;
use core::time::Duration;

use nilas_turn::Time;
use nilas_turn::client::{ClientEvent, Credentials, Failure};

use super::{FAREWELL, MAX_HOPS, MAX_TRIES, REDIRECTED_WITHIN, Route};
use crate::agent::Agent;
use crate::config::TurnTransport;
use crate::error::AgentError;
use crate::event::GatheringState;
use crate::io::StreamTransport;
use crate::path::Departure;
use crate::shared::Shared;

const MINUTE: Duration = Duration::from_secs(60);

impl Agent {
    /// Takes up what a client has to tell.
    pub(in crate::agent) fn settle_relay(&mut self, shared: &mut Shared, now: Time, index: usize) {
        while let Some(event) = self.relaying_mut().allocations[index].client.poll_event() {
            match event {
                ClientEvent::Allocated { relayed, mapped } => {
                    self.allocated(shared, index, &relayed, mapped);
                }
                ClientEvent::Lost => {
                    let allocation = &mut self.relaying_mut().allocations[index];
                    (allocation.open, allocation.verifying) = (true, false);
                    self.drop_bases(shared, now, index);
                }
                ClientEvent::Refreshed => self.verified(shared, index),
                ClientEvent::Redirected { server, domain } => {
                    self.redirected(shared, now, index, server, domain);
                }
                ClientEvent::PeerRefused { peer, .. } => {
                    self.peer_refused(shared, now, index, peer)
                }
                ClientEvent::ChannelBound { .. } => {}
                ClientEvent::Failed(failure) => self.client_failed(shared, now, index, &failure),
                ClientEvent::Released => self.end_allocation(shared, index),
                _ => {}
            }
        }
        if !self.closed {
            // A channel may stand around the data now, or none any more.
            self.republish(now);
        }
    }

    fn peer_refused(&mut self, shared: &mut Shared, now: Time, index: usize, peer: SocketAddr) {
        let bases = self.relaying().allocations[index].bases.clone();
        let refused: Vec<_> = self
            .current
            .pairs
            .iter()
            .filter(|(_, pair)| {
                bases.contains(&pair.socket)
                    && self.current.remote_address(pair).ip() == peer.ip()
                    && !pair.is_valid()
            })
            .map(|(id, _)| id)
            .collect();
        for pair in refused {
            self.cancel_checks(pair);
            self.check_failed(shared, now, pair, false);
        }
    }

    /// Asks anew, with the credentials of now, from another 5-tuple than the one that the server still knows.
    fn allocate_elsewhere(&mut self, shared: &mut Shared, index: usize) {
        let route = self.relaying().allocations[index].route.clone();
        self.end_allocation(shared, index);
        let entry = usize::from(self.relaying().allocations[index].server);
        let client = self.relaying().servers[entry].client(shared);
        let allocation = &mut self.relaying_mut().allocations[index];
        allocation.client = client;
        allocation.open = true;
        allocation.tries += 1;
        let Route::Datagram { socket, server } = route else {
            return self.open_stream(shared, index, None);
        };
        allocation.route = Route::Binding { server };
        let own = self.sockets[usize::from(socket)];
        self.bind_for(shared, index as u16, own.address);
    }

    fn client_failed(&mut self, shared: &mut Shared, now: Time, index: usize, failure: &Failure) {
        // RFC 8656 section 7.4: the server still knows this 5-tuple from before; another port does.
        if matches!(failure, Failure::Mismatch | Failure::Superseded)
            && self.relaying().allocations[index].tries < MAX_TRIES
        {
            self.drop_bases(shared, now, index);
            return self.allocate_elsewhere(shared, index);
        }
        let code = match failure {
            Failure::Refused { code, .. } if *code != 0 => *code,
            Failure::Unauthorized | Failure::Superseded => 401,
            Failure::Mismatch => 437,
            _ => 701,
        };
        let rest = match code {
            437 => Some(2 * MINUTE),
            486 | 508 => Some(MINUTE),
            _ => None,
        };
        if let Some(rest) = rest {
            let entry = usize::from(self.relaying().allocations[index].server);
            self.relaying_mut().servers[entry].refusal = Some((code, now + rest));
        }
        self.drop_bases(shared, now, index);
        self.allocation_failed(shared, index, code, &failure.to_string());
    }

    /// RFC 8489 section 10: another server is asked, with the same credentials, unless it was asked before.
    fn redirected(
        &mut self,
        shared: &mut Shared,
        now: Time,
        index: usize,
        server: SocketAddr,
        domain: Option<String>,
    ) {
        if !self.may_follow(now, index, server) {
            let text = "the servers send each other's clients around";
            return self.allocation_failed(shared, index, 300, text);
        }
        let allocation = &self.relaying().allocations[index];
        let entry = usize::from(allocation.server);
        let route = allocation.route.clone();
        self.end_allocation(shared, index);
        let client = self.relaying().servers[entry].client(shared);
        let host =
            domain.unwrap_or_else(|| match self.relaying().servers[entry].config.transport {
                // The certificate is for the name that the user gave.
                TurnTransport::Stream(StreamTransport::Tls | StreamTransport::Dtls) => {
                    self.relaying().servers[entry].config.host.clone()
                }
                _ => server.ip().to_string(),
            });
        let open = self.gathering == GatheringState::Gathering;
        let allocation = &mut self.relaying_mut().allocations[index];
        allocation.client = client;
        allocation.open = open;
        let Route::Datagram { socket, .. } = route else {
            return self.open_stream(shared, index, Some((server, host)));
        };
        let own = self.sockets[usize::from(socket)];
        let reached = self.address_for(shared, &[server], own.address.ip());
        let server = reached.unwrap_or(server);
        if own.address.is_ipv4() != server.is_ipv4()
            || !shared
                .demux
                .claim_server(own.id, server, self.id, index as u16)
        {
            let text = "the server sends its clients where this address cannot reach";
            return self.allocation_failed(shared, index, 300, text);
        }
        self.relaying_mut().allocations[index].route = Route::Datagram { socket, server };
    }

    /// Whether a redirection leads to a server that was not asked yet, as far as is known: which address of a name a
    /// connection went to, only the rim knows.
    fn may_follow(&mut self, now: Time, index: usize, to: SocketAddr) -> bool {
        let from = self.asked_at(index as u16);
        let asked = &mut self.relaying_mut().allocations[index].asked;
        asked.retain(|(_, at)| now.since(*at) < REDIRECTED_WITHIN);
        if asked.is_empty() {
            asked.extend(from.map(|from| (from, now)));
        }
        if asked.len() > MAX_HOPS || asked.iter().any(|(known, _)| *known == to) {
            return false;
        }
        asked.push((to, now));
        true
    }

    /// Fresh credentials for a server. What is allocated there stays with the ones that it was made with (RFC 8656
    /// section 5).
    pub(crate) fn set_turn_credentials(
        &mut self,
        server: usize,
        credentials: &Credentials,
    ) -> Result<(), AgentError> {
        let turn = self.turn.as_mut().ok_or(AgentError::UnknownServer)?;
        let entry = turn.servers.get_mut(server);
        let entry = entry.ok_or(AgentError::UnknownServer)?;
        entry.config.credentials = credentials.clone();
        for allocation in &mut turn.allocations {
            if usize::from(allocation.server) == server {
                // What was made with the old ones may come to its end, too.
                allocation.tries = allocation.tries.min(1);
                allocation.client.set_credentials(credentials.clone());
            }
        }
        Ok(())
    }

    /// Servers that refused may be asked again when their time has passed.
    pub(in crate::agent) fn forget_refusals(&mut self, now: Time) {
        for server in self.turn.iter_mut().flat_map(|turn| &mut turn.servers) {
            server.refusal = server.refusal.filter(|(_, until)| *until > now);
        }
    }

    /// Asks the servers whether they still know what they gave.
    pub(in crate::agent) fn refresh_relays(&mut self, now: Time) {
        if let Some(turn) = &mut self.turn {
            for allocation in &mut turn.allocations {
                allocation.client.refresh(now);
            }
        }
    }

    /// The same before a restart tells them again: a server that was restarted has forgotten them.
    pub(in crate::agent) fn verify_relays(&mut self, now: Time) {
        self.forget_refusals(now);
        self.refresh_relays(now);
        if let Some(turn) = &mut self.turn {
            for allocation in &mut turn.allocations {
                allocation.verifying = !allocation.bases.is_empty();
            }
        }
    }

    fn verified(&mut self, shared: &mut Shared, index: usize) {
        let allocation = &mut self.relaying_mut().allocations[index];
        if core::mem::take(&mut allocation.verifying) {
            for base in allocation.bases.clone() {
                self.add_relay(shared, base);
            }
            // It knows this agent by its address, which is the same as before then.
            self.add_mapped(shared, index);
            self.finish_gathering(shared);
        }
    }

    /// Gives all allocations back (RFC 8656 section 8).
    pub(in crate::agent) fn release_relays(&mut self, now: Time) {
        let Some(turn) = &mut self.turn else { return };
        turn.released_by = Some(now + FAREWELL);
        for allocation in &mut turn.allocations {
            match allocation.route {
                Route::Datagram { .. } | Route::Stream(_) => allocation.client.release(),
                _ => allocation.route = Route::Ended,
            }
        }
    }

    /// Whether all were given back, or it takes too long.
    pub(in crate::agent) fn is_released(&self, now: Time) -> bool {
        self.turn
            .as_ref()
            .is_none_or(|turn| turn.released_by.is_some_and(|by| by <= now) || turn.is_released())
    }

    pub(in crate::agent) fn poll_closed(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        if self.gone {
            return None;
        }
        let departure = self.fire_relay(shared, now, buffer);
        if departure.is_none() && self.is_released(now) {
            self.close_sockets(shared);
        }
        departure
    }

    pub(in crate::agent) fn closed_deadline(&self) -> Option<Time> {
        let turn = self.turn.as_ref().filter(|_| !self.gone)?;
        if turn.is_released() {
            return Some(Time::ZERO);
        }
        turn.deadline().into_iter().chain(turn.released_by).min()
    }

    pub(in crate::agent) fn end_relays(&mut self, shared: &mut Shared) {
        let count = self.turn.as_ref().map_or(0, |turn| turn.allocations.len());
        for index in 0..count {
            self.end_allocation(shared, index);
        }
    }
}
