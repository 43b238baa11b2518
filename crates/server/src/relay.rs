//! The relay as a whole: its sockets, its cores, and what they are to know about this machine.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU8;
use core::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nilas_net::own_addresses;
use nilas_net::stream::{CertifiedKeyStore, DtlsLimits, DtlsServer};
use nilas_turn::server::{Common, Discovery, ListenerId, ServerConfig as TurnConfig, WorkerId};
use tokio_rustls::TlsAcceptor;

use crate::admission::Admission;
use crate::clock::Clock;
use crate::config::{CertificateFiles, DiscoveryAddresses, RelayAddress, ServerConfig};
use crate::counters::{Counters, ServerStats};
use crate::error::ServerError;
use crate::ports::Ports;
use crate::rendezvous::RendezvousCounts;
use crate::sockets::{bind_shared_tcp, bind_udp};
use crate::web::Web;
use crate::worker::handover::Order;
use crate::worker::thread::{Parts, Workers, mailboxes};
use crate::worker::{DONT_FRAGMENT, PROTOCOLS, Shared, Tls};

/// A relay whose sockets are bound.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    config: Arc<TurnConfig>,
    surroundings: Surroundings,
    parts: Vec<Parts>,
    addresses: RelayAddresses,
}

/// Where it listens for clients, without the further addresses of NAT behavior discovery.
#[derive(Clone, Debug, Default)]
pub(crate) struct RelayAddresses {
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) dtls: Vec<SocketAddr>,
}

/// What only the running server knows, and the cores are to know.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Where it listens.
    listeners: Vec<SocketAddr>,
    discovery: Option<Discovery>,
    /// What cannot change while the server runs.
    realm: String,
    relay_addresses: Vec<RelayAddress>,
    relay_ports: RangeInclusive<u16>,
}

impl Surroundings {
    /// The cores' configuration, with the addresses that this machine has now.
    pub(crate) fn apply(&self, config: &ServerConfig) -> Result<Arc<TurnConfig>, ServerError> {
        let mut config = config.clone();
        config.access.realm.clone_from(&self.realm);
        config.relay.addresses.clone_from(&self.relay_addresses);
        config.relay.ports = self.relay_ports.clone();
        let mut turn = config.turn().map_err(ServerError::Config)?;
        turn.peer_rule.host = host_addresses(&self.listeners)?;
        turn.discovery = self.discovery;
        turn.dont_fragment = DONT_FRAGMENT;
        Ok(Arc::new(turn))
    }
}

impl Relay {
    pub(crate) fn bind(
        config: &ServerConfig,
        counters: Arc<Counters>,
        web: &Web,
    ) -> Result<Self, ServerError> {
        let workers = worker_count(config.workers);
        let tls = config.certificate.as_ref().map(load).transpose()?;
        let mut sockets = bind_udp(&config.stun_udp, workers)?;
        let mut listeners = bind_shared_tcp(&config.stun_tcp, workers)?;
        let mut bound = RelayAddresses {
            udp: addresses_of(&sockets),
            tcp: addresses_of(&listeners),
            ..RelayAddresses::default()
        };
        let discovery = match config.discovery {
            None => None,
            Some(addresses) => Some(discover(addresses, workers, &mut sockets)?),
        };
        let dtls_from = sockets.len();
        let secure = bind_secure(&config.tls, workers)?;
        for (streams, datagrams, address) in secure {
            bound.tls.push(address);
            listeners.push((streams, address));
            sockets.push((datagrams, address));
        }
        // A certificate for TLS is not always one for DTLS.
        let dtls = |tls: &Tls| DtlsServer::check(&tls.certificate.dtls_certificate()).is_ok();
        if tls.as_ref().is_some_and(dtls) {
            bound.dtls.clone_from(&bound.tls);
        }
        let all: Vec<SocketAddr> = [addresses_of(&sockets), addresses_of(&listeners)].concat();
        let surroundings = Surroundings {
            listeners: all.clone(),
            discovery,
            realm: config.access.realm.clone(),
            relay_addresses: config.relay.addresses.clone(),
            relay_ports: config.relay.ports.clone(),
        };
        let turn = surroundings.apply(config)?;
        let ports = Ports::new(config.relay.ports.clone());
        for relay in &config.relay.addresses {
            for address in &all {
                ports.exclude(relay.local, address.port());
            }
        }
        let (mailboxes, posts) = mailboxes(workers);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let shared = Shared {
            clock: Clock::start(),
            common: Common::new(seed()?, unix, workers),
            ports,
            relay_addresses: config.relay.addresses.clone(),
            counters,
            published: (0..workers).map(|_| Mutex::default()).collect(),
            mailboxes,
            admission: Admission::new(
                config.max_stun_connections,
                config.max_stun_connections_per_source,
            ),
            idle_time: Mutex::new(config.stun_idle_time),
            message_time: config.stun_message_time,
            tls,
        };
        let dtls_limits = DtlsLimits {
            sessions: config.max_stun_connections,
            handshakes: config.max_stun_connections,
            handshake: config.stun_message_time,
            ..DtlsLimits::default()
        };
        // One socket of each address for each worker.
        let mut columns: Vec<_> = sockets
            .into_iter()
            .map(|(sockets, _)| sockets.into_iter())
            .collect();
        let mut tcp_columns: Vec<_> = listeners
            .into_iter()
            .map(|(listeners, _)| listeners.into_iter())
            .collect();
        let mut parts = Vec::new();
        for (id, post) in (0..workers).zip(posts) {
            parts.push(Parts {
                id: WorkerId(id),
                udp: columns.iter_mut().filter_map(Iterator::next).collect(),
                dtls_from,
                tcp: tcp_columns.iter_mut().filter_map(Iterator::next).collect(),
                dtls_limits,
                web: web.clone(),
                post,
                seeds: [seed()?, seed()?, seed()?],
            });
        }
        Ok(Self {
            shared: Arc::new(shared),
            config: turn,
            surroundings,
            parts,
            addresses: bound,
        })
    }

