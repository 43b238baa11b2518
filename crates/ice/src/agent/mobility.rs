//! The machine's addresses change under a session (RFC 8445 section 9, RFC 8838 section 13).
//!
//! A path whose address is gone is left at once, for a standby or by a restart. New addresses become
//! candidates; once the end of candidates was told, that takes a restart, during which the old path stays.

use core::net::IpAddr;

use nilas_turn::Time;

use super::Agent;
use crate::event::GatheringState;
use crate::shared::Shared;

impl Agent {
    /// The addresses of this machine were told anew.
    pub(crate) fn addresses_changed(&mut self, shared: &mut Shared, now: Time) {
        if self.closed || self.gathering == GatheringState::New {
            return;
        }
        let Some(interfaces) = shared.interfaces.take() else {
            return;
        };
        let filter = self.settings.filter();
        let (mut kept, mut admitted) = (Vec::new(), Vec::new());
        for interface in &interfaces {
            let addresses = interface.addresses.iter().copied();
            kept.extend(addresses.filter(|address| filter.keeps(interface, *address)));
            let addresses = interface.addresses.iter().copied();
            admitted.extend(addresses.filter(|address| filter.admits(interface, *address)));
        }
        shared.interfaces = Some(interfaces);
        for own in self.sockets.iter_mut().filter(|own| own.relay.is_none()) {
            own.network_cost = shared.network_cost(own.address.ip());
        }
        if self.gathering == GatheringState::Gathering {
            self.interfaces_seen = false;
            self.look_at_interfaces(shared);
            return;
        }
        let lost: Vec<u16> = (0..self.sockets.len() as u16)
            .filter(|index| {
                let own = &self.sockets[usize::from(*index)];
                own.relay.is_none() && own.usable && !kept.contains(&own.address.ip())
            })
            .collect();
        let known = |ip: &IpAddr| {
            self.sockets
                .iter()
                .any(|own| own.is_udp_host() && own.usable && own.address.ip() == *ip)
        };
        let appeared = !admitted.iter().all(known);
        let mut path_is_gone = false;
        for socket in lost {
            path_is_gone |= self.socket_is_gone(shared, now, socket);
        }
        if path_is_gone {
            self.path_is_gone(shared, now);
        }
        if appeared {
            self.restart_due = Some(now.max(self.restart_after));
        }
        self.consider_move(shared, now);
    }

    /// An address is gone. Whether the selected path went with it.
    fn socket_is_gone(&mut self, shared: &mut Shared, now: Time, socket: u16) -> bool {
        self.sockets[usize::from(socket)].usable = false;
        self.carrier_is_gone(shared, now, socket);
        let selected = self.current.selected;
        let mut gone = false;
        for (id, pair) in self.current.pairs.iter_mut() {
            if pair.socket == socket {
                pair.died(now);
                gone |= selected == Some(id);
            }
        }
        gone
    }

    /// A restart that addresses asked for, when its time has come.
    pub(super) fn fire_restart(&mut self, shared: &mut Shared, now: Time) {
        if self.restart_due.is_some_and(|at| at <= now) {
            self.restart_due = None;
            self.restart_alone(shared, now);
        }
    }
}
