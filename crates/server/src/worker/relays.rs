//! Relayed transport addresses over UDP: the way from a peer to a client.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use std::io;
use std::rc::Rc;

use nilas_net::{TrafficClass, Watched};
use nilas_stun::AddressFamily;
use nilas_turn::Time;
use nilas_turn::server::{BindError, Handled, Input, ListenerId, Path, RelayId, RelayPort};
use quinn_udp::{BATCH_SIZE, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, Ready};
use tokio::task::AbortHandle;

use super::Worker;
use super::marks::Marks;
use super::options::{
    icmp_error, joins_datagrams, set_dont_fragment, tell_traffic_class, tells_icmp,
};
use super::peers::TcpRelay;
use super::send::{Way, first_segments};
use crate::config::RelayAddress;
use crate::ports::PortLease;

/// Asked of the system for each socket and direction; memory is used only while datagrams wait.
const BUFFER_BYTES: usize = 1 << 20;
/// More ICMP errors than these are not taken at one time.
const MAX_ICMP: usize = 16;

/// The relays of a worker, by the core's small numbers.
#[derive(Default)]
pub(super) struct RelayTable(Vec<Option<Entry>>);

enum Entry {
    Udp(Rc<UdpRelay>, AbortHandle),
    Tcp(Rc<TcpRelay>, AbortHandle),
}

/// A bound relayed transport address.
pub(super) struct UdpRelay {
    id: RelayId,
    // Closed before its port is given back.
    socket: Watched,
    lease: PortLease,
    address: RelayAddress,
    segments: Cell<usize>,
    dont_fragment: Cell<bool>,
    marks: Marks,
    /// For how many datagrams room is made: as many as came lately.
    slots: Cell<u8>,
}

impl RelayTable {
    pub(super) fn udp(&self, id: RelayId) -> Option<&Rc<UdpRelay>> {
        match self.0.get(id.slot())?.as_ref()? {
            Entry::Udp(relay, _) => (relay.id == id).then_some(relay),
            Entry::Tcp(..) => None,
        }
    }

    pub(super) fn tcp(&self, id: RelayId) -> Option<&Rc<TcpRelay>> {
        match self.0.get(id.slot())?.as_ref()? {
            Entry::Tcp(relay, _) => (relay.id == id).then_some(relay),
            Entry::Udp(..) => None,
        }
    }

    fn insert_udp(&mut self, relay: Rc<UdpRelay>, task: AbortHandle) {
        let slot = relay.id.slot();
        *self.place(slot) = Some(Entry::Udp(relay, task));
    }

    pub(super) fn insert_tcp(&mut self, relay: Rc<TcpRelay>, task: AbortHandle) {
        let slot = relay.id.slot();
        *self.place(slot) = Some(Entry::Tcp(relay, task));
    }

    /// Closes a relay, as soon as its task has had its turn.
    pub(super) fn remove(&mut self, id: RelayId) {
        let place = self.place(id.slot());
        match place {
            Some(Entry::Udp(relay, task)) if relay.id == id => task.abort(),
            Some(Entry::Tcp(relay, task)) if relay.id == id => task.abort(),
            _ => return,
        }
        *place = None;
    }

    fn place(&mut self, slot: usize) -> &mut Option<Entry> {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        &mut self.0[slot]
    }
}

impl RelayAddress {
    /// A peer's address as the client knows it: another relay of this server is behind the same NAT.
    pub(super) fn seen(&self, from: SocketAddr) -> SocketAddr {
        if from.ip() == self.local {
            SocketAddr::new(self.public, from.port())
        } else {
            from
        }
    }

    /// Where a peer is reached: another relay of this server, on whichever core, not through that NAT.
    pub(super) fn reached(&self, peer: SocketAddr) -> SocketAddr {
        if peer.ip() == self.public {
            SocketAddr::new(self.local, peer.port())
        } else {
            peer
        }
    }
}

impl UdpRelay {
    /// Whether what is sent from now on may be fragmented. RFC 8656 section 14: not if the client does not want it, else it
    /// may. No socket tells the DF bit of what came, so that is taken for 0, the alternate behaviour.
    pub(super) fn allow_fragments(&self, allowed: bool) {
        let dont_fragment = !allowed;
        if self.dont_fragment.replace(dont_fragment) != dont_fragment {
            let local = self.lease.address();
            let _ = set_dont_fragment(self.socket.socket(), local.is_ipv4(), dont_fragment);
        }
    }

    /// The way to a peer.
    pub(super) fn way<'a>(
        &'a self,
        state: &'a UdpSocketState,
        peer: SocketAddr,
        class: TrafficClass,
    ) -> Way<'a> {
        Way {
            socket: self.socket.socket(),
            state,
            segments: &self.segments,
            from: None,
            to: self.address.reached(peer),
            class,
        }
    }

    /// As many slots as the last batch suggests, so that a quiet relay costs little to look at.
    fn learn(&self, filled: usize) {
        let slots = usize::from(self.slots.get());
        let next = if filled == slots {
            (slots * 2).min(BATCH_SIZE)
        } else {
            (filled + 1).max(slots / 2)
        };
        self.slots.set(next as u8);
    }
}

