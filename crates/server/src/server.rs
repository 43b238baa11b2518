//! The server as a whole: binds everything, runs it, stops it.

use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

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
    /// TLS over TCP, and DTLS over UDP.
    pub tls: Vec<SocketAddr>,
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
            head_time: limits.greeting_time,
            running: is_running,
        };
        let relay = Relay::bind(&config, counters, &web)?;
        let (rendezvous, rendezvous_addresses) = bind_tcp(&config.rendezvous)?.into_iter().unzip();
        let (metrics, metrics_addresses): (_, Vec<_>) =
            bind_tcp(config.metrics.as_slice())?.into_iter().unzip();
        let RelayAddresses { udp, tcp, tls } = relay.addresses().clone();
        let addresses = LocalAddresses {
            stun_udp: udp,
            stun_tcp: tcp,
            tls,
            rendezvous: rendezvous_addresses,
            metrics: metrics_addresses.first().copied(),
        };
        Ok(Self {
            hub,
            phase,
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
            phase: Arc::clone(&self.phase),
        }
    }

    /// Serves until `shutdown` is ready, [`ServerHandle::stop`] is called, or it has been
    /// [drained](ServerHandle::drain); then tells the clients of the rendezvous and returns, two seconds later at
    /// most. When the future is dropped, everything ends at once.
    ///
    /// # Panics
    /// If one of its tasks does: it was a bug, and half a server is worse than none.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let handle = self.handle();
        let Self {
            config,
            relay,
            rendezvous,
            metrics,
            web,
            running,
            addresses,
            hub,
            phase,
        } = self;
        let shared = Arc::clone(relay.shared());
        let mut tasks = JoinSet::new();
        let mut workers = match relay.start() {
            Ok(workers) => workers,
            Err(error) => {
                tracing::error!(%error, "the relay cannot run");
                return;
            }
        };
        for listener in rendezvous {
            tasks.spawn(web::run(listener, web.clone()));
        }
        drop(web);
        for listener in metrics {
            tasks.spawn(monitor::run(listener, handle.clone()));
        }
        let ticking = Arc::clone(&hub);
        tasks.spawn(async move { ticking.tick().await });
        tracing::info!(?addresses, "serving");
        tokio::select! {
            () = shutdown => {}
            () = ended(&phase, &shared, config.drain_time) => {}
            Some(Err(error)) = tasks.join_next() => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
            error = workers.failed() => tracing::error!(%error, "a thread of the relay ended"),
        }
        tracing::info!("stopping");
        hub.shut_down();
        // Every client's task holds a receiver until it is done; so does each listener's.
        drop(tasks);
        workers.farewell();
        let _ = timeout(FAREWELL_TIME, running.closed()).await;
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
        let turn = self.surroundings.apply(config)?;
        self.shared.reload_certificate()?;
        self.shared.change_config(&turn);
        Ok(())
    }

    /// What the server has done so far.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats(self.hub.counts())
    }
}
