//! What the core wants done, and what it tells the operator.

use std::rc::Rc;

use nilas_turn::Time;
use nilas_turn::server::{Command, Event, Input, Path, RelayProtocol};

use super::Worker;
use super::handover::Order;

impl Worker {
    pub(super) fn obey(self: &Rc<Self>, now: Time, command: Command) {
        match command {
            Command::BindRelay {
                relay,
                family,
                protocol,
                port,
            } => {
                let result = match protocol {
                    RelayProtocol::Udp => self.bind_udp_relay(relay, family, port),
                    RelayProtocol::Tcp => self.bind_tcp_relay(relay, family),
                };
                let input = Input::RelayBound { relay, result };
                let _ = self.core.borrow_mut().handle(now, input);
            }
            Command::CloseRelay(relay) => self.relays.borrow_mut().remove(relay),
            Command::ReleaseReservation(token) => self.shared.ports.release(token),
            Command::ConnectPeer {
                connection,
                relay,
                peer,
            } => self.connect_peer(connection, relay, peer),
            Command::Splice { stream, connection } => self.begin_splice(stream, connection),
            Command::ClosePeer(connection) => self.close_peer(connection),
            Command::CloseStream(stream) => {
                if let Some(out) = self.streams.borrow().get(&stream) {
                    out.close();
                }
            }
            Command::Route(path @ Path::Datagram { .. }) => {
                if let Some((visiting, worker)) = self.visiting.get()
                    && visiting == path
                {
                    self.foreign.borrow_mut().insert(path, worker);
                }
                self.tell_others(|| Order::Route(path, self.id));
            }
            Command::Unroute(path @ Path::Datagram { .. }) => {
                self.foreign.borrow_mut().remove(&path);
                self.tell_others(|| Order::Unroute(path));
            }
            // A stream moves as a whole.
            _ => {}
        }
    }
}

/// Writes what happened to the log.
pub(super) fn tell(event: &Event) {
    match event {
        Event::AllocationMade {
            user,
            client,
            relayed,
            ..
        } => {
            let [v4, v6] = relayed.map(|address| address.map(tracing::field::display));
            tracing::info!(%user, %client, v4, v6, "an allocation was made");
        }
        Event::AllocationMoved { client, .. } => {
            tracing::info!(%client, "an allocation's client has moved");
        }
        Event::AllocationEnded {
            user,
            reason,
            age,
            traffic,
            ..
        } => {
            tracing::info!(
                %user,
                ?reason,
                seconds = age.as_secs(),
                bytes_from_client = traffic.bytes_from_client,
                packets_from_client = traffic.packets_from_client,
                bytes_from_peers = traffic.bytes_from_peers,
                packets_from_peers = traffic.packets_from_peers,
                "an allocation ended"
            );
        }
        _ => {}
    }
}
