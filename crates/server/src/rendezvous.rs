//! The rules of the rendezvous: who waits, who meets, who is refused. No sockets and no clock.
//!
//! Every change comes in through [`Rendezvous::handle`], with the time; what is to be done about it comes out
//! of [`Rendezvous::poll`]. The messages are those of [`nilas_net::signaling::message`].
//!
//! A code is in one of five conditions:
//!
//! ```text
//!             create, or join with "create"           join
//!   unknown ───────────────────────────────▶ waiting ──────▶ in use ──────▶ used ──┐
//!      ▲                                      │    │   a peer leaves               │
//!      │          the one who waits leaves    │    └──────────────▶ expired ──┐     │
//!      ├──────────────────────────────────────┘      its time is up           │     │
//!      └──────────────────────────────────────────────────────────────────────┴─────┘
//!                              remembered for one more lifetime
//! ```
//!
//! Every code that leads to no peer counts as a wrong guess against where it came from, also when it makes a
//! room of its own: else `"create":true` would be a way to guess for free. A code that meets does not count.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nilas_net::signaling::message::{MESSAGE_BURST, MESSAGES_PER_SECOND, SCHEMA};
use nilas_net::signaling::rate::{Bucket, Rate};
use nilas_net::signaling::{ClientMessage, Code, MessageError, Refusal, ServerMessage};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::guess_limit::GuessLimit;
use crate::source::Source;

/// How often a client may send.
const MESSAGE_RATE: Rate = Rate::new(
    MESSAGE_BURST,
    Duration::from_micros(1_000_000 / MESSAGES_PER_SECOND as u64),
);
/// A free code is found at the first try, as there are millions; so many misses mean that there is none.
const CODE_TRIES: usize = 64;

/// What a rendezvous allows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RendezvousConfig {
    /// How long a code holds while someone waits under it. Ten minutes.
    pub code_lifetime: Duration,
    /// How long a client may take for its HTTP request, and again to name a code. Ten seconds.
    pub greeting_time: Duration,
    /// The most connections. 2,048; each can tie up 400 KiB at the very worst.
    pub max_connections: usize,
    /// The most connections from one IPv4 address, or one IPv6 network of 64 bits. 64.
    pub max_connections_per_source: usize,
    /// The most used and expired codes that are remembered; the oldest make room. 65,536.
    pub max_remembered_codes: usize,
    /// Codes from one IPv4 address, or one IPv6 network of 64 bits, that led to no peer. Ten, then one
    /// every six seconds.
    pub guesses_per_source: Rate,
    /// Codes from all sources together that led to no peer. 200, then 20 a second.
    pub guesses_together: Rate,
}

impl Default for RendezvousConfig {
    fn default() -> Self {
        Self {
            code_lifetime: Duration::from_secs(600),
            greeting_time: Duration::from_secs(10),
            max_connections: 2048,
            max_connections_per_source: 64,
            max_remembered_codes: 65_536,
            guesses_per_source: Rate::new(10, Duration::from_secs(6)),
            guesses_together: Rate::new(200, Duration::from_millis(50)),
        }
    }
}

/// A client's connection. The driver chooses the numbers and uses each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something that happened outside.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A client connected.
    Opened {
        /// Its connection.
        connection: ConnectionId,
        /// Where it comes from.
        source: IpAddr,
    },
    /// A client sent a text message.
    Message {
        /// Its connection.
        connection: ConnectionId,
        /// The text.
        text: &'a str,
    },
    /// A client sent something that is no text.
    NotText {
        /// Its connection.
        connection: ConnectionId,
    },
    /// More waits for a client than can be kept, since it does not take it.
    Overflow {
        /// Its connection.
        connection: ConnectionId,
    },
    /// A client's connection is gone.
    Closed {
        /// Its connection.
        connection: ConnectionId,
    },
    /// Time has passed.
    Tick,
    /// The server is about to stop.
    Shutdown,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send a text message to a client.
    Send {
        /// Its connection.
        connection: ConnectionId,
        /// The text.
        text: String,
    },
    /// Close a client's connection, once what was sent before is out.
    Close {
        /// Its connection.
        connection: ConnectionId,
    },
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RendezvousCounts {
    /// Connections at this moment.
    pub connections: usize,
    /// Codes under which someone waits, or two are meeting, at this moment.
    pub codes: usize,
    /// Pairs of peers that met since the beginning.
    pub met: u64,
    /// Clients refused since the beginning, for whatever reason.
    pub refused: u64,
}

/// All clients of a rendezvous server and the codes they named. See the [module](self).
#[derive(Debug)]
pub struct Rendezvous {
    config: RendezvousConfig,
    random: ChaCha20Rng,
    connections: BTreeMap<ConnectionId, Connection>,
    per_source: BTreeMap<Source, usize>,
    rooms: BTreeMap<Code, Room>,
    past: Past,
    /// At most one for each connection: the end of its greeting time or of its code.
    deadlines: BTreeSet<(Duration, ConnectionId)>,
    guesses: GuessLimit,
    outputs: VecDeque<Output>,
    met: u64,
    refused: u64,
}

