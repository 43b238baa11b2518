//! The steps from a URI to its servers (RFC 8489 section 8, RFC 8656 section 4).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use nilas_stun::uri::{
    DEFAULT_PORT, DEFAULT_SECURE_PORT, Host, StunUri, Transport as UriTransport, TurnUri,
};
use tokio::time::timeout;

use super::lookup::Lookup;
use super::order::{Dice, NaptrNext, NaptrStep, SrvRecord, naptr_steps, order_srv};
use super::{DnsError, ServerAddress, ServerTransport};

/// How long NAPTR and SRV may take once the host's own addresses are known.
const SERVICE_PATIENCE: Duration = Duration::from_millis(500);
/// And in all, with every question of theirs.
const SERVICE_DEADLINE: Duration = Duration::from_secs(5);
/// More questions than this do not follow from one URI, wherever its records lead.
const MAX_NAPTR_QUESTIONS: usize = 12;
/// More NAPTR records in a row are a loop, or as good as one.
const MAX_NAPTR_DEPTH: usize = 5;
/// More servers of one service are not used.
const MAX_TARGETS: usize = 8;
/// More addresses are not tried for one URI.
const MAX_SERVERS: usize = 32;

/// Finds the servers of `stun:` and `turn:` URIs through the DNS and the machine's `hosts` file.
///
/// It reads the system's configuration when it is made, and keeps answers as long as they say. Make a
/// new one when the network has changed.
pub struct ServerResolver {
    lookup: Lookup,
}

/// Where one service is.
struct Target {
    transport: ServerTransport,
    host: String,
    port: u16,
}

impl ServerResolver {
    /// Asks the resolvers of the system.
    ///
    /// # Errors
    /// When the resolver cannot be set up.
    pub fn system() -> Result<Self, DnsError> {
        Self::new(Lookup::system())
    }

