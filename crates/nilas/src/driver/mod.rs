//! The driver: one task that owns an engine and does for it what only the outside can do.
//!
//! No lock is needed for the engine, because nobody else holds it. Handles talk to the driver through
//! bounded queues; received data goes to the sessions' inboxes; sent data does not pass here at all.
//!
//! This file is the loop and the sockets; `requests` is what applications ask for, `streams` the
//! connections to TURN servers and peers, `listeners` the ports that peers connect to, `port_mappings` those that the
//! gateway forwards, `renewals` fresh credentials, `tape` where a recording goes, `haste` when to look again before sleeping.

mod haste;
mod listeners;
mod port_mappings;
mod renewals;
mod requests;
mod streams;
mod tape;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use nilas_ice::{
    AgentId, Application, BindError, Command, Engine, Event, Handled, Input, Interface, Output,
    RequestId, ResolveError, SessionEvent, SessionId, SocketId, State, StreamError, StreamId, Time,
};
use nilas_net::stream::Stream;
use nilas_net::{
    Clock, Ecn, ReceiveBatch, TrafficClass, UdpSocket, bind_error, is_reported, send_error,
};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, Sleep, sleep_until};

use self::haste::{Haste, others_first};
use self::listeners::{Accepted, Listeners};
use self::port_mappings::{News, PortMappings};
use self::streams::StreamSource;
pub(crate) use self::tape::Tape;
use crate::connector::Connector;
use crate::framer::send_one;
use crate::inbox::Inbox;
use crate::ready::{Place, ReadyList, Source};
use crate::servers::{Server, Servers, Service};
use crate::session::{Reply, Request};
use crate::snapshot::Snapshot;
use crate::sockets::{Reader, SocketTable};

/// Handles wait when so many requests have not been served.
pub(crate) const MAX_REQUESTS: usize = 64;
/// Events that a slow listener may be behind before it misses some.
const MAX_EVENTS: usize = 256;
/// Outputs of the engine carried out before others have their turn.
const OUTPUTS_PER_TURN: usize = 256;
/// Data delivered, and turns taken, without a pause before the other tasks of the runtime have theirs:
/// with one thread, nobody takes the data before that.
const BYTES_PER_YIELD: usize = 256 << 10;
const TURNS_PER_YIELD: usize = 16;
/// A listing of the interfaces is used for new agents and restarts for so long.
const INTERFACES_AGE: std::time::Duration = std::time::Duration::from_secs(1);
/// The engine writes datagrams of at most 1,280 bytes, but where it is to find out whether longer ones pass: those of
/// the longest frames in use, of 9,000 bytes.
const TRANSMIT_BYTES: usize = 9_000;

pub(crate) struct Driver {
    engine: Engine,
    clock: Clock,
    agents: HashMap<AgentId, Hosted>,
    /// Those of several components, and how they stand.
    sessions: HashMap<SessionId, watch::Sender<State>>,
    sockets: Arc<SocketTable>,
    readers: HashMap<SocketId, Reader>,
    /// Second sockets at the same addresses, each for the remote of a path that carries much.
    dedicated: HashMap<SocketId, Reader>,
    ready: Arc<ReadyList>,
    /// The place in that list of all that is no socket or stream, so that a datagram costs no look at it.
    control: Place,
    next_socket: u32,
    servers: Servers,
    resolving: JoinSet<(RequestId, Result<Vec<SocketAddr>, ResolveError>)>,
    opening: JoinSet<(RequestId, Result<Stream, StreamError>)>,
    streams: HashMap<StreamId, StreamSource>,
    next_stream: u32,
    listeners: Listeners,
    port_mappings: PortMappings,
    interfaces: Vec<Interface>,
    /// When they were listed.
    listed: Option<Time>,
    /// Tells when they are others. A task of its own, so that a busy driver does not interrupt it for ever.
    watching: JoinSet<()>,
    changes: (mpsc::Sender<Vec<Interface>>, mpsc::Receiver<Vec<Interface>>),
    batch: ReceiveBatch,
    /// The socket that has brought something last, and whether it is a second one.
    latest: Option<(SocketId, bool)>,
    transmit: Box<[u8; TRANSMIT_BYTES]>,
    /// What is read from streams; made with the first of them.
    stream_buffer: Option<Box<[u8]>>,
    staged: Staged,
    /// Whether the sockets tell how datagrams are marked.
    ecn: bool,
    tape: Option<Tape>,
    /// When agents get fresh credentials for their TURN servers.
    renew_at: Option<Time>,
    /// Who waits until an agent that is closed has given everything back.
    leaving: Vec<(AgentId, Reply<()>)>,
    /// Nobody holds a handle any more.
    ending: bool,
}

