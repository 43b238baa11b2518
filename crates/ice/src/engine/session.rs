//! Sessions of several data streams and components (RFC 8445 section 4).
//!
//! Each component is an agent. What is one for the session or the stream is made so here, after everything that
//! happens to one of its agents: what has changed with that one is compared with what the session knows, and taken to
//! the others. An agent on its own has no session, and pays one look at that.

use core::mem;

use nilas_turn::Time;
use smallvec::SmallVec;

use super::Engine;
use super::checklist_set::{Entry, thaw};
use crate::agent::Agent;
use crate::agent::component::{Facts, MAX_COMPONENTS, PairFoundation, Place, Roles, Seat, Urgency};
use crate::arena::{Arena, Key};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::event::{ChecklistState, SessionEvent, State};
use crate::ids::{AgentId, SessionId, SocketId};
use crate::shared::Shared;
use crate::stats::PairState;

/// The most streams of a session.
const MAX_STREAMS: usize = 16;

type Agents = Arena<Box<Agent>>;

/// Several agents with one peer.
#[derive(Debug)]
pub(crate) struct Session {
    /// In the order of the checklist set.
    pub(super) streams: Vec<Stream>,
    roles: Option<Roles>,
    /// Ta for all of them (RFC 8445 section 14.2).
    pace_at: Time,
    /// The checklist whose turn is next (RFC 8445 section 6.1.4.2).
    next: u16,
    pub(super) state: State,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            roles: None,
            pace_at: Time::ZERO,
            next: 0,
            state: State::New,
        }
    }
}

/// A data stream: the components that have one username fragment and password, and one checklist. None are left of
/// one that was closed.
#[derive(Debug)]
pub(super) struct Stream {
    /// In the order of their components.
    pub(super) members: SmallVec<[Member; 2]>,
    /// Those claimed, of all generations that are left.
    ufrags: Vec<Box<str>>,
    state: ChecklistState,
}

/// A component, and how it stood when it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) key: Key,
    pub(super) component: u16,
    facts: Facts,
}

impl Engine {
    pub(crate) fn add_members(
        &mut self,
        now: Time,
        session: Option<SessionId>,
        config: &AgentConfig,
        components: u16,
    ) -> Result<(SessionId, Vec<AgentId>), AgentError> {
        self.advance(now);
        let known = session.map(|SessionId(key)| self.sessions.get(key));
        let streams = match known {
            Some(None) => return Err(AgentError::UnknownSession),
            Some(Some(session)) => session.streams.len(),
            None => 0,
        };
        if streams == MAX_STREAMS || !(1..=MAX_COMPONENTS).contains(&components) {
            return Err(AgentError::SessionTooLarge);
        }
        if self.agents.len() + usize::from(components) > self.shared.config.max_agents as usize {
            return Err(AgentError::TooManyAgents);
        }
        let id = session.unwrap_or_else(|| SessionId(self.sessions.insert(Session::default())));
        let added = self.add_stream(id, config, components);
        if added.is_err() && session.is_none() {
            self.sessions.remove(id.0);
        }
        added.map(|agents| (id, agents))
    }

    fn add_stream(
        &mut self,
        id: SessionId,
        config: &AgentConfig,
        components: u16,
    ) -> Result<Vec<AgentId>, AgentError> {
        let Some(mut session) = self.sessions.get_mut(id.0).map(mem::take) else {
            return Err(AgentError::UnknownSession);
        };
        let added = session.add_stream(&mut self.agents, &mut self.shared, id, config, components);
        self.put_back(id, session);
        added
    }

    fn put_back(&mut self, SessionId(key): SessionId, session: Session) {
        if let Some(place) = self.sessions.get_mut(key) {
            *place = session;
        }
    }

