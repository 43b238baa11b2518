//! What happens behind the owner's back: what the server sends is taken in, time passes, streams are opened anew.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nilas_turn::client::Received;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{TlsSource, open_link};
use super::link::LinkReceiver;
use super::shared::Shared;
use super::{RelayError, RelayRequest};
use crate::dns::ServerAddress;

/// Data for the owner that waits for him; more is lost, as on any network.
pub(super) const QUEUED_DATA: usize = 1024;
/// How long a server is waited for that is told that the allocation is not needed any more.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);
/// A stream that broke is opened again this often, after pauses that double from the first.
const REOPEN_ATTEMPTS: u32 = 5;
const REOPEN_PAUSE: Duration = Duration::from_millis(250);
/// After so many datagrams others have their turn.
const DATAGRAMS_AT_ONCE: usize = 256;

/// What came from a peer.
pub(super) type Data = (SocketAddr, Vec<u8>);

pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) receiver: LinkReceiver,
    pub(super) data: mpsc::Sender<Data>,
    pub(super) server: ServerAddress,
    pub(super) request: RelayRequest,
    pub(super) tls: TlsSource,
}

impl Task {
    /// Runs until there is no allocation any more. It gives the allocation back when its owner is gone.
    pub(super) async fn run(mut self) {
        let mut owned = true;
        let mut give_up: Option<Instant> = None;
        let mut reading = true;
        loop {
            let deadline = {
                let mut core = self.shared.core();
                self.shared.pump(&mut core);
                if core.ended.is_some() {
                    // Waiters look again; `pump` told only what the client told.
                    self.shared.changed.send_replace(());
                    return;
                }
                core.client.deadline()
            };
            let deadline = deadline.map(|time| self.shared.instant(time));
            let next = deadline.into_iter().chain(give_up).min();
            let lost = tokio::select! {
                came = self.receiver.wait(), if reading => match came {
                    Ok(()) => self.take_in(),
                    Err(error) => Err(error),
                },
                () = self.shared.wake.notified() => Ok(()),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => Ok(()),
                () = self.data.closed(), if owned => {
                    owned = false;
                    give_up = Some(Instant::now() + RELEASE_PATIENCE);
                    self.shared.core().client.release();
                    Ok(())
                }
            };
            if give_up.is_some_and(|at| at <= Instant::now()) {
                self.shared.core().end(RelayError::Released);
            }
            if let Err(error) = lost
                && self.lost(error, owned).await.is_err()
            {
                reading = false;
            }
        }
    }

    /// Takes in what has come. An error means that the link is lost.
    fn take_in(&mut self) -> io::Result<()> {
        // What was read of a stream is little, and no more is read before all of it is taken.
        let most = match self.receiver {
            LinkReceiver::Udp { .. } => DATAGRAMS_AT_ONCE,
            LinkReceiver::Stream { .. } => usize::MAX,
        };
        for _ in 0..most {
            let message = match self.receiver.message() {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let bytes = message.bytes();
            let received = {
                let mut core = self.shared.core();
                let received = core.client.handle(self.shared.now(), bytes);
                if received == Received::Consumed {
                    // A permission that was granted is no event of the client's, and somebody may wait for it.
                    self.shared.pump(&mut core);
                    self.shared.changed.send_replace(());
                }
                received
            };
            if let Received::Data { peer, range } = received
                && self.data.try_send((peer, bytes[range].to_vec())).is_err()
            {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The link is lost: another one is made where that can help.
    async fn lost(&mut self, error: io::Error, owned: bool) -> Result<(), ()> {
        let datagrams = matches!(self.receiver, LinkReceiver::Udp { .. });
        let mut why = error.to_string();
        let ended = {
            let mut core = self.shared.core();
            match (core.allocations > 0, datagrams) {
                // RFC 8489 section 6.2.1: a hard error of ICMP ends the transaction. Anyone can forge one, so once
                // there is an allocation it only counts as one more packet that was lost.
                (true, true) => return Ok(()),
                (false, true) => {
                    let server = core.server;
                    let error = error.into();
                    core.end(RelayError::Socket { server, error });
                    true
                }
                (false, false) => {
                    let server = core.server;
                    let why = why.clone();
                    core.end(RelayError::Lost { server, why });
                    true
                }
                (true, false) if !owned => {
                    core.end(RelayError::Released);
                    true
                }
                (true, false) => false,
            }
        };
        if ended {
            return Err(());
        }
        for attempt in 0..REOPEN_ATTEMPTS {
            let pause = if attempt == 0 {
                Duration::ZERO
            } else {
                REOPEN_PAUSE * (1 << (attempt - 1))
            };
            let opened = tokio::select! {
                opened = async {
                    sleep(pause).await;
                    open_link(&self.server, &self.request, &self.tls).await
                } => opened,
                () = self.data.closed() => break,
                // The owner gives the allocation back, which went with the stream.
                () = released(&self.shared) => break,
            };
            match opened {
                Ok((sender, receiver, _)) => {
                    self.receiver = receiver;
                    let mut core = self.shared.core();
                    core.link = sender;
                    core.client.reconnected();
                    return Ok(());
                }
                Err(error) => why = error.to_string(),
            }
        }
        let mut core = self.shared.core();
        let server = core.server;
        core.end(RelayError::Lost { server, why });
        Err(())
    }
}

/// Waits until the client has ended.
async fn released(shared: &Shared) {
    let mut changed = shared.changed.subscribe();
    loop {
        {
            let mut core = shared.core();
            shared.pump(&mut core);
            if core.ended.is_some() {
                return;
            }
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