#[derive(Debug)]
struct Connection {
    source: Source,
    stage: Stage,
    deadline: Option<Duration>,
    messages: Bucket,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Connected; `hello` has to come.
    New,
    /// `create` or `join` has to come.
    Greeted,
    /// Alone under this code.
    Waiting(Code),
    /// With a peer under this code.
    Meeting(Code, ConnectionId),
}

#[derive(Clone, Copy, Debug)]
enum Room {
    Waiting(ConnectionId),
    InUse,
}

impl Rendezvous {
    /// A rendezvous without clients. The seed must come from the operating system's generator: it decides
    /// which codes are made up.
    pub fn new(config: RendezvousConfig, seed: [u8; 32]) -> Self {
        Self {
            random: ChaCha20Rng::from_seed(seed),
            connections: BTreeMap::new(),
            per_source: BTreeMap::new(),
            rooms: BTreeMap::new(),
            past: Past {
                lifetime: config.code_lifetime,
                max: config.max_remembered_codes,
                ..Past::default()
            },
            deadlines: BTreeSet::new(),
            guesses: GuessLimit::new(config.guesses_per_source, config.guesses_together),
            outputs: VecDeque::new(),
            met: 0,
            refused: 0,
            config,
        }
    }

    /// Takes in what happened. `now` is the time since any fixed moment.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        self.expire(now);
        match input {
            Input::Opened { connection, source } => self.open(now, connection, source.into()),
            Input::Message { connection, text } => {
                if let Err(refusal) = self.message(now, connection, text) {
                    self.refuse(now, connection, refusal);
                }
            }
            Input::NotText { connection } => self.refuse(now, connection, Refusal::BadMessage),
            Input::Overflow { connection } => self.refuse(now, connection, Refusal::TooSlow),
            Input::Closed { connection } => self.leave(now, connection),
            Input::Tick => {}
            Input::Shutdown => {
                for connection in self.connections.keys().copied().collect::<Vec<_>>() {
                    self.refuse(now, connection, Refusal::ShuttingDown);
                }
            }
        }
    }

    /// Gives one thing to do; to be called until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many there are.
    pub fn counts(&self) -> RendezvousCounts {
        RendezvousCounts {
            connections: self.connections.len(),
            codes: self.rooms.len(),
            met: self.met,
            refused: self.refused,
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some((deadline, connection)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            match self.connections.get(&connection).map(|entry| &entry.stage) {
                Some(Stage::Waiting(code)) => {
                    self.past.remember(now, code.clone(), Refusal::ExpiredCode);
                    self.refuse(now, connection, Refusal::ExpiredCode);
                }
                Some(_) => self.refuse(now, connection, Refusal::Idle),
                // A connection takes its deadline along when it goes.
                None => {}
            }
            self.deadlines.remove(&(deadline, connection));
        }
        self.past.forget(now);
    }

    fn open(&mut self, now: Duration, id: ConnectionId, source: Source) {
        let of_source = self.per_source.get(&source).copied().unwrap_or_default();
        let connection = Connection {
            source,
            stage: Stage::New,
            deadline: None,
            messages: Bucket::default(),
        };
        let full = self.connections.len() >= self.config.max_connections
            || of_source >= self.config.max_connections_per_source;
        self.per_source.insert(source, of_source + 1);
        self.connections.insert(id, connection);
        self.set_deadline(id, Some(now.saturating_add(self.config.greeting_time)));
        if full {
            self.refuse(now, id, Refusal::ServerFull);
        }
    }

    fn message(&mut self, now: Duration, id: ConnectionId, text: &str) -> Result<(), Refusal> {
        // Whoever has been refused may not have heard of it yet.
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        MESSAGE_RATE
            .take(&mut connection.messages, now)
            .map_err(|_| Refusal::TooManyMessages)?;
        let message = ClientMessage::parse(text).map_err(|error| match error {
            MessageError::TooLarge => Refusal::MessageTooLarge,
            MessageError::Code(_) => Refusal::InvalidCode,
            _ => Refusal::BadMessage,
        })?;
        let source = connection.source;
        match (&connection.stage, message) {
            (Stage::New, ClientMessage::Hello { schema }) if schema == SCHEMA => {
                connection.stage = Stage::Greeted;
                self.send(
                    id,
                    &ServerMessage::Hello {
                        schema: SCHEMA.into(),
                    },
                );
            }
            (Stage::New, ClientMessage::Hello { .. }) => return Err(Refusal::UnsupportedSchema),
            (Stage::Greeted, ClientMessage::Create) => {
                let code = self.free_code().ok_or(Refusal::ServerFull)?;
                self.wait(now, id, code);
            }
            (Stage::Greeted, ClientMessage::Join { code, create }) => {
                self.join(now, id, source, code, create)?
            }
            (Stage::Meeting(_, peer), ClientMessage::Signal(signal)) => {
                let peer = *peer;
                self.send(peer, &ServerMessage::Signal(signal));
            }
            _ => return Err(Refusal::BadMessage),
        }
        Ok(())
    }

    fn join(
        &mut self,
        now: Duration,
        id: ConnectionId,
        source: Source,
        code: Code,
        create: bool,
    ) -> Result<(), Refusal> {
        self.guesses
            .check(source, now)
            .map_err(|wait| Refusal::TooManyAttempts {
                // Rounded up: whoever waits as long as it was told must find that it is enough.
                retry_after: Duration::from_secs(wait.as_nanos().div_ceil(1_000_000_000) as u64),
            })?;
        let room = self.rooms.get(&code).copied();
        if let Some(Room::Waiting(creator)) = room {
            self.meet(code, creator, id);
            return Ok(());
        }
        self.guesses.count(source, now);
        match (room, self.past.get(&code)) {
            (Some(_), _) => Err(Refusal::CodeInUse),
            (None, Some(refusal)) => Err(refusal),
            (None, None) if create => {
                self.wait(now, id, code);
                Ok(())
            }
            (None, None) => Err(Refusal::UnknownCode),
        }
    }

    fn free_code(&mut self) -> Option<Code> {
        (0..CODE_TRIES)
            .map(|_| Code::from_random(self.random.next_u64()))
            .find(|code| !self.rooms.contains_key(code) && self.past.get(code).is_none())
    }

    fn wait(&mut self, now: Duration, id: ConnectionId, code: Code) {
        let expires_in = self.config.code_lifetime;
        self.rooms.insert(code.clone(), Room::Waiting(id));
        self.set_stage(id, Stage::Waiting(code.clone()));
        self.set_deadline(id, Some(now.saturating_add(expires_in)));
        self.send(id, &ServerMessage::Created { code, expires_in });
    }

    fn meet(&mut self, code: Code, creator: ConnectionId, joiner: ConnectionId) {
        self.met += 1;
        self.rooms.insert(code.clone(), Room::InUse);
        // RFC 8445 section 6.1.1: one side controls; here the one who was there first.
        for (id, peer, controlling) in [(creator, joiner, true), (joiner, creator, false)] {
            self.set_stage(id, Stage::Meeting(code.clone(), peer));
            self.set_deadline(id, None);
            self.send(id, &ServerMessage::PeerJoined { controlling });
        }
    }

    fn refuse(&mut self, now: Duration, id: ConnectionId, refusal: Refusal) {
        if self.connections.contains_key(&id) {
            self.refused += 1;
            self.send(id, &ServerMessage::Error(refusal));
            self.outputs.push_back(Output::Close { connection: id });
            self.leave(now, id);
        }
    }

    fn leave(&mut self, now: Duration, id: ConnectionId) {
        self.set_deadline(id, None);
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(count) = self.per_source.get_mut(&connection.source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&connection.source);
            }
        }
        match connection.stage {
            Stage::New | Stage::Greeted => {}
            Stage::Waiting(code) => {
                self.rooms.remove(&code);
            }
            Stage::Meeting(code, peer) => {
                if self.rooms.remove(&code).is_some() {
                    self.past.remember(now, code, Refusal::UsedCode);
                }
                // The peer has nobody to talk to any more.
                if self.connections.contains_key(&peer) {
                    self.send(peer, &ServerMessage::PeerLeft);
                    self.outputs.push_back(Output::Close { connection: peer });
                    self.leave(now, peer);
                }
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, message: &ServerMessage<'_>) {
        self.outputs.push_back(Output::Send {
            connection,
            text: message.to_json(),
        });
    }

    fn set_stage(&mut self, id: ConnectionId, stage: Stage) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.stage = stage;
        }
    }

    fn set_deadline(&mut self, id: ConnectionId, deadline: Option<Duration>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(old) = connection.deadline.take() {
            self.deadlines.remove(&(old, id));
        }
        connection.deadline = deadline;
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, id)));
    }
}

/// Codes that nobody may use again for a while.
#[derive(Debug, Default)]
struct Past {
    lifetime: Duration,
    max: usize,
    codes: BTreeMap<Code, Refusal>,
    /// All have the same lifetime, so they expire in the order they came.
    order: VecDeque<(Duration, Code)>,
}

impl Past {
    fn remember(&mut self, now: Duration, code: Code, refusal: Refusal) {
        if self.order.len() >= self.max {
            self.forget_first();
        }
        if self.max > 0 && self.codes.insert(code.clone(), refusal).is_none() {
            self.order
                .push_back((now.saturating_add(self.lifetime), code));
        }
    }

    fn forget(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, code)) = self.order.pop_front() {
            self.codes.remove(&code);
        }
    }

    fn get(&self, code: &Code) -> Option<Refusal> {
        self.codes.get(code).copied()
    }
}
