//! Relayed candidates: allocations on TURN servers (RFC 8656, RFC 8445 section 5.1.1.2).
//!
//! A relayed transport address is a socket that happens to be on a server: it gets a number of its own
//! among the agent's sockets, is a base for pairs like any other, and only what leaves and what arrives
//! passes here, to be wrapped and unwrapped. The allocation itself is kept by
//! [`nilas_turn::client::Client`], which believes nothing that the server did not sign (RFC 8445 section 19.4).
//!
//! Every request to a server takes a pacing slot, as the checks do (RFC 8445 section 14.2). A peer's
//! permission is asked for in the slot before the first check of its pair: the server takes both in turn,
//! so that no round trip is spent on waiting for the permission.
//!
//! | room | what happens there |
//! |---|---|
//! | [`allocate`] | servers are asked, and what they gave becomes candidates |
//! | [`settle`] | what the client of an allocation tells: lost, redirected, refused, released |
//! | [`carry`] | what leaves and what arrives by way of a relay |

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_stun::Key;
use nilas_turn::Time;
use nilas_turn::client::{Client, ClientConfig, Credentials, Transport};
use smallvec::SmallVec;

use super::Agent;
use crate::config::{TurnServer, TurnTransport};
use crate::ids::{RequestId, StreamId};
use crate::io::StreamTransport;
use crate::shared::Shared;

mod allocate;
mod carry;
mod settle;

pub(crate) use self::carry::{Unwrapped, enclose, head_length, indication_id};

/// A client follows so many redirections within [`REDIRECTED_WITHIN`] and no more.
const MAX_HOPS: usize = 4;
/// RFC 8489 section 10: within this time no redirection of the same request leads to a server that was asked.
const REDIRECTED_WITHIN: Duration = Duration::from_secs(5 * 60);
/// A lost connection is opened anew so often in a row.
const MAX_RECONNECTS: u8 = 5;
/// RFC 8656 section 7.4: so many local addresses are tried where the server says that one is taken (437), or that its
/// allocation has other credentials than are good now.
const MAX_TRIES: u8 = 3;
const FIRST_RECONNECT: Duration = Duration::from_millis(500);
/// How long a closed agent waits for its servers to confirm that they took their addresses back.
const FAREWELL: Duration = Duration::from_secs(3);
/// Allocations of one agent, at most: servers times local addresses is the outside's to choose.
const MAX_ALLOCATIONS: usize = 32;
/// Relayed addresses that one agent has had, at most.
const MAX_RELAY_BASES: usize = 128;

/// The TURN servers of an agent and what they gave.
#[derive(Debug)]
pub(super) struct Relaying {
    servers: Vec<Server>,
    allocations: Vec<Allocation>,
    /// When the agent is closed without waiting for its servers any longer.
    released_by: Option<Time>,
}

#[derive(Debug)]
struct Server {
    config: TurnServer,
    url: Box<str>,
    addresses: Vec<SocketAddr>,
    request: Option<RequestId>,
    resolved: bool,
    /// Why it gave nothing, and until when it is not asked again (RFC 8656 section 7.4).
    refusal: Option<(u16, Time)>,
}

/// One allocation, wanted or had.
#[derive(Debug)]
struct Allocation {
    server: u16,
    client: Client,
    route: Route,
    /// The agent's address as the server sees it.
    mapped: Option<SocketAddr>,
    /// The local address that its connection is taken to leave from: that of the default route, when it was opened.
    leaves_from: Option<IpAddr>,
    /// The relayed addresses, as indices of sockets.
    bases: SmallVec<[u16; 2]>,
    /// Gathering waits for it.
    open: bool,
    /// Its addresses are not told before the server has said that it still knows them.
    verifying: bool,
    /// The servers that redirections have led to and from, each with the time of that.
    asked: Vec<(SocketAddr, Time)>,
    reconnects: u8,
    /// Local addresses that it was asked for from.
    tries: u8,
}

/// How the server is reached.
#[derive(Clone, Debug)]
enum Route {
    /// From a local socket, by its index.
    Datagram { socket: u16, server: SocketAddr },
    /// A socket of its own is being bound, because another allocation has the 5-tuple.
    Binding { server: SocketAddr },
    /// A connection is being opened.
    Opening(RequestId),
    /// A connection.
    Stream(StreamId),
    /// The connection broke; it is opened again then.
    Broken { retry_at: Time },
    /// It is over.
    Ended,
}

impl Relaying {
    pub(super) fn new(servers: Vec<TurnServer>) -> Option<Box<Self>> {
        if servers.is_empty() {
            return None;
        }
        let servers = servers.into_iter().map(Server::new).collect();
        Some(Box::new(Self {
            servers,
            allocations: Vec::new(),
            released_by: None,
        }))
    }

