//! The servers that agents were configured with, as far as the engine does not keep it: how streams to them
//! are opened, and which names stand for services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nilas_ice::{AgentConfig, ResolveError, StreamError, StreamTransport, TurnTransport};
use nilas_net::dns::{DnsError, ServerResolver, ServerTransport};
use nilas_net::stream::Stream;
use nilas_net::{os_seed, resolve};
use nilas_stun::uri::{Host, StunUri, Transport, TurnUri};
use tokio::sync::OnceCell;

use crate::connector::{Connector, Target};

/// The name whose IPv6 addresses tell the translator to IPv4, where the network has one (RFC 7050 section 3).
const TRANSLATOR: &str = "ipv4only.arpa";

/// A server as the engine's commands name it.
pub(crate) type Server = (String, u16);

/// A name that a URI gave without a port: where it serves, SRV records may say (RFC 5928 section 3,
/// RFC 8489 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Stun,
    Turn,
}

/// What an application says of the servers of a new agent, besides the engine's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewServers {
    pub(crate) connector: Arc<Connector>,
    pub(crate) services: Vec<(Server, Service)>,
}

/// The servers that are reached by a stream.
pub(crate) fn stream_servers(config: &AgentConfig) -> Vec<Server> {
    let servers = config.turn_servers.iter();
    servers
        .filter(|server| server.transport != TurnTransport::Udp)
        .map(|server| (server.host.clone(), server.port))
        .collect()
}

/// What an agent brings along, and takes away when it is gone.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    streams: Vec<Server>,
    services: Vec<(Server, Service)>,
}

/// Those of all agents, counted.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    connectors: BTreeMap<Server, (Arc<Connector>, usize)>,
    services: BTreeMap<(Server, Service), usize>,
    resolver: Arc<OnceCell<Option<ServerResolver>>>,
}

impl Servers {
    /// Takes in what a new agent has. Where two agents have the same server, the later one says how
    /// it is reached.
    pub(crate) fn add(&mut self, streams: Vec<Server>, new: NewServers) -> Brought {
        let NewServers {
            connector,
            services,
        } = new;
        let brought = Brought { streams, services };
        for server in &brought.streams {
            let known = self.connectors.entry(server.clone());
            let (how, users) = known.or_insert_with(|| (Arc::clone(&connector), 0));
            *how = Arc::clone(&connector);
            *users += 1;
        }
        for service in &brought.services {
            *self.services.entry(service.clone()).or_default() += 1;
        }
        brought
    }

    pub(crate) fn remove(&mut self, brought: Brought) {
        for server in brought.streams {
            if let Some((_, users)) = self.connectors.get_mut(&server) {
                *users -= 1;
                if *users == 0 {
                    self.connectors.remove(&server);
                }
            }
        }
        for service in brought.services {
            if let Some(users) = self.services.get_mut(&service) {
                *users -= 1;
                if *users == 0 {
                    self.services.remove(&service);
                }
            }
        }
    }

    /// The machine is in another network: other resolvers, and other answers.
    pub(crate) fn network_changed(&mut self) {
        self.resolver = Arc::default();
    }

    /// Finds a server that is reached over UDP, or the translator of the network.
    pub(crate) fn resolve(
        &self,
        server: Server,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, ResolveError>> + Send + use<> {
        let has = |service| self.services.contains_key(&(server.clone(), service));
        let service = match (has(Service::Stun), has(Service::Turn)) {
            (true, false) => Some(Service::Stun),
            (false, true) => Some(Service::Turn),
            // Where one name stands for both, it is not known which is meant: its addresses serve both.
            _ => None,
        };
        let lookup = self.lookup();
        async move {
            if server.0 == TRANSLATOR {
                return lookup.translator(server.1).await;
            }
            match service {
                Some(service) => lookup.service(server, service, ServerTransport::Udp).await,
                None => resolve(&server.0, server.1).await,
            }
        }
    }

    /// Opens a stream to a server, on this address if it is known already.
    pub(crate) fn open(
        &self,
        transport: StreamTransport,
        server: Server,
        address: Option<SocketAddr>,
    ) -> impl Future<Output = Result<Stream, StreamError>> + Send + use<> {
        // A server that another one has pointed to may have another port, and is reached in the same way.
        let ports = (server.0.clone(), 0)..=(server.0.clone(), u16::MAX);
        let known = self.connectors.get(&server);
        let connector = known
            .or_else(|| self.connectors.range(ports).map(|(_, known)| known).next())
            .map(|(how, _)| Arc::clone(how));
        let over = match transport {
            StreamTransport::Tls => ServerTransport::Tls,
            StreamTransport::Dtls => ServerTransport::Dtls,
            _ => ServerTransport::Tcp,
        };
        let is_service = self.services.contains_key(&(server.clone(), Service::Turn));
        let lookup = self.lookup();
        async move {
            // The agent whose server it was is gone, and so is how it was to be reached.
            let connector = connector.ok_or(StreamError::Other)?;
            let target = Target {
                transport,
                host: server.0.clone(),
                port: server.1,
                address,
            };
            let addresses = async {
                match (address, is_service) {
                    (Some(address), _) => Ok(vec![address]),
                    (None, true) => lookup.service(server, Service::Turn, over).await,
                    (None, false) => resolve(&server.0, server.1).await,
                }
            };
            connector.open(target, addresses).await
        }
    }

    fn lookup(&self) -> Lookup {
        Lookup(Arc::clone(&self.resolver))
    }
}

/// The resolver of services, made when the first is asked for.
struct Lookup(Arc<OnceCell<Option<ServerResolver>>>);

impl Lookup {
    async fn translator(&self, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let resolver = self.0.get_or_init(async || ServerResolver::system().ok());
        let resolver = resolver.await.as_ref().ok_or(ResolveError::Other)?;
        let found = resolver.translator().await.map_err(|error| sort(&error))?;
        Ok(found.into_iter().map(|ip| (ip, port).into()).collect())
    }

    async fn service(
        &self,
        (name, port): Server,
        service: Service,
        transport: ServerTransport,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let resolver = self.0.get_or_init(async || ServerResolver::system().ok());
        let Some(resolver) = resolver.await else {
            return resolve(&name, port).await;
        };
        // Which of several equal servers is asked is a matter of chance, not of secrecy.
        let seed = os_seed().ok().and_then(|seed| seed.first_chunk().copied());
        let seed = u64::from_be_bytes(seed.unwrap_or_default());
        let found = match service {
            Service::Stun => {
                let uri = StunUri {
                    secure: false,
                    host: Host::Name(name),
                    port: None,
                };
                resolver.stun(&uri, &[transport], seed).await
            }
            Service::Turn => {
                let uri = TurnUri {
                    secure: transport.is_secure(),
                    host: Host::Name(name),
                    port: None,
                    transport: Some(match transport {
                        ServerTransport::Udp | ServerTransport::Dtls => Transport::Udp,
                        _ => Transport::Tcp,
                    }),
                };
                resolver.turn(&uri, &[transport], seed).await
            }
        };
        let servers = found.map_err(|error| sort(&error))?;
        Ok(servers.iter().map(|server| server.address).collect())
    }
}

const fn sort(error: &DnsError) -> ResolveError {
    match error {
        DnsError::TimedOut { .. } => ResolveError::TimedOut,
        DnsError::NotFound { .. } => ResolveError::NotFound,
        _ => ResolveError::Other,
    }
}
