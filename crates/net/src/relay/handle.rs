//! What the owner of an allocation does with it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nilas_stun::TransactionId;
use nilas_turn::client::{Framing, MAX_HEAD, Permission};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::shared::{Core, Shared};
use super::task::Data;
use super::{RelayError, RelaySendError};
use crate::dns::ServerAddress;

/// How long a server's word on a peer is waited for: over UDP its request is sent six times by then.
const PEER_PATIENCE: Duration = Duration::from_secs(10);
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// An allocation on a TURN server. Dropping it gives it back, in the background.
///
/// A peer is let through by [`permit`](Self::permit); data goes by [`try_send`](Self::try_send) and comes by
/// [`recv`](Self::recv). A [`bind`](Self::bind) makes it four bytes longer instead of 36.
pub struct Relay {
    shared: Arc<Shared>,
    data: mpsc::Receiver<Data>,
    server: ServerAddress,
    local: SocketAddr,
    times: RelayTimes,
}

/// How long it took to get an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayTimes {
    /// To an open connection, with its handshake; for UDP next to nothing.
    pub connect: Duration,
    /// From there to the allocation.
    pub allocate: Duration,
}

impl Relay {
    pub(super) const fn new(
        shared: Arc<Shared>,
        data: mpsc::Receiver<Data>,
        server: ServerAddress,
        local: SocketAddr,
        times: RelayTimes,
    ) -> Self {
        Self {
            shared,
            data,
            server,
            local,
            times,
        }
    }

    /// The server that gave it, which may be another than was asked first (RFC 8489 section 10).
    #[must_use]
    pub const fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// The local end of the connection to the server; another one after that broke.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// How long it took.
    #[must_use]
    pub const fn times(&self) -> RelayTimes {
        self.times
    }

    /// The relayed addresses, one or two; none while a lost allocation is being replaced.
    #[must_use]
    pub fn relayed(&self) -> Vec<SocketAddr> {
        self.shared.core().client.relayed().to_vec()
    }

