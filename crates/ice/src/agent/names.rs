//! Candidates of the peer that are names (draft-ietf-mmusic-mdns-ice-candidates-03, RFC 8839 section 5.1).
//!
//! Browsers hide a host's address behind a name that ends in `.local`, which only the link itself resolves. The names are
//! the peer's to choose, so they are looked for only where that was asked for, a few at a time, and never hold up what
//! has an address. A name that nobody answers for is forgotten, and the session goes on. The candidate keeps its name in
//! all that is told of it.

use core::net::SocketAddr;

use super::Agent;
use super::trickle::is_target;
use crate::candidate::{Candidate, CandidateAddress};
use crate::error::AgentError;
use crate::ids::RequestId;
use crate::io::{Command, ResolveError};
use crate::shared::{Named, Shared};

/// Names of an agent's peer that are looked for at a time.
const MAX_NAMES: usize = 16;

impl Agent {
    /// Whether a candidate has a name that may be looked for: `.local` and one label before it, for whatever else ends in
    /// it is a network's own business.
    pub(super) fn may_resolve(&self, candidate: &Candidate) -> bool {
        let CandidateAddress::Name { name, port } = &candidate.address else {
            return false;
        };
        let label = name.len().checked_sub(".local".len()).map(|at| {
            let (label, suffix) = name.as_bytes().split_at(at);
            (label, suffix.eq_ignore_ascii_case(b".local"))
        });
        self.settings.mdns
            && *port != 0
            && label.is_some_and(|(label, is_local)| {
                is_local && (1..=63).contains(&label.len()) && !label.contains(&b'.')
            })
    }

    /// Begins to look for a candidate's name.
    pub(super) fn resolve_name(
        &self,
        shared: &mut Shared,
        candidate: Candidate,
    ) -> Result<(), AgentError> {
        let CandidateAddress::Name { name, port } = &candidate.address else {
            return Err(AgentError::UnusableCandidate);
        };
        let generation = self.current.number;
        let mut own = shared.names.iter().filter(|named| named.agent == self.id);
        if own.clone().any(|named| {
            named.generation == generation && named.candidate.address == candidate.address
        }) {
            return Ok(());
        }
        if own.nth(MAX_NAMES - 1).is_some() {
            shared.counters.names_refused += 1;
            return Err(AgentError::TooManyCandidates);
        }
        let (name, port) = (name.to_string(), *port);
        let request = shared.request(self.id);
        shared.names.push(Named {
            request,
            agent: self.id,
            generation,
            candidate,
        });
        shared.command(Command::FindName {
            request,
            name,
            port,
        });
        Ok(())
    }

    /// The answer to a resolution; false if it was not about a name of the peer.
    pub(crate) fn name_resolved(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<&[SocketAddr], ResolveError>,
    ) -> bool {
        let known = shared.names.iter();
        let Some(index) = { known }.position(|named| named.request == request) else {
            return false;
        };
        let named = shared.names.swap_remove(index);
        // A name with several addresses hides none of them, and what no check may go to has no name either.
        if named.generation == self.current.number
            && let Ok([address]) = result
            && is_target(*address)
        {
            // Where there is no room for it any more, it is as if it had not been found.
            let taken = self.take_in_everywhere(shared, named.candidate, *address);
            shared.counters.candidates_refused += u64::from(taken.is_err());
        }
        true
    }

    /// The peer has taken a name back before it was found.
    pub(super) fn forget_name(&self, shared: &mut Shared, name: &CandidateAddress) {
        let is_it = |named: &Named| named.agent == self.id && named.candidate.address == *name;
        shared.names.retain(|named| !is_it(named));
    }

    /// Nobody waits for the answers any more.
    pub(super) fn forget_names(&self, shared: &mut Shared) {
        shared.names.retain(|named| named.agent != self.id);
    }
}
