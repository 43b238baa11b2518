//! How an agent stands, as its driver last saw it: what handles read without asking the engine.

use nilas_ice::{Candidate, Event, GatheringState, Parameters, Role, SelectedPair, State, Verdict};

/// Kept by the driver, event by event, and watched by the handles.
///
/// The candidates of the present generation are all kept, so that signaling can be resumed or begun late
/// and nothing is lost.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// 1 for the first parameters, and one more for each restart, or telling of the same again.
    pub(crate) generation: u64,
    pub(crate) parameters: Parameters,
    pub(crate) candidates: Vec<Candidate>,
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
            candidates: Vec::new(),
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
                self.candidates.clear();
                self.gathering = GatheringState::New;
            }
            Event::Candidate(candidate) => self.candidates.push(candidate.clone()),
            Event::GatheringStateChange(state) => self.gathering = *state,
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
        snapshot.apply(&Event::Candidate(candidate));
        snapshot.apply(&Event::GatheringStateChange(GatheringState::Complete));
        snapshot.apply(&Event::LocalParameters(first));
        assert_eq!((snapshot.generation, snapshot.candidates.len()), (2, 0));

        snapshot.apply(&Event::LocalParameters(Parameters::new(
            "bbbb",
            "0123456789012345678901",
        )));
        assert_eq!((snapshot.generation, snapshot.candidates.len()), (3, 0));
        assert_eq!(snapshot.gathering, GatheringState::New);
    }
}