/// An agent, as the driver knows it.
struct Hosted {
    inbox: Arc<Inbox>,
    snapshot: watch::Sender<Snapshot>,
    events: broadcast::Sender<Event>,
    /// The peer's present generation.
    remote_ufrag: Option<String>,
    /// How the streams to its TURN servers are opened.
    connector: Option<Arc<Connector>>,
    /// To be taken from the driver's list with it.
    services: Vec<(Server, Service)>,
    secrets: Vec<renewals::Shared>,
}

/// Data of one agent in a row, so that its inbox is locked once for all of it.
#[derive(Default)]
struct Staged {
    agent: Option<AgentId>,
    ranges: Vec<(Range<usize>, Option<Ecn>)>,
    /// Bytes since other tasks had their turn.
    delivered: usize,
}

/// What is no datagram and no bytes of a stream.
enum Control {
    Request(Option<Request>),
    Close(AgentId),
    Resolved(RequestId, Result<Vec<SocketAddr>, ResolveError>),
    Opened(RequestId, Result<Stream, StreamError>),
    Accepted(Accepted),
    PortMapped(News),
    PortGivenBack,
    Interfaces(Vec<Interface>),
    Deadline,
}

/// What the handles of agents send to the driver.
struct Inlets {
    requests: mpsc::Receiver<Request>,
    closings: mpsc::UnboundedReceiver<AgentId>,
}

/// How the engine stands after a turn.
enum Polled {
    /// It wants nothing more before this time.
    Idle(Option<Time>),
    /// It wants more than one turn may take.
    More,
}

impl Driver {
    pub(crate) fn new(
        engine: Engine,
        clock: Clock,
        sockets: Arc<SocketTable>,
        tape: Option<Tape>,
    ) -> Self {
        let ready = Arc::default();
        Self {
            engine,
            clock,
            agents: HashMap::new(),
            sessions: HashMap::new(),
            sockets,
            readers: HashMap::new(),
            dedicated: HashMap::new(),
            control: Place::new(Source::Control, &ready),
            ready,
            next_socket: 0,
            servers: Servers::default(),
            resolving: JoinSet::new(),
            opening: JoinSet::new(),
            streams: HashMap::new(),
            next_stream: 0,
            listeners: Listeners::default(),
            port_mappings: PortMappings::default(),
            interfaces: Vec::new(),
            listed: None,
            watching: JoinSet::new(),
            changes: mpsc::channel(1),
            batch: ReceiveBatch::default(),
            latest: None,
            transmit: Box::new([0; TRANSMIT_BYTES]),
            stream_buffer: None,
            staged: Staged::default(),
            ecn: false,
            tape,
            renew_at: None,
            leaving: Vec::new(),
            ending: false,
        }
    }

    /// Drives the engine until the last handle is dropped; then closes what is open, and ends when all is given back.
    pub(crate) async fn run(
        mut self,
        requests: mpsc::Receiver<Request>,
        closings: mpsc::UnboundedReceiver<AgentId>,
    ) {
        let mut inlets = Inlets { requests, closings };
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut turns = 0;
        let mut haste = Haste::default();
        // The first look registers for more.
        self.control.enqueue();
        let mut now = self.clock.now();
        loop {
            self.renew_credentials(now);
            let polled = self.poll_engine(now);
            if let Some(tape) = &mut self.tape {
                tape.write(&mut self.engine);
            }
            if matches!(polled, Polled::Idle(_)) {
                self.see_off();
                if self.ending && self.engine.is_empty() {
                    break;
                }
            }
            if let Polled::Idle(Some(time)) = polled {
                let deadline = Instant::from_std(self.clock.instant(time));
                if deadline != timer.deadline() {
                    timer.as_mut().reset(deadline);
                    // It must be looked at again to wake anyone.
                    self.control.enqueue();
                } else if timer.is_elapsed() {
                    self.control.enqueue();
                }
            }
            if turns >= TURNS_PER_YIELD || self.staged.delivered >= BYTES_PER_YIELD {
                (turns, self.staged.delivered) = (0, 0);
                yield_now().await;
            }
            // Each source has its turn in the order in which they became ready, so that none starves, and the
            // engine looks at its deadlines whenever it is polled, which is once a turn.
            let source = match polled {
                Polled::More => self.ready.try_next(),
                Polled::Idle(_) => match self.ready.try_next() {
                    None => {
                        (turns, self.staged.delivered) = (0, 0);
                        if haste.looks_again() {
                            others_first().await;
                            now = self.clock.now();
                            if self.look_again(now) {
                                haste.found();
                            }
                            continue;
                        }
                        let source = self.ready.next().await;
                        haste.woken(self.clock.now().since(now));
                        Some(source)
                    }
                    source => source,
                },
            };
            now = self.clock.now();
            match source {
                Some(Source::Socket(socket)) => self.read(now, socket, false),
                Some(Source::Dedicated(socket)) => self.read(now, socket, true),
                Some(Source::Stream(stream)) => self.read_stream(now, stream),
                Some(Source::Control) => {
                    if let Some(control) = self.next_control(&mut inlets, timer.as_mut()) {
                        self.take(control);
                    }
                }
                None => {}
            }
            turns += 1;
        }
        self.port_mappings.end().await;
    }

