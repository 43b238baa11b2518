//! Datagrams of clients: the way from a client to a peer.

use std::rc::Rc;

use nilas_net::TrafficClass;
use nilas_turn::Time;
use nilas_turn::server::{Handled, Input, ListenerId, Path};
use quinn_udp::BATCH_SIZE;
use tokio::io::Interest;

use super::Worker;
use super::batch::Received;
use super::dtls::is_dtls;

/// After an error that is not a datagram's, so that it cannot keep a core busy.
const ERROR_PAUSE: core::time::Duration = core::time::Duration::from_millis(10);

/// With so many datagrams taken in they are sent on, and others have their turn. A server that can hardly keep up finds
/// that many; then several of each of a hundred flows are among them.
const MOST_AT_ONCE: u64 = 1_024;

impl Worker {
    /// Serves a listener for as long as it is polled.
    pub(super) async fn listen(self: Rc<Self>, index: usize) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        loop {
            let ready = listener.socket.ready(Interest::READABLE).await;
            let received = match ready {
                Ok(_) => listener
                    .socket
                    .try_io(Interest::READABLE, || self.receive_clients(index)),
                Err(error) => Err(error),
            };
            match received {
                // Others have their turn, too.
                Ok(()) => tokio::task::yield_now().await,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "receiving a datagram failed");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Takes in what has arrived, and sends it on together, so that what goes the same way goes with few system calls.
    /// `WouldBlock` if that was all there is.
    fn receive_clients(self: &Rc<Self>, index: usize) -> std::io::Result<()> {
        let listener = &self.listeners[index];
        let mut inbound = self.inbound.borrow_mut();
        let mut count = 0;
        let mut result = Ok(());
        while count < MOST_AT_ONCE {
            let received = inbound.receive(
                listener.socket.socket(),
                &listener.state,
                BATCH_SIZE,
                &listener.marks,
            );
            let more = match received {
                Ok(more) => more,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            self.catch_up();
            let now = self.shared.clock.now();
            for received in inbound.datagrams() {
                count += 1;
                self.client_datagram(now, index, &received);
            }
            if !more {
                // Fewer than there was room for: saying so makes the runtime wait for the next, and saves a call that
                // would bring nothing.
                result = Err(std::io::ErrorKind::WouldBlock.into());
                break;
            }
        }
        self.flush();
        if count > 0 {
            self.pump(self.shared.clock.now());
            self.shared.counters.udp_received.add(count);
        }
        result
    }

    fn client_datagram(self: &Rc<Self>, now: Time, index: usize, received: &Received<'_>) {
        let listener = &self.listeners[index];
        if let Some(dtls) = &listener.dtls
            && is_dtls(received.bytes)
        {
            return self.dtls_datagram(now, index, dtls, received);
        }
        let path = Path::Datagram {
            // There are few listeners.
            listener: ListenerId(index as u32),
            client: received.from,
            server: listener.server_address(received.to),
        };
        self.routed_datagram(now, path, received.bytes, received.class);
    }

    /// Gives a datagram to the core whose it is.
    pub(super) fn routed_datagram(
        self: &Rc<Self>,
        now: Time,
        path: Path,
        bytes: &[u8],
        class: TrafficClass,
    ) {
        let routes = self.routes.borrow();
        if !routes.is_empty()
            && let Some(worker) = routes.get(&path).copied()
        {
            return self.hand_over(worker, path, bytes, class);
        }
        drop(routes);
        self.datagram(now, path, bytes, class);
    }

    /// Gives a datagram to the core, and does what it says.
    pub(super) fn datagram(
        self: &Rc<Self>,
        now: Time,
        path: Path,
        bytes: &[u8],
        class: TrafficClass,
    ) {
        let handled = self
            .core
            .borrow_mut()
            .handle(now, Input::ClientDatagram { path, bytes });
        if handled == Handled::Done {
            if matches!(bytes.first(), Some(0..=3)) {
                // It may have led to an answer; the core keeps few of them.
                self.pump(now);
            }
            return;
        }
        self.act(handled, path, bytes, class);
    }
}
