//! A host: its engine, its sockets, and what its agents told.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use nilas_ice::{
    AgentConfig, AgentError, AgentId, Engine, EngineConfig, Event, PathCell, RecordingOptions,
    SessionEvent, SessionId, SocketId, Time,
};

use crate::streams::Streams;

/// What a node that can run agents consists of.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    seed: [u8; 32],
    recording: Option<RecordingOptions>,
    /// When the engine wants to be woken.
    pub(crate) wake: Option<Time>,
    /// How many datagrams reached a socket and belonged to no agent.
    pub(crate) not_ours: u64,
    pub(crate) records: BTreeMap<AgentId, Record>,
    /// What sessions of several components told.
    pub(crate) session_events: Vec<(Time, SessionId, SessionEvent)>,
    pub(crate) streams: Streams,
    /// The sockets of the engine.
    pub(crate) addresses: BTreeMap<SocketId, SocketAddr>,
    next_socket: u32,
    /// Whether the machine is suspended.
    pub(crate) is_asleep: bool,
    /// How often the engine was woken at this one moment.
    wakes: (Time, u32),
}

/// What an agent told, and what reached it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) path: Arc<PathCell>,
    pub(crate) events: Vec<(Time, Event)>,
    pub(crate) received: Vec<(Time, Vec<u8>)>,
    /// What it was told by signaling and refused.
    pub(crate) refused: Vec<(Time, AgentError)>,
    /// When it was first told its peer's parameters.
    pub(crate) remote_parameters: Option<Time>,
}

/// An engine that is to be woken so often at one moment never comes to rest.
const MOST_WAKES_AT_ONCE: u32 = 10_000;

impl Host {
    pub(crate) fn new(seed: [u8; 32], recording: Option<RecordingOptions>) -> Self {
        let config = EngineConfig::default();
        Self {
            engine: Self::engine(config, seed, recording.clone()),
            seed,
            recording,
            wake: None,
            not_ours: 0,
            records: BTreeMap::new(),
            session_events: Vec::new(),
            streams: Streams::default(),
            addresses: BTreeMap::new(),
            next_socket: 0,
            is_asleep: false,
            wakes: (Time::ZERO, 0),
        }
    }

    /// An engine that is configured so, as long as there is no agent.
    ///
    /// # Panics
    /// If there is one.
    pub(crate) fn configure(&mut self, config: EngineConfig) {
        assert!(
            self.records.is_empty(),
            "an engine is configured before it has agents"
        );
        self.engine = Self::engine(config, self.seed, self.recording.clone());
    }

    fn engine(config: EngineConfig, seed: [u8; 32], recording: Option<RecordingOptions>) -> Engine {
        match recording {
            Some(options) => Engine::recorded(config, seed, options),
            None => Engine::new(config, seed),
        }
    }

    pub(crate) fn add_agent(
        &mut self,
        now: Time,
        config: AgentConfig,
    ) -> Result<AgentId, AgentError> {
        let id = self.engine.add_agent(now, config)?;
        self.keep_record(id)?;
        Ok(id)
    }

    /// Begins to write down what an agent tells, if that has not begun.
    pub(crate) fn keep_record(&mut self, id: AgentId) -> Result<(), AgentError> {
        let path = self.engine.agent(id)?.path();
        self.records.entry(id).or_insert_with(|| Record {
            path,
            events: Vec::new(),
            received: Vec::new(),
            refused: Vec::new(),
            remote_parameters: None,
        });
        Ok(())
    }

    /// The id of the next socket of the engine.
    pub(crate) const fn next_socket(&mut self) -> SocketId {
        self.next_socket += 1;
        SocketId(self.next_socket - 1)
    }

    /// To be called at each wake-up.
    ///
    /// # Panics
    /// If the engine asks again and again to be woken at a moment that has come.
    pub(crate) fn count_wake(&mut self, now: Time) {
        self.wakes = if self.wakes.0 == now {
            (now, self.wakes.1 + 1)
        } else {
            (now, 1)
        };
        assert!(
            self.wakes.1 <= MOST_WAKES_AT_ONCE,
            "the engine asks to be woken at {now:?} again and again, which is now: its deadline is not served"
        );
    }

    pub(crate) fn address_of(&self, socket: SocketId) -> Option<SocketAddr> {
        self.addresses.get(&socket).copied()
    }
}
