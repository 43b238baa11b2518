//! The sockets of multicast DNS, one for each family, and the interfaces behind them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::responder::{PORT, Response};
use crate::interfaces;
use crate::udp_state::{tell_own_address, udp_state};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762.
const MAX_PACKET_BYTES: usize = 9_000;
/// Interfaces that are spoken on.
const MAX_INTERFACES: usize = 16;
/// So long nothing is heard after an error: one that stays must not keep the task busy.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets and where to speak. None are open at first.
#[derive(Debug, Default)]
pub(super) struct Links {
    v4: Option<Arc<Ear>>,
    v6: Option<Arc<Ear>>,
    interfaces: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    index: u32,
    addresses: Vec<IpAddr>,
}

impl Link {
    fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    fn has_v6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

/// A socket that hears a group.
#[derive(Debug)]
pub(super) struct Ear {
    io: UdpSocket,
    state: UdpSocketState,
}

/// A packet that was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Its length in the buffer.
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    /// The interface it came on, where the system tells.
    index: Option<u32>,
}

impl Links {
    /// Looks at the interfaces anew, and opens what is not open.
    pub(super) fn refresh(&mut self) {
        let found = interfaces().unwrap_or_default();
        self.interfaces = found
            .into_iter()
            .take(MAX_INTERFACES)
            .map(|interface| Link {
                index: interface.index,
                addresses: interface.addresses,
            })
            .collect();
        let domains = [(Domain::IPV4, &mut self.v4), (Domain::IPV6, &mut self.v6)];
        for (domain, ear) in domains {
            if ear.is_none() {
                *ear = Ear::open(domain)
                    .inspect_err(|error| tracing::debug!(%error, "no socket for multicast DNS"))
                    .ok()
                    .map(Arc::new);
            }
        }
        if self.v4.is_none() && self.v6.is_none() {
            tracing::warn!("no multicast DNS: names are neither found nor answered for");
        }
        // What was joined before says so, and what has no multicast cannot be.
        for link in &self.interfaces {
            if let (Some(ear), Some(own)) = (&self.v4, link.v4()) {
                let _ = SockRef::from(&ear.io).join_multicast_v4(&GROUP_V4, &own);
            }
            if let (Some(ear), true) = (&self.v6, link.has_v6()) {
                let _ = SockRef::from(&ear.io).join_multicast_v6(&GROUP_V6, link.index);
            }
        }
    }

    pub(super) fn ears(&self) -> [Option<Arc<Ear>>; 2] {
        [self.v4.clone(), self.v6.clone()]
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.interfaces
            .iter()
            .any(|link| link.addresses.contains(&address))
    }

    /// Whether an address is of the interface on which something was heard.
    pub(super) fn is_of(&self, heard: &Heard, address: IpAddr) -> bool {
        let mut links = self.interfaces.iter();
        heard.index.is_none_or(|index| {
            links.any(|link| link.index == index && link.addresses.contains(&address))
        })
    }

    /// Asks on every interface.
    pub(super) fn ask(&self, question: &[u8]) {
        for link in &self.interfaces {
            self.multicast(link, question);
        }
    }

    pub(super) fn answer(&self, response: &Response) {
        if let Some(to) = response.to {
            let ear = if to.is_ipv4() { &self.v4 } else { &self.v6 };
            if let Some(ear) = ear {
                // As good as lost on the way: it is asked for again.
                let _ = ear.send(&response.bytes, to);
            }
            return;
        }
        let mut links = self.interfaces.iter();
        if let Some(link) = links.find(|link| link.addresses.contains(&response.on)) {
            self.multicast(link, &response.bytes);
        }
    }

    /// An interface that refuses does not keep the others from it.
    fn multicast(&self, link: &Link, packet: &[u8]) {
        if let (Some(ear), Some(own)) = (&self.v4, link.v4())
            && SockRef::from(&ear.io).set_multicast_if_v4(&own).is_ok()
        {
            let _ = ear.send(packet, (GROUP_V4, PORT).into());
        }
        if let (Some(ear), true) = (&self.v6, link.has_v6())
            && SockRef::from(&ear.io)
                .set_multicast_if_v6(link.index)
                .is_ok()
        {
            let group = SocketAddrV6::new(GROUP_V6, PORT, 0, link.index);
            let _ = ear.send(packet, group.into());
        }
    }
}

impl Ear {
    /// The port is shared with the system's own responder and other programs (RFC 6762).
    fn open(domain: Domain) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        // RFC 6762: with 255 hops left nothing can have come from beyond the link.
        let any: IpAddr = if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(255)?;
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            socket.set_multicast_ttl_v4(255)?;
            Ipv4Addr::UNSPECIFIED.into()
        };
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(any, PORT).into())?;
        let socket = socket.into();
        let state = udp_state(&socket)?;
        tell_own_address(&socket)?;
        Ok(Self {
            io: UdpSocket::from_std(socket)?,
            state,
        })
    }

    fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<usize> {
        SockRef::from(&self.io).send_to(packet, &SockAddr::from(to))
    }

    /// The next packet that was sent to the group. Without a socket nothing ever comes.
    ///
    /// What was sent to this machine alone is not heard: nobody is asked for such an answer (RFC 6762), and a
    /// question might come from beyond the link, as nothing here can tell.
    pub(super) async fn hear(ear: Option<&Self>, buffer: &mut Vec<u8>) -> Heard {
        let Some(ear) = ear else {
            return core::future::pending().await;
        };
        buffer.resize(MAX_PACKET_BYTES, 0);
        loop {
            let mut meta = [RecvMeta::default()];
            let received = ear.io.async_io(Interest::READABLE, || {
                let mut slots = [IoSliceMut::new(buffer)];
                ear.state.recv((&ear.io).into(), &mut slots, &mut meta)
            });
            let [meta] = match received.await {
                Ok(_) => meta,
                Err(error) => {
                    tracing::debug!(%error, "multicast DNS hears nothing");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if meta.dst_ip.is_none_or(|to| to.is_multicast()) {
                return Heard {
                    // Should the system have joined several, one is enough: it is asked for again.
                    length: meta.len.min(meta.stride),
                    from: meta.addr,
                    index: meta.interface_index,
                };
            }
        }
    }
}
