//! The client's end: one allocation on a server (RFC 8656 sections 7 to 12).
//!
//! A [`Client`] is given what comes from the server and the time, and gives what is to be sent to the
//! server, events, and what the relay delivered. It stands on a 5-tuple or a stream that its driver
//! keeps. It authenticates, refreshes by the lifetime that was granted, renews permissions and
//! channels early, and makes a lost allocation anew without being asked.
//!
//! | room | what happens there | RFC |
//! |---|---|---|
//! | `auth` | the long-term credential, nonces, bid-down protection | 8489 section 9.2 |
//! | `allocation` | Allocate, Refresh, and their errors | 8656 sections 7, 8 |
//! | `peer` | permissions and channels | 8656 sections 9 to 12 |
//! | `relay` | data to and from peers | 8656 sections 11, 12 |
//! | `transaction` | requests in flight | 8489 section 6.2 |

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use nilas_stun::{Key, TransactionId};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use self::auth::Auth;
use self::peer::Peer;
use self::transaction::Transaction;
use crate::time::Time;

mod allocation;
mod auth;
mod peer;
mod relay;
mod transaction;

pub use self::auth::Credentials;
pub use self::peer::Permission;
pub use self::relay::{Framing, MAX_HEAD, MAX_TAIL, NotTurn, Received, message_length};

/// Which relayed addresses are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// An IPv4 address, which every server has.
    #[default]
    V4,
    /// An IPv6 address.
    V6,
    /// Both; if the server refuses one, the other will do (RFC 8656 section 7.2).
    Both,
}

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP or DTLS: requests are retransmitted.
    Datagram,
    /// TCP or TLS: messages are framed by their lengths.
    Stream,
}

/// What a client is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The user.
    pub credentials: Credentials,
    /// The relayed addresses wanted.
    pub families: Families,
    /// How the server is reached.
    pub transport: Transport,
}

impl ClientConfig {
    /// An IPv4 allocation for this user.
    pub fn new(credentials: Credentials, transport: Transport) -> Self {
        Self {
            credentials,
            families: Families::V4,
            transport,
        }
    }
}

/// What a client tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// There is an allocation; after a loss, another one.
    Allocated {
        /// The relayed addresses, one or two.
        relayed: Vec<SocketAddr>,
        /// The client's address as the server sees it.
        mapped: SocketAddr,
    },
    /// The server still knows the allocation: it was refreshed.
    Refreshed,
    /// The allocation was lost; the client is making another.
    Lost,
    /// The server sends its clients elsewhere (RFC 8489 section 10).
    Redirected {
        /// The other server.
        server: SocketAddr,
        /// Its name, for TLS.
        domain: Option<String>,
    },
    /// The server refuses to relay to this peer.
    PeerRefused {
        /// The peer.
        peer: SocketAddr,
        /// The STUN error code.
        code: u16,
    },
    /// A peer may be sent to on a channel now: four bytes in front of the data.
    ChannelBound {
        /// The peer.
        peer: SocketAddr,
    },
    /// There is no allocation and there will be none.
    Failed(Failure),
    /// The allocation was given back.
    Released,
}

/// Why there is no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The server did not answer.
    Timeout,
    /// The user name or password is wrong (401, 441).
    Unauthorized,
    /// The same, and [others](Client::set_credentials) were given meanwhile. The server may still know the allocation: a
    /// new client asks with those, from another address.
    Superseded,
    /// The server's offer is weaker than what it says it can, as if somebody had tampered with it
    /// (RFC 8489 section 9.2.5), or its answers are not authentic.
    Tampered,
    /// The server refused, with this STUN error code and reason.
    Refused {
        /// The code, such as 486 for a quota or 508 for a server that is full.
        code: u16,
        /// The server's own words.
        reason: String,
    },
    /// The 5-tuple is taken (437): a new local port is needed.
    Mismatch,
    /// The user name or password cannot be used in STUN.
    Credentials,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Timeout => f.write_str("the TURN server did not answer"),
            Self::Unauthorized => f.write_str("the TURN server refused the user name or password"),
            Self::Superseded => f.write_str(
                "the TURN server refused the user name or password, and others were given meanwhile",
            ),
            Self::Tampered => f.write_str("the TURN server's answers are not authentic"),
            Self::Refused { code, reason } => {
                write!(f, "the TURN server refused with {code} {reason}")
            }
            Self::Mismatch => f.write_str(
                "the TURN server still knows this address from before: use another port",
            ),
            Self::Credentials => {
                f.write_str("the user name or password has characters that STUN excludes")
            }
        }
    }
}

impl core::error::Error for Failure {}

/// One allocation on one server. See the [module](self).
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    auth: Auth,
    state: State,
    relayed: Vec<SocketAddr>,
    mapped: Option<SocketAddr>,
    /// Families as they are asked for now; a server may not know of both.
    families: Families,
    /// When the allocation is to be refreshed, and when it is gone.
    refresh_at: Option<Time>,
    expires_at: Option<Time>,
    /// When the NATs on the way to the server are reminded of the 5-tuple.
    keepalive_at: Option<Time>,
    /// When a refused allocation is asked for again.
    retry_at: Option<Time>,
    attempts: u8,
    /// What is being given back is an allocation without addresses, which nobody has heard of.
    is_unusable: bool,
    /// Credentials for the next allocation.
    fresh: Option<Credentials>,
    peers: Vec<Peer>,
    next_channel: u16,
    transactions: Vec<Transaction>,
    events: VecDeque<ClientEvent>,
    rng: ChaCha12Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Allocating,
    Allocated,
    Releasing,
    Ended,
}

