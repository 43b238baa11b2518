//! From a URI to an allocation.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nilas_stun::uri::TurnUri;
use nilas_turn::client::{Client, ClientConfig, Credentials, Failure, Families, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::RelayError;
use super::handle::{Relay, RelayTimes};
use super::link::{self, LinkReceiver, LinkSender};
use super::shared::Shared;
use super::task::{QUEUED_DATA, Task};
use crate::dns::{DnsError, ServerAddress, ServerResolver, ServerTransport};
use crate::os_seed;
use crate::stream::{ClientTls, Proxy, StreamDeadlines};

/// RFC 8489 section 10: a redirection is not followed for ever. So many are.
const MAX_REDIRECTIONS: usize = 4;
/// After this long without an allocation the next server is tried, too (as RFC 8305 section 5 has it).
const STAGGER: Duration = Duration::from_millis(250);

/// Gets allocations from TURN servers. One serves a whole program; its clones share the same caches.
#[derive(Clone)]
pub struct TurnClient {
    resolver: Arc<ServerResolver>,
    tls: TlsSource,
}

/// What is wanted of a server.
#[derive(Clone, Debug)]
pub struct RelayRequest {
    /// The user.
    pub credentials: Credentials,
    /// The relayed addresses.
    pub families: Families,
    /// The transports to the server that may be used, the best first.
    pub transports: Vec<ServerTransport>,
    /// The longest that each stage before the allocation may take.
    pub deadlines: StreamDeadlines,
    /// The longest that an allocation may take once the connection is there.
    pub allocate: Duration,
    /// The local address to use; the operating system chooses when there is none.
    pub local: Option<IpAddr>,
    /// The proxy to go through, over TCP and TLS.
    pub proxy: Option<Proxy>,
}

impl RelayRequest {
    /// An IPv4 allocation over any transport, five seconds for each stage.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            families: Families::V4,
            transports: vec![
                ServerTransport::Udp,
                ServerTransport::Dtls,
                ServerTransport::Tcp,
                ServerTransport::Tls,
            ],
            deadlines: StreamDeadlines::default(),
            allocate: Duration::from_secs(5),
            local: None,
            proxy: None,
        }
    }
}

/// Whom to trust; the system's roots are read when they are first needed.
#[derive(Clone)]
pub(super) struct TlsSource(Arc<OnceLock<Result<ClientTls, RelayError>>>);

impl TlsSource {
    fn get(&self) -> Result<ClientTls, RelayError> {
        let system = || ClientTls::system().map_err(|error| RelayError::Roots(Arc::new(error)));
        self.0.get_or_init(system).clone()
    }
}

impl TurnClient {
    /// Asks the system's resolvers, and trusts the system's roots.
    ///
    /// # Errors
    /// When the resolver cannot be set up.
    pub fn new() -> Result<Self, DnsError> {
        Ok(Self::with_resolver(ServerResolver::system()?))
    }

    /// Asks this resolver, and trusts the system's roots.
    #[must_use]
    pub fn with_resolver(resolver: ServerResolver) -> Self {
        Self {
            resolver: Arc::new(resolver),
            tls: TlsSource(Arc::default()),
        }
    }

    /// Trusts these roots instead of the system's.
    #[must_use]
    pub fn trusting(mut self, tls: ClientTls) -> Self {
        self.tls = TlsSource(Arc::new(OnceLock::from(Ok(tls))));
        self
    }

    /// The servers behind a URI, in the order to try them (RFC 5928).
    ///
    /// # Errors
    /// When there is none.
    pub async fn resolve(
        &self,
        uri: &TurnUri,
        transports: &[ServerTransport],
    ) -> Result<Vec<ServerAddress>, RelayError> {
        let seed = seed()?;
        let (dice, _) = seed.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.resolver
            .turn(uri, transports, u64::from_be_bytes(*dice))
            .await
            .map_err(RelayError::Dns)
    }