    /// Nobody can ask for anything any more.
    fn end(&mut self) {
        self.ending = true;
        for agent in self.agents.keys().copied().collect::<Vec<_>>() {
            self.close(agent);
        }
    }

    /// Answers those who wait for agents that have given everything back, and whose sockets are closed.
    fn see_off(&mut self) {
        let engine = &self.engine;
        for (_, reply) in self
            .leaving
            .extract_if(.., |(agent, _)| !engine.hosts(*agent))
        {
            // Whoever waited may have gone away.
            let _ = reply.send(Ok(()));
        }
    }

    /// One thing to do, if there is any. Others may be there, which have their turn after the sockets.
    fn next_control(&mut self, inlets: &mut Inlets, timer: Pin<&mut Sleep>) -> Option<Control> {
        self.control.begin();
        let cx = &mut self.control.context();
        let found = if !self.ending
            && let Poll::Ready(request) = inlets.requests.poll_recv(cx)
        {
            Control::Request(request)
        } else if let Poll::Ready(Some(agent)) = inlets.closings.poll_recv(cx) {
            Control::Close(agent)
        } else if let Poll::Ready(Some(Ok((request, result)))) = self.resolving.poll_join_next(cx) {
            Control::Resolved(request, result)
        } else if let Poll::Ready(Some(Ok((request, result)))) = self.opening.poll_join_next(cx) {
            Control::Opened(request, result)
        } else if let Poll::Ready(Some(accepted)) = self.listeners.accepted.poll_recv(cx) {
            Control::Accepted(accepted)
        } else if let Poll::Ready(Some(news)) = self.port_mappings.news.poll_recv(cx) {
            Control::PortMapped(news)
        } else if let Poll::Ready(Some(_)) = self.port_mappings.tasks.poll_join_next(cx) {
            Control::PortGivenBack
        } else if let Poll::Ready(Some(found)) = self.changes.1.poll_recv(cx) {
            Control::Interfaces(found)
        } else {
            // The last one to be looked at: there is nothing else, and the engine says when to look again.
            return timer.poll(cx).is_ready().then_some(Control::Deadline);
        };
        self.control.enqueue();
        Some(found)
    }

    fn take(&mut self, control: Control) {
        match control {
            Control::Request(Some(request)) => self.serve(request),
            Control::Close(agent) => self.close(agent),
            Control::Resolved(request, result) => {
                let result = result.as_deref().map_err(|error| *error);
                self.input(Input::Resolved { request, result });
            }
            Control::Opened(request, result) => self.opened(request, result),
            Control::Accepted(accepted) => self.accepted(accepted),
            Control::PortMapped(news) => self.port_mapped(news),
            Control::PortGivenBack => self.port_mappings.ended(),
            Control::Interfaces(found) => self.take_interfaces(found),
            Control::Request(None) => self.end(),
            Control::Deadline => {}
        }
    }

