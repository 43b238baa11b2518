//! What a demo found out: the last JSON line, and whether all went well.

use nilas_ice::{CandidateType, State};
use serde::Serialize;

use crate::output::PairView;

/// How one peer fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) state: Option<State>,
    pub(super) selected: Option<PairView>,
    /// Until data could flow on some pair, in milliseconds since this peer knew both descriptions.
    pub(super) first_path_ms: Option<f64>,
    /// Until the pair was nominated, and the state completed, counted like that.
    pub(super) selected_ms: Option<f64>,
    /// Why there is no connection.
    pub(super) verdict: Option<String>,
    pub(super) echo: Echo,
}

/// Datagrams that went to the other side and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Echo {
    /// Numbered datagrams sent.
    pub(super) sent: u32,
    /// Different ones of them that came back.
    pub(super) received: u32,
}

/// The last line of `nilas demo --json`, schema `nilas.demo/1`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) peers: Vec<PeerReport>,
    pub(super) echo: Echo,
    /// Why it is not ok, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct PeerReport {
    pub(super) name: &'static str,
    /// `connected` where data flows, whether or not better pairs may still be found.
    pub(super) state: State,
    pub(super) local: Option<CandidateType>,
    pub(super) remote: Option<CandidateType>,
    pub(super) first_path_ms: Option<f64>,
    pub(super) selected_ms: Option<f64>,
    pub(super) rtt_ms: Option<f64>,
}

impl Report {
    pub(super) fn new(names: [&'static str; 2], outcomes: &[Outcome; 2]) -> Self {
        let verdict = complaint(names, outcomes);
        let peer = |(name, outcome): (&'static str, &Outcome)| PeerReport {
            name,
            state: match outcome.state {
                Some(state) if state.is_up() => State::Connected,
                state => state.unwrap_or(State::New),
            },
            local: outcome.selected.as_ref().map(|pair| pair.local.kind),
            remote: outcome.selected.as_ref().map(|pair| pair.remote.kind),
            first_path_ms: outcome.first_path_ms,
            selected_ms: outcome.selected_ms,
            rtt_ms: outcome.selected.as_ref().and_then(|pair| pair.rtt_ms),
        };
        let [a, b] = outcomes;
        Self {
            ok: verdict.is_none(),
            peers: names.into_iter().zip(outcomes).map(peer).collect(),
            echo: Echo {
                sent: a.echo.sent + b.echo.sent,
                received: a.echo.received + b.echo.received,
            },
            verdict,
        }
    }
}

/// What is wrong, if anything: a connection counts only with the same pair on both sides, seen from its two
/// ends, and with data both ways.
fn complaint(names: [&str; 2], outcomes: &[Outcome; 2]) -> Option<String> {
    let [a, b] = outcomes;
    if let (Some(State::Failed), Some(State::Failed), Some(verdict), true) =
        (a.state, b.state, &a.verdict, a.verdict == b.verdict)
    {
        return Some(format!("no connection: {verdict}"));
    }
    for (name, outcome) in names.into_iter().zip(outcomes) {
        if !outcome.state.is_some_and(State::is_up) || outcome.selected.is_none() {
            let reason = outcome
                .verdict
                .as_deref()
                .unwrap_or("no pair was selected in time");
            return Some(format!("peer {name} has no connection: {reason}"));
        }
    }
    let [Some(a), Some(b)] = outcomes.each_ref().map(|outcome| outcome.selected.as_ref()) else {
        return None; // Both are there: the loop above has seen to it.
    };
    if !a.mirrors(b) {
        return Some("the two peers selected different pairs".to_owned());
    }
    let silent = names
        .into_iter()
        .zip(outcomes)
        .find(|(_, outcome)| outcome.echo.received == 0);
    silent.map(|(name, _)| format!("nothing that peer {name} sent came back"))
}

#[cfg(test)]
mod tests {
    use nilas_ice::PairState;

    use super::*;
    use crate::output::pairs::Endpoint;

    fn connected(local: &str, remote: &str) -> Outcome {
        let endpoint = |address: &str| Endpoint {
            kind: CandidateType::Host,
            address: address.to_owned(),
        };
        Outcome {
            state: Some(State::Completed),
            selected: Some(PairView {
                id: String::new(),
                local: endpoint(local),
                remote: endpoint(remote),
                state: PairState::Succeeded,
                nominated: true,
                rtt_ms: Some(0.25),
            }),
            first_path_ms: Some(1.5),
            selected_ms: Some(2.5),
            verdict: None,
            echo: Echo {
                sent: 100,
                received: 100,
            },
        }
    }

    #[test]
    fn the_line_is_the_agreed_one() {
        let report = Report::new(["a", "b"], &[connected("x", "y"), connected("y", "x")]);
        assert_eq!(
            serde_json::to_string(&report).expect("plain fields"),
            concat!(
                r#"{"ok":true,"peers":["#,
                r#"{"name":"a","state":"connected","local":"host","remote":"host","first_path_ms":1.5,"selected_ms":2.5,"rtt_ms":0.25},"#,
                r#"{"name":"b","state":"connected","local":"host","remote":"host","first_path_ms":1.5,"selected_ms":2.5,"rtt_ms":0.25}],"#,
                r#""echo":{"sent":200,"received":200}}"#
            )
        );
    }

    #[test]
    fn a_connection_needs_the_same_pair_and_data_both_ways() {
        let verdict =
            |a: Outcome, b: Outcome| Report::new(["a", "b"], &[a, b]).verdict.unwrap_or_default();
        assert_eq!(verdict(connected("x", "y"), connected("y", "x")), "");
        assert!(verdict(connected("x", "y"), connected("z", "x")).contains("different pairs"));
        let mut mute = connected("y", "x");
        mute.echo.received = 0;
        assert!(verdict(connected("x", "y"), mute).contains("peer b"));
        let mut failed = connected("y", "x");
        failed.state = Some(State::Failed);
        failed.verdict = Some("a relay is needed".to_owned());
        assert!(verdict(connected("x", "y"), failed).ends_with("a relay is needed"));
    }
}
