//! Asking and answering: who waits for a name, and the task that hears.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nilas_ice::{ResolveError, Time};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::links::{Ear, Heard, Links};
use super::resolver::{Answer, Queries};
use super::responder::{PORT, Responder};
use crate::clock::Clock;

/// Multicast DNS: resolves names on the link, and answers for this machine's own. Its sockets are open only while there is
/// something to ask or to answer. Clones are the same; with the last of them its names end.
#[derive(Clone, Debug, Default)]
pub struct Mdns {
    handle: Arc<Handle>,
}

/// What the clones have in common, without the task's share.
#[derive(Debug, Default)]
struct Handle {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    clock: Clock,
    state: Mutex<State>,
    /// There is something new to do.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    queries: Queries,
    responder: Responder,
    waiting: HashMap<String, Vec<oneshot::Sender<Result<IpAddr, ResolveError>>>>,
    links: Links,
    /// Whether a task hears.
    is_served: bool,
}

impl Mdns {
    /// The address of a name, within five seconds.
    ///
    /// # Errors
    /// `TimedOut` if nobody answers for it; `Other` if it has several addresses, or if too many names are asked for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn resolve(&self, name: &str) -> Result<IpAddr, ResolveError> {
        let (reply, answer) = oneshot::channel();
        let name = name.to_ascii_lowercase();
        self.change(|state, now| {
            if state.queries.ask(now, &name) {
                state.links.refresh();
                state.waiting.entry(name).or_default().push(reply);
            }
        });
        // A name that is not asked for has no sender.
        answer.await.unwrap_or(Err(ResolveError::Other))
    }

    /// Answers for a name with an address of this machine, on its interface, until it is unregistered. One that is
    /// registered stays as it is. False if there are too many.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn register(&self, name: &str, address: IpAddr) -> bool {
        self.change(|state, now| {
            if !state.links.has(address) {
                state.links.refresh();
            }
            state.responder.register(now, name, address)
        })
    }

    /// Answers for a name no more. The link is told before this returns.
    pub fn unregister(&self, name: &str) {
        let core = &self.handle.core;
        let now = core.clock.now();
        let mut state = core.lock();
        state.responder.unregister(now, name);
        state.pump(now);
    }

    /// Changes something, with a task that sees to what follows from it.
    fn change<T>(&self, change: impl FnOnce(&mut State, Time) -> T) -> T {
        let core = &self.handle.core;
        let now = core.clock.now();
        let mut state = core.lock();
        let result = change(&mut state, now);
        state.pump(now);
        if !state.is_served && !state.is_idle() {
            state.is_served = true;
            tokio::spawn(serve(Arc::clone(core)));
        }
        core.news.notify_one();
        result
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let now = self.core.clock.now();
        let mut state = self.core.lock();
        state.responder.unregister_all(now);
        state.pump(now);
        self.core.news.notify_one();
    }
}

impl Default for Core {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            state: Mutex::default(),
            news: Notify::new(),
        }
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears until there is nothing more to ask or to answer.
async fn serve(core: Arc<Core>) {
    let mut buffers = [Vec::new(), Vec::new()];
    loop {
        let (deadline, ears) = {
            let mut state = core.lock();
            state.pump(core.clock.now());
            if state.is_idle() {
                state.is_served = false;
                state.links = Links::default();
                return;
            }
            (state.deadline(), state.links.ears())
        };
        let timer = async {
            match deadline {
                Some(at) => sleep_until(Instant::from_std(core.clock.instant(at))).await,
                None => core::future::pending().await,
            }
        };
        let [v4, v6] = &mut buffers;
        tokio::select! {
            () = core.news.notified() => {}
            heard = Ear::hear(ears[0].as_deref(), v4) => core.take(&heard, v4),
            heard = Ear::hear(ears[1].as_deref(), v6) => core.take(&heard, v6),
            () = timer => {}
        }
    }
}

impl Core {
    fn take(&self, heard: &Heard, buffer: &[u8]) {
        let bytes = &buffer[..heard.length];
        let mut state = self.lock();
        let State {
            responder, links, ..
        } = &mut *state;
        let is_here = |address| links.is_of(heard, address);
        for response in responder.handle(self.clock.now(), heard.from, is_here, bytes) {
            links.answer(&response);
        }
        // RFC 6762: responses come from this port.
        if heard.from.port() == PORT {
            let answers = state.queries.handle(bytes);
            state.tell(answers);
        }
    }
}

impl State {
    /// Sends what is due, and tells what was waited for in vain.
    fn pump(&mut self, now: Time) {
        while let Some(question) = self.queries.poll(now) {
            self.links.ask(&question);
        }
        while let Some(response) = self.responder.poll(now) {
            self.links.answer(&response);
        }
        while let Some(answer) = self.queries.expired(now) {
            self.tell([answer]);
        }
    }

    fn tell(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for (name, result) in answers {
            for reply in self.waiting.remove(&name).unwrap_or_default() {
                // Whoever asked may be gone.
                let _ = reply.send(result);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.queries.is_empty() && self.responder.is_empty()
    }

    fn deadline(&self) -> Option<Time> {
        let times = [self.queries.deadline(), self.responder.deadline()];
        times.into_iter().flatten().min()
    }
}
