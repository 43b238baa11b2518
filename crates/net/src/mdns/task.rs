//! The sockets of multicast DNS, and who waits for a name.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use nilas_ice::ResolveError;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::resolver::{Answer, Queries};
use crate::clock::Clock;
use crate::interfaces;

/// RFC 6762.
const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Names that wait to be asked for. What does not fit is refused.
const MAX_WAITING: usize = 64;
/// RFC 6762.
const MAX_PACKET_BYTES: usize = 9_000;
/// Interfaces that questions go out on.
const MAX_INTERFACES: usize = 16;

/// Resolves names on the link. Its sockets are opened when it is first asked, and closed when there is nothing more to
/// ask.
#[derive(Clone, Debug, Default)]
pub struct MdnsResolver {
    inlet: Arc<Mutex<Option<mpsc::Sender<Wanted>>>>,
}

/// A name that somebody wants to be resolved.
struct Wanted {
    name: String,
    reply: oneshot::Sender<Result<IpAddr, ResolveError>>,
}

impl MdnsResolver {
    /// The address of a name, within five seconds.
    ///
    /// # Errors
    /// `TimedOut` if nobody answers for it; `Other` if it has several addresses, if too many names are asked for, or if
    /// the system lets nobody ask.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn resolve(&self, name: &str) -> Result<IpAddr, ResolveError> {
        let (reply, answer) = oneshot::channel();
        let name = name.to_ascii_lowercase();
        self.send(Wanted { name, reply })?;
        answer.await.unwrap_or(Err(ResolveError::Other))
    }

    fn send(&self, wanted: Wanted) -> Result<(), ResolveError> {
        let mut inlet = self.inlet.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = match &*inlet {
            Some(open) => match open.try_send(wanted) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(ResolveError::Other),
                // It had nothing to do, and has ended.
                Err(mpsc::error::TrySendError::Closed(wanted)) => wanted,
            },
            None => wanted,
        };
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        sender.try_send(wanted).map_err(|_| ResolveError::Other)?;
        *inlet = Some(sender);
        tokio::spawn(serve(receiver));
        Ok(())
    }
}

/// Asks and hears until there is nothing more to ask.
async fn serve(mut wanted: mpsc::Receiver<Wanted>) {
    let clock = Clock::start();
    let links = Links::open();
    let mut queries = Queries::default();
    let mut waiting: HashMap<String, Vec<oneshot::Sender<Result<IpAddr, ResolveError>>>> =
        HashMap::new();
    let mut buffers = [vec![0; MAX_PACKET_BYTES], vec![0; MAX_PACKET_BYTES]];
    loop {
        let now = clock.now();
        while let Some(question) = queries.poll(now) {
            links.send(&question).await;
        }
        let mut answers: Vec<Answer> = Vec::new();
        while let Some(answer) = queries.expired(now) {
            answers.push(answer);
        }
        tell(&mut waiting, answers);
        let deadline = queries.deadline();
        if deadline.is_none() {
            // Whoever comes later finds the channel closed and opens another; who came before is served.
            wanted.close();
            match wanted.try_recv() {
                Ok(next) => take(&clock, &mut queries, &mut waiting, next),
                Err(_) => return,
            }
            continue;
        }
        let wake = deadline.map_or_else(Instant::now, |at| Instant::from_std(clock.instant(at)));
        let [v4, v6] = &mut buffers;
        tokio::select! {
            Some(next) = wanted.recv() => take(&clock, &mut queries, &mut waiting, next),
            length = hear(links.v4.as_ref(), v4) => tell(&mut waiting, queries.handle(&v4[..length])),
            length = hear(links.v6.as_ref(), v6) => tell(&mut waiting, queries.handle(&v6[..length])),
            () = sleep_until(wake) => {}
        }
    }
}

fn take(
    clock: &Clock,
    queries: &mut Queries,
    waiting: &mut HashMap<String, Vec<oneshot::Sender<Result<IpAddr, ResolveError>>>>,
    wanted: Wanted,
) {
    if queries.ask(clock.now(), &wanted.name) {
        waiting.entry(wanted.name).or_default().push(wanted.reply);
    } else {
        // Whoever asked may be gone.
        let _ = wanted.reply.send(Err(ResolveError::Other));
    }
}

fn tell(
    waiting: &mut HashMap<String, Vec<oneshot::Sender<Result<IpAddr, ResolveError>>>>,
    answers: Vec<Answer>,
) {
    for (name, result) in answers {
        for reply in waiting.remove(&name).unwrap_or_default() {
            let _ = reply.send(result);
        }
    }
}

/// The length of the next response of the link. Without a socket nothing ever comes.
async fn hear(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> usize {
    let Some(socket) = socket else {
        return core::future::pending().await;
    };
    loop {
        match socket.recv_from(buffer).await {
            // RFC 6762: responses come from this port.
            Ok((length, from)) if from.port() == PORT => return length,
            Ok(_) => {}
            // An error of another packet's: it is reported once.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A socket for each family, and where to send on each.
struct Links {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    v4_addresses: Vec<Ipv4Addr>,
    v6_indices: Vec<u32>,
}

impl Links {
    fn open() -> Self {
        let (mut v4_addresses, mut v6_indices) = (Vec::new(), Vec::new());
        for interface in interfaces().unwrap_or_default().iter().take(MAX_INTERFACES) {
            let mut addresses = interface.addresses.iter();
            v4_addresses.extend(addresses.clone().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }));
            if addresses.any(IpAddr::is_ipv6) {
                v6_indices.push(interface.index);
            }
        }
        Self {
            v4: open_v4(&v4_addresses).ok(),
            v6: open_v6(&v6_indices).ok(),
            v4_addresses,
            v6_indices,
        }
    }

    /// Sends on every interface. One that refuses does not keep the others from it.
    async fn send(&self, question: &[u8]) {
        if let Some(socket) = &self.v4 {
            let raw = socket2::SockRef::from(socket);
            for address in &self.v4_addresses {
                if raw.set_multicast_if_v4(address).is_ok() {
                    let _ = socket.send_to(question, (GROUP_V4, PORT)).await;
                }
            }
        }
        if let Some(socket) = &self.v6 {
            let raw = socket2::SockRef::from(socket);
            for index in &self.v6_indices {
                if raw.set_multicast_if_v6(*index).is_ok() {
                    let _ = socket.send_to(question, (GROUP_V6, PORT)).await;
                }
            }
        }
    }
}

fn open_v4(interfaces: &[Ipv4Addr]) -> io::Result<UdpSocket> {
    let socket = open(
        Domain::IPV4,
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT),
    )?;
    let joined = interfaces
        .iter()
        .filter(|address| socket.join_multicast_v4(&GROUP_V4, address).is_ok());
    if joined.count() == 0 {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    socket.set_multicast_ttl_v4(255)?;
    UdpSocket::from_std(socket.into())
}

fn open_v6(interfaces: &[u32]) -> io::Result<UdpSocket> {
    let socket = open(
        Domain::IPV6,
        SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT),
    )?;
    let joined = interfaces
        .iter()
        .filter(|index| socket.join_multicast_v6(&GROUP_V6, **index).is_ok());
    if joined.count() == 0 {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    socket.set_multicast_hops_v6(255)?;
    UdpSocket::from_std(socket.into())
}

/// The port is shared with the system's own responder and other programs (RFC 6762).
fn open(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