    /// Makes the same for a session what is one for it, after something has happened to the agent in this slot.
    pub(super) fn tend(&mut self, slot: u32) {
        // Whether it is a component stands where the agent was looked at already; where it sits does not.
        let agent = self.agents.by_slot(slot);
        let member = agent.filter(|agent| agent.is_member());
        let Some(seat) = member.and_then(|member| member.seat.as_deref().copied()) else {
            return;
        };
        let id = seat.session;
        let Some(mut session) = self.sessions.get_mut(id.0).map(mem::take) else {
            return;
        };
        let changed = session.tend(&mut self.agents, &mut self.shared, self.now, (seat, slot));
        if session.members().next().is_none() {
            self.sessions.remove(id.0);
        } else {
            self.put_back(id, session);
        }
        for slot in changed {
            self.rearm_alone(slot, Time::ZERO);
        }
    }

    /// Which component uses the pacing slot that the one in `slot` was woken for (RFC 8445 section 6.1.4.2).
    pub(super) fn in_turn(&self, slot: u32, now: Time) -> u32 {
        if self.sessions.len() == 0 || self.shared.pace_at > now {
            return slot;
        }
        let Some(agent) = self.agents.by_slot(slot) else {
            return slot;
        };
        let session = agent.seat.as_ref().map(|seat| seat.session);
        let session = session.and_then(|SessionId(key)| self.sessions.get(key));
        match session {
            Some(session) if agent.urgency(now).is_some() => {
                session.next_to_check(&self.agents, now).unwrap_or(slot)
            }
            _ => slot,
        }
    }

    /// The agent that a check is for: of the components of a stream, whose socket it came to.
    pub(super) fn called_at(&self, slot: u32, socket: SocketId) -> u32 {
        if self.sessions.len() == 0 {
            return slot;
        }
        let mut beside = self.beside(slot);
        let owner = beside.find(|key| {
            let agent = self.agents.get(*key);
            agent.is_some_and(|agent| agent.owns(socket))
        });
        owner.map_or(slot, |key| key.slot)
    }

    /// An agent that knows this username fragment of its own, as all do that are called by it.
    pub(crate) fn called(&self, ufrag: &str) -> Option<&Agent> {
        let slot = self.shared.demux.by_ufrag(ufrag)?;
        let knows = |agent: &&Agent| agent.called(ufrag).is_some();
        let first = self.agents.by_slot(slot).map(|agent| &**agent);
        first.filter(knows).or_else(|| {
            let mut beside = self.beside(slot);
            beside.find_map(|key| self.agents.get(key).map(|agent| &**agent).filter(knows))
        })
    }

    /// Tells all components of a stream, this one first. What it refuses is told to no other.
    pub(super) fn tell_stream(
        &mut self,
        key: Key,
        mut tell: impl FnMut(&mut Agent, &mut Shared) -> Result<(), AgentError>,
    ) -> Result<(), AgentError> {
        let others: SmallVec<[Key; 4]> = self.beside(key.slot).filter(|own| *own != key).collect();
        let mut all = core::iter::once(key).chain(others.iter().copied());
        let exchanged = |key| {
            self.agents
                .get(key)
                .is_some_and(|agent| agent.has_exchanged())
        };
        if !others.is_empty() && all.any(exchanged) {
            for key in core::iter::once(&key).chain(&others) {
                if let Some(agent) = self.agents.get_mut(*key) {
                    agent.set_exchanged();
                }
            }
        }
        for key in core::iter::once(key).chain(others) {
            if let Some(agent) = self.agents.get_mut(key) {
                let told = tell(agent, &mut self.shared);
                // What it changes for the others is theirs before they are told.
                self.rearm(key.slot);
                told?;
            }
        }
        Ok(())
    }

