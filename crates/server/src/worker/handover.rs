//! What one worker gives another: what belongs to the other's core, and where that wants it to go.

use std::rc::Rc;
use std::sync::Arc;

use nilas_net::TrafficClass;
use nilas_turn::server::{Input, Path, ServerConfig as TurnConfig, WorkerId};
use tokio::sync::mpsc;

use super::Worker;
use super::dtls::dtls_listener;
use super::streams::Visitor;

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

/// A datagram for another worker.
pub(crate) struct Letter {
    pub(super) from: WorkerId,
    pub(super) way: LetterWay,
    pub(super) path: Path,
    pub(super) bytes: Box<[u8]>,
    /// How it is marked.
    pub(super) class: TrafficClass,
}

/// Which way a letter's datagram goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LetterWay {
    /// From a client whose allocation is the receiver's.
    In,
    /// To a client whose DTLS session is the receiver's.
    Out,
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
    /// A path is gone.
    PathClosed(Path),
    /// A stream that is the receiver's.
    Stream(Box<Visitor>),
    /// There is another certificate.
    Certificate,
    /// Take no more connections: the server ends, when those that are told so have gone.
    Farewell,
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
    /// Gives a client's datagram to the worker whose it is.
    pub(super) fn hand_over(
        &self,
        worker: WorkerId,
        path: Path,
        bytes: &[u8],
        class: TrafficClass,
    ) {
        self.send_letter(worker, LetterWay::In, path, bytes, class);
    }

    /// Sends a message to a client whose DTLS session is another worker's.
    pub(super) fn send_abroad(&self, path: Path, bytes: &[u8], class: TrafficClass) {
        let visiting = self
            .visiting
            .get()
            .filter(|(visiting, _)| *visiting == path);
        let worker = visiting
            .map(|(_, worker)| worker)
            .or_else(|| self.foreign.borrow().get(&path).copied());
        if let Some(worker) = worker {
            self.send_letter(worker, LetterWay::Out, path, bytes, class);
        }
    }

    fn send_letter(
        &self,
        worker: WorkerId,
        way: LetterWay,
        path: Path,
        bytes: &[u8],
        class: TrafficClass,
    ) {
        let letter = Letter {
            from: self.id,
            way,
            path,
            bytes: bytes.into(),
            class,
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
        if letter.way == LetterWay::Out {
            if let Path::Datagram {
                listener, client, ..
            } = letter.path
                && let Some(index) = dtls_listener(listener)
            {
                self.send_dtls(index, client, [&letter.bytes, &[], &[]], letter.class);
            }
            return;
        }
        let now = self.shared.clock.now();
        self.visiting.set(Some((letter.path, letter.from)));
        self.datagram(now, letter.path, &letter.bytes, letter.class);
        self.flush();
        self.pump(now);
        self.visiting.set(None);
    }

    /// Follows the orders that have come. An order that another worker gave before it answered a client is followed
    /// before what that client sends next.
    pub(super) fn catch_up(self: &Rc<Self>) {
        loop {
            let order = self.orders.borrow_mut().try_recv();
            match order {
                Ok(order) => self.follow(order),
                Err(_) => return,
            }
        }
    }

    pub(super) fn follow(self: &Rc<Self>, order: Order) {
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
            Order::PathClosed(path) => Input::PathClosed(path),
            Order::Stream(visitor) => {
                if let Err(error) = self.welcome(*visitor) {
                    tracing::debug!(%error, "a connection was lost between two threads");
                }
                return;
            }
            Order::Certificate => return self.change_certificate(),
            Order::Farewell => {
                *self.web.borrow_mut() = None;
                return;
            }
            Order::Stop => {
                self.stopped.set(true);
                return;
            }
        };
        self.tell_core(input);
    }

    fn change_certificate(&self) {
        let Some(tls) = &self.shared.tls else { return };
        for dtls in self
            .listeners
            .iter()
            .filter_map(|listener| listener.dtls.as_ref())
        {
            dtls.change_certificate(&tls.certificate);
        }
    }
}
