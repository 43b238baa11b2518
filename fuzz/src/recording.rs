//! Recordings: any bytes, and real ones that somebody has changed.

use std::sync::OnceLock;

use nilas_ice::{RecordingEnd, RecordingOptions, explain, replay};
use nilas_sim::matrix::{Scenario, Servers};

use crate::choices::Choices;

/// Sessions that differ in what stands in their recordings.
const SESSIONS: [(&str, &str, Servers); 6] = [
    ("open", "open", Servers::None),
    ("plain", "sym", Servers::Stun),
    ("sym", "sym", Servers::TurnUdp),
    ("sym", "plain+udpblock", Servers::Turn),
    ("dual", "v6fw", Servers::TurnTls),
    ("sym", "sym", Servers::Stun),
];
/// Changes after which a recording is no longer what it was.
const MOST_CHANGES: usize = 64;

/// The first byte says which recording is changed, the rest how; past them all, the rest is the recording itself.
/// Whether it plays back to its end, and the same.
pub fn check(data: &[u8]) -> bool {
    let mut choices = Choices::new(data);
    let which = usize::from(choices.byte());
    if which >= 2 * SESSIONS.len() {
        return judge(data.get(1..).unwrap_or_default());
    }
    let mut recording = recordings()[which].clone();
    let mut count = 0;
    while !choices.is_done() && count < MOST_CHANGES && !recording.is_empty() {
        change(&mut recording, &mut choices);
        count += 1;
    }
    judge(&recording)
}

fn change(recording: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let kind = choices.below(5);
    let at = usize::from(choices.number()) % recording.len();
    match kind {
        0 => recording[at] = choices.byte(),
        1 => recording[at] ^= 1 << choices.below(8),
        2 => {
            let end = (at + usize::from(choices.byte())).min(recording.len());
            recording.drain(at..end);
        }
        3 => {
            let end = (at + usize::from(choices.byte())).min(recording.len());
            recording.extend_from_within(at..end);
        }
        _ => {
            let inserted = choices.bytes();
            recording.splice(at..at, inserted.iter().copied());
        }
    }
}

/// Reading it ends without a panic and always the same; what plays to its end can be explained.
fn judge(recording: &[u8]) -> bool {
    let played = replay(recording);
    assert_eq!(played, replay(recording));
    let explained = explain(recording);
    if let Ok(explanation) = &explained {
        // Every agent has a place for what is said of it.
        assert!(explanation.to_string().len() > explanation.agents.len());
        let json = serde_json::to_value(explanation).expect("figures that are finite");
        assert_eq!(
            json["agents"].as_array().map(Vec::len),
            Some(explanation.agents.len())
        );
    }
    played.is_ok_and(|replay| {
        assert!(replay.difference.is_some() || explained.is_ok());
        replay.difference.is_none() && replay.end == RecordingEnd::Whole
    })
}

/// Both peers of each session.
fn recordings() -> &'static [Vec<u8>] {
    static RECORDINGS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    RECORDINGS.get_or_init(|| {
        let sessions = SESSIONS.iter().map(|(a, b, servers)| {
            let words = "words of the simulator";
            let mut scenario = Scenario::new(a.parse().expect(words), b.parse().expect(words));
            scenario.servers = *servers;
            scenario.loss = 0.1;
            let session = scenario.run_recorded(RecordingOptions::default());
            let mut session = session.expect("a world");
            [session.a, session.b].map(|agent| session.world.end_recording(agent.node))
        });
        sessions.flatten().collect()
    })
}