impl Client {
    /// A client that begins to allocate at its first [`poll`](Self::poll).
    ///
    /// The seed gives transaction ids and must not be guessable.
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Self {
        Self {
            families: config.families,
            auth: Auth::new(config.credentials.clone()),
            config,
            state: State::Allocating,
            relayed: Vec::new(),
            mapped: None,
            refresh_at: None,
            expires_at: None,
            keepalive_at: None,
            retry_at: Some(Time::ZERO),
            attempts: 0,
            is_unusable: false,
            fresh: None,
            peers: Vec::new(),
            next_channel: peer::FIRST_CHANNEL,
            transactions: Vec::new(),
            events: VecDeque::new(),
            rng: ChaCha12Rng::from_seed(seed),
        }
    }

    /// Writes the next message for the server into `buffer` and gives its length; `None` when there is
    /// nothing to send now. To be called until then, after every other call and at the deadline.
    pub fn poll(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if self.state == State::Ended {
            return None;
        }
        if let Some(size) = self.fire_transactions(now, buffer) {
            return Some(size);
        }
        if let Some(size) = self.fire_allocation(now, buffer) {
            return Some(size);
        }
        if let Some(size) = self.fire_peers(now, buffer) {
            return Some(size);
        }
        self.fire_keepalive(now, buffer)
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When [`poll`](Self::poll) is to be called next.
    pub fn deadline(&self) -> Option<Time> {
        if self.state == State::Ended {
            return None;
        }
        let transactions = self
            .transactions
            .iter()
            .map(|transaction| transaction.due)
            .min();
        [
            transactions,
            self.allocation_deadline(),
            self.peers_deadline(),
            self.keepalive_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Gives the allocation back: a Refresh with lifetime 0 (RFC 8656 section 8). The event
    /// [`ClientEvent::Released`] follows, at once where there is none.
    pub fn release(&mut self) {
        match self.state {
            State::Allocated => {
                self.state = State::Releasing;
                self.keepalive_at = None;
                self.transactions.clear();
                self.peers.clear();
                self.refresh_at = Some(Time::ZERO);
                self.attempts = 0;
            }
            State::Allocating => self.end(ClientEvent::Released),
            // Whoever gives it back is told so, and nothing else.
            State::Releasing | State::Ended => self.is_unusable = false,
        }
    }

    /// Something makes one doubt that the server still knows the allocation: it is refreshed now, and made anew
    /// where the server says 437.
    pub fn refresh(&mut self, now: Time) {
        let refreshes = |purpose| purpose == transaction::Purpose::Refresh;
        if self.state == State::Allocated && !self.is_in_flight(refreshes) {
            self.refresh_at = Some(now);
        }
    }

    /// Gives the user fresh credentials, before the present ones end. They are used from the next allocation on: whoever
    /// names another user on one that exists is refused (RFC 8656 section 5, error 441).
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.fresh = Some(credentials);
    }

    /// The stream to the server broke; there is a new one. Everything is asked for anew.
    pub fn reconnected(&mut self) {
        if matches!(self.state, State::Allocating | State::Allocated) {
            self.lose(Time::ZERO);
        }
    }

    /// The relayed addresses, if there is an allocation.
    pub fn relayed(&self) -> &[SocketAddr] {
        &self.relayed
    }

    /// The key that the server's answers are verified with now, and what it would be with the credentials that stand for
    /// the real ones: for a recording that is to hold none of these. `None` before the server has challenged.
    pub fn key_and_stand_in(
        &self,
        stand_in: impl FnOnce(&Credentials) -> Credentials,
    ) -> Option<(&Key, Key)> {
        self.auth.key_and_stand_in(stand_in)
    }

    /// Whether this allocation can reach peers of this address's family.
    pub fn reaches(&self, peer: SocketAddr) -> bool {
        self.state == State::Allocated
            && self
                .relayed
                .iter()
                .any(|relayed| relayed.is_ipv4() == peer.is_ipv4())
    }

    fn end(&mut self, event: ClientEvent) {
        let event = match core::mem::take(&mut self.is_unusable) {
            true => {
                let reason = "an allocation without addresses".into();
                ClientEvent::Failed(Failure::Refused { code: 0, reason })
            }
            false => event,
        };
        self.state = State::Ended;
        self.relayed.clear();
        self.peers.clear();
        self.transactions.clear();
        self.events.push_back(event);
    }

    fn transaction_id(&mut self) -> TransactionId {
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        TransactionId::new(id)
    }

    fn datagram(&self) -> bool {
        self.config.transport == Transport::Datagram
    }
}

/// RFC 8489 section 6.2.1 and RFC 8445 section 14.3.
const RTO: Duration = Duration::from_millis(500);
