//! The servers that agents were configured with, as far as the engine does not keep it: which names stand for services, and
//! how streams to them are opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nilas_ice::{ResolveError, StreamError, StreamTransport, TurnTransport};
use nilas_net::dns::{DnsError, ServerResolver, ServerTransport};
use nilas_net::mdns::Mdns;
use nilas_net::stream::Stream;
use nilas_net::{os_seed, resolve};
use nilas_stun::uri::{Host, StunUri, Transport, TurnUri};
use tokio::sync::OnceCell;

use crate::connector::{Connector, Target};
use crate::secret::Secret;
use crate::server::over;

/// The name whose IPv6 addresses tell the translator to IPv4, where the network has one (RFC 7050 section 3).
const TRANSLATOR: &str = "ipv4only.arpa";

/// A server as the engine's commands name it.
pub(crate) type Server = (String, u16);

/// A name that a URI gave without a port: where it serves, records of the DNS may say (RFC 5928 section 3,
/// RFC 8489 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Stun,
    /// Over the transport that the URI names.
    Turn {
        over: ServerTransport,
    },
    /// Over whatever the domain offers, in NAPTR records; otherwise over UDP, or TLS where the URI is `turns:`.
    AnyTurn {
        secure: bool,
    },
}

/// What an application says of the servers of a new agent, besides the engine's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewServers {
    /// None for no proxy, and the system's roots.
    pub(crate) connector: Option<Arc<Connector>>,
    pub(crate) services: Vec<(Server, Service)>,
    /// Secrets that make the credentials of some.
    pub(crate) secrets: Vec<Secret>,
}

/// The services that the names of all agents' servers stand for, counted.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    services: BTreeMap<(Server, Service), usize>,
    resolver: Arc<OnceCell<Option<ServerResolver>>>,
    pub(crate) mdns: Mdns,
}

impl Servers {
    /// Takes in what the servers of a new agent stand for.
    pub(crate) fn add(&mut self, services: &[(Server, Service)]) {
        for service in services {
            *self.services.entry(service.clone()).or_default() += 1;
        }
    }

