//! Sees what the engine decided by itself: which candidates it found, and how its pairs stand.

use std::collections::{BTreeMap, BTreeSet};

use core::net::SocketAddr;

use super::entry::{Decision, LocalView, PairName, PairView};
use crate::agent::Agent;
use crate::arena::Arena;
use crate::candidate::CandidateType;
use crate::ids::AgentId;

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    pairs: BTreeMap<PairName, PairView>,
    locals: BTreeSet<(AgentId, u32, CandidateType, SocketAddr)>,
}

impl Watcher {
    /// What is new with the agents in these slots.
    pub(super) fn look(&mut self, agents: &Arena<Box<Agent>>, slots: &[u32]) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for slot in slots {
            let (locals, pairs) = match agents.by_slot(*slot) {
                Some(agent) => agent.views(),
                None => (Vec::new(), Vec::new()),
            };
            self.locals.retain(|(agent, generation, ..)| {
                let stays =
                    |local: &LocalView| (local.agent, local.generation) == (*agent, *generation);
                agent.0.slot != *slot || locals.iter().any(stays)
            });
            for local in locals {
                let seen = (local.agent, local.generation, local.kind, local.address);
                if self.locals.insert(seen) {
                    decisions.push(Decision::Local(local));
                }
            }
            let now: BTreeMap<_, _> = pairs.into_iter().map(|pair| (pair.name, pair)).collect();
            let gone: Vec<_> = self
                .pairs
                .keys()
                .filter(|name| name.agent.0.slot == *slot && !now.contains_key(name))
                .copied()
                .collect();
            for name in gone {
                self.pairs.remove(&name);
                decisions.push(Decision::PairGone(name));
            }
            for (name, pair) in now {
                let before = self.pairs.insert(name, pair);
                if before.is_none_or(|before| before.essence() != pair.essence()) {
                    decisions.push(Decision::Pair(pair));
                }
            }
        }
        decisions
    }
}

impl PairView {
    /// Without what changes all the time on a path that is watched.
    const fn essence(self) -> Self {
        Self {
            requests_received: if self.requests_received > 0 { 1 } else { 0 },
            consent_requests_sent: 0,
            round_trip: None,
            ..self
        }
    }
}
