//! Connects the rules of the rendezvous to the WebSockets: real time, and a bounded queue for each client.

use core::net::IpAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nilas_net::signaling::message::MAX_QUEUED_MESSAGES;
use tokio::sync::mpsc;

use crate::rendezvous::{
    ConnectionId, Input, Output, Rendezvous, RendezvousConfig, RendezvousCounts,
};

/// The most bytes that wait for one client: room for four of the largest messages.
const MAX_QUEUED_BYTES: usize = 256 * 1024;
/// How often expiry is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The rendezvous and its clients' queues.
pub(crate) struct Hub {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    rendezvous: Rendezvous,
    outboxes: BTreeMap<ConnectionId, Outbox>,
    next: u64,
}

struct Outbox {
    messages: mpsc::Sender<String>,
    queued_bytes: Arc<AtomicUsize>,
}

/// What the rules send to one client. It ends when the client is to be closed.
pub(crate) struct Inbox {
    messages: mpsc::Receiver<String>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// The next message, or `None` when there will be none. Nothing is lost when the future is dropped.
    pub(crate) async fn recv(&mut self) -> Option<String> {
        let text = self.messages.recv().await?;
        self.queued_bytes.fetch_sub(text.len(), Ordering::Relaxed);
        Some(text)
    }
}

/// A client's connection to the hub. Dropping it tells the rules that the client is gone.
pub(crate) struct Client {
    hub: Arc<Hub>,
    id: ConnectionId,
}

impl Client {
    pub(crate) fn text(&self, text: &str) {
        self.hub.handle(Input::Message {
            connection: self.id,
            text,
        });
    }

    pub(crate) fn not_text(&self) {
        self.hub.handle(Input::NotText {
            connection: self.id,
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hub.handle(Input::Closed {
            connection: self.id,
        });
        self.hub.state().outboxes.remove(&self.id);
    }
}

impl Hub {
    pub(crate) fn new(config: RendezvousConfig, seed: [u8; 32]) -> Self {
        let rendezvous = Rendezvous::new(config, seed);
        Self {
            began: Instant::now(),
            state: Mutex::new(State {
                rendezvous,
                outboxes: BTreeMap::new(),
                next: 0,
            }),
        }
    }

    pub(crate) fn open(self: &Arc<Self>, source: IpAddr) -> (Client, Inbox) {
        let (messages, to_send) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let id = {
            let mut state = self.state();
            let id = ConnectionId(state.next);
            state.next += 1;
            state.outboxes.insert(
                id,
                Outbox {
                    messages,
                    queued_bytes: Arc::clone(&queued_bytes),
                },
            );
            id
        };
        self.handle(Input::Opened {
            connection: id,
            source,
        });
        (
            Client {
                hub: Arc::clone(self),
                id,
            },
            Inbox {
                messages: to_send,
                queued_bytes,
            },
        )
    }

    /// Lets codes expire, for as long as it is polled.
    pub(crate) async fn tick(&self) {
        let mut interval = tokio::time::interval(TICK);
        loop {
            interval.tick().await;
            self.handle(Input::Tick);
        }
    }

    pub(crate) fn shut_down(&self) {
        self.handle(Input::Shutdown);
    }

    pub(crate) fn counts(&self) -> RendezvousCounts {
        self.state().rendezvous.counts()
    }

    fn handle(&self, input: Input<'_>) {
        let mut state = self.state();
        let State {
            rendezvous,
            outboxes,
            ..
        } = &mut *state;
        let now = self.began.elapsed();
        rendezvous.handle(now, input);
        while let Some(output) = rendezvous.poll() {
            match output {
                Output::Send { connection, text } => {
                    // A client that was to be closed gets nothing more.
                    let Some(outbox) = outboxes.get(&connection) else {
                        continue;
                    };
                    if !outbox.push(text) {
                        outboxes.remove(&connection);
                        rendezvous.handle(now, Input::Overflow { connection });
                    }
                }
                Output::Close { connection } => {
                    outboxes.remove(&connection);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The rules have no panics of their own. Were there one, going on with the rest is better than
        // refusing everybody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn push(&self, text: String) -> bool {
        let length = text.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        before + length <= MAX_QUEUED_BYTES && self.messages.try_send(text).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use nilas_net::signaling::message::MAX_MESSAGE_BYTES;

    use super::*;

    /// Two clients that have met, and what came to them until then taken away.
    async fn pair(hub: &Arc<Hub>) -> [(Client, Inbox); 2] {
        let mut pair = [(); 2].map(|()| hub.open(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        for (client, _) in &pair {
            client.text(r#"{"type":"hello","schema":"nilas.rendezvous/1"}"#);
            client.text(r#"{"type":"join","code":"7-amber-canyon","create":true}"#);
        }
        for (_, inbox) in &mut pair {
            while !inbox.recv().await.unwrap().contains("peer_joined") {}
        }
        pair
    }

    async fn drain(mut inbox: Inbox) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(text) = inbox.recv().await {
            messages += 1;
            bytes += text.len();
        }
        (messages, bytes)
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_a_bounded_queue() {
        for (length, most_messages) in [(MAX_MESSAGE_BYTES - 100, 3), (100, MAX_QUEUED_MESSAGES)] {
            let hub = Arc::new(Hub::new(RendezvousConfig::default(), [7; 32]));
            let [(a, a_inbox), (_b, b_inbox)] = pair(&hub).await;
            let signal = format!(r#"{{"type":"signal","signal":"{}"}}"#, "x".repeat(length));
            for _ in 0..4 * MAX_QUEUED_MESSAGES {
                a.text(&signal);
            }
            // Both inboxes end: the one that was full, and the one whose peer is gone.
            let (messages, bytes) = drain(b_inbox).await;
            assert!((1..=most_messages + 1).contains(&messages), "{messages}");
            assert!(bytes <= MAX_QUEUED_BYTES, "{bytes}");
            drain(a_inbox).await;
            assert_eq!(hub.counts().connections, 0);
        }
    }

    #[tokio::test]
    async fn what_is_taken_makes_room() {
        let hub = Arc::new(Hub::new(RendezvousConfig::default(), [7; 32]));
        let [(a, _a_inbox), (_b, mut b_inbox)] = pair(&hub).await;
        let signal = format!(
            r#"{{"type":"signal","signal":"{}"}}"#,
            "x".repeat(MAX_MESSAGE_BYTES - 100)
        );
        for _ in 0..50 {
            a.text(&signal);
            assert_eq!(b_inbox.recv().await.unwrap(), signal);
        }
    }

    #[tokio::test]
    async fn a_client_that_is_dropped_is_gone() {
        let hub = Arc::new(Hub::new(RendezvousConfig::default(), [7; 32]));
        let [a, (_b, mut b_inbox)] = pair(&hub).await;
        drop(a);
        assert!(b_inbox.recv().await.unwrap().contains("peer_left"));
        assert_eq!(b_inbox.recv().await, None);
        assert!(hub.state().outboxes.is_empty());
    }
}