    /// The components of the stream of an agent; none if it is on its own.
    pub(crate) fn beside(&self, slot: u32) -> impl Iterator<Item = Key> + use<'_> {
        let seat = self
            .agents
            .by_slot(slot)
            .and_then(|own| own.seat.as_deref());
        let stream = seat.and_then(|seat| {
            let session = self.sessions.get(seat.session.0)?;
            session.streams.get(usize::from(seat.stream))
        });
        stream
            .into_iter()
            .flat_map(|stream| stream.members.iter().map(|member| member.key))
    }

    /// The component of an agent.
    pub(super) fn component_of(&self, AgentId(key): AgentId) -> u16 {
        // Most engines have no sessions: the data of their agents passes without a look at them.
        if self.sessions.len() == 0 {
            return 1;
        }
        self.agents.get(key).map_or(1, |agent| agent.component())
    }
}

impl Session {
    fn add_stream(
        &mut self,
        agents: &mut Agents,
        shared: &mut Shared,
        id: SessionId,
        config: &AgentConfig,
        components: u16,
    ) -> Result<Vec<AgentId>, AgentError> {
        let mut stream = Stream {
            members: SmallVec::new(),
            ufrags: Vec::new(),
            state: ChecklistState::Running,
        };
        let members = self.members().count() as u16 + components;
        for component in 1..=components {
            let first = stream
                .members
                .first()
                .and_then(|first| agents.get(first.key));
            let place = Place {
                component,
                seat: Seat {
                    session: id,
                    stream: self.streams.len() as u16,
                    members,
                    open_beside: 0,
                },
                roles: self.roles,
                local: first.map(|first| first.local_credentials()),
            };
            let config = config.clone();
            let make = |key| Agent::new(AgentId(key), config, shared, Some(place)).map(Box::new);
            // Only the first can fail: the others are like it.
            let key = agents.try_insert_with(make)?;
            let Some(agent) = agents.get_mut(key) else {
                continue;
            };
            agent.wait_for_pace(self.pace_at);
            self.roles.get_or_insert_with(|| agent.roles());
            stream.members.push(Member {
                key,
                component,
                facts: agent.facts(),
            });
        }
        let added = stream
            .members
            .iter()
            .map(|member| AgentId(member.key))
            .collect();
        stream.claim(agents, shared);
        self.streams.push(stream);
        for member in self.members() {
            if let Some(agent) = agents.get_mut(member.key) {
                agent.share_with(members);
            }
        }
        Ok(added)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> + Clone {
        self.streams.iter().flat_map(|stream| &stream.members)
    }

    /// The slots of the others that it has changed.
    fn tend(
        &mut self,
        agents: &mut Agents,
        shared: &mut Shared,
        now: Time,
        (seat, slot): (Seat, u32),
    ) -> SmallVec<[u32; 8]> {
        let mut changed = SmallVec::new();
        let Some(own) = agents.by_slot(slot) else {
            return changed;
        };
        let (key, roles, pace_at) = (own.id.0, own.roles(), own.pace_at());
        let (facts, is_closed) = (own.facts(), own.closed);
        let Some(stream) = self.streams.get_mut(usize::from(seat.stream)) else {
            return changed;
        };
        let Some(index) = stream.members.iter().position(|member| member.key == key) else {
            return changed;
        };
        let before = mem::replace(&mut stream.members[index].facts, facts);
        if is_closed {
            stream.members.remove(index);
            stream.claim(agents, shared);
        } else if before != facts {
            stream.restart_with(agents, shared, now, key, &mut changed);
            stream.claim(agents, shared);
        }
        if !is_closed && self.roles != Some(roles) {
            self.roles = Some(roles);
            for member in self.members().filter(|member| member.key != key) {
                if let Some(agent) = agents.get_mut(member.key) {
                    agent.take_roles(shared, roles);
                    changed.push(member.key.slot);
                }
            }
        }
        if pace_at > self.pace_at {
            self.pace_at = pace_at;
            self.next = seat.stream + 1;
            for member in self.members().filter(|member| member.key != key) {
                if let Some(agent) = agents.get_mut(member.key) {
                    agent.wait_for_pace(pace_at);
                    changed.push(member.key.slot);
                }
            }
        }
        if before != facts || is_closed {
            self.tell_states(shared, seat.session);
        }
        // A component whose checks are concluded has nothing that is Frozen. One that has failed may have got new candidates.
        if self.members().any(|member| !member.facts.concluded) {
            self.thaw(agents, &mut changed);
        }
        changed
    }

    /// The frozen algorithm, across all checklists.
    fn thaw(&self, agents: &mut Agents, changed: &mut SmallVec<[u32; 8]>) {
        if self.any_frozen(agents) {
            let (mut entries, pairs) = self.standings(agents);
            for index in thaw(&mut entries) {
                let (key, pair) = pairs[index];
                if let Some(agent) = agents.get_mut(key) {
                    agent.thaw_pair(pair);
                    changed.push(key.slot);
                }
            }
        }
        let mut open = SmallVec::<[(Key, u16); 8]>::new();
        for member in self.members() {
            if let Some(agent) = agents.get(member.key) {
                open.push((member.key, agent.open_pairs()));
            }
        }
        let all = open.iter().map(|(_, own)| own).sum::<u16>();
        for (key, own) in open {
            if let Some(seat) = seat_of(agents, key) {
                seat.open_beside = all - own;
            }
        }
    }

    fn any_frozen(&self, agents: &Agents) -> bool {
        let mut members = self.members().filter_map(|member| agents.get(member.key));
        members.any(|agent| agent.pair_states().any(|state| state == PairState::Frozen))
    }

    /// All pairs of all checklists, and whose they are.
    fn standings(&self, agents: &Agents) -> (Vec<Entry<PairFoundation>>, Vec<(Key, Key)>) {
        let (mut entries, mut pairs) = (Vec::new(), Vec::new());
        for (stream, members) in self.streams.iter().enumerate() {
            for member in &members.members {
                let Some(agent) = agents.get(member.key) else {
                    continue;
                };
                for pair in agent.pair_standings() {
                    pairs.push((member.key, pair.id));
                    entries.push(Entry {
                        foundation: pair.foundation,
                        stream: stream as u16,
                        component: member.component,
                        priority: pair.priority,
                        state: pair.state,
                    });
                }
            }
        }
        (entries, pairs)
    }

    /// RFC 8445 section 6.1.4.2: the checklists take turns; of one, the most urgent, and then the lowest component.
    /// What only repeats a check comes after all that is new.
    fn next_to_check(&self, agents: &Agents, now: Time) -> Option<u32> {
        let count = self.streams.len();
        let best_of = |place: usize| {
            let stream = &self.streams[(usize::from(self.next) + place) % count];
            let ready = stream.members.iter().filter_map(|member| {
                let urgency = agents.get(member.key)?.urgency(now)?;
                Some((urgency, member.component, member.key.slot))
            });
            ready.min()
        };
        let mut repeat = None;
        for (urgency, _, slot) in (0..count).filter_map(best_of) {
            if urgency != Urgency::Repeat {
                return Some(slot);
            }
            repeat.get_or_insert(slot);
        }
        repeat
    }

    fn tell_states(&mut self, shared: &mut Shared, id: SessionId) {
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let Some(state) = stream.checklist_state() else {
                // Nobody asks how a closed one stands; it runs no more.
                stream.state = ChecklistState::Completed;
                continue;
            };
            if mem::replace(&mut stream.state, state) != state {
                let stream = number;
                shared.session_event(id, SessionEvent::ChecklistStateChange { stream, state });
            }
        }
        let state = aggregate(self.members().map(|member| member.facts.state));
        if mem::replace(&mut self.state, state) != state {
            shared.session_event(id, SessionEvent::StateChange(state));
        }
    }