    /// This client's address as the server saw it at the last allocation.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.shared.core().mapped
    }

    /// How many allocations there have been: more than one after one was lost and replaced. Each has other
    /// relayed addresses.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.shared.core().allocations
    }

    /// Datagrams that were dropped because [`recv`](Self::recv) was not called often enough.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Lets a peer's address through (RFC 8656 section 9), and waits until the server has agreed. The permission
    /// is renewed as long as the allocation lives, or until [`forget`](Self::forget).
    ///
    /// # Errors
    /// When the server refuses, does not answer, or cannot reach the peer's family.
    pub async fn permit(&self, peer: SocketAddr) -> Result<(), RelaySendError> {
        self.wait(|core, now| {
            core.admit(now, peer)?;
            Ok((core.client.permission(now, peer) == Permission::Granted).then_some(()))
        })
        .await
    }

    /// Binds a channel to a peer (RFC 8656 section 12), and waits until the server has agreed.
    ///
    /// # Errors
    /// As [`permit`](Self::permit).
    pub async fn bind(&self, peer: SocketAddr) -> Result<(), RelaySendError> {
        self.permit(peer).await?;
        self.wait(|core, now| {
            core.admit(now, peer)?;
            core.client.bind(now, peer);
            let framing = core.client.framing(now, peer);
            Ok(matches!(framing, Framing::Channel { .. }).then_some(()))
        })
        .await
    }

    /// A peer is of no use any more: its permission and its channel are left to expire.
    pub fn forget(&self, peer: SocketAddr) {
        self.shared.core().client.forget(peer);
    }

    /// Sends data to a peer, if it can leave now. A peer that was not let through yet is asked for on the way;
    /// a server may drop what comes before it has agreed.
    ///
    /// # Errors
    /// [`RelaySendError::Full`] when it cannot leave now; others when it never will.
    pub fn try_send(&self, peer: SocketAddr, data: &[u8]) -> Result<(), RelaySendError> {
        let mut core = self.shared.core();
        let now = self.shared.now();
        core.admit(now, peer)?;
        if core.client.permission(now, peer) != Permission::Granted {
            self.shared.pump(&mut core);
            self.shared.wake.notify_one();
        }
        let framing = core.client.framing(now, peer);
        let id = match framing {
            // Neither has an id.
            Framing::Channel { .. } | Framing::Length => [0; 12],
            Framing::Send { .. } => transaction_id()?,
        };
        let mut head = [0; MAX_HEAD];
        let (front, padding) = framing
            .write(&mut head, TransactionId::new(id), data.len())
            .ok_or(RelaySendError::TooLong)?;
        let mut message = Vec::with_capacity(front + data.len() + padding);
        message.extend_from_slice(&head[MAX_HEAD - front..]);
        message.extend_from_slice(data);
        message.resize(front + data.len() + padding, 0);
        core.link.send(&message, false).map_err(link_error)
    }

    /// Sends datagrams of `size` bytes each, the last one possibly shorter, that stand one after another in `data`:
    /// as many from the front as can leave now, over UDP with few system calls. Says how many bytes of `data` that
    /// was. The peer must have a [channel](Self::bind).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); `NoChannel` where there is none.
    pub fn try_send_many(
        &self,
        peer: SocketAddr,
        data: &[u8],
        size: usize,
    ) -> Result<usize, RelaySendError> {
        if size == 0 {
            return Err(RelaySendError::TooLong);
        }
        let mut core = self.shared.core();
        let now = self.shared.now();
        core.admit(now, peer)?;
        let framing @ Framing::Channel { .. } = core.client.framing(now, peer) else {
            return Err(RelaySendError::NoChannel { peer });
        };
        let mut messages = Vec::with_capacity(data.len() + data.len().div_ceil(size) * 8);
        let mut each = 0;
        for datagram in data.chunks(size) {
            let mut head = [0; MAX_HEAD];
            let (front, padding) = framing
                .write(&mut head, TransactionId::new([0; 12]), datagram.len())
                .ok_or(RelaySendError::TooLong)?;
            messages.extend_from_slice(&head[MAX_HEAD - front..]);
            messages.extend_from_slice(datagram);
            messages.resize(messages.len() + padding, 0);
            each = each.max(front + datagram.len() + padding);
        }
        let sent = core.link.send_all(&messages, each).map_err(link_error)?;
        Ok((sent.div_ceil(each.max(1)) * size).min(data.len()))
    }

    /// Sends data to a peer as soon as it can leave.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), but for `Full`.
    pub async fn send(&self, peer: SocketAddr, data: &[u8]) -> Result<(), RelaySendError> {
        loop {
            match self.try_send(peer, data) {
                Err(RelaySendError::Full) => {
                    let room = self.shared.core().link.room();
                    room.wait().await;
                }
                sent => return sent,
            }
        }
    }

    /// The next datagram of a peer. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// When there is no allocation any more, and why.
    pub async fn recv(&mut self) -> Result<(SocketAddr, Vec<u8>), RelayError> {
        match self.data.recv().await {
            Some(data) => Ok(data),
            // Its task has ended, and left the reason.
            None => Err(self.ended().unwrap_or(RelayError::Released)),
        }
    }

    /// The next datagram of a peer, if one is there.
    pub fn try_recv(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.data.try_recv().ok()
    }

    /// Why there is no allocation any more, if so.
    #[must_use]
    pub fn ended(&self) -> Option<RelayError> {
        self.shared.core().ended.clone()
    }

    /// Waits until a lost allocation is replaced, or this is at least number `allocations` of them.
    ///
    /// # Errors
    /// When there will be none.
    pub async fn reallocated(&self, allocations: u64) -> Result<(), RelayError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            {
                let core = self.shared.core();
                if let Some(error) = &core.ended {
                    return Err(error.clone());
                }
                if core.allocations >= allocations {
                    return Ok(());
                }
            }
            if changed.changed().await.is_err() {
                return Err(RelayError::Released);
            }
        }
    }

    /// Gives the allocation back (RFC 8656 section 8) and waits until the server knows, or for three seconds.
    pub async fn release(self) {
        self.shared.core().client.release();
        self.shared.wake.notify_one();
        // A server that does not answer forgets it by itself, later.
        let _ = timeout(RELEASE_PATIENCE, self.reallocated(u64::MAX)).await;
    }

    pub(super) const fn set_allocate_time(&mut self, time: Duration) {
        self.times.allocate = time;
    }

    /// Where the server sends its clients instead.
    pub(super) fn redirected(&self) -> Option<(SocketAddr, Option<String>)> {
        self.shared.core().redirected.clone()
    }

    /// Waits until `done` gives something, or an error.
    async fn wait(
        &self,
        mut done: impl FnMut(&mut Core, nilas_turn::Time) -> Result<Option<()>, RelaySendError>,
    ) -> Result<(), RelaySendError> {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                {
                    let mut core = self.shared.core();
                    let result = done(&mut core, self.shared.now());
                    self.shared.pump(&mut core);
                    self.shared.wake.notify_one();
                    if let Some(()) = result? {
                        return Ok(());
                    }
                }
                if changed.changed().await.is_err() {
                    return Err(RelaySendError::Absent);
                }
            }
        };
        timeout(PEER_PATIENCE, waiting)
            .await
            .unwrap_or(Err(RelaySendError::TimedOut))
    }
}

impl Core {
    /// Makes the peer known to the client, if it can be reached at all.
    fn admit(&mut self, now: nilas_turn::Time, peer: SocketAddr) -> Result<(), RelaySendError> {
        if let Some(error) = &self.ended {
            return Err(RelaySendError::Ended(error.clone()));
        }
        if self.client.relayed().is_empty() {
            return Err(RelaySendError::Absent);
        }
        if !self.client.reaches(peer) {
            return Err(RelaySendError::Family { peer });
        }
        if self.client.permit(now, peer) {
            return Ok(());
        }
        match self.refused.iter().find(|(refused, _)| *refused == peer) {
            Some((_, code)) => Err(RelaySendError::PeerRefused { peer, code: *code }),
            // Another peer at the same address was refused, and so is this one.
            None => match self
                .refused
                .iter()
                .find(|(other, _)| other.ip() == peer.ip())
            {
                Some((_, code)) => Err(RelaySendError::PeerRefused { peer, code: *code }),
                None => Err(RelaySendError::TooManyPeers),
            },
        }
    }
}

fn link_error(error: io::Error) -> RelaySendError {
    if error.kind() == io::ErrorKind::WouldBlock {
        RelaySendError::Full
    } else {
        RelaySendError::Io(Arc::new(error))
    }
}

/// RFC 8489 section 5: uniformly random.
fn transaction_id() -> Result<[u8; 12], RelaySendError> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(|error| RelaySendError::Io(Arc::new(error.into())))?;
    Ok(id)
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("server", &self.server)
            .field("relayed", &self.relayed())
            .finish_non_exhaustive()
    }
}
