//! A session of several data streams or components, as its owner sees it.

use nilas_turn::Time;

use super::Engine;
use super::session::Session;
use crate::agent::Agent;
use crate::candidate::Candidate;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::event::{ChecklistState, GatheringState, Role, State};
use crate::ids::{AgentId, SessionId};
use crate::io::SelectedPair;
use crate::parameters::{Parameters, TRICKLE};
use crate::sdp::{IceDescription, RemoteCandidate};

/// A session of several data streams, each of one or more components (RFC 8445 section 4): what ICE does without
/// BUNDLE, or without RTP and RTCP on one port.
///
/// Every component is an agent of its own, with its own sockets, candidates, selected pair and
/// [`PathCell`](crate::PathCell), and its own events. They share what RFC 8445 has once:
///
/// - the components of a stream their username fragment and password. Parameters told to one are told to all, and a
///   restart of one, also of its own accord, restarts the stream: each tells the same
///   [`LocalParameters`](crate::Event::LocalParameters).
/// - all of a session the role, the tie-breaker, the pacing, the bound of pairs and the frozen algorithm, so that a path
///   that works for one stream is tried first for the others.
///
/// How it goes is told by [`Output::SessionEvent`](crate::Output::SessionEvent).
///
/// ```
/// use nilas_ice::{AgentConfig, Engine, EngineConfig, Role, SessionDescription, Time};
///
/// let mut engine = Engine::new(EngineConfig::default(), [0; 32]);
/// let now = Time::ZERO;
/// // Audio with RTP and RTCP, and a data channel.
/// let id = engine.add_session(now, AgentConfig::new(Role::Controlling), 2)?;
/// let mut session = engine.session(id)?;
/// session.add_stream(now, AgentConfig::new(Role::Controlling), 1)?;
/// session.gather(now);
/// let rtcp = session.component(0, 2).unwrap(); // an AgentId: its events and its data carry it
///
/// let mut offer = SessionDescription::parse(
///     "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
///      m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\n\
///      m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\n",
/// ).unwrap();
/// for section in 0..session.streams() {
///     offer.set_ice(section, &session.description(section)?).unwrap();
/// }
/// // The answer comes; here it is one that somebody wrote.
/// let answer = offer.to_string().replace(&session.local_parameters(0)?.ufrag, "peer");
/// let answer = SessionDescription::parse(&answer).unwrap();
/// for (stream, section) in answer.sections().enumerate() {
///     session.set_remote_description(now, stream, &section.ice())?;
/// }
/// assert_eq!(engine.agent(rtcp)?.state(), nilas_ice::State::Checking);
/// # Ok::<(), nilas_ice::AgentError>(())
/// ```
#[derive(Debug)]
pub struct SessionMut<'e> {
    engine: &'e mut Engine,
    id: SessionId,
}

impl Engine {
    /// A new session with one stream of so many components, 1 to 4. It does nothing until [`SessionMut::gather`].
    ///
    /// # Errors
    /// As of [`add_agent`](Self::add_agent), and [`AgentError::SessionTooLarge`].
    pub fn add_session(
        &mut self,
        now: Time,
        config: AgentConfig,
        components: u16,
    ) -> Result<SessionId, AgentError> {
        self.add_stream_to(now, None, &config, components)
    }

    pub(crate) fn add_stream_to(
        &mut self,
        now: Time,
        session: Option<SessionId>,
        config: &AgentConfig,
        components: u16,
    ) -> Result<SessionId, AgentError> {
        let added = self.add_members(now, session, config, components);
        let result = added
            .as_ref()
            .map_or_else(|error| Err(*error), |(id, _)| Ok(*id));
        if self.recorder.is_some() {
            self.note_stream(session, config, components, added);
        }
        result
    }

    /// A session, to be told something or asked.
    ///
    /// # Errors
    /// [`AgentError::UnknownSession`].
    pub fn session(&mut self, id: SessionId) -> Result<SessionMut<'_>, AgentError> {
        match self.sessions.get(id.0) {
            Some(_) => Ok(SessionMut { engine: self, id }),
            None => Err(AgentError::UnknownSession),
        }
    }
}