    /// An allocation on the server behind a URI: the first that one of its addresses and transports gives. They
    /// are started one after another, 250 ms apart or as soon as one fails, so that a server that swallows
    /// packets delays nothing.
    ///
    /// # Errors
    /// The DNS's, or that of the last attempt to fail.
    pub async fn allocate(
        &self,
        uri: &TurnUri,
        request: &RelayRequest,
    ) -> Result<Relay, RelayError> {
        let servers = self.resolve(uri, &request.transports).await?;
        let mut waiting = servers.into_iter();
        let mut running = JoinSet::new();
        let mut last = None;
        loop {
            let next = waiting.next();
            let more = next.is_some();
            if let Some(server) = next {
                let (tls, request) = (self.tls.clone(), request.clone());
                running.spawn(async move { follow(server, &request, &tls).await });
            }
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                () = sleep(STAGGER), if more => continue,
            };
            match ended {
                Some(Ok(Ok(relay))) => {
                    // Those that are late give their allocations back when they have them.
                    running.detach_all();
                    return Ok(relay);
                }
                Some(Ok(Err(error))) => last = Some(error),
                // A panic has been told where it happened; the attempt counts as none.
                Some(Err(_)) => {}
                None if !more => {
                    return Err(last.unwrap_or(RelayError::Dns(DnsError::Transport)));
                }
                None => {}
            }
        }
    }

    /// An allocation on this very server, or on the one that it redirects to (RFC 8489 section 10).
    ///
    /// # Errors
    /// At which stage it failed, and why.
    pub async fn allocate_at(
        &self,
        server: &ServerAddress,
        request: &RelayRequest,
    ) -> Result<Relay, RelayError> {
        follow(server.clone(), request, &self.tls).await
    }
}

/// Asks a server, and those it sends its clients to, without going in circles.
async fn follow(
    mut server: ServerAddress,
    request: &RelayRequest,
    tls: &TlsSource,
) -> Result<Relay, RelayError> {
    let mut asked = vec![server.address];
    let mut moved = false;
    loop {
        match ask(&server, request, tls).await {
            Err((RelayError::Redirected { server: from, .. }, Some((to, domain)))) => {
                if asked.contains(&to) || asked.len() > MAX_REDIRECTIONS {
                    return Err(RelayError::Redirected { server: from, to });
                }
                asked.push(to);
                server.address = to;
                // RFC 8489 section 10: the certificate is checked against ALTERNATE-DOMAIN where there is one,
                // and else against the name that was asked for first.
                if let (true, Some(domain)) = (server.transport.is_secure(), domain) {
                    server.server_name = Some(domain);
                }
            }
            // RFC 8656 section 5: the port is known there from an earlier life; a new socket has another.
            Err((
                RelayError::Allocate {
                    failure: Failure::Mismatch,
                    ..
                },
                _,
            )) if !moved => moved = true,
            Err((error, _)) => return Err(error),
            Ok(relay) => return Ok(relay),
        }
    }
}

type Refusal = (RelayError, Option<(SocketAddr, Option<String>)>);

/// Asks one server.
async fn ask(
    server: &ServerAddress,
    request: &RelayRequest,
    tls: &TlsSource,
) -> Result<Relay, Refusal> {
    let began = Instant::now();
    let plain = |error| (error, None);
    let (sender, receiver, local) = open_link(server, request, tls).await.map_err(plain)?;
    let connect = began.elapsed();
    let transport = match server.transport {
        ServerTransport::Udp | ServerTransport::Dtls => Transport::Datagram,
        ServerTransport::Tcp | ServerTransport::Tls => Transport::Stream,
    };
    let mut config = ClientConfig::new(request.credentials.clone(), transport);
    config.families = request.families;
    let client = Client::new(config, seed().map_err(plain)?);
    let shared = Arc::new(Shared::new(client, sender, server.address));
    let (data, incoming) = mpsc::channel(QUEUED_DATA);
    let task = Task {
        shared: Arc::clone(&shared),
        receiver,
        data,
        server: server.clone(),
        request: request.clone(),
        tls: tls.clone(),
    };
    tokio::spawn(task.run());
    // From here on, whatever happens, a relay that is dropped ends its task.
    let asked = Instant::now();
    let mut relay = Relay::new(
        shared,
        incoming,
        server.clone(),
        local,
        RelayTimes {
            connect,
            allocate: Duration::ZERO,
        },
    );
    let allocated = timeout(request.allocate, relay.reallocated(1)).await;
    relay.set_allocate_time(asked.elapsed());
    match allocated {
        Ok(Ok(())) => Ok(relay),
        Ok(Err(error)) => Err((error, relay.redirected())),
        Err(_) => Err(plain(RelayError::TimedOut {
            server: server.address,
        })),
    }
}

pub(super) async fn open_link(
    server: &ServerAddress,
    request: &RelayRequest,
    tls: &TlsSource,
) -> Result<(LinkSender, LinkReceiver, SocketAddr), RelayError> {
    link::open(server, request, || tls.get()).await
}

fn seed() -> Result<[u8; 32], RelayError> {
    os_seed().map_err(|error| RelayError::Socket {
        server: SocketAddr::from(([0, 0, 0, 0], 0)),
        error: Arc::new(error),
    })
}

impl fmt::Debug for TurnClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnClient").finish_non_exhaustive()
    }
}
