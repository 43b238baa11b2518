//! What is known of the gateways, which all port mappings share.
//!
//! A gateway that was switched off and on has forgotten its mappings. Its clock shows it, in each answer and in what it
//! announces to all: then whatever it has forwarded is asked for again, and not only when it would be renewed.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crab_nat::GATEWAY_PORT;
use nilas_ice::PortMappingError;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ask::Refusal;
use super::epoch::{Epoch, Protocol, announced};

/// RFC 6886 section 3.2.1 and RFC 6887 section 14.1.3: where gateways announce that they have begun anew.
const ANNOUNCEMENTS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 5350);

/// The gateways of this machine's networks, as far as port mappings have asked them.
#[derive(Clone, Debug, Default)]
pub struct Gateways {
    core: Arc<Core>,
}

#[derive(Debug, Default)]
struct Core {
    known: Mutex<BTreeMap<Ipv4Addr, Known>>,
    /// A gateway has lost its mappings.
    news: Notify,
    listener: Mutex<Option<Listener>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whose turn it is to ask.
    turn: Arc<tokio::sync::Mutex<()>>,
    epoch: Option<Epoch>,
    /// How often it has lost its mappings.
    losses: u64,
    /// Who has wanted a new mapping before this moment is refused.
    refusal: Option<(PortMappingError, Instant)>,
}

/// Ends with the last of those that it listens for.
#[derive(Debug)]
struct Listener(AbortHandle);