    /// Asks these resolvers, and looks into no `hosts` file.
    ///
    /// # Errors
    /// When the resolver cannot be set up.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        Self::new(Lookup::with_servers(servers))
    }

    fn new(lookup: Result<Lookup, hickory_resolver::net::NetError>) -> Result<Self, DnsError> {
        let lookup = lookup.map_err(|error| DnsError::Failed {
            name: String::from("any name"),
            why: error.to_string(),
        })?;
        Ok(Self { lookup })
    }

    /// The servers of a `turn:` or `turns:` URI, in the order to try them, for the transports that the
    /// application supports in its order of preference (RFC 5928 section 3). `seed` decides between
    /// servers of one priority.
    ///
    /// An IP address in a `turns:` URI is taken: the certificate must then be for that address. RFC 7350
    /// section 4.6.1 would have it rejected for DTLS.
    ///
    /// # Errors
    /// When no server is found, or the URI's transport is none of those supported.
    pub async fn turn(
        &self,
        uri: &TurnUri,
        supported: &[ServerTransport],
        seed: u64,
    ) -> Result<Vec<ServerAddress>, DnsError> {
        let allowed = turn_transports(uri, supported)?;
        // RFC 5928 section 3: only S-NAPTR leads a `turn:` URI to TLS or DTLS. Its port, or the default
        // one, is where plain TURN is spoken.
        let direct: Vec<ServerTransport> = allowed
            .iter()
            .copied()
            .filter(|transport| transport.is_secure() == uri.secure)
            .collect();
        let name = match literal(&uri.host) {
            // RFC 5928 section 3, step 1.
            Ok(ip) => return here(&[ip], uri.port_or_default(), &direct, &ip.to_string()),
            Err(name) => name,
        };
        if uri.port.is_some() {
            // RFC 5928 section 3, step 2.
            let addresses = self.lookup.addresses(name).await?;
            return here(&addresses, uri.port_or_default(), &direct, name);
        }
        let service = if uri.secure { "turns" } else { "turn" };
        // Steps 3, 4 and 5, all of whose first questions are asked at once.
        let naptr = async {
            if uri.transport.is_some() {
                return None;
            }
            self.offered(name, &allowed, seed).await
        };
        let services = async {
            let (naptr, srv) = tokio::join!(naptr, self.services(service, name, &direct, seed));
            match naptr {
                Some(servers) => Services::Only(servers),
                None => Services::Srv(srv),
            }
        };
        self.combine(name, services, &direct).await
    }

    /// What a domain says of the servers of a `turn:` or `turns:` URI that names neither port nor transport, in NAPTR
    /// records: those that are there for the transports that are supported, in the order to try them (RFC 5928
    /// section 3, step 4). `None` where it says nothing, or nothing in time: then the transport is for the user of
    /// the URI to choose.
    ///
    /// # Errors
    /// When the URI has a port or a transport, or an address for a host, or none of the transports can be used.
    pub async fn turn_offers(
        &self,
        uri: &TurnUri,
        supported: &[ServerTransport],
        seed: u64,
    ) -> Result<Option<Vec<ServerAddress>>, DnsError> {
        let allowed = turn_transports(uri, supported)?;
        let (Err(name), None, None) = (literal(&uri.host), uri.port, &uri.transport) else {
            return Err(DnsError::Transport);
        };
        let offered = timeout(SERVICE_DEADLINE, self.offered(name, &allowed, seed));
        let addresses = self.lookup.addresses(name);
        tokio::pin!(offered, addresses);
        Ok(tokio::select! {
            biased;
            offered = &mut offered => offered.ok().flatten(),
            own = &mut addresses => {
                let patience = if own.is_ok() { SERVICE_PATIENCE } else { SERVICE_DEADLINE };
                let offered = timeout(patience, offered).await;
                offered.ok().and_then(Result::ok).flatten()
            }
        })
    }

    /// The addresses that the network's DNS makes up for `ipv4only.arpa`, where there is a translator to IPv4: they
    /// tell its prefix (RFC 7050 section 3).
    ///
    /// RFC 8880 section 7.1 sends this question to the resolver of each interface. Those of the system are asked,
    /// which is the same on a machine that is in one network.
    ///
    /// # Errors
    /// [`DnsError::NotFound`] where there is no translator, and when nobody answers.
    pub async fn translator(&self) -> Result<Vec<Ipv6Addr>, DnsError> {
        self.lookup.ipv6_addresses("ipv4only.arpa").await
    }

    /// The servers of a `stun:` or `stuns:` URI, in the order to try them (RFC 8489 section 8.1). `seed`
    /// decides between servers of one priority.
    ///
    /// # Errors
    /// When no server is found, a `stuns:` URI holds an IP address, or none of the transports that are
    /// supported goes with the URI.
    pub async fn stun(
        &self,
        uri: &StunUri,
        supported: &[ServerTransport],
        seed: u64,
    ) -> Result<Vec<ServerAddress>, DnsError> {
        let direct: Vec<ServerTransport> = supported
            .iter()
            .copied()
            .filter(|transport| transport.is_secure() == uri.secure)
            .collect();
        if direct.is_empty() {
            return Err(DnsError::Transport);
        }
        let name = match literal(&uri.host) {
            // RFC 8489 section 8.1: a "stuns" URI containing an IP address is rejected.
            Ok(_) if uri.secure => return Err(DnsError::SecureAddress),
            Ok(ip) => return here(&[ip], uri.port_or_default(), &direct, &ip.to_string()),
            Err(name) => name,
        };
        // A port takes the place of SRV, as RFC 2782 has it from the URI's point of view.
        if uri.port.is_some() {
            let addresses = self.lookup.addresses(name).await?;
            return here(&addresses, uri.port_or_default(), &direct, name);
        }
        let service = if uri.secure { "stuns" } else { "stun" };
        let services = async { Services::Srv(self.services(service, name, &direct, seed).await) };
        self.combine(name, services, &direct).await
    }

    /// The addresses of a host, the families taking turns.
    ///
    /// # Errors
    /// When there are none, or nobody tells.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        match host.parse() {
            Ok(ip) => Ok(vec![ip]),
            Err(_) => self.lookup.addresses(host).await,
        }
    }

    /// Waits for the services and the host's own addresses, which stand in for what has no service.
    async fn combine(
        &self,
        name: &str,
        services: impl Future<Output = Services>,
        direct: &[ServerTransport],
    ) -> Result<Vec<ServerAddress>, DnsError> {
        let services = timeout(SERVICE_DEADLINE, services);
        let addresses = self.lookup.addresses(name);
        tokio::pin!(services, addresses);
        let (services, mut own) = tokio::select! {
            biased;
            services = &mut services => (services.ok(), None),
            own = &mut addresses => {
                let services = if own.is_ok() {
                    timeout(SERVICE_PATIENCE, services).await.ok().and_then(Result::ok)
                } else {
                    services.await.ok()
                };
                (services, Some(own))
            }
        };
        let srv = match services {
            Some(Services::Only(found)) => return finish(name, found),
            Some(Services::Srv(srv)) => srv,
            None => direct.iter().map(|transport| (*transport, None)).collect(),
        };
        let mut servers = Vec::new();
        let mut failure = None;
        for (transport, found) in srv {
            match found {
                Some(found) => servers.extend(found),
                // RFC 5928 section 3, steps 3 and 5: without SRV records, the host's addresses and the
                // default port.
                None => {
                    if own.is_none() {
                        own = Some(addresses.as_mut().await);
                    }
                    match own.as_ref().unwrap_or(&Ok(Vec::new())) {
                        Ok(own) => {
                            let port = default_port(transport);
                            servers.extend(own.iter().map(|ip| server(transport, *ip, port, name)));
                        }
                        Err(error) => failure = Some(error.clone()),
                    }
                }
            }
        }
        match failure {
            Some(error) if servers.is_empty() => Err(error),
            _ => finish(name, servers),
        }
    }

    /// For each transport the servers that SRV records name, or nothing where there are no records.
    async fn services(
        &self,
        service: &str,
        host: &str,
        transports: &[ServerTransport],
        seed: u64,
    ) -> Vec<(ServerTransport, Option<Vec<ServerAddress>>)> {
        join_all(transports.iter().map(|transport| async move {
            let protocol = match transport {
                ServerTransport::Udp | ServerTransport::Dtls => "udp",
                ServerTransport::Tcp | ServerTransport::Tls => "tcp",
            };
            let name = format!("_{service}._{protocol}.{host}");
            let records = self.lookup.srv(&name).await.unwrap_or_default();
            if records.is_empty() {
                return (*transport, None);
            }
            let targets = targets(*transport, records, &mut Dice::new(seed));
            (*transport, Some(self.locate(targets, host).await))
        }))
        .await
    }

    /// What NAPTR records lead to, if there are any.
    async fn offered(
        &self,
        name: &str,
        allowed: &[ServerTransport],
        seed: u64,
    ) -> Option<Vec<ServerAddress>> {
        let records = self.lookup.naptr(name).await.ok()?;
        let steps = naptr_steps(records, allowed);
        if steps.is_empty() {
            return None;
        }
        Some(self.follow(name, steps, seed).await)
    }

    /// Follows NAPTR records to their servers, depth first, so that their order is kept.
    async fn follow(&self, name: &str, steps: Vec<NaptrStep>, seed: u64) -> Vec<ServerAddress> {
        let mut dice = Dice::new(seed);
        let mut found = Vec::new();
        let mut questions = 0;
        let mut stack: Vec<(usize, NaptrStep)> =
            steps.into_iter().rev().map(|step| (1, step)).collect();
        while let Some((depth, NaptrStep { transport, next })) = stack.pop() {
            if questions == MAX_NAPTR_QUESTIONS || found.len() >= MAX_TARGETS {
                break;
            }
            match next {
                NaptrNext::Addresses(host) => found.push(Target {
                    transport,
                    host,
                    port: default_port(transport),
                }),
                NaptrNext::Srv(name) => {
                    questions += 1;
                    let records = self.lookup.srv(&name).await.unwrap_or_default();
                    found.extend(targets(transport, records, &mut dice));
                }
                NaptrNext::Naptr(name) if depth < MAX_NAPTR_DEPTH => {
                    questions += 1;
                    let records = self.lookup.naptr(&name).await.unwrap_or_default();
                    let steps = naptr_steps(records, &[transport]);
                    stack.extend(steps.into_iter().rev().map(|step| (depth + 1, step)));
                }
                NaptrNext::Naptr(_) => (),
            }
        }
        self.locate(found, name).await
    }

    /// The addresses of targets, all asked for at once, in the targets' order.
    async fn locate(&self, mut targets: Vec<Target>, name: &str) -> Vec<ServerAddress> {
        targets.truncate(MAX_TARGETS);
        join_all(targets.iter().map(async |target| {
            let addresses = self.addresses(&target.host).await.unwrap_or_default();
            let at = |ip| server(target.transport, ip, target.port, name);
            addresses.into_iter().map(at).collect::<Vec<_>>()
        }))
        .await
        .concat()
    }
}

