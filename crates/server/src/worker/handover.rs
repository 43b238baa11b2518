//! What one worker gives another: what belongs to the other's core, and where that wants it to go.

use std::rc::Rc;
use std::sync::Arc;

use nilas_turn::server::{Path, ServerConfig as TurnConfig, WorkerId};
use tokio::sync::mpsc;

use super::Worker;

/// More datagrams than these do not wait for a worker; what comes then is lost, as a datagram may be.
const MAX_LETTERS: usize = 1_024;

/// How to reach a worker.
pub(crate) struct Mailbox {
    letters: mpsc::Sender<Letter>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What a worker takes out of its mailbox.
pub(crate) struct Post {
    pub(super) letters: mpsc::Receiver<Letter>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

/// A datagram of a client whose allocation is the receiver's.
pub(crate) struct Letter {
    pub(super) path: Path,
    pub(super) bytes: Box<[u8]>,
}

/// What changes a worker. There are as many as operators and authenticated users cause.
pub(crate) enum Order {
    /// Another configuration holds.
    Config(Arc<TurnConfig>),
    /// No new allocations.
    Drain,
    /// What comes on this path is that worker's.
    Route(Path, WorkerId),
    /// It is nobody's in particular any more.
    Unroute(Path),
    /// The end.
    Stop,
}

impl Mailbox {
    /// A mailbox, and what comes out of it.
    pub(crate) fn new() -> (Self, Post) {
        let (letters, letters_out) = mpsc::channel(MAX_LETTERS);
        let (orders, orders_out) = mpsc::unbounded_channel();
        let post = Post {
            letters: letters_out,
            orders: orders_out,
        };
        (Self { letters, orders }, post)
    }

    /// Gives an order. A worker that is gone needs none.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

impl Worker {
    /// Gives a datagram to the worker whose it is.
    pub(super) fn hand_over(&self, worker: WorkerId, path: Path, bytes: &[u8]) {
        let letter = Letter {
            path,
            bytes: bytes.into(),
        };
        let sent = self
            .shared
            .mailboxes
            .get(usize::from(worker.0))
            .is_some_and(|mailbox| mailbox.letters.try_send(letter).is_ok());
        if !sent {
            self.shared.counters.handovers_lost.add(1);
        }
    }

    /// Tells all other workers.
    pub(super) fn tell_others(&self, order: impl Fn() -> Order) {
        for (number, mailbox) in self.shared.mailboxes.iter().enumerate() {
            if number != usize::from(self.id.0) {
                mailbox.order(order());
            }
        }
    }

    /// Takes a datagram that another worker gave.
    pub(super) fn open_letter(self: &Rc<Self>, letter: &Letter) {
        let now = self.shared.clock.now();
        self.datagram(now, letter.path, &letter.bytes);
        self.flush();
        self.pump(now);
    }

    pub(super) fn follow(self: &Rc<Self>, order: Order) {
        use nilas_turn::server::Input;
        let input = match order {
            Order::Config(config) => Input::ConfigChanged(config),
            Order::Drain => Input::Drain,
            Order::Route(path, worker) => {
                self.routes.borrow_mut().insert(path, worker);
                return;
            }
            Order::Unroute(path) => {
                self.routes.borrow_mut().remove(&path);
                return;
            }
            Order::Stop => return,
        };
        let now = self.shared.clock.now();
        let _ = self.core.borrow_mut().handle(now, input);
        self.pump(now);
    }
}