impl Gateways {
    /// Waits until nobody else asks the gateway for anything (RFC 6886 section 3.1).
    pub(super) async fn turn(&self, gateway: Ipv4Addr) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(&self.core.lock().entry(gateway).or_default().turn);
        turn.lock_owned().await
    }

    /// What the gateway has said to others, if it holds for whoever wanted a new mapping at this moment as well.
    pub(super) fn refusal(&self, gateway: Ipv4Addr, wanted: Instant) -> Option<Refusal> {
        let (error, until) = self.core.lock().get(&gateway)?.refusal?;
        let lasts = until.saturating_duration_since(Instant::now());
        (wanted < until).then_some(Refusal { error, lasts })
    }

    /// The gateway grants no new mappings to those who wait, and who want one within so long.
    pub(super) fn refuse(&self, gateway: Ipv4Addr, refusal: Refusal) {
        let until = Instant::now() + refusal.lasts;
        self.core.lock().entry(gateway).or_default().refusal = Some((refusal.error, until));
    }

    /// The gateway has answered: how often it has lost its mappings by now.
    pub(super) fn heard(&self, gateway: Ipv4Addr, protocol: Protocol, seconds: u32) -> u64 {
        self.listen();
        let mut known = self.core.lock();
        let known = known.entry(gateway).or_default();
        self.core.judge(known, protocol, seconds);
        known.losses
    }

    /// Waits until the gateway has lost its mappings oftener than this.
    pub(super) async fn lost(&self, gateway: Ipv4Addr, losses: u64) {
        loop {
            let mut news = pin!(self.core.news.notified());
            news.as_mut().enable();
            if self.losses(gateway) != losses {
                return;
            }
            news.await;
        }
    }

    pub(super) fn losses(&self, gateway: Ipv4Addr) -> u64 {
        let known = self.core.lock();
        known.get(&gateway).map_or(0, |known| known.losses)
    }

    /// Hears from now on what gateways announce. Where that cannot be, what they have lost shows when a mapping is renewed.
    fn listen(&self) {
        let mut listener = lock(&self.core.listener);
        if listener.is_some() {
            return;
        }
        match open() {
            Ok(socket) => {
                let heard = tokio::spawn(hear(socket, Arc::downgrade(&self.core)));
                *listener = Some(Listener(heard.abort_handle()));
            }
            Err(error) => tracing::debug!(%error, "announcements of gateways are not heard"),
        }
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Known>> {
        lock(&self.known)
    }

    fn judge(&self, known: &mut Known, protocol: Protocol, seconds: u32) {
        let at = Instant::now();
        let epoch = Epoch { seconds, at };
        let before = known.epoch.replace(epoch);
        if before.is_some_and(|before| !epoch.follows(before, protocol)) {
            known.losses += 1;
            self.news.notify_waiters();
        }
    }

    /// Something came that may be an announcement. One of a gateway that never answered says nothing.
    fn take(&self, from: SocketAddr, packet: &[u8]) {
        let SocketAddr::V4(from) = from else { return };
        let Some((protocol, seconds)) = announced(packet) else {
            return;
        };
        // RFC 6887 section 8.3: from its port as well.
        if protocol == Protocol::Pcp && from.port() != GATEWAY_PORT {
            return;
        }
        if let Some(known) = self.lock().get_mut(from.ip())
            && known.epoch.is_some()
        {
            self.judge(known, protocol, seconds);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// RFC 6886 section 3.2.1: the port is shared with whoever listens to gateways as well, at the address of the group.
fn open() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Elsewhere a group is no address to be bound to.
    let ip = match cfg!(unix) {
        true => *ANNOUNCEMENTS.ip(),
        false => Ipv4Addr::UNSPECIFIED,
    };
    socket.bind(&SocketAddr::from((ip, ANNOUNCEMENTS.port())).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    // All machines are in this group anyway; some systems want to be told.
    let _ = SockRef::from(&socket).join_multicast_v4(ANNOUNCEMENTS.ip(), &Ipv4Addr::UNSPECIFIED);
    Ok(socket)
}

async fn hear(socket: UdpSocket, core: Weak<Core>) {
    // One byte more than the longest answer (RFC 6887 section 8.3): what is longer is none.
    let mut buffer = [0; 1_101];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Some(core) = core.upgrade() else { return };
        core.take(from, &buffer[..length]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn announcement(protocol: Protocol, seconds: u32) -> Vec<u8> {
        let time = seconds.to_be_bytes();
        match protocol {
            Protocol::NatPmp => [&[0, 128, 0, 0][..], &time, &[192, 0, 2, 1]].concat(),
            Protocol::Pcp => [&[2, 128, 0, 0, 0, 0, 0, 0][..], &time, &[0; 12]].concat(),
        }
    }

    fn from(port: u16) -> SocketAddr {
        (GATEWAY, port).into()
    }

    // The clock of the test stands still, however busy the machine is.
    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_has_begun_anew_has_lost_its_mappings() {
        let gateways = Gateways::default();
        assert_eq!(gateways.heard(GATEWAY, Protocol::Pcp, 5_000), 0);
        // One answer shows it to all whose mappings it had.
        let other = gateways.clone();
        let lost = tokio::spawn(async move { other.lost(GATEWAY, 0).await });
        assert_eq!(gateways.heard(GATEWAY, Protocol::Pcp, 3), 1);
        lost.await.expect("it ends");
        assert_eq!(gateways.heard(GATEWAY, Protocol::NatPmp, 3), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_gateway_that_has_answered_is_believed_what_it_announces() {
        for protocol in [Protocol::NatPmp, Protocol::Pcp] {
            let gateways = Gateways::default();
            let take = |from: SocketAddr, seconds| {
                gateways.core.take(from, &announcement(protocol, seconds));
                gateways.losses(GATEWAY)
            };
            // It is not known, and then another.
            assert_eq!(take(from(GATEWAY_PORT), 0), 0);
            assert_eq!(gateways.heard(GATEWAY, protocol, 5_000), 0);
            assert_eq!(take(([192, 168, 1, 2], GATEWAY_PORT).into(), 0), 0);
            // Its clock goes on, and begins anew; repeated, that is one loss.
            assert_eq!(take(from(GATEWAY_PORT), 5_000), 0);
            assert_eq!(take(from(GATEWAY_PORT), 0), 1);
            assert_eq!(take(from(GATEWAY_PORT), 0), 1);
            gateways.core.take(from(GATEWAY_PORT), b"something else");
            assert_eq!(gateways.losses(GATEWAY), 1);
        }
        // RFC 6886 section 3.2.1 asks for the address alone.
        for (protocol, losses) in [(Protocol::NatPmp, 1), (Protocol::Pcp, 0)] {
            let gateways = Gateways::default();
            let _ = gateways.heard(GATEWAY, protocol, 5_000);
            gateways.core.take(from(9), &announcement(protocol, 0));
            assert_eq!(gateways.losses(GATEWAY), losses);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn announcements_are_heard_beside_another_program_that_hears_them() {
        let [one, _other] = [open(), open()].map(|socket| socket.expect("the port is shared"));
        let gateways = Gateways::default();
        let own = Ipv4Addr::LOCALHOST;
        let _ = gateways.heard(own, Protocol::NatPmp, 5_000);
        drop(one);
        // By unicast to a socket of its own: the link of the machine that runs this is no business of a test.
        let socket = UdpSocket::bind((own, 0)).await.expect("a port");
        let to = socket.local_addr().expect("it is bound");
        let heard = tokio::spawn(hear(socket, Arc::downgrade(&gateways.core)));
        let gateway = UdpSocket::bind((own, 0)).await.expect("a port");
        let packet = announcement(Protocol::NatPmp, 0);
        gateway.send_to(&packet, to).await.expect("it is sent");
        gateways.lost(own, 0).await;
        heard.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_asks_and_what_was_refused_meanwhile_is_refused_to_all() {
        let gateways = Gateways::default();
        let turn = gateways.turn(GATEWAY).await;
        let waits = gateways.clone();
        let waits = tokio::spawn(async move {
            let wanted = Instant::now();
            let _turn = waits.turn(GATEWAY).await;
            waits.refusal(GATEWAY, wanted)
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waits.is_finished());
        gateways.refuse(GATEWAY, PortMappingError::NoAnswer.into());
        drop(turn);
        let refused = waits.await.expect("it ends");
        assert_eq!(refused, Some(PortMappingError::NoAnswer.into()));
        // Who wants one later asks anew, unless the gateway has said how long it refuses.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(gateways.refusal(GATEWAY, Instant::now()), None);
        let refusal = Refusal {
            error: PortMappingError::Refused,
            lasts: Duration::from_secs(30),
        };
        gateways.refuse(GATEWAY, refusal);
        assert_eq!(gateways.refusal(GATEWAY, Instant::now()), Some(refusal));
        tokio::time::sleep(refusal.lasts).await;
        assert_eq!(gateways.refusal(GATEWAY, Instant::now()), None);
    }
}