    fn is_done(&self) -> bool {
        self.servers.iter().all(|server| server.resolved)
            && !self
                .allocations
                .iter()
                .any(|allocation| allocation.open || allocation.verifying)
    }

    /// Whether all allocations were given back. One that was given up before it was made has nothing to give.
    fn is_released(&self) -> bool {
        self.allocations.iter().all(|allocation| {
            matches!(allocation.route, Route::Ended) || allocation.client.deadline().is_none()
        })
    }

    /// When the next request is due.
    fn deadline(&self) -> Option<Time> {
        let due = |allocation: &Allocation| match allocation.route {
            Route::Datagram { .. } | Route::Stream(_) => allocation.client.deadline(),
            Route::Broken { retry_at } => Some(retry_at),
            Route::Binding { .. } | Route::Opening(_) | Route::Ended => None,
        };
        self.allocations.iter().filter_map(due).min()
    }

    /// Whether the addresses of any server are so.
    pub(super) fn any_server(&self, are_so: impl Fn(&[SocketAddr]) -> bool) -> bool {
        self.position(are_so).is_some()
    }

    /// The first server whose addresses are so.
    pub(super) fn position(&self, are_so: impl Fn(&[SocketAddr]) -> bool) -> Option<usize> {
        let mut servers = self.servers.iter();
        servers.position(|server| are_so(&server.addresses))
    }

    pub(super) fn url(&self, server: u16) -> Option<&str> {
        Some(&self.servers.get(usize::from(server))?.url)
    }

    /// RTCIceCandidateStats.relayProtocol.
    pub(super) fn protocol(&self, server: u16) -> Option<&'static str> {
        Some(protocol(
            self.servers.get(usize::from(server))?.config.transport,
        ))
    }

    /// Whether any server gave an address.
    pub(super) fn has_relay(&self) -> bool {
        self.allocations
            .iter()
            .any(|allocation| !allocation.bases.is_empty())
    }
}

impl Server {
    fn new(config: TurnServer) -> Self {
        let literal = config.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        Self {
            url: config.url().into(),
            addresses: literal
                .map(|ip| SocketAddr::new(ip, config.port))
                .into_iter()
                .collect(),
            request: None,
            refusal: None,
            // A connection's name is the rim's to resolve.
            resolved: literal.is_some() || config.transport != TurnTransport::Udp,
            config,
        }
    }

    fn client(&self, shared: &mut Shared) -> Client {
        let transport = match self.config.transport {
            TurnTransport::Udp | TurnTransport::Stream(StreamTransport::Dtls) => {
                Transport::Datagram
            }
            TurnTransport::Stream(_) => Transport::Stream,
        };
        let mut config = ClientConfig::new(self.config.credentials.clone(), transport);
        config.families = self.config.families;
        let mut seed = [0; 32];
        shared.source.fill_bytes(&mut seed);
        Client::new(config, seed)
    }
}

const fn protocol(transport: TurnTransport) -> &'static str {
    match transport {
        TurnTransport::Udp => "udp",
        TurnTransport::Stream(StreamTransport::Tcp) => "tcp",
        TurnTransport::Stream(StreamTransport::Tls) => "tls",
        TurnTransport::Stream(StreamTransport::Dtls) => "dtls",
    }
}

/// What of the 16 bits of local preference an allocation starts from: the fewer layers between the agent
/// and its server, the better.
const fn preference_of(transport: TurnTransport) -> u16 {
    match transport {
        TurnTransport::Udp => 0xF000,
        TurnTransport::Stream(StreamTransport::Dtls) => 0xC000,
        TurnTransport::Stream(StreamTransport::Tcp) => 0x8000,
        TurnTransport::Stream(StreamTransport::Tls) => 0x4000,
    }
}

impl Agent {
    /// The key of the server of an allocation, and what it would be with the credentials that stand for the
    /// real ones.
    pub(crate) fn server_keys(
        &self,
        index: u16,
        stand_in: impl FnOnce(&Credentials) -> Credentials,
    ) -> Option<(&Key, Key)> {
        let turn = self.turn.as_ref()?;
        let allocation = turn.allocations.get(usize::from(index))?;
        allocation.client.key_and_stand_in(stand_in)
    }

    pub(super) fn relaying(&self) -> &Relaying {
        let Some(turn) = &self.turn else {
            unreachable!("only agents with TURN servers have allocations")
        };
        turn
    }

    pub(super) fn relaying_mut(&mut self) -> &mut Relaying {
        let Some(turn) = &mut self.turn else {
            unreachable!("only agents with TURN servers have allocations")
        };
        turn
    }
}