    /// Such an agent is gone.
    pub(crate) fn remove(&mut self, services: &[(Server, Service)]) {
        for service in services {
            if let Some(users) = self.services.get_mut(service) {
                *users -= 1;
                if *users == 0 {
                    self.services.remove(service);
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
        let turn = self.turn_service(&server, ServerTransport::Udp);
        let service = match (has(Service::Stun), turn) {
            (true, None) => Some(Service::Stun),
            (false, turn) => turn,
            // Where one name stands for both, it is not known which is meant: its addresses serve both.
            (true, Some(_)) => None,
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

    /// Finds the address of a peer's name on the link.
    pub(crate) fn find(
        &self,
        (name, port): Server,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, ResolveError>> + Send + use<> {
        let mdns = self.mdns.clone();
        async move {
            let ip = mdns.resolve(&name).await?;
            Ok(vec![SocketAddr::new(ip, port)])
        }
    }

    /// Opens a stream to a server, on this address if it is known already, as its agent wants it: `connector` is none where
    /// that is gone.
    pub(crate) fn open(
        &self,
        transport: StreamTransport,
        server: Server,
        address: Option<SocketAddr>,
        connector: Option<Arc<Connector>>,
    ) -> impl Future<Output = Result<Stream, StreamError>> + Send + use<> {
        let over = over(TurnTransport::Stream(transport));
        let service = self.turn_service(&server, over);
        let lookup = self.lookup();
        async move {
            let connector = connector.ok_or(StreamError::Other)?;
            let mut target = Target {
                transport,
                host: server.0.clone(),
                port: server.1,
                address,
            };
            if let (None, Some(service @ Service::AnyTurn { .. })) = (address, service) {
                // A proxy knows nothing of what a domain offers: it is asked for an address.
                let found = lookup.service(server, service, over).await;
                let found = found.map_err(|_| StreamError::Unresolved)?;
                target.address = found.first().copied();
                return connector.open(target, async { Ok(found) }).await;
            }
            let addresses = async {
                match (address, service) {
                    (Some(address), _) => Ok(vec![address]),
                    (None, Some(service)) => lookup.service(server, service, over).await,
                    (None, None) => resolve(&server.0, server.1).await,
                }
            };
            connector.open(target, addresses).await
        }
    }

    /// How a TURN server is looked for that is reached in this way.
    fn turn_service(&self, server: &Server, over: ServerTransport) -> Option<Service> {
        let services = [
            Service::Turn { over },
            Service::AnyTurn {
                secure: over.is_secure(),
            },
            Service::AnyTurn { secure: false },
        ];
        let known = |service: &Service| self.services.contains_key(&(server.clone(), *service));
        services.into_iter().find(known)
    }

    fn lookup(&self) -> Lookup {
        Lookup(Arc::clone(&self.resolver))
    }
}

/// What agents speak with TURN servers, the best first.
const SUPPORTED: &[ServerTransport] = &[
    ServerTransport::Udp,
    ServerTransport::Dtls,
    ServerTransport::Tcp,
    ServerTransport::Tls,
];

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
            Service::AnyTurn { secure } => {
                let uri = TurnUri {
                    secure,
                    host: Host::Name(name),
                    port: None,
                    transport: None,
                };
                let default = match secure {
                    false => ServerTransport::Udp,
                    true => ServerTransport::Tls,
                };
                let found = if transport == default {
                    resolver.turn(&uri, SUPPORTED, seed).await
                } else {
                    let offers = resolver.turn_offers(&uri, SUPPORTED, seed).await;
                    offers.map(Option::unwrap_or_default)
                };
                found.map(|mut found| {
                    found.retain(|server| server.transport == transport);
                    found
                })
            }
            Service::Turn { .. } => {
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
        if servers.is_empty() {
            return Err(ResolveError::NotFound);
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hickory_resolver::proto::op::{Message, Metadata};
    use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
    use hickory_resolver::proto::rr::{Name, RData, Record};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::Config;

    /// A name server on loopback that knows these records and answers everything else with nothing.
    async fn name_server(records: Vec<(&str, RData)>) -> SocketAddr {
        let mut zone: BTreeMap<_, Vec<RData>> = BTreeMap::new();
        for (owner, data) in records {
            let key = (format!("{owner}."), data.record_type());
            zone.entry(key).or_default().push(data);
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let request = Message::from_vec(&packet[..length]).unwrap();
                let query = request.queries[0].clone();
                let owner = query.name().to_ascii().to_ascii_lowercase();
                let found = zone.get(&(owner, query.query_type()));
                let mut response = Message::response(request.metadata.id, request.metadata.op_code);
                response.metadata = Metadata::response_from_request(&request.metadata);
                response.add_query(query.clone());
                let record =
                    |data: &RData| Record::from_rdata(query.name().clone(), 60, data.clone());
                response.add_answers(found.into_iter().flatten().map(record));
                let _ = socket.send_to(&response.to_vec().unwrap(), from).await;
            }
        });
        address
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).unwrap()
    }

    fn naptr(services: &str, to: &str) -> RData {
        let bytes = |text: &str| text.as_bytes().into();
        RData::NAPTR(NAPTR::new(
            1,
            1,
            bytes("S"),
            bytes(services),
            bytes(""),
            name(to),
        ))
    }

    fn srv(port: u16) -> RData {
        RData::SRV(SRV::new(0, 0, port, name("relay.example.net")))
    }

    fn here() -> RData {
        RData::A(A::new(127, 0, 0, 1))
    }

    /// What an agent with this TURN server brings along, where this name server is the system's.
    async fn servers(records: Vec<(&str, RData)>, uris: &[&str]) -> Servers {
        let resolver = ServerResolver::with_servers(&[name_server(records).await]).unwrap();
        let mut servers = Servers {
            resolver: Arc::new(OnceCell::from(Some(resolver))),
            ..Servers::default()
        };
        let config = uris.iter().fold(Config::controlling(), |config, uri| {
            config.turn(uri, "u", "p").unwrap()
        });
        servers.add(&config.servers.services);
        servers
    }

    /// Without a proxy, and with the system's roots.
    #[expect(clippy::unnecessary_wraps, reason = "it is an argument")]
    fn as_usual() -> Option<Arc<Connector>> {
        Some(Arc::default())
    }

    /// RFC 5928 section 3, step 4.
    #[tokio::test]
    async fn a_server_without_port_and_transport_is_what_its_domain_offers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = listener.local_addr().unwrap();
        let records = vec![
            (
                "example.net",
                naptr("RELAY:turn.udp", "_turn._udp.example.net"),
            ),
            (
                "example.net",
                naptr("RELAY:turn.tcp", "_turn._tcp.example.net"),
            ),
            ("_turn._udp.example.net", srv(4000)),
            ("_turn._tcp.example.net", srv(tcp.port())),
            ("relay.example.net", here()),
        ];
        let servers = servers(records, &["turn:example.net"]).await;
        let server = || ("example.net".to_owned(), 3478);
        let udp = servers.resolve(server()).await;
        assert_eq!(udp, Ok(vec!["127.0.0.1:4000".parse().unwrap()]));
        let opened = servers.open(StreamTransport::Tcp, server(), None, as_usual());
        let (opened, accepted) = tokio::join!(opened, listener.accept());
        assert_eq!(opened.unwrap().local_address(), accepted.unwrap().1);
        for transport in [StreamTransport::Tls, StreamTransport::Dtls] {
            let server = ("example.net".to_owned(), 5349);
            let opened = servers.open(transport, server, None, as_usual()).await;
            assert_eq!(opened.err(), Some(StreamError::Unresolved), "not offered");
        }
    }

    #[tokio::test]
    async fn where_a_domain_offers_nothing_the_uri_means_udp() {
        let records = vec![
            ("example.net", here()),
            ("_turn._tcp.example.net", srv(4000)),
            ("relay.example.net", here()),
        ];
        let servers = servers(records, &["turn:example.net"]).await;
        let server = || ("example.net".to_owned(), 3478);
        let udp = servers.resolve(server()).await;
        assert_eq!(udp, Ok(vec!["127.0.0.1:3478".parse().unwrap()]));
        let opened = servers
            .open(StreamTransport::Tcp, server(), None, as_usual())
            .await;
        assert_eq!(opened.err(), Some(StreamError::Unresolved));
    }

    #[tokio::test]
    async fn who_names_a_transport_is_not_led_by_naptr_records() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = listener.local_addr().unwrap();
        let records = vec![
            (
                "example.net",
                naptr("RELAY:turn.tcp", "_other._tcp.example.net"),
            ),
            ("_turn._tcp.example.net", srv(tcp.port())),
            ("relay.example.net", here()),
        ];
        // The same name twice: each by its own rules.
        let uris = ["turn:example.net", "turn:example.net?transport=tcp"];
        let servers = servers(records, &uris).await;
        let server = || ("example.net".to_owned(), 3478);
        let opened = servers.open(StreamTransport::Tcp, server(), None, as_usual());
        let (opened, accepted) = tokio::join!(opened, listener.accept());
        assert_eq!(opened.unwrap().local_address(), accepted.unwrap().1);
        assert_eq!(servers.resolve(server()).await, Err(ResolveError::NotFound));
    }
}
