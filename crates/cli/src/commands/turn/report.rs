//! What a test found, for people and for programs.

use std::net::SocketAddr;
use std::time::Duration;

use console::Style;
use nilas_net::dns::ServerTransport;
use nilas_stun::uri::TurnUri;
use serde::Serialize;

use super::probe::{Outcome, Row, Way};

/// The result of `nilas turn test --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) verdict: String,
    pub(super) servers: Vec<ServerReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct ServerReport {
    pub(super) url: String,
    pub(super) ok: bool,
    /// The URL asks for TLS, and it works only without.
    #[serde(skip)]
    lacks_tls: bool,
    /// Why nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    pub(super) transports: Vec<TransportReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct TransportReport {
    pub(super) transport: String,
    pub(super) address: SocketAddr,
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocate_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapped: Option<SocketAddr>,
    relays: Vec<RelayReport>,
}

#[derive(Debug, Serialize)]
struct RelayReport {
    family: &'static str,
    relayed: SocketAddr,
    ok: bool,
    /// What was at the other end: `relay` or `socket`.
    via: &'static str,
    sent: u32,
    received: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_max_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl ServerReport {
    /// A URL that asks for TLS is judged by TLS and DTLS: that the server relays without is no comfort to whoever has it.
    pub(super) fn of(uri: &TurnUri, rows: &[Row]) -> Self {
        let asked = |row: &&Row| !uri.secure || is_secure(row.transport);
        let works = rows.iter().filter(asked).any(Row::works);
        Self {
            url: uri.to_string(),
            ok: works && !rows.iter().any(Row::fails),
            lacks_tls: !works && rows.iter().any(Row::works),
            reason: None,
            transports: rows.iter().map(TransportReport::of).collect(),
        }
    }

    pub(super) const fn unreachable(url: String, reason: String) -> Self {
        Self {
            url,
            ok: false,
            lacks_tls: false,
            reason: Some(reason),
            transports: Vec::new(),
        }
    }

    /// One sentence.
    pub(super) fn verdict(&self) -> String {
        if let Some(reason) = &self.reason {
            return reason.clone();
        }
        let with = |outcome: &str| -> Vec<String> {
            let mut names: Vec<String> = Vec::new();
            for row in self.transports.iter().filter(|row| row.outcome == outcome) {
                let name = row.transport.to_uppercase();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        let works = with("works");
        let mut families: Vec<&str> = Vec::new();
        let relays = self.transports.iter().flat_map(|row| &row.relays);
        for relay in relays.filter(|relay| relay.ok) {
            if !families.contains(&relay.family) {
                families.push(relay.family);
            }
        }
        let mut text = if works.is_empty() {
            "it does not work over any transport".to_owned()
        } else {
            let families = families.join(" and ").replace("ipv", "IPv");
            format!("it works over {}, and relays {families}", listed(&works))
        };
        if self.lacks_tls {
            text.push_str(", but not over TLS or DTLS, which its URL asks for");
        }
        let failed = self.transports.iter().find(|row| row.outcome == "fails");
        // Where nothing works and nothing was asked for by name, why the first did not is what helps.
        let first = works.is_empty().then(|| self.transports.first()).flatten();
        if let Some(row) = failed.or(first) {
            let name = row.transport.to_uppercase();
            let relay_reason = row.relays.iter().find_map(|relay| relay.reason.as_ref());
            if let Some(reason) = row.reason.as_ref().or(relay_reason) {
                text.push_str(&format!("; over {name}: {reason}"));
            }
        }
        text
    }
}

const fn is_secure(transport: ServerTransport) -> bool {
    matches!(transport, ServerTransport::Tls | ServerTransport::Dtls)
}

impl TransportReport {
    fn of(row: &Row) -> Self {
        let mut report = Self {
            transport: row.transport.to_string(),
            address: row.address,
            outcome: if row.works() { "works" } else { "fails" },
            stage: None,
            reason: None,
            connect_ms: None,
            allocate_ms: None,
            mapped: None,
            relays: Vec::new(),
        };
        match &row.outcome {
            Outcome::Unavailable { reason } => {
                report.outcome = "unavailable";
                report.reason = Some(reason.clone());
            }
            Outcome::Failed { stage, reason } => {
                report.stage = Some(stage.to_string());
                report.reason = Some(reason.clone());
            }
            Outcome::Allocated(allocated) => {
                report.connect_ms = Some(milliseconds(allocated.connect));
                report.allocate_ms = Some(milliseconds(allocated.allocate));
                report.mapped = allocated.mapped;
                report.relays = allocated.relays.iter().map(RelayReport::of).collect();
                if !row.works() {
                    report.stage = Some("relay".to_owned());
                }
            }
        }
        report
    }
}

impl RelayReport {
    fn of(carried: &super::probe::Carried) -> Self {
        let echo = carried.echo.as_ref().ok();
        let (sent, received) = echo.map_or((0, 0), |echo| (echo.sent, echo.received));
        let ok = carried.works();
        let lost = || format!("only {received} of {sent} datagrams came back through the relay");
        Self {
            family: if carried.relayed.is_ipv4() {
                "ipv4"
            } else {
                "ipv6"
            },
            relayed: carried.relayed,
            ok,
            via: match carried.way {
                Way::Relay => "relay",
                Way::Socket => "socket",
            },
            sent,
            received,
            rtt_ms: echo.and_then(|echo| echo.median()).map(milliseconds),
            rtt_max_ms: echo.and_then(|echo| echo.slowest()).map(milliseconds),
            reason: match &carried.echo {
                Err(reason) => Some(reason.clone()),
                Ok(_) if !ok => Some(lost()),
                Ok(_) => None,
            },
        }
    }
}

/// The lines for a person, but for the verdict.
pub(super) fn lines(server: &ServerReport) -> Vec<String> {
    let mut lines = vec![Style::new().bold().apply_to(&server.url).to_string()];
    if let Some(reason) = &server.reason {
        lines.push(format!("  {reason}"));
    }
    for row in &server.transports {
        let (word, style) = match row.outcome {
            "works" => ("works", Style::new().green()),
            "fails" => ("FAILS", Style::new().red()),
            _ => ("-", Style::new().dim()),
        };
        let mut line = format!(
            "  {:<4}  {:<5}  {}",
            row.transport,
            style.apply_to(format!("{word:<5}")),
            row.address
        );
        if let (Some(connect), Some(allocate)) = (row.connect_ms, row.allocate_ms) {
            line.push_str(&format!("  connect {connect} ms  allocate {allocate} ms"));
        }
        lines.push(line);
        lines.extend(
            row.reason
                .iter()
                .map(|reason| format!("               {reason}")),
        );
        for relay in &row.relays {
            let mut line = format!("               relay {}", relay.relayed);
            if let (Some(rtt), Some(slowest)) = (relay.rtt_ms, relay.rtt_max_ms) {
                line.push_str(&format!(
                    "  RTT {rtt} ms (at most {slowest} ms)  {} of {} came back",
                    relay.received, relay.sent
                ));
            }
            if relay.via == "socket" {
                line.push_str("  (through a socket of this machine)");
            }
            lines.push(line);
            lines.extend(
                relay
                    .reason
                    .iter()
                    .map(|reason| format!("               {reason}")),
            );
        }
    }
    lines
}

/// Rounded to what is worth reading.
pub(super) fn milliseconds(time: Duration) -> f64 {
    let ms = time.as_secs_f64() * 1e3;
    let digits = if ms < 10.0 { 100.0 } else { 10.0 };
    (ms * digits).round() / digits
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Allocated;
    use super::*;

    #[test]
    fn a_url_that_asks_for_tls_is_judged_by_tls() {
        let row = |transport, works| Row {
            transport,
            address: SocketAddr::from(([192, 0, 2, 1], 3478)),
            outcome: match works {
                true => Outcome::Allocated(Allocated {
                    connect: Duration::ZERO,
                    allocate: Duration::ZERO,
                    mapped: None,
                    relays: Vec::new(),
                }),
                false => Outcome::Unavailable {
                    reason: "nobody answers".into(),
                },
            },
        };
        let plain: TurnUri = "turn:a.example".parse().expect("a URI");
        let secure: TurnUri = "turns:a.example".parse().expect("a URI");
        let judged = |uri, udp, tls| {
            let rows = [
                row(ServerTransport::Udp, udp),
                row(ServerTransport::Tls, tls),
            ];
            ServerReport::of(uri, &rows)
        };
        for (uri, udp, tls, ok) in [
            (&secure, true, false, false),
            (&secure, false, true, true),
            (&secure, false, false, false),
            (&plain, true, false, true),
        ] {
            let report = judged(uri, udp, tls);
            assert_eq!(report.ok, ok, "{uri} {udp} {tls}");
            let says_so = report.verdict().contains("which its URL asks for");
            assert_eq!(says_so, udp && !ok, "{uri} {udp} {tls}");
        }
    }

    #[test]
    fn numbers_and_lists_read_well() {
        assert_eq!(milliseconds(Duration::from_micros(1_234)), 1.23);
        assert_eq!(milliseconds(Duration::from_micros(123_456)), 123.5);
        let names = ["UDP", "TCP", "TLS"].map(str::to_owned);
        assert_eq!(listed(&names), "UDP, TCP and TLS");
        assert_eq!(listed(&names[..1]), "UDP");
    }
}