    /// Starts its threads.
    pub(crate) fn start(self) -> std::io::Result<Workers> {
        Workers::start(self.shared, &self.config, self.parts)
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) const fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(crate) const fn addresses(&self) -> &RelayAddresses {
        &self.addresses
    }
}

impl Shared {
    /// Has all cores take on another configuration.
    pub(crate) fn change_config(&self, config: &Arc<TurnConfig>) {
        *self
            .idle_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = config.stream_patience;
        for mailbox in &self.mailboxes {
            mailbox.order(Order::Config(Arc::clone(config)));
        }
    }

    /// Reads the certificate again, and shows it to all who come from now on.
    pub(crate) fn reload_certificate(&self) -> Result<(), ServerError> {
        if let Some(tls) = &self.tls {
            tls.certificate.reload().map_err(ServerError::Certificate)?;
            for mailbox in &self.mailboxes {
                mailbox.order(Order::Certificate);
            }
        }
        Ok(())
    }

    /// Has all cores make no more allocations.
    pub(crate) fn drain(&self) {
        for mailbox in &self.mailboxes {
            mailbox.order(Order::Drain);
        }
    }

    /// What the server has done.
    pub(crate) fn stats(&self, rendezvous: RendezvousCounts) -> ServerStats {
        ServerStats {
            ports_in_use: self.ports.in_use(),
            users: self.common.users(),
            ..self.counters.stats(rendezvous, self.turn_counters())
        }
    }
}

/// One for each core, where the system shares the datagrams of one port out among sockets.
fn worker_count(wanted: Option<NonZeroU8>) -> u8 {
    if !cfg!(target_os = "linux") {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    wanted.map_or_else(|| u8::try_from(cores).unwrap_or(u8::MAX), NonZeroU8::get)
}

type Sockets = Vec<(Vec<std::net::UdpSocket>, SocketAddr)>;

/// RFC 5780 section 6: the other three combinations of two addresses and two ports.
fn discover(
    addresses: DiscoveryAddresses,
    workers: u8,
    sockets: &mut Sockets,
) -> Result<Discovery, ServerError> {
    let DiscoveryAddresses { primary, alternate } = addresses;
    let mut listener = |address: SocketAddr| {
        let place = sockets.iter().position(|(_, bound)| *bound == address);
        let place = match place {
            Some(place) => place,
            None => {
                sockets.extend(bind_udp(&[address], workers)?);
                sockets.len() - 1
            }
        };
        // There are few listeners.
        Ok(ListenerId(place as u32))
    };
    Ok(Discovery {
        primary: (listener(primary)?, primary),
        primary_other_port: listener(SocketAddr::new(primary.ip(), alternate.port()))?,
        alternate_same_port: listener(SocketAddr::new(alternate.ip(), primary.port()))?,
        alternate: (listener(alternate)?, alternate),
    })
}

fn addresses_of<T>(sockets: &[(T, SocketAddr)]) -> Vec<SocketAddr> {
    sockets.iter().map(|(_, address)| *address).collect()
}

type Secure = (
    Vec<std::net::TcpListener>,
    Vec<std::net::UdpSocket>,
    SocketAddr,
);

/// The same ports over TCP and UDP.
fn bind_secure(addresses: &[SocketAddr], workers: u8) -> Result<Vec<Secure>, ServerError> {
    let mut bound = Vec::new();
    for (listeners, address) in bind_shared_tcp(addresses, workers)? {
        if let Some((sockets, address)) = bind_udp(&[address], workers)?.pop() {
            bound.push((listeners, sockets, address));
        }
    }
    Ok(bound)
}

/// Reads a certificate, and prepares TLS.
fn load(files: &CertificateFiles) -> Result<Tls, ServerError> {
    let certificate =
        CertifiedKeyStore::load(&files.chain, &files.key).map_err(ServerError::Certificate)?;
    let config = certificate
        .server_config(&PROTOCOLS)
        .map_err(ServerError::Certificate)?;
    Ok(Tls {
        certificate,
        acceptor: TlsAcceptor::from(config),
    })
}

/// What no client may reach through the relay: this machine.
fn host_addresses(listeners: &[SocketAddr]) -> Result<Vec<IpAddr>, ServerError> {
    let own = own_addresses().map_err(ServerError::Interfaces)?;
    let mut host: Vec<IpAddr> = own
        .into_iter()
        .chain(listeners.iter().map(SocketAddr::ip))
        .filter(|address| !address.is_unspecified())
        .collect();
    host.sort_unstable();
    host.dedup();
    Ok(host)
}

fn seed() -> Result<[u8; 32], ServerError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| ServerError::NoRandomness)?;
    Ok(seed)
}
