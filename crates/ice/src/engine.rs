//! The engine: many agents in one thread, without locks.

use std::sync::Arc;

use crate::candidate::Candidate;
use crate::config::{AgentConfig, EngineConfig};
use crate::error::AgentError;
use crate::event::{GatheringState, Role, State};
use crate::ids::AgentId;
use crate::io::{Handled, Input, Output, SelectedPair};
use crate::parameters::Parameters;
use crate::path::PathCell;
use crate::stats::Stats;
use crate::time::Time;
use crate::verdict::Verdict;

/// Hosts agents. See the [crate's front page](crate).
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine without agents. The seed must come from the operating system's generator: all
    /// passwords and transaction ids come from it.
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        let _ = (config, seed);
        todo!()
    }

    /// A new agent. It does nothing until [`AgentMut::gather`].
    pub fn add_agent(&mut self, now: Time, config: AgentConfig) -> Result<AgentId, AgentError> {
        let _ = (now, config);
        todo!()
    }

    /// An agent, to be told something or asked.
    pub fn agent(&mut self, id: AgentId) -> Result<AgentMut<'_>, AgentError> {
        let _ = id;
        todo!()
    }

    /// Takes in what happened outside.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> Handled {
        let _ = (now, input);
        todo!()
    }

    /// Gives one thing to do; to be called until it says [`Output::Idle`]. Datagrams are written into
    /// `buffer`, which needs 1,280 bytes.
    pub fn poll(&mut self, now: Time, buffer: &mut [u8]) -> Output {
        let _ = (now, buffer);
        todo!()
    }
}

/// An agent of an [`Engine`], to be told something or asked. Call [`Engine::poll`] afterwards.
#[derive(Debug)]
pub struct AgentMut<'e> {
    engine: &'e mut Engine,
}

#[allow(unused, missing_docs, clippy::todo, clippy::needless_pass_by_ref_mut)]
impl AgentMut<'_> {
    /// Begins to gather, from the latest [`Input::Interfaces`]; may be called before those came.
    pub fn gather(&mut self, now: Time) { todo!() }
    /// The peer's parameters. New ones after the first are the peer's restart (RFC 8445 section 9).
    pub fn set_remote_parameters(&mut self, now: Time, parameters: &Parameters) -> Result<(), AgentError> { todo!() }
    pub fn add_remote_candidate(&mut self, now: Time, candidate: Candidate) -> Result<(), AgentError> { todo!() }
    pub fn end_of_remote_candidates(&mut self, now: Time) { todo!() }
    /// Restarts ICE: the event `LocalParameters` follows; gathers again by itself.
    pub fn restart(&mut self, now: Time) { todo!() }
    pub fn local_parameters(&self) -> Parameters { todo!() }
    pub fn state(&self) -> State { todo!() }
    pub fn gathering_state(&self) -> GatheringState { todo!() }
    pub fn role(&self) -> Role { todo!() }
    pub fn selected_pair(&self) -> Option<SelectedPair> { todo!() }
    pub fn verdict(&self) -> Option<Verdict> { todo!() }
    /// Where data is to be sent.
    pub fn path(&self) -> Arc<PathCell> { todo!() }
    pub fn stats(&self, now: Time) -> Vec<Stats> { todo!() }
    /// Ends the session: the state `Closed` is told and the sockets are closed.
    pub fn close(self, now: Time) { todo!() }
}