    /// RFC 8445 section 6.1.3.
    pub(super) fn ice_state(&self) -> ChecklistState {
        let states = self.streams.iter().filter_map(Stream::checklist_state);
        let all = |of| states.clone().all(|state| state == of);
        match states.clone().next() {
            Some(_) if all(ChecklistState::Completed) => ChecklistState::Completed,
            Some(_) if all(ChecklistState::Failed) => ChecklistState::Failed,
            _ => ChecklistState::Running,
        }
    }
}

impl Stream {
    /// RFC 8445 section 6.1.2.1; none of a stream that was closed.
    pub(super) fn checklist_state(&self) -> Option<ChecklistState> {
        let of = |is: fn(&Facts) -> bool| self.members.iter().any(|member| is(&member.facts));
        if self.members.is_empty() {
            return None;
        }
        Some(if of(|facts| facts.state == State::Failed) {
            ChecklistState::Failed
        } else if of(|facts| !facts.concluded) {
            ChecklistState::Running
        } else {
            ChecklistState::Completed
        })
    }

    /// RFC 8445 section 9: both parts of the credentials change for the data stream.
    fn restart_with(
        &mut self,
        agents: &mut Agents,
        shared: &mut Shared,
        now: Time,
        key: Key,
        changed: &mut SmallVec<[u32; 8]>,
    ) {
        let Some(lead) = agents.get(key).map(|leader| leader.lead()) else {
            return;
        };
        for member in self.members.iter_mut().filter(|member| member.key != key) {
            if let Some(agent) = agents.get_mut(member.key)
                && !agent.follows(&lead)
            {
                agent.follow(shared, now, &lead);
                member.facts = agent.facts();
                changed.push(member.key.slot);
            }
        }
    }