impl SessionMut<'_> {
    /// Adds a stream behind the others, of so many components, 1 to 4, and gives its number. The session's role stands,
    /// whatever the configuration says.
    ///
    /// # Errors
    /// As of [`Engine::add_session`]. A session has at most 16 streams, and those that were closed count.
    pub fn add_stream(
        &mut self,
        now: Time,
        config: AgentConfig,
        components: u16,
    ) -> Result<usize, AgentError> {
        let stream = self.streams();
        self.engine
            .add_stream_to(now, Some(self.id), &config, components)?;
        Ok(stream)
    }

    /// Has all components gather that have not begun to.
    pub fn gather(&mut self, now: Time) {
        for agent in self.components().collect::<Vec<_>>() {
            self.tell(agent, |agent| agent.gather(now));
        }
    }

    /// The peer's parameters of a stream, as [`AgentMut::set_remote_parameters`](crate::AgentMut::set_remote_parameters).
    pub fn set_remote_parameters(
        &mut self,
        now: Time,
        stream: usize,
        parameters: &Parameters,
    ) -> Result<(), AgentError> {
        let first = self.first(stream)?;
        self.engine
            .agent(first)?
            .set_remote_parameters(now, parameters)
    }

    /// A candidate of the peer, for the component that it names.
    ///
    /// # Errors
    /// As of [`AgentMut::add_remote_candidate`](crate::AgentMut::add_remote_candidate), and
    /// [`AgentError::UnusableCandidate`] where the stream has no such component (any more).
    pub fn add_remote_candidate(
        &mut self,
        now: Time,
        stream: usize,
        candidate: Candidate,
    ) -> Result<(), AgentError> {
        let agent = self.of_candidate(stream, &candidate)?;
        self.engine
            .agent(agent)?
            .add_remote_candidate(now, candidate)
    }

    /// The peer has taken a candidate back.
    ///
    /// # Errors
    /// As of [`add_remote_candidate`](Self::add_remote_candidate).
    pub fn remove_remote_candidate(
        &mut self,
        now: Time,
        stream: usize,
        candidate: &Candidate,
    ) -> Result<(), AgentError> {
        let agent = self.of_candidate(stream, candidate)?;
        self.engine
            .agent(agent)?
            .remove_remote_candidate(now, candidate)
    }

    /// The peer has no more candidates for any component of a stream (RFC 8838 section 14).
    pub fn end_of_remote_candidates(&mut self, now: Time, stream: usize) -> Result<(), AgentError> {
        self.first(stream)?;
        for agent in self.agents_of(stream) {
            self.tell(agent, |agent| agent.end_of_remote_candidates(now));
        }
        Ok(())
    }

    /// Takes in what an `m=` section of the peer's description says: its parameters, the candidates of all components,
    /// and their end. A peer that does not offer `trickle` has no others than these (RFC 8838 section 3).
    ///
    /// Candidates that cannot be used are left out, as those of a component that this side has closed or of another
    /// generation: RFC 8839 section 5.1 has an agent ignore what it does not support.
    ///
    /// # Errors
    /// Those of the parameters; [`AgentError::NoIce`] if there are none.
    pub fn set_remote_description(
        &mut self,
        now: Time,
        stream: usize,
        description: &IceDescription,
    ) -> Result<(), AgentError> {
        self.first(stream)?;
        let parameters = description
            .parameters
            .as_ref()
            .filter(|_| !description.mismatch);
        let parameters = parameters.ok_or(AgentError::NoIce)?;
        self.set_remote_parameters(now, stream, parameters)?;
        for candidate in &description.candidates {
            // Each was read by itself and may be of no use by itself.
            let _ = self.add_remote_candidate(now, stream, candidate.clone());
        }
        if description.end_of_candidates || !parameters.has_option(TRICKLE) {
            self.end_of_remote_candidates(now, stream)?;
        }
        Ok(())
    }

    /// What an `m=` section of an offer says to the peer of a stream: its parameters, the candidates that were found so far for all
    /// of its components, their end where there is one, and the default destinations.
    ///
    /// Once each component has a nominated pair, that is all there is to say (RFC 8839 section 4.4.1.2.2): its local
    /// candidates, and from the controlling side the remote ones.
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn description(&self, stream: usize) -> Result<IceDescription, AgentError> {
        let mut description = IceDescription::new(self.local_parameters(stream)?);
        let agents = self.agents_of(stream);
        let agents: Vec<&Agent> = agents.iter().filter_map(|id| self.get(*id)).collect();
        let nominated: Option<Vec<_>> = agents.iter().map(|agent| agent.nominated_pair()).collect();
        match nominated {
            Some(pairs) => {
                if self.role() == Some(Role::Controlling) {
                    let remotes = pairs.iter().map(remote_candidate).collect::<Option<_>>();
                    description.remote_candidates = remotes.unwrap_or_default();
                }
                description.candidates = pairs.into_iter().map(|pair| pair.local).collect();
            }
            None => {
                let told = agents.iter().flat_map(|agent| agent.told_candidates());
                description.candidates = told.collect();
            }
        }
        let is_complete = |agent: &&Agent| agent.gathering == GatheringState::Complete;
        description.end_of_candidates = agents.iter().all(is_complete);
        description.choose_destinations();
        Ok(description)
    }

    /// The same of an answer, which has no [`remote_candidates`](IceDescription::remote_candidates) (RFC 8839 section 4.4.2).
    ///
    /// Those of an offer tell a full agent nothing. Its peer takes a pair for nominated when the check that says so was answered,
    /// and whoever answered it knows. An answer to such an offer is best given once the own
    /// checks of these pairs have been answered as well: [`Event::Nominated`](crate::Event::Nominated) came. Before that it has all candidates.
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn answer(&self, stream: usize) -> Result<IceDescription, AgentError> {
        let description = self.description(stream)?;
        Ok(IceDescription {
            remote_candidates: Vec::new(),
            ..description
        })
    }

    /// Restarts a stream (RFC 8445 section 9): each of its components tells the new parameters.
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn restart(&mut self, now: Time, stream: usize) -> Result<(), AgentError> {
        let first = self.first(stream)?;
        self.tell(first, |agent| agent.restart(now));
        Ok(())
    }

    /// Closes all components of a stream. Its number stays taken, as the place of an `m=` section does.
    ///
    /// A single component, such as that of RTCP where the peer wants it on the port of RTP, is closed as an agent:
    /// [`AgentMut::close`](crate::AgentMut::close).
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn close_stream(&mut self, now: Time, stream: usize) -> Result<(), AgentError> {
        self.first(stream)?;
        for agent in self.agents_of(stream) {
            self.close_agent(now, agent);
        }
        Ok(())
    }

    /// Closes all streams, and the session with them.
    pub fn close(mut self, now: Time) {
        for agent in self.components().collect::<Vec<_>>() {
            self.close_agent(now, agent);
        }
    }

    /// The number of streams, with those that were closed.
    pub fn streams(&self) -> usize {
        self.known().map_or(0, |session| session.streams.len())
    }

    /// The agent of a component, from 1, of a stream, from 0; `None` if there is none (any more).
    pub fn component(&self, stream: usize, component: u16) -> Option<AgentId> {
        let stream = self.known()?.streams.get(stream)?;
        let mut members = stream.members.iter();
        let member = members.find(|member| member.component == component)?;
        Some(AgentId(member.key))
    }

    /// The agents of all components that there are, stream by stream.
    pub fn components(&self) -> impl Iterator<Item = AgentId> + use<'_> {
        let members = self.known().into_iter().flat_map(Session::members);
        members.map(|member| AgentId(member.key))
    }

    /// Those of one stream.
    pub fn components_of(&self, stream: usize) -> impl Iterator<Item = AgentId> + use<> {
        self.agents_of(stream).into_iter()
    }

    /// This side's parameters of a stream.
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn local_parameters(&self, stream: usize) -> Result<Parameters, AgentError> {
        let agent = self.get(self.first(stream)?);
        agent.map_or(Err(AgentError::UnknownStream), |agent| {
            Ok(agent.local_parameters())
        })
    }

    /// The state of all components together: the rules of W3C's RTCPeerConnection.iceConnectionState.
    pub fn state(&self) -> State {
        self.known().map_or(State::Closed, |session| session.state)
    }

    /// The state of a stream's checklist (RFC 8445 section 6.1.2.1).
    ///
    /// # Errors
    /// [`AgentError::UnknownStream`].
    pub fn checklist_state(&self, stream: usize) -> Result<ChecklistState, AgentError> {
        let stream = self.known().and_then(|session| session.streams.get(stream));
        let state = stream.and_then(super::session::Stream::checklist_state);
        state.ok_or(AgentError::UnknownStream)
    }

    /// The ICE state (RFC 8445 section 6.1.3): Completed or Failed if all checklists are. A stream that failed beside others
    /// is the application's to [close](Self::close_stream), or to end the session for (RFC 8445 section 8.1.2).
    pub fn ice_state(&self) -> ChecklistState {
        let session = self.known();
        session.map_or(ChecklistState::Running, Session::ice_state)
    }

    /// The role, which is one for all.
    pub fn role(&self) -> Option<Role> {
        let first = self.components().next()?;
        Some(self.get(first)?.role)
    }

    fn known(&self) -> Option<&Session> {
        self.engine.sessions.get(self.id.0)
    }

    fn agents_of(&self, stream: usize) -> Vec<AgentId> {
        let stream = self.known().and_then(|session| session.streams.get(stream));
        let members = stream.into_iter().flat_map(|stream| &stream.members);
        members.map(|member| AgentId(member.key)).collect()
    }

    /// The first component that there is.
    fn first(&self, stream: usize) -> Result<AgentId, AgentError> {
        let first = self.agents_of(stream).into_iter().next();
        first.ok_or(AgentError::UnknownStream)
    }

    fn of_candidate(&self, stream: usize, candidate: &Candidate) -> Result<AgentId, AgentError> {
        self.first(stream)?;
        self.component(stream, candidate.component)
            .ok_or(AgentError::UnusableCandidate)
    }

    fn get(&self, AgentId(key): AgentId) -> Option<&Agent> {
        self.engine.agents.get(key).map(|agent| &**agent)
    }

    fn tell(&mut self, agent: AgentId, tell: impl FnOnce(&mut super::AgentMut<'_>)) {
        if let Ok(mut agent) = self.engine.agent(agent) {
            tell(&mut agent);
        }
    }

    fn close_agent(&mut self, now: Time, agent: AgentId) {
        if let Ok(agent) = self.engine.agent(agent) {
            agent.close(now);
        }
    }
}

/// The remote end of a pair (RFC 8839 section 5.2); none where a name stands for it.
fn remote_candidate(pair: &SelectedPair) -> Option<RemoteCandidate> {
    let address = pair.remote.ip_address()?;
    Some(RemoteCandidate {
        component: pair.remote.component,
        address: address.ip(),
        port: address.port(),
    })
}