/// What NAPTR and SRV say.
enum Services {
    /// There are NAPTR records, and these servers are what they lead to.
    Only(Vec<ServerAddress>),
    /// There are none. For each transport, what its SRV records lead to, if there are any.
    Srv(Vec<(ServerTransport, Option<Vec<ServerAddress>>)>),
}

/// The checks of RFC 5928 section 3, with those of RFC 7350 section 4.6.2: the transports among those
/// supported that the URI allows.
fn turn_transports(
    uri: &TurnUri,
    supported: &[ServerTransport],
) -> Result<Vec<ServerTransport>, DnsError> {
    let named = match (uri.secure, &uri.transport) {
        (_, None) => None,
        (false, Some(UriTransport::Udp)) => Some(ServerTransport::Udp),
        (false, Some(UriTransport::Tcp)) => Some(ServerTransport::Tcp),
        (true, Some(UriTransport::Udp)) => Some(ServerTransport::Dtls),
        (true, Some(UriTransport::Tcp)) => Some(ServerTransport::Tls),
        (_, Some(other)) => {
            let name = other.to_string();
            return Err(DnsError::UnknownTransport { name });
        }
    };
    let allowed: Vec<ServerTransport> = supported
        .iter()
        .copied()
        .filter(|transport| match named {
            Some(named) => named == *transport,
            None => !uri.secure || transport.is_secure(),
        })
        .collect();
    if allowed.is_empty() {
        return Err(DnsError::Transport);
    }
    Ok(allowed)
}

