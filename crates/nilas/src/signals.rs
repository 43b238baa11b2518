//! Between the engine's terms and what signaling carries.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nilas_ice::{Candidate, GatheringState, Parameters};
use nilas_net::signaling::{CandidateInit, Description, Signal};

use crate::error::Error;
use crate::session::{Control, Request};
use crate::snapshot::{Snapshot, Told};

/// How much of an agent's own signals has been taken.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    taken: Mutex<Cursor>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// The generation whose description was taken; none if 0.
    generation: u64,
    told: usize,
    ends: u64,
}

/// Where an [`Outgoing`] stands after a signal.
#[derive(Debug)]
pub(crate) struct Place(Cursor);

impl Outgoing {
    /// The next signal to send, if there is one already, and the place to mark once it is sent. Until
    /// then it is offered again, so that a send that is given up loses nothing.
    pub(crate) fn offer(&self, snapshot: &Snapshot) -> Option<(Signal, Place)> {
        let mut cursor = *self.cursor();
        let signal = cursor.next(snapshot)?;
        Some((signal, Place(cursor)))
    }

    /// What was offered with this place has been sent.
    pub(crate) fn mark(&self, place: Place) {
        *self.cursor() = place.0;
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        // A copy is written whole or not at all.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cursor {
    fn next(&mut self, snapshot: &Snapshot) -> Option<Signal> {
        if self.generation != snapshot.generation {
            *self = Self {
                generation: snapshot.generation,
                told: 0,
                ends: 0,
            };
            return Some(Signal::Description(describe(&snapshot.parameters)));
        }
        if let Some(told) = snapshot.told.get(self.told) {
            self.told += 1;
            let init = |candidate: &Candidate| {
                let mut init = CandidateInit::new(candidate.to_string());
                init.username_fragment = Some(snapshot.parameters.ufrag.clone());
                init
            };
            return Some(match told {
                Told::Candidate(candidate) => Signal::Candidate(init(candidate)),
                Told::Removed(candidate) => Signal::CandidateRemoved(init(candidate)),
            });
        }
        if self.ends < snapshot.ends && snapshot.gathering == GatheringState::Complete {
            self.ends = snapshot.ends;
            let username_fragment = Some(snapshot.parameters.ufrag.clone());
            return Some(Signal::EndOfCandidates { username_fragment });
        }
        None
    }
}

/// Parameters as a description for the peer.
pub(crate) fn describe(parameters: &Parameters) -> Description {
    let mut description = Description::new(&parameters.ufrag, &parameters.pwd);
    let options = parameters.options.iter();
    description.options = options.map(|option| option.to_string()).collect();
    description.pacing = parameters.pacing;
    description.lite = parameters.lite;
    description.answers = parameters.answers.clone();
    description
}

/// The peer's description as parameters. The engine checks them.
pub(crate) fn understand(description: &Description) -> Parameters {
    let mut parameters = Parameters::new(&description.ufrag, &description.pwd);
    parameters.options = description
        .options
        .iter()
        .cloned()
        .map(Into::into)
        .collect();
    parameters.pacing = description.pacing;
    parameters.lite = description.lite;
    parameters.answers = description.answers.clone();
    parameters
}

/// Tells the agent what the peer said.
pub(crate) async fn deliver(control: &Control, signal: Signal) -> Result<(), Error> {
    match signal {
        Signal::Description(description) => {
            let parameters = understand(&description);
            control
                .ask(|agent, reply| Request::RemoteParameters {
                    agent,
                    parameters,
                    reply,
                })
                .await
        }
        // W3C: an empty candidate is the end of them.
        Signal::Candidate(CandidateInit {
            candidate,
            username_fragment: ufrag,
            ..
        }) if candidate.is_empty() => {
            control
                .ask(|agent, reply| Request::EndOfRemoteCandidates {
                    agent,
                    ufrag,
                    reply,
                })
                .await
        }
        Signal::CandidateRemoved(init) => {
            let candidate = Box::new(candidate_of(init)?);
            control
                .ask(|agent, reply| Request::RemoveRemoteCandidate {
                    agent,
                    candidate,
                    reply,
                })
                .await
        }
        Signal::Candidate(init) => {
            let candidate = Box::new(candidate_of(init)?);
            control
                .ask(|agent, reply| Request::RemoteCandidate {
                    agent,
                    candidate,
                    reply,
                })
                .await
        }
        Signal::EndOfCandidates {
            username_fragment: ufrag,
        } => {
            control
                .ask(|agent, reply| Request::EndOfRemoteCandidates {
                    agent,
                    ufrag,
                    reply,
                })
                .await
        }
        // What a later version says is ignored, as signaling demands.
        _ => Ok(()),
    }
}

fn candidate_of(init: CandidateInit) -> Result<Candidate, Error> {
    let mut candidate: Candidate = init.candidate.parse()?;
    if candidate.ufrag.is_none() {
        candidate.ufrag = init.username_fragment.map(Into::into);
    }
    Ok(candidate)
}

#[cfg(test)]
mod tests {
    use nilas_ice::{Event, Role};

    use super::*;

    fn parameters(ufrag: &str) -> Parameters {
        let mut parameters = Parameters::new(ufrag, "0123456789012345678901");
        parameters.options = vec!["ice2".into()];
        parameters.pacing = Some(5);
        parameters
    }

    #[test]
    fn signals_come_in_the_order_of_trickle() {
        let mut snapshot = Snapshot::new(parameters("aaaa"), Role::Controlling);
        let outgoing = Outgoing::default();
        let next = |snapshot: &Snapshot| {
            let (signal, place) = outgoing.offer(snapshot)?;
            assert_eq!(
                outgoing.offer(snapshot).map(|(signal, _)| signal).as_ref(),
                Some(&signal)
            );
            outgoing.mark(place);
            Some(signal)
        };
        let Some(Signal::Description(description)) = next(&snapshot) else {
            panic!("no description")
        };
        assert_eq!(understand(&description), snapshot.parameters);
        assert_eq!(next(&snapshot), None);

        let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host ufrag aaaa";
        snapshot.apply(&Event::Candidate(line.parse().unwrap()));
        snapshot.apply(&Event::GatheringStateChange(GatheringState::Complete));
        let Some(Signal::Candidate(init)) = next(&snapshot) else {
            panic!("no candidate")
        };
        assert_eq!(
            (init.candidate.as_str(), init.username_fragment.as_deref()),
            (line, Some("aaaa"))
        );
        let Some(Signal::EndOfCandidates { username_fragment }) = next(&snapshot) else {
            panic!("no end")
        };
        assert_eq!(username_fragment.as_deref(), Some("aaaa"));
        assert_eq!(next(&snapshot), None);

        // With continual gathering it goes on.
        snapshot.apply(&Event::GatheringStateChange(GatheringState::Gathering));
        snapshot.apply(&Event::CandidateRemoved(line.parse().unwrap()));
        let Some(Signal::CandidateRemoved(init)) = next(&snapshot) else {
            panic!("it is not taken back")
        };
        assert_eq!(init.candidate, line);
        snapshot.apply(&Event::GatheringStateChange(GatheringState::Complete));
        assert!(matches!(
            next(&snapshot),
            Some(Signal::EndOfCandidates { .. })
        ));
        assert_eq!(next(&snapshot), None);

        snapshot.apply(&Event::LocalParameters(parameters("bbbb")));
        let Some(Signal::Description(description)) = next(&snapshot) else {
            panic!("no restart")
        };
        assert_eq!(description.ufrag, "bbbb");
        assert_eq!(next(&snapshot), None);
    }
}
