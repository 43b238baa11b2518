//! A worker's beginning and end.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use nilas_turn::server::{MIN_BUFFER, Server as Core, ServerConfig as TurnConfig, WorkerId};
use quinn_udp::UdpSocketState;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

use super::batch::{Inbound, Run};
use super::handover::{Mailbox, Order, Post};
use super::{Listener, Shared, Worker};

/// What a worker is made of, before it has a thread.
pub(crate) struct Parts {
    pub(crate) id: WorkerId,
    /// Its sockets for clients over UDP; the place of each is its number for the core.
    pub(crate) udp: Vec<std::net::UdpSocket>,
    pub(crate) post: Post,
    /// Seeds of the core and of the choice of ports, each from the system's generator.
    pub(crate) seeds: [[u8; 32]; 2],
}

/// The threads of a server. They end when this is dropped.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Ready when a thread has ended, which none does by itself.
    ended: oneshot::Receiver<()>,
}

impl Workers {
    /// Starts a thread for each worker.
    pub(crate) fn start(
        shared: Arc<Shared>,
        config: &Arc<TurnConfig>,
        parts: Vec<Parts>,
    ) -> io::Result<Self> {
        let (sender, ended) = oneshot::channel();
        let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
        let mut workers = Self {
            shared,
            threads: Vec::new(),
            ended,
        };
        for parts in parts {
            let (shared, config) = (Arc::clone(&workers.shared), Arc::clone(config));
            let end = End(Arc::clone(&sender));
            let thread = std::thread::Builder::new()
                .name(format!("relay-{}", parts.id.0))
                .spawn(move || {
                    let _end = end;
                    run(shared, config, parts)
                })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Waits until a thread ends, and gives its reason.
    ///
    /// # Panics
    /// With the thread's panic.
    pub(crate) async fn failed(&mut self) -> io::Error {
        let _ = (&mut self.ended).await;
        for thread in self.stop() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        io::Error::other("a thread ended without a reason")
    }

    fn stop(&mut self) -> Vec<JoinHandle<io::Result<()>>> {
        for mailbox in &self.shared.mailboxes {
            mailbox.order(Order::Stop);
        }
        core::mem::take(&mut self.threads)
    }
}

impl Drop for Workers {
    /// Waits for the threads, so that their ports are free afterwards.
    fn drop(&mut self) {
        for thread in self.stop() {
            let _ = thread.join();
        }
    }
}

/// Tells that a thread has ended, however that came about.
struct End(Arc<std::sync::Mutex<Option<oneshot::Sender<()>>>>);

impl Drop for End {
    fn drop(&mut self) {
        let sender = self.0.lock().ok().and_then(|mut sender| sender.take());
        if let Some(sender) = sender {
            let _ = sender.send(());
        }
    }
}

/// Makes mailboxes for so many workers.
pub(crate) fn mailboxes(workers: u8) -> (Vec<Mailbox>, Vec<Post>) {
    (0..workers).map(|_| Mailbox::new()).unzip()
}

fn run(shared: Arc<Shared>, config: Arc<TurnConfig>, parts: Parts) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let Parts {
            id,
            udp,
            post,
            seeds,
        } = parts;
        let mut listeners = Vec::new();
        for socket in udp {
            listeners.push(listener(socket)?);
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay_state = UdpSocketState::new((&std::net::UdpSocket::bind(any)?).into())?;
        let [core_seed, port_seed] = seeds;
        let worker = Rc::new(Worker {
            id,
            core: RefCell::new(Core::new(config, Arc::clone(&shared.common), id, core_seed)),
            rng: RefCell::new(ChaCha12Rng::from_seed(port_seed)),
            listeners,
            run: RefCell::new(Run::new(relay_state.max_gso_segments())),
            relay_state,
            relays: RefCell::default(),
            routes: RefCell::default(),
            inbound: RefCell::new(Inbound::new()),
            answer: RefCell::new(Box::new([0; MIN_BUFFER])),
            deadline: Cell::new(None),
            hurried: Notify::new(),
            shared,
        });
        for index in 0..worker.listeners.len() {
            tokio::task::spawn_local(Rc::clone(&worker).listen(index));
        }
        tokio::task::spawn_local(Rc::clone(&worker).keep_time());
        worker.live(post).await;
        Ok(())
    })
}

fn listener(socket: std::net::UdpSocket) -> io::Result<Listener> {
    let socket = UdpSocket::from_std(socket)?;
    let state = UdpSocketState::new((&socket).into())?;
    Ok(Listener {
        local: socket.local_addr()?,
        segments: Cell::new(state.max_gso_segments() > 1),
        state,
        socket,
    })
}

impl Worker {
    /// Follows orders and opens letters, until the end.
    async fn live(self: Rc<Self>, mut post: Post) {
        loop {
            tokio::select! {
                biased;
                order = post.orders.recv() => match order {
                    None | Some(Order::Stop) => return,
                    Some(order) => self.follow(order),
                },
                Some(letter) = post.letters.recv() => self.open_letter(&letter),
            }
        }
    }

    /// Asks the core when it wants to be asked.
    async fn keep_time(self: Rc<Self>) {
        loop {
            let deadline = self.deadline.get();
            let due = async {
                match deadline {
                    Some(deadline) => {
                        tokio::time::sleep_until(self.shared.clock.instant(deadline)).await;
                    }
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    self.pump(self.shared.clock.now());
                    self.flush();
                }
                () = self.hurried.notified() => {}
            }
        }
    }
}
