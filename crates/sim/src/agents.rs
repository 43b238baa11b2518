//! What a world can do with an agent of one of its hosts.

use core::net::SocketAddr;

use nilas_ice::{
    AgentConfig, AgentError, AgentId, AgentMut, EngineConfig, Event, NoPath, SelectedPair, State,
    Time, Via,
};

use nilas_stun::TransactionId;

use crate::host::Record;
use crate::signaling::{Channel, Route, Signal, Signaling};
use crate::world::{Happening, NodeId, World};

/// An agent of a host's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Agent {
    /// The host.
    pub node: NodeId,
    /// The agent's id in the host's engine.
    pub id: AgentId,
}

impl World {
    /// Configures the engine of a host, before it has agents.
    ///
    /// # Panics
    /// If it has one already.
    pub fn configure_engine(&mut self, node: NodeId, config: EngineConfig) {
        self.host_mut(node).configure(config);
        self.tell_interfaces(node);
    }

    /// The sockets that the engine of a host has open.
    pub fn engine_sockets(&self, node: NodeId) -> Vec<SocketAddr> {
        self.host(node).addresses.values().copied().collect()
    }

    /// A new agent on a host. It does nothing until [`gather`](Self::gather).
    ///
    /// # Errors
    /// What [`nilas_ice::Engine::add_agent`] says.
    pub fn add_agent(&mut self, node: NodeId, config: AgentConfig) -> Result<Agent, AgentError> {
        let now = self.now();
        let id = self.host_mut(node).add_agent(now, config)?;
        self.settle(node);
        Ok(Agent { node, id })
    }

    /// Lets an agent gather its candidates.
    ///
    /// # Errors
    /// [`AgentError::UnknownAgent`] if it was closed.
    pub fn gather(&mut self, agent: Agent) -> Result<(), AgentError> {
        self.with_agent(agent, |mut agent, now| agent.gather(now))
    }

