//! A worker's beginning and end.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use nilas_net::stream::{DtlsLimits, DtlsServer};
use nilas_net::{Watched, tell_own_address, udp_state};
use nilas_turn::server::{MIN_BUFFER, Server as Core, ServerConfig as TurnConfig, WorkerId};
use quinn_udp::UdpSocketState;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use super::batch::{Inbound, Runs};
use super::dtls::Dtls;
use super::handover::{Letter, Mailbox, Order, Post};
use super::marks::Marks;
use super::options::tell_traffic_class;
use super::send::first_segments;
use super::{Listener, Shared, Worker};
use crate::web::Web;

/// What is read of a stream at one time.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What a worker is made of, before it has a thread.
pub(crate) struct Parts {
    pub(crate) id: WorkerId,
    /// Its sockets for clients over UDP; the place of each is its number for the core.
    pub(crate) udp: Vec<std::net::UdpSocket>,
    /// From which of these on they serve DTLS, too.
    pub(crate) dtls_from: usize,
    /// Its listeners for clients over TCP and TLS.
    pub(crate) tcp: Vec<std::net::TcpListener>,
    pub(crate) dtls_limits: DtlsLimits,
    pub(crate) web: Web,
    pub(crate) post: Post,
    /// Seeds of the core, of the choice of ports, and of the cookies of DTLS, each from the system's generator.
    pub(crate) seeds: [[u8; 32]; 3],
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

    /// Lets go of what tells clients of the rendezvous that the server ends.
    pub(crate) fn farewell(&self) {
        for mailbox in &self.shared.mailboxes {
            mailbox.order(Order::Farewell);
        }
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
            dtls_from,
            tcp,
            dtls_limits,
            web,
            post,
            seeds,
        } = parts;
        let [core_seed, port_seed, cookie_seed] = seeds;
        let mut listeners = Vec::new();
        for (place, socket) in udp.into_iter().enumerate() {
            let mut listener = listener(socket)?;
            if place >= dtls_from {
                listener.dtls = dtls(&shared, dtls_limits, &cookie_seed);
            }
            listeners.push(listener);
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay_state = UdpSocketState::new((&std::net::UdpSocket::bind(any)?).into())?;
        let worker = Rc::new(Worker {
            id,
            core: RefCell::new(Core::new(config, Arc::clone(&shared.common), id, core_seed)),
            rng: RefCell::new(ChaCha12Rng::from_seed(port_seed)),
            listeners,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            runs: RefCell::new(Runs::new(relay_state.max_gso_segments())),
            relay_state,
            relays: RefCell::default(),
            streams: RefCell::default(),
            next_stream: Cell::new(0),
            peers: RefCell::default(),
            web: RefCell::new(Some(web)),
            foreign: RefCell::default(),
            visiting: Cell::new(None),
            routes: RefCell::default(),
            orders: RefCell::new(post.orders),
            stopped: Cell::new(false),
            inbound: RefCell::new(Inbound::new()),
            answer: RefCell::new(Box::new([0; MIN_BUFFER])),
            deadline: Cell::new(None),
            hurried: Notify::new(),
            shared,
        });
        for index in 0..worker.listeners.len() {
            tokio::task::spawn_local(Rc::clone(&worker).listen(index));
            tokio::task::spawn_local(Rc::clone(&worker).keep_dtls_time(index));
        }
        for listener in tcp {
            let listener = TcpListener::from_std(listener)?;
            tokio::task::spawn_local(Rc::clone(&worker).accept_streams(listener));
        }
        tokio::task::spawn_local(Rc::clone(&worker).keep_time());
        worker.live(post.letters).await;
        Ok(())
    })
}

fn listener(socket: std::net::UdpSocket) -> io::Result<Listener> {
    let state = udp_state(&socket)?;
    let local = socket.local_addr()?;
    tell_traffic_class(&socket, true);
    if local.ip().is_unspecified() {
        tell_own_address(&socket)?;
    }
    let socket = Watched::new(socket)?;
    Ok(Listener {
        local,
        segments: Cell::new(first_segments(&state)),
        state,
        socket,
        marks: Marks::default(),
        dtls: None,
    })
}

/// The DTLS of a socket, if the certificate serves for it.
fn dtls(shared: &Shared, limits: DtlsLimits, seed: &[u8; 32]) -> Option<Dtls> {
    let certificate = shared.tls.as_ref()?.certificate.dtls_certificate();
    match DtlsServer::new(certificate, limits, seed, std::time::Instant::now()) {
        Ok(server) => Some(Dtls::new(server)),
        Err(error) => {
            tracing::warn!(%error, "there is no DTLS");
            None
        }
    }
}

impl Worker {
    /// Follows orders and opens letters, until the end.
    async fn live(self: Rc<Self>, mut letters: mpsc::Receiver<Letter>) {
        while !self.stopped.get() {
            tokio::select! {
                biased;
                order = core::future::poll_fn(|cx| self.orders.borrow_mut().poll_recv(cx)) => {
                    match order {
                        None => return,
                        Some(order) => self.follow(order),
                    }
                }
                Some(letter) = letters.recv() => self.open_letter(&letter),
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
