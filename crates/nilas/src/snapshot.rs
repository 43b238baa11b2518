//! How an agent stands, as its driver last saw it: what handles read without asking the engine.

use nilas_ice::{Candidate, Event, GatheringState, Parameters, Role, SelectedPair, State, Verdict};

/// A candidate that signaling has to tell, or to take back.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Candidate(Candidate),
    Removed(Candidate),
}

/// Kept by the driver, event by event, and watched by the handles.
///
/// The candidates of the present generation are all kept, so that signaling can be resumed or begun late
/// and nothing is lost.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// 1 for the first parameters, and one more for each restart, or telling of the same again.
    pub(crate) generation: u64,
    pub(crate) parameters: Parameters,
    /// In the order in which they came and went.
    pub(crate) told: Vec<Told>,
    /// How often gathering has ended: with continual gathering it may begin again.
    pub(crate) ends: u64,
    pub(crate) gathering: GatheringState,
    pub(crate) state: State,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) selected: Option<SelectedPair>,
    pub(crate) role: Role,
}

impl Snapshot {
    pub(crate) fn new(parameters: Parameters, role: Role) -> Self {
        Self {
            generation: 1,
            parameters,
            told: Vec::new(),
            ends: 0,
            gathering: GatheringState::New,
            state: State::New,
            verdict: None,
            selected: None,
            role,
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            // The same once more, too: the peer has lost what it was told, and the engine tells it all again.
            Event::LocalParameters(parameters) => {
                self.generation += 1;
                self.parameters = parameters.clone();
                self.told.clear();
                self.ends = 0;
                self.gathering = GatheringState::New;
            }
            Event::Candidate(candidate) => self.told.push(Told::Candidate(candidate.clone())),
            Event::CandidateRemoved(candidate) => {
                self.told.push(Told::Removed(candidate.clone()));
            }
            Event::GatheringStateChange(state) => {
                self.gathering = *state;
                self.ends += u64::from(*state == GatheringState::Complete);
            }
            Event::StateChange { state, verdict } => {
                self.state = *state;
                self.verdict = *verdict;
            }
            Event::SelectedPairChange(pair) | Event::Nominated(pair) => {
                self.selected = Some(pair.clone());
            }
            Event::RoleChange(role) => self.role = *role,
            _ => {}
        }
    }

    /// The candidates of the present generation that stand.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut standing: Vec<Candidate> = Vec::new();
        for told in &self.told {
            match told {
                Told::Candidate(candidate) => standing.push(candidate.clone()),
                Told::Removed(gone) => standing.retain(|candidate| {
                    (&candidate.address, &candidate.transport) != (&gone.address, &gone.transport)
                }),
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use nilas_ice::CandidateType;

    use super::*;

    #[test]
    fn a_restart_begins_a_new_generation() {
        let first = Parameters::new("aaaa", "0123456789012345678901");
        let mut snapshot = Snapshot::new(first.clone(), Role::Controlling);
        let candidate: Candidate = "candidate:1 1 udp 1 192.0.2.1 9 typ host".parse().unwrap();
        assert_eq!(candidate.kind, CandidateType::Host);
        snapshot.apply(&Event::Candidate(candidate.clone()));
        let other: Candidate = "candidate:2 1 udp 1 192.0.2.2 9 typ host".parse().unwrap();
        snapshot.apply(&Event::Candidate(other.clone()));
        snapshot.apply(&Event::CandidateRemoved(candidate));
        assert_eq!(snapshot.candidates(), [other]);
        snapshot.apply(&Event::GatheringStateChange(GatheringState::Complete));
        snapshot.apply(&Event::LocalParameters(first));
        assert_eq!((snapshot.generation, snapshot.told.len()), (2, 0));

        snapshot.apply(&Event::LocalParameters(Parameters::new(
            "bbbb",
            "0123456789012345678901",
        )));
        assert_eq!((snapshot.generation, snapshot.told.len()), (3, 0));
        assert_eq!(snapshot.gathering, GatheringState::New);
    }
}
