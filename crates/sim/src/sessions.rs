//! What a world can do with a session of several streams and components.

use nilas_ice::{AgentConfig, AgentError, SessionEvent, SessionId, SessionMut, Time};

use crate::agents::Agent;
use crate::signaling::Signaling;
use crate::world::{NodeId, World};

/// A session of a host's engine. Each of its components is an [`Agent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Session {
    /// The host.
    pub node: NodeId,
    /// The session's id in the host's engine.
    pub id: SessionId,
}

impl World {
    /// A new session on a host, with a stream of so many components. More are added as
    /// [`with_session`](Self::with_session) allows.
    ///
    /// # Errors
    /// What [`nilas_ice::Engine::add_session`] says.
    pub fn add_session(
        &mut self,
        node: NodeId,
        config: AgentConfig,
        components: u16,
    ) -> Result<Session, AgentError> {
        let now = self.now();
        let engine = &mut self.host_mut(node).engine;
        let id = engine.add_session(now, config, components)?;
        let session = Session { node, id };
        self.with_session(session, |_, _| ())?;
        Ok(session)
    }

    /// Says anything to a session, or asks it; then does what its engine wants.
    ///
    /// # Errors
    /// [`AgentError::UnknownSession`] if it was closed.
    pub fn with_session<R>(
        &mut self,
        session: Session,
        call: impl FnOnce(&mut SessionMut<'_>, Time) -> R,
    ) -> Result<R, AgentError> {
        let now = self.now();
        let host = self.host_mut(session.node);
        let mut told = host.engine.session(session.id)?;
        let result = call(&mut told, now);
        let agents: Vec<_> = told.components().collect();
        for id in agents {
            host.keep_record(id)?;
        }
        self.settle(session.node);
        Ok(result)
    }

    /// The component, from 1, of a stream, from 0.
    ///
    /// # Panics
    /// If there is none.
    pub fn component(&mut self, session: Session, stream: usize, component: u16) -> Agent {
        let found = self.with_session(session, |session, _| session.component(stream, component));
        let id = found.ok().flatten();
        let id = id.unwrap_or_else(|| panic!("no component {component} of stream {stream}"));
        Agent {
            node: session.node,
            id,
        }
    }

    /// All components of a session, stream by stream.
    pub fn components(&mut self, session: Session) -> Vec<Agent> {
        let found = self.with_session(session, |session, _| session.components().collect());
        let ids: Vec<_> = found.unwrap_or_default();
        let node = session.node;
        ids.into_iter().map(|id| Agent { node, id }).collect()
    }

    /// Connects the components of two sessions of the same shape by signaling, as
    /// [`signal_between`](Self::signal_between) does two agents. What the components of a side tell keeps its order, also
    /// between them, and where it is carried at once it waits for all of them.
    ///
    /// # Errors
    /// [`AgentError::UnknownAgent`] if one was closed.
    pub fn signal_between_sessions(
        &mut self,
        a: Session,
        b: Session,
        signaling: Signaling,
    ) -> Result<(), AgentError> {
        let (a, b) = (self.components(a), self.components(b));
        let there: Vec<_> = a.iter().copied().zip(b.iter().copied()).collect();
        let back: Vec<_> = there.iter().map(|(a, b)| (*b, *a)).collect();
        self.open_channel(&there, signaling)?;
        self.open_channel(&back, signaling)
    }

    /// All events of a session itself, with their times. Those of its components are [`events`](Self::events).
    pub fn session_events(&self, session: Session) -> Vec<(Time, SessionEvent)> {
        let told = &self.host(session.node).session_events;
        told.iter()
            .filter(|(_, of, _)| *of == session.id)
            .map(|(at, _, event)| (*at, *event))
            .collect()
    }
}
