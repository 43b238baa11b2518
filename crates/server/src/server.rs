//! The server as a whole: binds everything, runs it, stops it.

use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nilas_net::InterfaceWatch;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admission::Admission;
use crate::config::ServerConfig;
use crate::counters::{Counters, ServerStats};
use crate::error::ServerError;
use crate::hub::Hub;
use crate::monitor;
use crate::relay::{Relay, RelayAddresses, Surroundings};
use crate::sockets::bind_tcp;
use crate::web::{self, Web};
use crate::worker::Shared;

/// How long clients of the rendezvous are given to hear that the server stops.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// How often a server that drains looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// How often a server asks for this machine's addresses that could not be listed.
const LISTING_PAUSE: Duration = Duration::from_secs(1);

/// A server whose sockets are bound. Datagrams that come before [`run`](Self::run) wait.
pub struct Server {
    config: ServerConfig,
    relay: Relay,
    rendezvous: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    web: Web,
    /// Closed when nobody serves HTTP any more.
    running: watch::Sender<()>,
    addresses: LocalAddresses,
    /// What holds, in the handles, too.
    current: Arc<Mutex<ServerConfig>>,
    hub: Arc<Hub>,
    phase: Arc<watch::Sender<Phase>>,
}

/// Where a server listens, with the ports that the system chose, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalAddresses {
    /// STUN and TURN over UDP.
    pub stun_udp: Vec<SocketAddr>,
    /// STUN and TURN over TCP.
    pub stun_tcp: Vec<SocketAddr>,
    /// TLS over TCP.
    pub tls: Vec<SocketAddr>,
    /// DTLS over UDP, at the same ports as TLS; nowhere if the certificate does not serve for it, such as one with an
    /// RSA key.
    pub dtls: Vec<SocketAddr>,
    /// The rendezvous and `/health`, over HTTP.
    pub rendezvous: Vec<SocketAddr>,
    /// Metrics and `/health`, for operators.
    pub metrics: Option<SocketAddr>,
}

/// Stops a server and looks at it, from anywhere.
#[derive(Clone)]
pub struct ServerHandle {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    surroundings: Surroundings,
    /// The configuration that holds.
    current: Arc<Mutex<ServerConfig>>,
    phase: Arc<watch::Sender<Phase>>,
}

/// How far a server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// It makes no new allocations, and ends when the last is gone.
    Draining,
    Stopped,
}

impl Server {
    /// Binds all sockets of the configuration. Must be called within a tokio runtime.
    ///
    /// An IPv6 wildcard or loopback address is left out on a machine without IPv6, if its list has others.
    ///
    /// # Errors
    /// [`ServerError`] for the first address that does not work; nothing stays bound then.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        let listeners = [
            &config.stun_udp,
            &config.stun_tcp,
            &config.tls,
            &config.rendezvous,
        ];
        if listeners.iter().all(|addresses| addresses.is_empty()) {
            return Err(ServerError::NothingToServe);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| ServerError::NoRandomness)?;
        let hub = Arc::new(Hub::new(config.rendezvous_limits.clone(), seed));
        let counters: Arc<Counters> = Arc::default();
        let (running, is_running) = watch::channel(());
        let phase = Arc::new(watch::Sender::new(Phase::Serving));
        let limits = &config.rendezvous_limits;
        let web = Web {
            hub: Arc::clone(&hub),
            counters: Arc::clone(&counters),
            phase: Arc::clone(&phase),
            // A little above the rendezvous' own bounds, which can say why they refuse; these cannot.
            admission: Admission::new(
                limits
                    .max_connections
                    .saturating_add(limits.max_connections / 4)
                    .saturating_add(16),
                limits.max_connections_per_source.saturating_add(16),
            ),
            meets: !config.rendezvous.is_empty(),
            head_time: limits.greeting_time,
            running: is_running,
        };
        let relay = Relay::bind(&config, counters, &web)?;
        let (rendezvous, rendezvous_addresses) = bind_tcp(&config.rendezvous)?.into_iter().unzip();
        let (metrics, metrics_addresses): (_, Vec<_>) =
            bind_tcp(config.metrics.as_slice())?.into_iter().unzip();
        let RelayAddresses {
            udp,
            tcp,
            tls,
            dtls,
        } = relay.addresses().clone();
        let addresses = LocalAddresses {
            stun_udp: udp,
            stun_tcp: tcp,
            tls,
            dtls,
            rendezvous: rendezvous_addresses,
            metrics: metrics_addresses.first().copied(),
        };
        Ok(Self {
            hub,
            phase,
            current: Arc::new(Mutex::new(config.clone())),
            config,
            relay,
            rendezvous,
            metrics,
            web,
            running,
            addresses,
        })
    }

    /// Where it listens.
    pub fn local_addresses(&self) -> &LocalAddresses {
        &self.addresses
    }

    /// A handle that outlives the call of [`run`](Self::run).
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            hub: Arc::clone(&self.hub),
            shared: Arc::clone(self.relay.shared()),
            surroundings: self.relay.surroundings().clone(),
            current: Arc::clone(&self.current),
            phase: Arc::clone(&self.phase),
        }
    }

    /// Serves until `shutdown` is ready, [`ServerHandle::stop`] is called, or it has been
    /// [drained](ServerHandle::drain); then tells the clients of the rendezvous and returns, two seconds later at
    /// most. When the future is dropped, everything ends at once.
    ///
    /// # Errors
    /// [`ServerError::Thread`] when a thread of the relay does not start, or ends. The whole server ends then, in the
    /// same order, so that whoever watches it starts it again.
    ///
    /// # Panics
    /// If one of its tasks does: it was a bug, and half a server is worse than none.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let handle = self.handle();
        let Self {
            config,
            relay,
            rendezvous,
            metrics,
            web,
            running,
            addresses,
            current: _,
            hub,
            phase,
        } = self;
        let shared = Arc::clone(relay.shared());
        let mut tasks = JoinSet::new();
        let mut workers = relay.start().map_err(ServerError::Thread)?;
        for listener in rendezvous {
            tasks.spawn(web::run(listener, web.clone()));
        }
        drop(web);
        for listener in metrics {
            tasks.spawn(monitor::run(listener, handle.clone()));
        }
        if !config.relay.addresses.is_empty() {
            tasks.spawn(watch_addresses(handle));
        }
        let ticking = Arc::clone(&hub);
        tasks.spawn(async move { ticking.tick().await });
        tracing::info!(?addresses, "serving");
        let served = tokio::select! {
            () = shutdown => Ok(()),
            () = ended(&phase, &shared, config.drain_time) => Ok(()),
            Some(Err(error)) = tasks.join_next() => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody cancels them.
                Err(_) => Ok(()),
            },
            error = workers.failed() => Err(ServerError::Thread(error)),
        };
        tracing::info!("stopping");
        hub.shut_down();
        // Every client's task holds a receiver until it is done; so does each listener's.
        drop(tasks);
        workers.farewell();
        let _ = timeout(FAREWELL_TIME, running.closed()).await;
        served
    }
}

