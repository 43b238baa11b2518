//! Events as lines for people.

use console::Style;
use nilas_ice::{CandidateType, PairState, State};

use super::event::{CandidateView, Event};
use super::pairs::{Endpoint, PairView};

/// Styles for one of the standard streams; plain where colours are off (NO_COLOR, or no terminal).
#[derive(Debug)]
pub(super) struct Palette {
    good: Style,
    bad: Style,
    busy: Style,
    dim: Style,
    strong: Style,
}

impl Palette {
    pub(super) fn new(stderr: bool) -> Self {
        let for_stream = |style: Style| {
            if stderr {
                style.for_stderr()
            } else {
                style.for_stdout()
            }
        };
        Self {
            good: for_stream(Style::new().green()),
            bad: for_stream(Style::new().red()),
            busy: for_stream(Style::new().yellow()),
            dim: for_stream(Style::new().dim()),
            strong: for_stream(Style::new().bold()),
        }
    }

    /// The event as a line, with the peer's name before it where there is one.
    pub(super) fn line(&self, peer: Option<&str>, event: &Event) -> String {
        let text = match event {
            Event::Note { text } => text.clone(),
            Event::Code {
                command,
                expires_in_s,
                ..
            } => {
                let holds = expires_in_s
                    .map(|seconds| format!(" (the code holds for {} minutes)", seconds / 60));
                format!(
                    "on the other machine, type{}:\n\n    {}\n",
                    holds.unwrap_or_default(),
                    self.strong.apply_to(command)
                )
            }
            Event::Ticket { ticket } => format!("give this line to the other side:\n\n{ticket}\n"),
            Event::Data { data } => data.clone(),
            Event::Candidate(candidate) => self.candidate(candidate),
            Event::NoNat { server, rtt_ms } => {
                format!(
                    "{server} answers and sees no NAT  {}",
                    self.dim.apply_to(format!("RTT {}", milliseconds(*rtt_ms)))
                )
            }
            Event::ServerError { url, text, .. } => {
                format!("{}  {url}: {text}", self.bad.apply_to("no answer"))
            }
            Event::CandidateError { text } => {
                format!("{}  {text}", self.bad.apply_to("no candidate"))
            }
            Event::Pair(pair) => self.pair(pair, false),
            Event::State { state, verdict } => self.state(*state, verdict.as_deref()),
            Event::Selected { pair, why } => {
                let rtt = pair
                    .rtt_ms
                    .map(|rtt| format!(", RTT {}", milliseconds(rtt)))
                    .unwrap_or_default();
                let ends =
                    self.strong
                        .apply_to(format!("{} ↔ {}", ends(&pair.local), ends(&pair.remote)));
                format!(
                    "{} {ends}{rtt}\n{}",
                    self.good.apply_to("selected"),
                    self.dim.apply_to(format!("    because {why}"))
                )
            }
        };
        match peer {
            None => text,
            Some(peer) => text
                .lines()
                .map(|line| format!("{}  {line}", self.strong.apply_to(peer)))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    fn candidate(&self, candidate: &CandidateView) -> String {
        let mut line = format!(
            "candidate  {:<5}  {}",
            candidate.kind.as_str(),
            candidate.address
        );
        let mut origin = Vec::new();
        if let Some(tcp_type) = candidate.tcp_type {
            origin.push(format!("TCP {tcp_type}"));
        }
        if let Some(base) = &candidate.base {
            origin.push(format!("base {base}"));
        }
        if let Some(server) = &candidate.server {
            let verb = match candidate.kind {
                CandidateType::Relay => "relayed",
                _ => "told",
            };
            origin.push(format!("{verb} by {server}"));
        }
        if let Some(rtt) = candidate.rtt_ms {
            origin.push(format!("RTT {}", milliseconds(rtt)));
        }
        if let Some(found) = candidate.found_ms {
            origin.push(format!("after {}", milliseconds(found)));
        }
        if !origin.is_empty() {
            line.push_str(&format!("  {}", self.dim.apply_to(origin.join(", "))));
        }
        line
    }

    /// A pair as a row; `selected` where data takes it.
    pub(super) fn pair(&self, pair: &PairView, selected: bool) -> String {
        let state = match pair.state {
            _ if selected => self.good.apply_to("selected"),
            PairState::Frozen | PairState::Waiting => self.dim.apply_to("waiting "),
            PairState::InProgress => self.busy.apply_to("checking"),
            PairState::Failed => self.bad.apply_to("failed  "),
            PairState::Succeeded => self.good.apply_to("valid   "),
        };
        let rtt = match pair.rtt_ms {
            Some(rtt) if pair.state == PairState::Succeeded => {
                format!("  {}", self.dim.apply_to(milliseconds(rtt)))
            }
            _ => String::new(),
        };
        format!(
            "{state}  {} → {}{rtt}",
            ends(&pair.local),
            ends(&pair.remote)
        )
    }

    fn state(&self, state: State, verdict: Option<&str>) -> String {
        let style = match state {
            State::Connected | State::Completed => &self.good,
            State::Disconnected | State::Failed => &self.bad,
            State::New | State::Checking | State::Closed => &self.dim,
        };
        let name = format!("{state:?}").to_lowercase();
        match verdict {
            Some(verdict) => format!("{}: {verdict}", style.apply_to(name)),
            None => style.apply_to(name).to_string(),
        }
    }
}

fn ends(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.kind, endpoint.address)
}

/// Milliseconds with as many digits as mean something.
pub(crate) fn milliseconds(value: f64) -> String {
    match value {
        _ if value < 10.0 => format!("{value:.2} ms"),
        _ if value < 100.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use nilas_ice::TcpType;

    use super::*;

    #[test]
    fn a_candidate_says_where_it_comes_from() {
        console::set_colors_enabled(false);
        let candidate = CandidateView {
            kind: CandidateType::Srflx,
            address: "203.0.113.5:40000".to_owned(),
            tcp_type: None,
            base: Some("10.0.0.1:40000".to_owned()),
            server: Some("stun:203.0.113.10:3478".to_owned()),
            rtt_ms: Some(12.34),
            found_ms: None,
            priority: 1,
        };
        let line = |candidate| Palette::new(false).line(Some("a"), &Event::Candidate(candidate));
        assert_eq!(
            line(candidate.clone()),
            "a  candidate  srflx  203.0.113.5:40000  base 10.0.0.1:40000, told by stun:203.0.113.10:3478, RTT 12.3 ms"
        );
        let open = CandidateView {
            tcp_type: Some(TcpType::So),
            base: None,
            server: None,
            rtt_ms: None,
            ..candidate
        };
        assert_eq!(line(open), "a  candidate  srflx  203.0.113.5:40000  TCP so");
    }

    #[test]
    fn digits_are_those_that_mean_something() {
        assert_eq!(milliseconds(0.123), "0.12 ms");
        assert_eq!(milliseconds(40.26), "40.3 ms");
        assert_eq!(milliseconds(1234.5), "1234 ms");
    }
}