impl Worker {
    /// Binds a relayed transport address over UDP, and begins to serve it.
    pub(super) fn bind_udp_relay(
        self: &Rc<Self>,
        id: RelayId,
        family: AddressFamily,
        port: RelayPort,
    ) -> Result<SocketAddr, BindError> {
        let address = self.relay_address(family).ok_or(BindError::Other)?;
        let mut rng = self.rng.borrow_mut();
        let ports = &self.shared.ports;
        let (socket, lease) = ports.bind_udp(address.local, port, &mut *rng, open)?;
        let socket = Watched::new(socket).map_err(|_| BindError::Other)?;
        let public = SocketAddr::new(address.public, lease.address().port());
        let relay = Rc::new(UdpRelay {
            id,
            socket,
            lease,
            address,
            segments: Cell::new(first_segments(&self.relay_state)),
            dont_fragment: Cell::new(false),
            marks: Marks::default(),
            slots: Cell::new(1),
        });
        let task = tokio::task::spawn_local(Rc::clone(self).serve_relay(Rc::clone(&relay)));
        self.relays
            .borrow_mut()
            .insert_udp(relay, task.abort_handle());
        Ok(public)
    }

    pub(super) fn relay_address(&self, family: AddressFamily) -> Option<RelayAddress> {
        let is_ipv4 = family == AddressFamily::Ipv4;
        self.shared
            .relay_addresses
            .iter()
            .find(|address| address.local.is_ipv4() == is_ipv4)
            .copied()
    }

    async fn serve_relay(self: Rc<Self>, relay: Rc<UdpRelay>) {
        let interest = Interest::READABLE | Interest::ERROR;
        // An error here is the runtime's end.
        while let Ok(ready) = relay.socket.ready(interest).await {
            if ready.is_error() {
                let _ = relay
                    .socket
                    .try_io(Interest::ERROR, || self.receive_icmp(&relay));
            }
            if (ready - Ready::ERROR).is_empty() {
                continue;
            }
            let received = relay
                .socket
                .try_io(Interest::READABLE, || self.receive_peers(&relay));
            if received.is_ok() {
                // Others have their turn, too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes one batch of datagrams in. `WouldBlock` if that was all there are.
    fn receive_peers(self: &Rc<Self>, relay: &UdpRelay) -> io::Result<()> {
        let mut inbound = self.inbound.borrow_mut();
        let slots = usize::from(relay.slots.get());
        let received = inbound.receive(
            relay.socket.socket(),
            &self.relay_state,
            slots,
            &relay.marks,
        );
        let more = match received {
            // An ICMP error, which is taken for itself; datagrams may stand behind it.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Ok(()),
            received => received?,
        };
        let now = self.shared.clock.now();
        for received in inbound.datagrams() {
            let input = Input::PeerDatagram {
                relay: relay.id,
                peer: relay.address.seen(received.from),
                length: received.bytes.len(),
            };
            let handled = self.core.borrow_mut().handle(now, input);
            if handled != Handled::Done {
                self.act(handled, NOWHERE, received.bytes, received.class);
            }
        }
        self.flush();
        self.pump(now);
        relay.learn(inbound.filled());
        if more {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Takes ICMP errors in (RFC 8656 section 11.5). `WouldBlock` when there are no more.
    fn receive_icmp(self: &Rc<Self>, relay: &UdpRelay) -> io::Result<()> {
        let now = self.shared.clock.now();
        for _ in 0..MAX_ICMP {
            let Some(error) = icmp_error(relay.socket.socket())? else {
                self.pump(now);
                return Err(io::ErrorKind::WouldBlock.into());
            };
            self.peer_icmp(now, relay, error);
        }
        self.pump(now);
        Ok(())
    }

    fn peer_icmp(&self, now: Time, relay: &UdpRelay, error: super::options::IcmpError) {
        let input = Input::PeerIcmp {
            relay: relay.id,
            peer: relay.address.seen(error.peer),
            icmp_type: error.icmp_type,
            code: error.code,
            error_data: error.error_data,
        };
        let _ = self.core.borrow_mut().handle(now, input);
    }
}

/// A peer's datagram comes on no client's path.
const NOWHERE: Path = Path::Datagram {
    listener: ListenerId(u32::MAX),
    client: SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0),
    server: SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0),
};

/// A socket for a relay, bound to this address.
fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A refusal leaves the system's default sizes, which work.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    joins_datagrams(&socket);
    tell_traffic_class(&socket, true);
    tells_icmp(&socket, address.is_ipv4())?;
    set_dont_fragment(&socket, address.is_ipv4(), false)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
