//! The engine: many agents in one thread, without locks.

use core::net::{SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::collections::VecDeque;

use nilas_stun::{
    Class, ErrorCode, Fingerprint, Message, MessageBuilder, Method, is_stun, stream_message_length,
};
use nilas_turn::client::{NotTurn, message_length};

use crate::agent::relay::{Unwrapped, enclose, head_length, indication_id};
use crate::agent::{Agent, Visit};
use crate::arena::Arena;
use crate::config::{AgentConfig, EngineConfig};
use crate::counters::Counters;
use crate::demux::{Allocation, StreamEnd, StreamOwner};
use crate::dscp::Dscp;
use crate::error::AgentError;
use crate::ids::{AgentId, RequestId, SocketId, StreamId};
use crate::io::{
    Application, BindError, Command, Handled, Input, Output, SendError, StreamTransmit, Transmit,
};
use crate::path::{Departure, Via};
use crate::recording::{Recorder, RecordingOptions};
use crate::shared::{Answer, Queued, Response, Shared};
use crate::source::{Source, Tape};
use crate::timers::Timers;
use nilas_turn::Time;

pub use self::handle::AgentMut;
use self::session::Session;
pub use self::session_mut::SessionMut;

mod checklist_set;
mod handle;
mod session;
mod session_mut;

/// RFC 4571 section 2: the length of the frame in two bytes.
pub(crate) const FRAME_HEAD: usize = 2;
/// The answer to a question over TCP is about 60 bytes long; what is longer than this is not waited for.
const MAX_ANSWER: usize = 1_280;

/// Hosts agents. See the [crate's front page](crate).
#[derive(Debug)]
pub struct Engine {
    /// Boxed, so that room for more costs little.
    pub(crate) agents: Arena<Box<Agent>>,
    /// Those of several streams or components; most agents are on their own.
    pub(crate) sessions: Arena<Session>,
    pub(crate) shared: Shared,
    /// One live entry for each agent that waits for a time; entries that its agent does not know as
    /// its own are stale.
    timers: Timers,
    /// Agents that have a check to send and wait for a pacing slot of the engine, in turn.
    awaiting: VecDeque<u32>,
    pub(crate) now: Time,
    pub(crate) recorder: Option<Box<Recorder>>,
}

impl Engine {
    /// An engine without agents.
    ///
    /// The seed must come from the operating system's generator: all passwords and transaction ids
    /// come from it. The same seed and inputs give the same outputs.
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        Self::with_source(config, Source::new(seed))
    }

    /// The same, and everything that it is given and decides is recorded from the beginning, so that it can be
    /// [played back](crate::replay) and [explained](fn@crate::explain).
    pub fn recorded(config: EngineConfig, seed: [u8; 32], options: RecordingOptions) -> Self {
        let mut engine = Self::with_source(config, Source::recorded(seed));
        let taken = engine.shared.source.tape().map(Tape::taken);
        let recorder = Recorder::new(options, &engine.shared.config, taken.unwrap_or_default());
        engine.recorder = Some(Box::new(recorder));
        engine
    }

    /// What was recorded since this was last asked: the next part of the recording. Empty where nothing is recorded.
    pub fn take_recording(&mut self) -> Vec<u8> {
        self.recorder
            .as_mut()
            .map_or_else(Vec::new, |recorder| recorder.take())
    }

    /// Ends the recording, and gives the last part of it. Nothing is recorded from now on.
    pub fn end_recording(&mut self) -> Vec<u8> {
        self.shared.source.stop();
        self.recorder
            .take()
            .map_or_else(Vec::new, |mut recorder| recorder.end())
    }

    pub(crate) fn with_source(config: EngineConfig, source: Source) -> Self {
        Self {
            agents: Arena::new(),
            sessions: Arena::new(),
            shared: Shared::new(config, source),
            timers: Timers::default(),
            awaiting: VecDeque::new(),
            now: Time::ZERO,
            recorder: None,
        }
    }

    /// A new agent. It does nothing until [`AgentMut::gather`].
    pub fn add_agent(&mut self, now: Time, config: AgentConfig) -> Result<AgentId, AgentError> {
        if self.recorder.is_none() {
            return self.add(now, config);
        }
        let added = self.add(now, config.clone());
        self.note_added(&config, added);
        added
    }

    fn add(&mut self, now: Time, config: AgentConfig) -> Result<AgentId, AgentError> {
        self.advance(now);
        if self.agents.len() >= self.shared.config.max_agents as usize {
            return Err(AgentError::TooManyAgents);
        }
        let shared = &mut self.shared;
        self.agents
            .try_insert_with(|key| Agent::new(AgentId(key), config, shared, None).map(Box::new))
            .map(AgentId)
    }

    /// An agent, to be told something or asked.
    pub fn agent(&mut self, id: AgentId) -> Result<AgentMut<'_>, AgentError> {
        match self.agents.get(id.0) {
            Some(agent) if !agent.closed => Ok(AgentMut {
                engine: self,
                key: id.0,
            }),
            _ => Err(AgentError::UnknownAgent),
        }
    }

    /// Whether this agent is here: also after it was [closed](AgentMut::close), while it gives back what TURN servers relay for
    /// it, which takes three seconds at most.
    pub fn hosts(&self, id: AgentId) -> bool {
        self.agents.get(id.0).is_some()
    }

    /// The agent that waits for the answer to this [`Command::OpenStream`]: whose settings say how its server is reached, such as
    /// through a proxy, is up to the driver. None once nobody waits for it.
    pub fn opener(&self, request: RequestId) -> Option<AgentId> {
        let agent = self.agents.by_slot(request.slot())?;
        agent.is_opening(request).then_some(agent.id)
    }

    /// Whether no agent is here, in the sense of [`hosts`](Self::hosts).
    pub fn is_empty(&self) -> bool {
        self.agents.len() == 0
    }

    /// Takes in what happened outside. Call [`poll`](Self::poll) afterwards.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> Handled {
        match self.recorder {
            None => self.take_in(now, input),
            Some(_) => self.handle_recorded(now, input),
        }
    }

    #[inline]
    pub(crate) fn take_in(&mut self, now: Time, input: Input<'_>) -> Handled {
        let now = self.advance(now);
        match input {
            Input::Datagram {
                socket,
                remote,
                payload,
            } => self.handle_datagram(now, socket, remote, payload),
            Input::Bound { request, result } => {
                // Those numbers are the engine's own.
                let result = result.and_then(|bound| match bound.0.is_virtual() {
                    true => Err(BindError::Other),
                    false => Ok(bound),
                });
                match self.shared.mux.bound(request, result) {
                    Some(waiting) => {
                        for request in waiting {
                            self.bound(request, result);
                        }
                    }
                    None => self.bound(request, result),
                }
                Handled::Consumed
            }
            Input::Resolved { request, result } => {
                let nat64 = &mut self.shared.nat64;
                if let Some(news) = nat64.answered(request, result.unwrap_or_default()) {
                    if news {
                        self.tell_all(|agent, shared| agent.translator_known(shared));
                    }
                    return Handled::Consumed;
                }
                let slot = request.slot();
                if let Some(agent) = self.agents.by_slot_mut(slot)
                    && !agent.name_resolved(&mut self.shared, request, result)
                {
                    agent.resolved(&mut self.shared, request, result);
                }
                self.rearm(slot);
                Handled::Consumed
            }
            Input::SendError {
                socket,
                remote,
                error,
            } => {
                // The error may be passing, and ICMP errors can be forged (RFC 8445 section
                // 7.2.5.2.2): like a lost datagram, it is left to retransmission. A path that carries
                // data is doubted for it, and has its chance to answer.
                self.shared.counters.send_errors += 1;
                match error {
                    SendError::TooLarge => self.too_large(now, socket, remote),
                    _ => self.doubt(now, socket, remote),
                }
                Handled::Consumed
            }
            Input::PortMapped { socket, result } => {
                for AgentId(key) in self.shared.port_mappings.answered(socket, result) {
                    if let Some(agent) = self.agents.get_mut(key) {
                        agent.port_mapped(&mut self.shared, socket, result);
                    }
                    self.rearm(key.slot);
                }
                Handled::Consumed
            }
            Input::StreamOpened { request, result } => {
                let slot = request.slot();
                let agent = self.agents.by_slot_mut(slot);
                let taken = agent.is_some_and(|agent| {
                    agent.connected(&mut self.shared, now, request, result)
                        || agent.stream_opened(&mut self.shared, request, result)
                });
                if let (false, Ok(stream)) = (taken, result) {
                    // Whoever asked is gone.
                    self.shared.command(Command::CloseStream(stream));
                }
                self.rearm(slot);
                Handled::Consumed
            }
            Input::StreamAccepted {
                socket,
                stream,
                remote,
            } => {
                let remote = without_flow(remote);
                let owner = self.shared.demux.by_listener(socket);
                let slot = owner.map(|AgentId(key)| key.slot);
                let agent = owner.and_then(|AgentId(key)| self.agents.get_mut(key));
                let taken = agent.is_some_and(|agent| {
                    agent.accepted(&mut self.shared, now, socket, stream, remote)
                });
                if !taken {
                    self.shared.command(Command::CloseStream(stream));
                }
                if let Some(slot) = slot {
                    self.rearm(slot);
                }
                Handled::Consumed
            }
            Input::StreamBytes { stream, bytes } => self.handle_stream(now, stream, bytes),
            Input::StreamClosed { stream } => {
                if let Some(owner) = self.shared.demux.by_stream(stream) {
                    self.stream_ended(now, owner, stream);
                }
                Handled::Consumed
            }
            Input::Interfaces(interfaces) => {
                self.shared.interfaces = Some(interfaces.to_vec());
                self.shared.nat64.forget();
                self.tell_all(|agent, shared| agent.addresses_changed(shared, now));
                Handled::Consumed
            }
        }
    }

    /// Gives one thing to do; to be called until it says [`Output::Idle`].
    ///
    /// A datagram is written into `buffer`, for which 1,280 bytes are enough; one that does not fit is
    /// lost. Only [`Mtu::Discover`](crate::Mtu::Discover) needs more: as many as it says.
    pub fn poll(&mut self, now: Time, buffer: &mut [u8]) -> Output {
        match self.recorder {
            None => self.give(now, buffer),
            Some(_) => self.poll_recorded(now, buffer),
        }
    }

    #[inline]
    pub(crate) fn give(&mut self, now: Time, buffer: &mut [u8]) -> Output {
        let now = self.advance(now);
        loop {
            while let Some(queued) = self.shared.next_queued() {
                match queued {
                    Queued::Event(agent, event) => return Output::Event(agent, event),
                    Queued::SessionEvent(session, event) => {
                        return Output::SessionEvent(session, event);
                    }
                    Queued::Command(command) => return Output::Command(command),
                    Queued::Bound(request, id, address) => self.bound(request, Ok((id, address))),
                    Queued::Response(response) => {
                        if let Some(departure) = self.write_response(now, &response, buffer) {
                            return departure;
                        }
                    }
                }
            }
            let Some(woken) = self.next_due(now) else {
                return Output::Idle(self.deadline());
            };
            let slot = self.in_turn(woken, now);
            let Some(agent) = self.agents.by_slot_mut(slot) else {
                continue;
            };
            agent.fetch(Visit::Ask);
            let departure = agent.poll(&mut self.shared, now, buffer);
            let dscp = agent.dscp();
            if agent.awaits_slot {
                self.awaiting.push_back(slot);
            }
            if agent.gone {
                self.bury(slot);
            }
            match departure {
                Some(_) => self.rearm(slot),
                None => self.rearm_after(slot, now),
            }
            if woken != slot {
                // Its own turn comes, unless the other has just used the slot for all.
                self.rearm_after(woken, now);
            }
            if let Some(departure) = departure {
                return departure.output(dscp);
            }
        }
    }

    /// What was dropped so far, by reason.
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// When [`poll`](Self::poll) has something to do, as far as is known.
    fn deadline(&mut self) -> Option<Time> {
        let slot = (!self.awaiting.is_empty()).then_some(self.shared.pace_at);
        let timer = self.timers.peek().map(|(at, _)| at);
        timer.into_iter().chain(slot).min()
    }

    /// An agent gets the socket that it asked for, or the reason why there is none.
    fn bound(&mut self, request: RequestId, result: Result<(SocketId, SocketAddr), BindError>) {
        let slot = request.slot();
        let agent = self.agents.by_slot_mut(slot);
        let taken = agent.is_some_and(|agent| agent.bound(&mut self.shared, request, result));
        if let (false, Ok((socket, _))) = (taken, result) {
            // Whoever asked is gone.
            self.shared.close_socket(socket);
        }
        self.rearm(slot);
    }

    /// Tells all agents something about the machine they are on.
    fn tell_all(&mut self, mut tell: impl FnMut(&mut Agent, &mut Shared)) {
        let slots: Vec<u32> = self.agents.iter().map(|(key, _)| key.slot).collect();
        for slot in slots {
            if let Some(agent) = self.agents.by_slot_mut(slot) {
                tell(agent, &mut self.shared);
            }
            self.rearm(slot);
        }
    }

    /// The system refuses to send what is so long.
    fn too_large(&mut self, now: Time, socket: SocketId, remote: SocketAddr) {
        let (demux, remote) = (&self.shared.demux, without_flow(remote));
        let own = demux.by_remote(socket, remote).map(|route| route.agent);
        let relayed = || Some(demux.by_server(socket, remote)?.agent);
        let Some(AgentId(key)) = own.or_else(relayed) else {
            return;
        };
        if let Some(agent) = self.agents.get_mut(key) {
            agent.too_large(&mut self.shared, now);
        }
        self.rearm(key.slot);
    }

    /// The system refuses to send on a path.
    fn doubt(&mut self, now: Time, socket: SocketId, remote: SocketAddr) {
        let Some(AgentId(key)) = self
            .shared
            .demux
            .by_remote(socket, without_flow(remote))
            .map(|route| route.agent)
        else {
            return;
        };
        if let Some(agent) = self.agents.get_mut(key) {
            agent.send_refused(&mut self.shared, now, socket, without_flow(remote));
        }
        self.rearm(key.slot);
    }

    /// Forgets an agent that is closed and has given everything back.
    fn bury(&mut self, slot: u32) {
        if let Some(agent) = self.agents.by_slot_mut(slot).filter(|agent| agent.gone) {
            let AgentId(key) = agent.id;
            self.agents.remove(key);
        }
    }

    /// Time that runs backwards stands still.
    fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    /// The next agent with something to do now.
    fn next_due(&mut self, now: Time) -> Option<u32> {
        while let Some((at, slot)) = self.timers.peek() {
            let live = self
                .agents
                .by_slot_mut(slot)
                .filter(|agent| agent.armed == Some(at));
            match live {
                // What it was woken for has been seen to since, such as an answer that came in time.
                Some(agent) if at <= now && agent.due.is_none_or(|due| due > now) => {
                    agent.armed = agent.due;
                    self.timers.pop();
                    if let Some(due) = agent.due {
                        self.timers.push(now, due, slot);
                    }
                }
                Some(agent) if at <= now => {
                    agent.armed = None;
                    self.timers.pop();
                    return Some(slot);
                }
                Some(_) => break,
                None => {
                    self.timers.pop();
                }
            }
        }
        if self.shared.pace_at <= now {
            while let Some(slot) = self.awaiting.pop_front() {
                if let Some(agent) = self
                    .agents
                    .by_slot_mut(slot)
                    .filter(|agent| agent.awaits_slot)
                {
                    agent.awaits_slot = false;
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Sets an agent's timer to its deadline. One that is too early may stay: the agent is looked at again then.
    fn rearm(&mut self, slot: u32) {
        self.rearm_no_sooner(slot, Time::ZERO);
    }

    /// As `rearm`, for an agent that has just found nothing to do: whatever it says, it is not asked
    /// again at this very moment, so that no mistake can make the engine spin.
    fn rearm_after(&mut self, slot: u32, now: Time) {
        self.rearm_no_sooner(slot, now + Duration::from_nanos(1));
    }

    fn rearm_no_sooner(&mut self, slot: u32, least: Time) {
        self.rearm_alone(slot, least);
        if self.sessions.len() > 0 {
            self.tend(slot);
        }
    }

    fn rearm_alone(&mut self, slot: u32, least: Time) {
        self.shared.source.touch(slot);
        let Some(agent) = self.agents.by_slot_mut(slot) else {
            return;
        };
        agent.due = agent.deadline().map(|at| match at < least {
            true => least + Duration::from_millis(1),
            false => at,
        });
        let keep = match (agent.armed, agent.due) {
            (Some(armed), Some(at)) if at < armed => false,
            (Some(armed), due) if due != Some(armed) => !self.timers.cancel(armed, slot),
            (armed, _) => armed.is_some(),
        };
        if !keep {
            agent.armed = agent.due;
            if let Some(at) = agent.due {
                self.timers.push(self.now, at, slot);
            }
        }
    }

    fn handle_datagram(
        &mut self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        payload: &[u8],
    ) -> Handled {
        let remote = without_flow(remote);
        if let Some(allocation) = self.shared.demux.by_server(socket, remote)
            && let Some(handled) = self.handle_relayed(now, allocation, payload)
        {
            return handled;
        }
        if is_stun(payload) {
            match Message::parse(payload) {
                Ok(message) => {
                    if let Some(handled) = self.handle_stun(now, socket, remote, &message) {
                        return handled;
                    }
                }
                Err(_) => self.shared.counters.malformed += 1,
            }
        }
        // Everything else from a known remote is the application's, whatever its first byte.
        let owner = self
            .shared
            .demux
            .receive(now, socket, remote, payload.len());
        let Some(agent) = owner else {
            self.shared.counters.unknown_remote += 1;
            return Handled::NotOurs;
        };
        Handled::Application(Application {
            agent,
            component: self.component_of(agent),
            range: 0..payload.len(),
        })
    }

    /// What a TURN server sent; `None` if it is no message of TURN.
    fn handle_relayed(
        &mut self,
        now: Time,
        allocation: Allocation,
        bytes: &[u8],
    ) -> Option<Handled> {
        let agent = self.agents.get_mut(allocation.agent.0)?;
        match agent.unwrap(&mut self.shared, now, allocation.index, bytes) {
            Unwrapped::Peer {
                socket,
                peer,
                range,
            } => {
                // A relayed address is nobody's 5-tuple with a server, so this goes one level deep.
                let inner = &bytes[range.clone()];
                let mut handled = self.handle_datagram(now, socket, peer, inner);
                if let Handled::Application(application) = &mut handled {
                    application.range.start += range.start;
                    application.range.end += range.start;
                }
                Some(handled)
            }
            Unwrapped::Consumed => {
                self.rearm(allocation.agent.0.slot);
                Some(Handled::Consumed)
            }
            Unwrapped::NotOurs => None,
        }
    }

    /// Takes one message of a stream, if it is complete.
    fn handle_stream(&mut self, now: Time, stream: StreamId, bytes: &[u8]) -> Handled {
        let none = Handled::Stream {
            taken: bytes.len(),
            application: None,
        };
        let Some(owner) = self.shared.demux.by_stream(stream) else {
            return none;
        };
        let index = match owner.end {
            StreamEnd::Peer => return self.handle_frame(now, owner.agent, stream, bytes),
            StreamEnd::Server => return self.handle_answer(now, owner, stream, bytes),
            StreamEnd::Relay(index) => index,
        };
        let allocation = Allocation {
            agent: owner.agent,
            index,
        };
        let datagrams = self
            .agents
            .get(allocation.agent.0)
            .is_some_and(|agent| agent.is_datagrams(allocation.index));
        let length = match (datagrams, message_length(bytes)) {
            // DTLS keeps the borders of datagrams.
            (true, _) => bytes.len(),
            (false, Ok(Some(length))) if length <= bytes.len() => length,
            (false, Ok(_)) => {
                return Handled::Stream {
                    taken: 0,
                    application: None,
                };
            }
            (false, Err(NotTurn)) => {
                // Nobody can tell where the next message begins.
                self.shared.counters.malformed += 1;
                self.shared.command(Command::CloseStream(stream));
                self.stream_ended(now, owner, stream);
                return none;
            }
        };
        let application = match self.handle_relayed(now, allocation, &bytes[..length]) {
            Some(Handled::Application(application)) => Some(application),
            Some(_) => None,
            None => {
                self.shared.counters.unexpected += 1;
                None
            }
        };
        Handled::Stream {
            taken: length,
            application,
        }
    }

    /// Takes one frame of a connection of ICE-TCP, if it is complete (RFC 6544 sections 7.2 and 10.2, RFC 4571 section 2).
    fn handle_frame(
        &mut self,
        now: Time,
        AgentId(key): AgentId,
        stream: StreamId,
        bytes: &[u8],
    ) -> Handled {
        let take = |taken, application| Handled::Stream { taken, application };
        let Some(head) = bytes.first_chunk() else {
            return take(0, None);
        };
        let length = usize::from(u16::from_be_bytes(*head));
        let end = FRAME_HEAD + length;
        let arrival = self.agents.get(key).and_then(|agent| agent.arrival(stream));
        let Some(arrival) = arrival else {
            return take(bytes.len(), None);
        };
        let mut is_refused = length > arrival.longest;
        let mut data = None;
        if !is_refused {
            let Some(frame) = bytes.get(FRAME_HEAD..end) else {
                return take(0, None);
            };
            match self.handle_datagram(now, arrival.socket, arrival.remote, frame) {
                Handled::Application(mut application) => {
                    application.range.start += FRAME_HEAD;
                    application.range.end += FRAME_HEAD;
                    data = Some(application);
                }
                Handled::NotOurs => is_refused = arrival.is_stranger,
                _ => {}
            }
        }
        if is_refused {
            self.shared.counters.connections_refused += 1;
            if let Some(agent) = self.agents.get_mut(key) {
                agent.end_connection(&mut self.shared, now, stream);
            }
            self.rearm(key.slot);
            return take(bytes.len(), None);
        }
        take(end, data)
    }

    /// Takes the answer of a server that was asked what it sees of a TCP candidate, if it is complete. Messages follow each
    /// other without a frame (RFC 8489 section 6.2.2), and whoever sends anything but answers is not asked any more.
    fn handle_answer(
        &mut self,
        now: Time,
        owner: StreamOwner,
        stream: StreamId,
        bytes: &[u8],
    ) -> Handled {
        let take = |taken| Handled::Stream {
            taken,
            application: None,
        };
        let AgentId(key) = owner.agent;
        let length = match stream_message_length(bytes) {
            Ok(Some(length)) if length <= MAX_ANSWER && length > bytes.len() => return take(0),
            Ok(Some(length)) if length <= MAX_ANSWER => Some(length),
            Ok(None) => return take(0),
            _ => None,
        };
        let message = length.and_then(|length| Message::parse(&bytes[..length]).ok());
        if let (Some(length), Some(message), Some(agent)) =
            (length, message, self.agents.get_mut(key))
            && agent.server_answered(&mut self.shared, now, stream, &message)
        {
            self.rearm(key.slot);
            return take(length);
        }
        self.shared.counters.unexpected += 1;
        self.shared.command(Command::CloseStream(stream));
        self.stream_ended(now, owner, stream);
        take(bytes.len())
    }

    fn stream_ended(&mut self, now: Time, owner: StreamOwner, stream: StreamId) {
        let AgentId(key) = owner.agent;
        if let Some(agent) = self.agents.get_mut(key) {
            match owner.end {
                StreamEnd::Relay(index) => agent.stream_closed(&mut self.shared, now, index),
                StreamEnd::Peer => agent.connection_ended(&mut self.shared, now, stream),
                StreamEnd::Server => agent.server_connection_ended(&mut self.shared, stream),
            }
        }
        self.rearm(key.slot);
    }

    /// `None` if it only looks like STUN: the messages of ICE carry a valid FINGERPRINT (RFC 8445
    /// section 7.3), and the answers of servers the id of a transaction.
    fn handle_stun(
        &mut self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        message: &Message<'_>,
    ) -> Option<Handled> {
        if matches!(
            message.class(),
            Class::SuccessResponse | Class::ErrorResponse
        ) {
            let slot = self.shared.demux.slot_of(message.transaction_id());
            if let Some(agent) = self
                .agents
                .by_slot_mut(slot)
                .inspect(|agent| agent.fetch(Visit::Ask))
                .filter(|agent| agent.has_transaction(message.transaction_id()))
            {
                agent.handle_response(&mut self.shared, now, socket, remote, message);
                self.rearm(slot);
                return Some(Handled::Consumed);
            }
            if message.fingerprint() != Fingerprint::Valid {
                return None;
            }
            self.shared.counters.unknown_transaction += 1;
            return Some(Handled::NotOurs);
        }
        if message.fingerprint() != Fingerprint::Valid {
            return None;
        }
        match (message.class(), message.method()) {
            (Class::Request, Method::BINDING) => {
                Some(self.handle_request(now, socket, remote, message))
            }
            // RFC 8445 section 11: a keepalive; it needs no integrity and causes nothing.
            (Class::Indication, Method::BINDING)
                if self.shared.demux.by_remote(socket, remote).is_some() =>
            {
                Some(Handled::Consumed)
            }
            _ => {
                self.shared.counters.unexpected += 1;
                Some(Handled::NotOurs)
            }
        }
    }

    /// A check. What cannot be authenticated is dropped without a word.
    ///
    /// RFC 8489 section 9.1.3 has it answered with 400 or 401; an agent that does tells anyone that
    /// it is there, and answers packets with forged sources.
    fn handle_request(
        &mut self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        message: &Message<'_>,
    ) -> Handled {
        let ufrag = match message.username() {
            Ok(Some(username)) => username.split_once(':').map(|(ours, _)| ours),
            _ => None,
        };
        let Some(ufrag) = ufrag else {
            self.shared.counters.unauthenticated += 1;
            return Handled::NotOurs;
        };
        let Some(slot) = self.shared.demux.by_ufrag(ufrag) else {
            self.shared.counters.unknown_ufrag += 1;
            return Handled::NotOurs;
        };
        let slot = self.called_at(slot, socket);
        let Some(agent) = self.agents.by_slot_mut(slot) else {
            return Handled::NotOurs;
        };
        agent.fetch(Visit::Answer);
        let check = agent
            .called(ufrag)
            .and_then(|(generation, key)| Some((generation, message.authenticate(key).ok()?)));
        let Some((generation, check)) = check.filter(|_| agent.owns(socket)) else {
            self.shared.counters.unauthenticated += 1;
            return Handled::NotOurs;
        };
        let handled = agent.handle_check(&mut self.shared, now, generation, socket, remote, check);
        self.rearm(slot);
        handled
    }

    fn write_response(
        &mut self,
        now: Time,
        response: &Response,
        buffer: &mut [u8],
    ) -> Option<Output> {
        let agent = self.agents.by_slot_mut(response.slot)?;
        let key = agent.local_key(response.generation)?;
        let (via, framing) = agent.route_from(now, response.socket, response.remote)?;
        let inner = buffer.get_mut(head_length(framing)..)?;
        let class = match response.answer {
            Answer::Success => Class::SuccessResponse,
            _ => Class::ErrorResponse,
        };
        // Building can only fail for lack of room, and then like a lost datagram.
        let mut message = MessageBuilder::new(inner, class, Method::BINDING, response.id).ok()?;
        match response.answer {
            // RFC 8445 section 7.3.1.2: where the check came from. What a translator has made of an IPv4 address is undone,
            // a departure: the peer knows itself by that address, and would take the other for one more of its own.
            Answer::Success => message.xor_mapped_address(self.shared.nat64.back(response.remote)),
            Answer::RoleConflict => {
                message.error_code(ErrorCode::ROLE_CONFLICT.code(), "Role Conflict")
            }
            Answer::BadRequest => message.error_code(ErrorCode::BAD_REQUEST.code(), "Bad Request"),
            Answer::UnknownAttributes { count, types } => {
                message
                    .error_code(ErrorCode::UNKNOWN_ATTRIBUTE.code(), "Unknown Attribute")
                    .ok()?;
                message.unknown_attributes(&types[..usize::from(count)])
            }
        }
        .ok()?;
        message.message_integrity(key).ok()?;
        message.fingerprint().ok()?;
        let size = message.finish();
        let size = enclose(framing, indication_id(response.id), buffer, size)?;
        Some(Departure { via, size }.output(agent.dscp()))
    }
}

impl Departure {
    fn output(self, dscp: Dscp) -> Output {
        let Self { via, size } = self;
        match via {
            Via::Socket {
                socket,
                destination,
            } => Output::Transmit(Transmit {
                socket,
                destination,
                size,
                dscp,
            }),
            Via::Stream(stream) => Output::StreamTransmit(StreamTransmit { stream, size }),
        }
    }
}

/// The flow label is not part of who the sender is.
pub(crate) const fn without_flow(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V6(v6) => {
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()))
        }
        v4 => v4,
    }
}