/// The address that a host is, or its name, without the root's dot.
fn literal(host: &Host) -> Result<IpAddr, &str> {
    match host {
        Host::Ipv4(ip) => Ok(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Ok(IpAddr::V6(*ip)),
        Host::Name(name) => Err(name.strip_suffix('.').unwrap_or(name)),
    }
}

/// Every transport at every address, by transport first.
fn here(
    addresses: &[IpAddr],
    port: u16,
    transports: &[ServerTransport],
    name: &str,
) -> Result<Vec<ServerAddress>, DnsError> {
    if transports.is_empty() {
        return Err(DnsError::Transport);
    }
    let all = transports.iter().flat_map(|transport| {
        addresses
            .iter()
            .map(|ip| server(*transport, *ip, port, name))
    });
    finish(name, all.collect())
}

fn server(transport: ServerTransport, ip: IpAddr, port: u16, name: &str) -> ServerAddress {
    ServerAddress {
        transport,
        address: SocketAddr::new(ip, port),
        server_name: transport.is_secure().then(|| name.to_owned()),
    }
}

/// Takes out what is there twice, and what is too much.
fn finish(name: &str, all: Vec<ServerAddress>) -> Result<Vec<ServerAddress>, DnsError> {
    let mut servers: Vec<ServerAddress> = Vec::new();
    for server in all {
        if servers.len() < MAX_SERVERS && !servers.contains(&server) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err(DnsError::NotFound {
            name: name.to_owned(),
        });
    }
    Ok(servers)
}

fn targets(transport: ServerTransport, records: Vec<SrvRecord>, dice: &mut Dice) -> Vec<Target> {
    order_srv(records, dice)
        .into_iter()
        .map(|record| Target {
            transport,
            host: record.target,
            port: record.port,
        })
        .collect()
}

const fn default_port(transport: ServerTransport) -> u16 {
    if transport.is_secure() {
        DEFAULT_SECURE_PORT
    } else {
        DEFAULT_PORT
    }
}

impl fmt::Debug for ServerResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerResolver").finish_non_exhaustive()
    }
}