    /// Says anything to an agent, or asks it; then does what its engine wants.
    ///
    /// # Errors
    /// [`AgentError::UnknownAgent`] if it was closed.
    pub fn with_agent<R>(
        &mut self,
        agent: Agent,
        call: impl FnOnce(AgentMut<'_>, Time) -> R,
    ) -> Result<R, AgentError> {
        let now = self.now();
        let result = call(self.host_mut(agent.node).engine.agent(agent.id)?, now);
        self.settle(agent.node);
        Ok(result)
    }

    /// Sends application data on the agent's path.
    ///
    /// # Errors
    /// Why there is no path.
    pub fn send(&mut self, agent: Agent, payload: &[u8]) -> Result<(), NoPath> {
        let now = self.now();
        let host = self.host(agent.node);
        let cell = &self.record(agent).path;
        let path = cell.load()?;
        // The trace tells datagrams apart by their numbers: a constant id does for an indication.
        let mut framed = Vec::new();
        let fits = path.frame(TransactionId::new([0; 12]), payload, &mut framed);
        let source = match path.via {
            Via::Socket { socket, .. } => Some(host.address_of(socket).ok_or(NoPath::Closed)?),
            Via::Stream(_) => None,
        };
        cell.record_sent(Some(now), 1, payload.len() as u64);
        match (path.via, source) {
            (Via::Socket { destination, .. }, Some(source)) if fits => {
                self.send_datagram(agent.node, source, destination, &framed);
            }
            (Via::Stream(stream), _) if fits => self.write_stream(agent.node, stream, &framed),
            _ => {}
        }
        self.settle(agent.node);
        Ok(())
    }

    /// Connects two agents by signaling. Each is told what the other has told already and will tell.
    ///
    /// Signaling is carried apart from all links: it reaches a node that is unplugged, too.
    ///
    /// # Errors
    /// [`AgentError::UnknownAgent`] if one was closed.
    pub fn signal_between(
        &mut self,
        a: Agent,
        b: Agent,
        signaling: Signaling,
    ) -> Result<(), AgentError> {
        self.open_channel(&[(a, b)], signaling)?;
        self.open_channel(&[(b, a)], signaling)
    }

    /// Opens a channel, on which the first of each pair tells the second what it has told already and will tell.
    pub(crate) fn open_channel(
        &mut self,
        pairs: &[(Agent, Agent)],
        signaling: Signaling,
    ) -> Result<(), AgentError> {
        let channel = self.channels.len();
        let all = pairs.iter().map(|(from, _)| *from);
        self.channels.push(Channel::new(signaling, all));
        for &(from, to) in pairs {
            let parameters = self.with_agent(from, |agent, _| agent.local_parameters())?;
            let events = &self.record(from).events;
            let restart = |(_, event): &(Time, Event)| matches!(event, Event::LocalParameters(_));
            let generation = events.iter().rposition(restart).map_or(0, |last| last + 1);
            let told = events[generation..].iter();
            let told: Vec<_> = told
                .filter_map(|(_, event)| Signal::from_event(event))
                .collect();
            self.signal_routes.insert(from, Route { channel, to });
            for signal in core::iter::once(Signal::Parameters(parameters)).chain(told) {
                self.channels[channel].push(from, to, signal);
            }
        }
        self.flush(channel);
        Ok(())
    }

    /// Holds back all that `from`, and with it the other components of its session, tells the peer, until
    /// [`release_signals`](Self::release_signals).
    pub fn hold_signals(&mut self, from: Agent) {
        if let Some(Route { channel, .. }) = self.signal_routes.get(&from) {
            self.channels[*channel].hold(true);
        }
    }

    /// Lets go what was held back.
    pub fn release_signals(&mut self, from: Agent) {
        if let Some(Route { channel, .. }) = self.signal_routes.get(&from).copied() {
            self.channels[channel].hold(false);
            self.flush(channel);
        }
    }

    /// Tells an agent something of its peer, at once.
    ///
    /// # Errors
    /// Why the agent refuses it.
    pub fn deliver(&mut self, to: Agent, signal: Signal) -> Result<(), AgentError> {
        let is_parameters = matches!(signal, Signal::Parameters(_));
        self.with_agent(to, |mut agent, now| match signal {
            Signal::Parameters(parameters) => agent.set_remote_parameters(now, &parameters),
            Signal::Candidate(candidate) => agent.add_remote_candidate(now, candidate),
            Signal::CandidateRemoved(candidate) => agent.remove_remote_candidate(now, &candidate),
            Signal::EndOfCandidates => {
                agent.end_of_remote_candidates(now);
                Ok(())
            }
        })??;
        let now = self.now();
        if is_parameters && let Some(record) = self.record_mut(to) {
            record.remote_parameters.get_or_insert(now);
        }
        Ok(())
    }

    /// All events of an agent, with their times.
    pub fn events(&self, agent: Agent) -> &[(Time, Event)] {
        &self.record(agent).events
    }

    /// All application data that reached an agent, with the times.
    pub fn received(&self, agent: Agent) -> &[(Time, Vec<u8>)] {
        &self.record(agent).received
    }

    /// What signaling brought to an agent and the agent refused, with the times.
    pub fn refused(&self, agent: Agent) -> &[(Time, AgentError)] {
        &self.record(agent).refused
    }

    /// When an agent was first told its peer's parameters.
    pub fn remote_parameters_at(&self, agent: Agent) -> Option<Time> {
        self.record(agent).remote_parameters
    }

    /// The latest state that an agent told.
    pub fn state(&self, agent: Agent) -> State {
        let states = self
            .events(agent)
            .iter()
            .rev()
            .filter_map(|(_, event)| match event {
                Event::StateChange { state, .. } => Some(*state),
                _ => None,
            });
        { states }.next().unwrap_or(State::New)
    }

    /// When an agent first told this state.
    pub fn state_at(&self, agent: Agent, wanted: State) -> Option<Time> {
        let mut events = self.events(agent).iter();
        let is_wanted =
            |event: &Event| matches!(event, Event::StateChange { state, .. } if *state == wanted);
        events
            .find(|(_, event)| is_wanted(event))
            .map(|(at, _)| *at)
    }

    /// Whether the latest state that an agent told is one in which data can flow.
    pub fn is_up(&self, agent: Agent) -> bool {
        self.state(agent).is_up()
    }

    /// The latest selected pair that an agent told.
    pub fn selected_pair(&self, agent: Agent) -> Option<&SelectedPair> {
        self.events(agent)
            .iter()
            .rev()
            .find_map(|(_, event)| match event {
                Event::SelectedPairChange(pair) => Some(pair),
                _ => None,
            })
    }

    /// Writes down what an agent told, and passes on what its peer needs to know.
    pub(crate) fn note(&mut self, agent: Agent, event: Event) {
        let now = self.now();
        if let Some(Route { channel, to }) = self.signal_routes.get(&agent).copied() {
            let told = &mut self.channels[channel];
            if let Some(signal) = Signal::from_event(&event) {
                told.push(agent, to, signal);
            } else if is_end(&event) {
                told.close(agent);
            }
            self.flush(channel);
        }
        if let Some(record) = self.record_mut(agent) {
            record.events.push((now, event));
        }
    }

    /// What signaling brings may be refused; that is written down.
    pub(crate) fn deliver_and_record(&mut self, to: Agent, signal: Signal) {
        let now = self.now();
        if let Err(error) = self.deliver(to, signal)
            && let Some(record) = self.record_mut(to)
        {
            record.refused.push((now, error));
        }
    }

    fn flush(&mut self, channel: usize) {
        let now = self.now();
        let channel = &mut self.channels[channel];
        let at = now + channel.delay();
        for (to, signal) in channel.leaving() {
            self.queue.plan(at, Happening::Signal { to, signal });
        }
    }

    fn record(&self, agent: Agent) -> &Record {
        // Records are never removed, and an `Agent` is only made together with its record.
        self.host(agent.node)
            .records
            .get(&agent.id)
            .expect("an agent of this world")
    }

    fn record_mut(&mut self, agent: Agent) -> Option<&mut Record> {
        self.host_mut(agent.node).records.get_mut(&agent.id)
    }
}

const fn is_end(event: &Event) -> bool {
    matches!(
        event,
        Event::StateChange {
            state: State::Closed,
            ..
        }
    )
}