    /// Claims the username fragments that the components are called by, and releases those that no one is any more.
    fn claim(&mut self, agents: &Agents, shared: &mut Shared) {
        let live = || {
            self.members
                .iter()
                .filter_map(|member| agents.get(member.key))
        };
        let mut called: Vec<Box<str>> = Vec::new();
        for ufrag in live().flat_map(|agent| agent.ufrags()) {
            if !called.iter().any(|known| **known == *ufrag) {
                called.push(ufrag.into());
            }
        }
        for ufrag in self.ufrags.iter().filter(|ufrag| !called.contains(ufrag)) {
            shared.demux.release_ufrag(ufrag);
        }
        // Whoever claimed it may have closed since.
        if let Some(first) = live().next() {
            for ufrag in &called {
                shared.demux.assign_ufrag(ufrag, first.id.0.slot);
            }
        }
        self.ufrags = called;
    }
}

fn seat_of(agents: &mut Agents, key: Key) -> Option<&mut Seat> {
    agents.get_mut(key)?.seat.as_deref_mut()
}

/// The state of several transports together, as RTCPeerConnection.iceConnectionState has it.
fn aggregate(states: impl Iterator<Item = State> + Clone) -> State {
    let any = |of: State| states.clone().any(|state| state == of);
    let all = |of: &[State]| states.clone().all(|state| of.contains(&state));
    if all(&[State::Closed]) {
        State::Closed
    } else if any(State::Failed) {
        State::Failed
    } else if any(State::Disconnected) {
        State::Disconnected
    } else if all(&[State::New, State::Closed]) {
        State::New
    } else if any(State::New) || any(State::Checking) {
        State::Checking
    } else if all(&[State::Completed, State::Closed]) {
        State::Completed
    } else {
        State::Connected
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Checking, Closed, Completed, Connected, Disconnected, Failed, New};
    use super::*;

    #[test]
    fn the_state_of_all_is_told_as_w3c_has_it() {
        for (states, expected) in [
            ([New, New, New], New),
            ([New, Connected, Completed], Checking),
            ([Checking, Connected, Completed], Checking),
            ([Connected, Completed, Completed], Connected),
            ([Completed, Completed, Closed], Completed),
            ([Disconnected, Completed, Checking], Disconnected),
            ([Disconnected, Failed, Completed], Failed),
            ([Closed, Closed, Closed], Closed),
        ] {
            assert_eq!(aggregate(states.into_iter()), expected, "{states:?}");
        }
    }
}