    /// Reads from a socket once, which may bring many datagrams.
    fn read(&mut self, now: Time, id: SocketId, dedicated: bool) {
        let readers = match dedicated {
            true => &mut self.dedicated,
            false => &mut self.readers,
        };
        let Some(reader) = readers.get_mut(&id) else {
            return;
        };
        reader.begin();
        match reader.socket.try_receive(&mut self.batch) {
            Ok(()) => reader.received(self.batch.is_partial()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return reader.wait(),
            Err(error) if dedicated && is_reported(&error) => return reader.reported(),
            Err(_) => return reader.failed(),
        }
        self.latest = Some((id, dedicated));
        self.received(now, id);
    }

    /// Looks whether the socket that was read last has something more. Whether or not, it comes back into the list.
    fn look_again(&mut self, now: Time) -> bool {
        let Some((id, dedicated)) = self.latest else {
            return false;
        };
        let readers = match dedicated {
            true => &self.dedicated,
            false => &self.readers,
        };
        let reader = readers.get(&id);
        // An error is as if nothing had come: the next one will be read as usual.
        let found = reader.is_some_and(|reader| reader.socket.look(&mut self.batch).is_ok());
        if found {
            self.received(now, id);
        }
        found
    }

    /// Hands on what the batch holds, which came to this socket.
    fn received(&mut self, now: Time, id: SocketId) {
        for (remote, range, ecn) in self.batch.marked_datagrams() {
            let payload = &self.batch.bytes()[range.clone()];
            match self.engine.handle(
                now,
                Input::Datagram {
                    socket: id,
                    remote,
                    payload,
                },
            ) {
                Handled::Application(Application {
                    agent, range: data, ..
                }) => {
                    let data = range.start + data.start..range.start + data.end;
                    self.staged
                        .stage(agent, (data, ecn), &self.agents, self.batch.bytes());
                }
                Handled::Consumed | Handled::NotOurs | Handled::Stream { .. } => {}
            }
        }
        self.staged.deliver(&self.agents, self.batch.bytes());
    }

    fn input(&mut self, input: Input<'_>) {
        let _ = self.engine.handle(self.clock.now(), input);
    }

    /// Carries out what the engine wants, as much as one turn may take.
    fn poll_engine(&mut self, mut now: Time) -> Polled {
        for _ in 0..OUTPUTS_PER_TURN {
            match self.engine.poll(now, &mut self.transmit[..]) {
                Output::Transmit(transmit) => {
                    let (socket, remote) = (transmit.socket, transmit.destination);
                    let datagram = &self.transmit[..transmit.size];
                    let class = TrafficClass::new(transmit.dscp, Ecn::NotEct);
                    let sent = self
                        .readers
                        .get(&socket)
                        .map(|reader| send_one(&reader.socket, remote, datagram, class));
                    match sent {
                        Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                            let error = send_error(&error);
                            self.input(Input::SendError {
                                socket,
                                remote,
                                error,
                            });
                        }
                        // A full socket drops what the network could have dropped as well: it is sent again.
                        _ => {}
                    }
                }
                Output::Event(agent, event) => self.publish(agent, event),
                Output::SessionEvent(session, event) => self.publish_state(session, event),
                Output::Command(Command::Bind { request, address }) => {
                    let result = self.bind(address);
                    self.input(Input::Bound { request, result });
                }
                Output::Command(Command::Listen { request, address }) => {
                    let result = self.listen(address);
                    self.input(Input::Bound { request, result });
                }
                Output::Command(Command::Connect {
                    request,
                    local,
                    remote,
                }) => self.connect(request, local, remote),
                Output::Command(Command::MapPort { socket, address }) => {
                    self.map_port(socket, address);
                }
                Output::Command(Command::UnmapPort(socket)) => self.port_mappings.close(socket),
                Output::Command(Command::CloseSocket(id)) => {
                    self.listeners.close(id);
                    self.dedicated.remove(&id);
                    self.readers.remove(&id);
                    self.sockets.remove(id);
                }
                Output::Command(Command::Resolve {
                    request,
                    name,
                    port,
                }) => {
                    let found = self.servers.resolve((name, port));
                    self.resolving.spawn(async move { (request, found.await) });
                    self.control.enqueue();
                }
                Output::Command(Command::FindName {
                    request,
                    name,
                    port,
                }) => {
                    let found = self.servers.find((name, port));
                    self.resolving.spawn(async move { (request, found.await) });
                    self.control.enqueue();
                }
                Output::Command(Command::RegisterName { name, address }) => {
                    let has_room = self.servers.mdns.register(&name, address);
                    if !has_room {
                        tracing::warn!("too many names: the link is not told of {name}");
                    }
                }
                Output::Command(Command::UnregisterName { name }) => {
                    self.servers.mdns.unregister(&name);
                }
                Output::StreamTransmit(transmit) => self.write_stream(transmit),
                Output::Command(Command::OpenStream {
                    request,
                    transport,
                    host,
                    port,
                    address,
                }) => {
                    let agent = self.engine.opener(request);
                    let hosted = agent.and_then(|agent| self.agents.get(&agent));
                    let connector =
                        hosted.map(|hosted| hosted.connector.clone().unwrap_or_default());
                    let opened =
                        { &self.servers }.open(transport, (host, port), address, connector);
                    self.opening.spawn(async move { (request, opened.await) });
                    self.control.enqueue();
                }
                Output::Command(Command::CloseStream(id)) => self.close_stream(id),
                Output::Idle(deadline) => return Polled::Idle(deadline),
                // The engine is of the same version and says nothing else.
                _ => {}
            }
            now = self.clock.now();
        }
        Polled::More
    }

