//! An agent of an engine, as its owner sees it: what it can be told and asked.

use std::sync::Arc;

use super::Engine;
use crate::agent::Agent;
use crate::arena::Key;
use crate::candidate::Candidate;
use crate::config::AddressPolicy;
use crate::error::AgentError;
use crate::event::{GatheringState, Role, State};
use crate::ids::AgentId;
use crate::io::SelectedPair;
use crate::parameters::Parameters;
use crate::path::PathCell;
use crate::recording::{Answer as Answered, Call, Told};
use crate::shared::Shared;
use crate::stats::Stats;
use crate::verdict::Verdict;
use nilas_turn::Time;
use nilas_turn::client::Credentials;

/// An agent of an [`Engine`], to be told something or asked. Call [`Engine::poll`] afterwards.
#[derive(Debug)]
pub struct AgentMut<'e> {
    pub(super) engine: &'e mut Engine,
    pub(super) key: Key,
}

impl AgentMut<'_> {
    /// Begins to gather candidates, on the addresses of the latest [`Input::Interfaces`](crate::Input::Interfaces) or, if there
    /// was none, when it comes.
    pub fn gather(&mut self, now: Time) {
        self.change(now, |agent, shared, _| agent.gather(shared));
        self.note(Told::Gather);
    }

    /// The peer's parameters. Others than before are the peer's restart (RFC 8445 section 9): the event
    /// `LocalParameters` follows with what is to be sent in answer. In a [session](crate::SessionMut) they are those of all
    /// components of the stream. They may be given again before the candidates have ended; whether a peer without the option
    /// `trickle` has more candidates to tell is for the caller to say
    /// ([`end_of_remote_candidates`](Self::end_of_remote_candidates)), or for a whole
    /// [description](crate::SessionMut::set_remote_description).
    pub fn set_remote_parameters(
        &mut self,
        now: Time,
        parameters: &Parameters,
    ) -> Result<(), AgentError> {
        let now = self.engine.advance(now);
        let result = self.engine.tell_stream(self.key, |agent, shared| {
            agent.set_remote_parameters(shared, now, parameters)
        });
        self.note(Told::RemoteParameters(parameters, result));
        result
    }

    /// A candidate of the peer. One that is known already may have become a better one, or what its network costs may have
    /// changed.
    pub fn add_remote_candidate(
        &mut self,
        now: Time,
        candidate: Candidate,
    ) -> Result<(), AgentError> {
        let told = self.engine.recorder.as_ref().map(|_| candidate.clone());
        let result = self.change(now, |agent, shared, now| {
            let taken = agent.add_remote_candidate(shared, now, candidate);
            shared.counters.candidates_refused += u64::from(taken.is_err());
            taken
        });
        if let Some(candidate) = told {
            let call = Call::RemoteCandidate(AgentId(self.key), candidate);
            self.engine.note_call(call, Answered::Accepted(result));
        }
        result
    }

    /// The peer has taken a candidate back: its [`Event::CandidateRemoved`](crate::Event::CandidateRemoved) came. Data that
    /// went there moves to another pair, or the agent restarts.
    pub fn remove_remote_candidate(
        &mut self,
        now: Time,
        candidate: &Candidate,
    ) -> Result<(), AgentError> {
        let result = self.change(now, |agent, shared, now| {
            agent.remove_remote_candidate(shared, now, candidate)
        });
        if self.engine.recorder.is_some() {
            let call = Call::RemoveRemoteCandidate(AgentId(self.key), candidate.clone());
            self.engine.note_call(call, Answered::Accepted(result));
        }
        result
    }

    /// The peer has no more candidates (RFC 8838 section 14).
    pub fn end_of_remote_candidates(&mut self, now: Time) {
        self.change(now, |agent, shared, now| {
            agent.end_of_remote_candidates(shared, now)
        });
        self.note(Told::EndOfRemoteCandidates);
    }

    /// Restarts ICE: the event `LocalParameters` follows with what is to be sent to the peer, and
    /// candidates are gathered anew. The old pair carries the data until a new one is found. In a
    /// [session](crate::SessionMut) all components of the stream restart.
    pub fn restart(&mut self, now: Time) {
        self.change(now, |agent, shared, now| agent.restart(shared, now));
        self.note(Told::Restart);
    }

    /// Changes which addresses of this machine are used and told. An agent that has begun to gather
    /// [restarts](Self::restart): what was told before stays with the old pair until a new one is found.
    ///
    /// # Errors
    /// [`AgentError::LiteHasHostsOnly`]: a lite agent has no relays.
    pub fn set_addresses(&mut self, now: Time, addresses: AddressPolicy) -> Result<(), AgentError> {
        let mut result = Ok(());
        self.change(now, |agent, shared, now| {
            result = agent.set_addresses(shared, now, addresses);
        });
        self.note(Told::Addresses(addresses, result));
        result
    }

    /// Gives fresh credentials for a TURN server, which is counted in the configuration from 0. They are used when something
    /// is allocated there: what is allocated already stays with the credentials that it was made with (RFC 8656 section 5),
    /// and is allocated anew with these once the server does not take the old ones any more.
    ///
    /// # Errors
    /// [`AgentError::UnknownServer`]: the configuration has no such TURN server.
    pub fn set_turn_credentials(
        &mut self,
        now: Time,
        server: usize,
        credentials: &Credentials,
    ) -> Result<(), AgentError> {
        let mut result = Ok(());
        self.change(now, |agent, _, _| {
            result = agent.set_turn_credentials(server, credentials);
        });
        self.note(Told::TurnCredentials(server, credentials, result));
        result
    }

    /// Ends the session: the state `Closed` is told, relayed addresses are given back to their servers,
    /// and the sockets are closed. With a TURN server that may take a few round trips of [`Engine::poll`].
    pub fn close(mut self, now: Time) {
        self.change(now, |agent, shared, now| agent.close(shared, now));
        self.engine.bury(self.key.slot);
        self.note(Told::Close);
    }

    /// This agent's own parameters, to be sent to the peer before any candidate.
    pub fn local_parameters(&self) -> Parameters {
        self.get().local_parameters()
    }

    /// The state.
    pub fn state(&self) -> State {
        self.get().state
    }

    /// The state of gathering.
    pub fn gathering_state(&self) -> GatheringState {
        self.get().gathering
    }

    /// The role, as it is now.
    pub fn role(&self) -> Role {
        self.get().role
    }

    /// The pair that carries the data, if there is one.
    pub fn selected_pair(&self) -> Option<SelectedPair> {
        self.get().selected_pair()
    }

    /// Why there is no path, as far as is known now; `None` where there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        let agent = self.get();
        match agent.state {
            State::Connected | State::Completed | State::Closed => None,
            _ => agent.verdict.or_else(|| Some(agent.diagnose())),
        }
    }

    /// Where data is to be sent. The cell stays the same as long as the agent lives.
    pub fn path(&self) -> Arc<PathCell> {
        self.get().path()
    }

    /// The statistics of the transport, its candidates and its pairs.
    pub fn stats(&self, now: Time) -> Vec<Stats> {
        self.get().stats(&self.engine.shared, now)
    }

    fn change<T>(&mut self, now: Time, what: impl FnOnce(&mut Agent, &mut Shared, Time) -> T) -> T {
        let now = self.engine.advance(now);
        let Some(agent) = self.engine.agents.get_mut(self.key) else {
            unreachable!("the agent lives as long as this borrow of its engine")
        };
        let result = what(agent, &mut self.engine.shared, now);
        self.engine.rearm(self.key.slot);
        result
    }

    fn note(&mut self, told: Told<'_>) {
        if self.engine.recorder.is_some() {
            self.engine.note_told(AgentId(self.key), told);
        }
    }

    fn get(&self) -> &Agent {
        let Some(agent) = self.engine.agents.get(self.key) else {
            unreachable!("the agent lives as long as this borrow of its engine")
        };
        agent
    }
}