/// Keeps clients of the relay from what this machine's addresses are now, and not only from what they were when the
/// server began.
async fn watch_addresses(handle: ServerHandle) {
    let mut watch = loop {
        match InterfaceWatch::new() {
            Ok(watch) => break watch,
            Err(error) => {
                tracing::warn!(%error, "the addresses of this machine cannot be watched yet");
                sleep(LISTING_PAUSE).await;
            }
        }
    };
    loop {
        // The first time, too: they may have changed since the sockets were bound.
        while let Err(error) = handle.look_around() {
            tracing::warn!(%error, "clients of the relay may reach new addresses of this machine");
            sleep(LISTING_PAUSE).await;
        }
        watch.changed().await;
    }
}

/// Ready when the server is to end.
async fn ended(phase: &watch::Sender<Phase>, shared: &Shared, drain_time: Duration) {
    let mut phase = phase.subscribe();
    // The sender lives as long as this function.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    let drained = async {
        // Those that were being made when the draining began are counted, too.
        while shared.common.allocations() > 0 {
            sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        _ = phase.wait_for(|phase| *phase == Phase::Stopped) => {}
        done = timeout(drain_time, drained) => {
            if done.is_err() {
                tracing::warn!(allocations = shared.common.allocations(), "drained long enough");
            }
        }
    }
}

impl ServerHandle {
    /// Makes [`Server::run`] return.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Lets no new allocations begin, and makes [`Server::run`] return when the last is gone, or after the
    /// [`drain_time`](ServerConfig::drain_time). Clients that ask for one are sent to an alternate server, if
    /// there is one.
    pub fn drain(&self) {
        self.shared.drain();
        self.phase
            .send_modify(|phase| *phase = (*phase).max(Phase::Draining));
    }

    /// Whether [`drain`](Self::drain) or [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Makes another configuration hold, for what exists, too: allocations of users that it does not have end, and
    /// so do permissions for peers that it refuses. Certificates are read again. What cannot change while the server
    /// runs stays as it is; [`ServerConfig::fixed_differences`] names it.
    ///
    /// # Errors
    /// The configuration cannot be true, or the certificate cannot be used; then nothing changes.
    pub fn reload(&self, config: &ServerConfig) -> Result<(), ServerError> {
        if let Some(mistake) = config.check().into_iter().next() {
            return Err(ServerError::Config(mistake));
        }
        let mut current = self.current();
        let turn = self.surroundings.apply(config)?;
        self.shared.reload_certificate()?;
        self.shared.change_config(&turn);
        current.clone_from(config);
        Ok(())
    }

    /// Has the configuration that holds take in what this machine's addresses are now.
    fn look_around(&self) -> Result<(), ServerError> {
        let current = self.current();
        let turn = self.surroundings.apply(&current)?;
        self.shared.change_config(&turn);
        Ok(())
    }

    /// Locked until the cores have been told, so that all are told the same last.
    fn current(&self) -> MutexGuard<'_, ServerConfig> {
        // It is replaced as a whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server has done so far.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats(self.hub.counts())
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};
    use core::num::NonZeroU8;

    use super::*;
    use crate::worker::handover::Order;

    #[tokio::test]
    async fn a_server_whose_relay_has_died_says_so() {
        let mut config = ServerConfig::on(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, 0);
        config.workers = NonZeroU8::new(2);
        let server = Server::bind(config).await.expect("the loopback is free");
        // One of the two threads ends, and nobody has asked the server to.
        server.handle().shared.mailboxes[1].order(Order::Stop);
        let ended = server.run(core::future::pending()).await;
        assert!(matches!(ended, Err(ServerError::Thread(_))), "{ended:?}");
    }
}