    fn bind(&mut self, address: SocketAddr) -> Result<(SocketId, SocketAddr), BindError> {
        let socket = Arc::new(UdpSocket::bind(address).map_err(|error| bind_error(&error))?);
        let id = self.next_socket_id()?;
        if self.ecn {
            let _ = socket.tell_ecn();
        }
        let local = socket.local_address();
        self.sockets.insert(id, Arc::clone(&socket));
        self.readers
            .insert(id, Reader::new(Source::Socket(id), socket, &self.ready));
        Ok((id, local))
    }

    /// Opens a second socket at the same address for a path that carries much: the system then knows the way, and does
    /// not look it up for each datagram.
    fn dedicate(&mut self, id: SocketId, remote: SocketAddr) {
        let Some(reader) = self.readers.get(&id) else {
            return;
        };
        let known = self.dedicated.get(&id);
        if known.is_some_and(|known| known.socket.dedicated_to() == Some(remote)) {
            return;
        }
        // One at a time. That of a path before is in the way of another.
        self.sockets.remove_dedicated(id);
        self.dedicated.remove(&id);
        // Where it cannot be done, the first socket goes on.
        if let Ok(socket) = reader.socket.dedicated(remote) {
            let socket = Arc::new(socket);
            self.sockets.insert_dedicated(id, Arc::clone(&socket));
            self.dedicated
                .insert(id, Reader::new(Source::Dedicated(id), socket, &self.ready));
        }
    }

    /// Each number is used once; two thousand million sockets are more than a process lives to open.
    fn next_socket_id(&mut self) -> Result<SocketId, BindError> {
        let id = SocketId(self.next_socket);
        self.next_socket = self.next_socket.checked_add(1).ok_or(BindError::Other)?;
        Ok(id)
    }

    fn publish_state(&mut self, session: SessionId, event: SessionEvent) {
        if let SessionEvent::StateChange(state) = event
            && let Some(told) = self.sessions.get(&session)
        {
            told.send_replace(state);
            if state == State::Closed {
                self.sessions.remove(&session);
            }
        }
    }

    fn publish(&mut self, agent: AgentId, event: Event) {
        let Some(hosted) = self.agents.get(&agent) else {
            return;
        };
        // A pair that was selected becomes nominated, and its round trip is measured again, without an
        // event of its own.
        let selected = match &event {
            Event::StateChange { .. } => self
                .engine
                .agent(agent)
                .ok()
                .and_then(|agent| agent.selected_pair()),
            _ => None,
        };
        hosted.snapshot.send_modify(|snapshot| {
            snapshot.apply(&event);
            if selected.is_some() {
                snapshot.selected = selected;
            }
        });
        let state = match &event {
            Event::StateChange { state, .. } => Some(*state),
            _ => None,
        };
        // Nobody need listen.
        let _ = hosted.events.send(event);
        if let Some(state) = state {
            hosted
                .inbox
                .set_ended(matches!(state, State::Failed | State::Closed));
            if state == State::Closed
                && let Some(hosted) = self.agents.remove(&agent)
            {
                self.servers.remove(&hosted.services);
            }
        }
    }
}

impl Drop for Driver {
    /// Also when the runtime shuts down and drops the task: nobody may wait for what will never come.
    fn drop(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.end(&mut self.engine);
        }
        self.sockets.clear();
        for hosted in self.agents.values() {
            hosted
                .snapshot
                .send_modify(|snapshot| snapshot.state = State::Closed);
            hosted.inbox.set_ended(true);
        }
        for state in self.sessions.values() {
            state.send_replace(State::Closed);
        }
    }
}

impl Staged {
    /// Adds data of this agent, a range of `bytes`, and how it was marked.
    fn stage(
        &mut self,
        agent: AgentId,
        data: (Range<usize>, Option<Ecn>),
        agents: &HashMap<AgentId, Hosted>,
        bytes: &[u8],
    ) {
        if self.agent != Some(agent) {
            self.deliver(agents, bytes);
            self.agent = Some(agent);
        }
        self.ranges.push(data);
    }

    fn deliver(&mut self, agents: &HashMap<AgentId, Hosted>, bytes: &[u8]) {
        if let Some(hosted) = self.agent.take().and_then(|agent| agents.get(&agent)) {
            hosted.inbox.push(bytes, &self.ranges);
            self.delivered += self
                .ranges
                .iter()
                .map(|(range, _)| range.len())
                .sum::<usize>();
        }
        self.ranges.clear();
    }
}
