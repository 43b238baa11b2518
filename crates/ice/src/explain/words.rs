//! The sentences.

use core::fmt;

use serde::Serializer;

use super::{
    Advice, AgentStory, CandidateSource, CandidateStory, Explanation, Outcome, PairEnd, PairStory,
    ServerEnd, Slow,
};
use crate::event::Role;
use crate::io::SendError;

/// Fewer pairs than this are told one by one where nothing came of them.
const MOST_PAIRS: usize = 40;

/// The error's words, for JSON.
pub(super) fn send_error<S: Serializer>(error: &SendError, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match error {
        SendError::Unreachable => "unreachable",
        SendError::PermissionDenied => "permission-denied",
        SendError::TooLarge => "too-large",
        SendError::Other => "other",
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded by nilas {}", self.recorded_by)?;
        if !self.note.is_empty() {
            write!(f, " ({})", self.note)?;
        }
        writeln!(f, ", {:.1} s.", self.until_ms / 1e3)?;
        if !self.complete {
            writeln!(
                f,
                "The end of the recording is missing: what came later is not told here."
            )?;
        }
        if self.agents.is_empty() {
            writeln!(f, "There was no agent.")?;
        }
        for (number, agent) in self.agents.iter().enumerate() {
            writeln!(f)?;
            if self.agents.len() > 1 {
                writeln!(f, "Agent {}", number + 1)?;
            }
            agent.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for AgentStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        if !self.servers.is_empty() {
            writeln!(f, "\nServers:")?;
        }
        for server in &self.servers {
            writeln!(f, "  {} {}", server.url, server.end)?;
        }
        candidates(f, "Own candidates", &self.local_candidates)?;
        candidates(f, "The peer's candidates", &self.remote_candidates)?;
        if !self.pairs.is_empty() {
            writeln!(f, "\nPairs:")?;
        }
        for pair in self.pairs.iter().take(MOST_PAIRS) {
            writeln!(f, "  {pair}")?;
        }
        if let Some(more) = self
            .pairs
            .len()
            .checked_sub(MOST_PAIRS)
            .filter(|more| *more > 0)
        {
            writeln!(f, "  and {more} more")?;
        }
        if !self.slow.is_empty() {
            writeln!(f, "\nWhat was slow:")?;
        }
        for slow in &self.slow {
            writeln!(f, "  - {slow}")?;
        }
        if !self.for_direct.is_empty() {
            writeln!(f, "\nFor a direct path:")?;
        }
        for advice in &self.for_direct {
            writeln!(f, "  - {advice}")?;
        }
        Ok(())
    }
}

impl AgentStory {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Some(Role::Controlling) => "controlling",
            Some(Role::Controlled) => "controlled",
            None => "of no role",
        };
        let how = |relayed: bool| match relayed {
            true => "by way of a relay",
            false => "directly",
        };
        match (self.outcome, &self.path) {
            (Outcome::Connected { relayed }, Some(path)) => {
                write!(
                    f,
                    "This side ({role}) was connected {} after {}: from {} {} to {} {}",
                    how(relayed),
                    ms(path.first_path_ms),
                    path.local_type,
                    path.local,
                    path.remote_type,
                    path.remote
                )?;
                if let Some(round_trip) = path.round_trip_ms {
                    write!(f, ", {} there and back", ms(round_trip))?;
                }
                write!(f, ".")?;
                match path.nominated_ms {
                    Some(nominated) => write!(f, " It was settled after {}.", ms(nominated))?,
                    None => write!(f, " No pair was nominated.")?,
                }
            }
            (Outcome::Lost { relayed }, Some(path)) => write!(
                f,
                "This side ({role}) was connected {} after {}, from {} {} to {} {}, and lost the path: {}.",
                how(relayed),
                ms(path.first_path_ms),
                path.local_type,
                path.local,
                path.remote_type,
                path.remote,
                self.last_verdict()
            )?,
            (Outcome::Failed { verdict }, _) => {
                write!(f, "This side ({role}) found no path: {verdict}.")?;
            }
            (Outcome::OnlyGathered, _) => write!(
                f,
                "This side ({role}) gathered its candidates; the peer's description never came."
            )?,
            _ => write!(
                f,
                "This side ({role}) had no path yet when the session or the recording ended."
            )?,
        }
        match self.restarts {
            0 => writeln!(f),
            1 => writeln!(f, " ICE was restarted once."),
            times => writeln!(f, " ICE was restarted {times} times."),
        }
    }

    fn last_verdict(&self) -> String {
        let verdict = self.states.iter().rev().find_map(|told| told.verdict);
        verdict.map_or_else(
            || String::from("nothing says why"),
            |verdict| verdict.to_string(),
        )
    }
}

fn candidates(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    candidates: &[CandidateStory],
) -> fmt::Result {
    if candidates.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    for candidate in candidates {
        writeln!(f, "  {candidate}")?;
    }
    Ok(())
}

impl fmt::Display for CandidateStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, address, at) = (self.kind, &self.address, ms(self.at_ms));
        match &self.source {
            CandidateSource::Machine => {
                write!(
                    f,
                    "{kind} {address}: an address of this machine, after {at}"
                )
            }
            CandidateSource::Server { url } => {
                write!(f, "{kind} {address}: told by {url} after {at}")
            }
            CandidateSource::Gateway => {
                write!(f, "{kind} {address}: forwarded by the gateway after {at}")
            }
            CandidateSource::PeerAnswer => write!(
                f,
                "{kind} {address}: where the peer sees this side, after {at}"
            ),
            CandidateSource::Signaling => {
                write!(f, "{kind} {address}: brought by signaling after {at}")
            }
            CandidateSource::Check => {
                write!(f, "{kind} {address}: a check came from there after {at}")
            }
            CandidateSource::Refused { reason } => write!(
                f,
                "{kind} {address}: brought by signaling after {at} and refused: {reason}"
            ),
        }?;
        match self.removed_ms {
            Some(at) => write!(f, ", and taken back after {}", ms(at)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ServerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { at_ms } => write!(f, "told an address after {}", ms(*at_ms)),
            Self::Unreachable { text } => write!(f, "was of no use: {text}"),
            Self::Refused { code, text } => write!(f, "refused: {code} {text}"),
            Self::NothingNew => f.write_str("told nothing that was not known"),
            Self::Open => f.write_str("had not answered when the session or the recording ended"),
        }
    }
}

impl fmt::Display for PairStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relay = match self.local_relayed {
            true => "relay ",
            false => "",
        };
        write!(
            f,
            "{relay}{} to {} {}",
            self.local, self.remote_type, self.remote
        )?;
        if self.tcp {
            write!(f, " over TCP")?;
        }
        if self.generation > 0 {
            write!(f, " (restart {})", self.generation)?;
        }
        write!(f, ": {}", self.end)?;
        match (self.checked_ms, self.worked_ms) {
            (Some(checked), Some(worked)) => write!(
                f,
                "; checked after {}, worked after {}{}",
                ms(checked),
                ms(worked),
                checks(self.checks)
            ),
            (Some(checked), None) => {
                write!(f, "; checked after {}{}", ms(checked), checks(self.checks))
            }
            _ => Ok(()),
        }
    }
}

fn checks(count: u32) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!(", {count} checks"),
    }
}

impl fmt::Display for PairEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selected => "carried the data to the end",
            Self::Replaced => "carried data until another took over",
            Self::Died => "carried data until it stopped answering",
            Self::NotNeeded => "worked, and was not needed",
            Self::NoAnswer => "nothing answered",
            Self::OneWay => "the peer's checks came, and nothing answered ours",
            Self::Rejected => "what came was no good answer",
            Self::RelayRefused => "the relay refuses to relay there",
            Self::SendRefused {
                error: SendError::Unreachable,
            } => "the system has no way there",
            Self::SendRefused {
                error: SendError::PermissionDenied,
            } => "a firewall of this machine forbids it",
            Self::SendRefused { .. } => "the system refused to send",
            Self::NotChecked => "was never checked, because it was over before",
            Self::Unfinished => "had no answer when it was over",
        })
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, took_ms } => {
                write!(
                    f,
                    "it took {} to find the addresses of {name}",
                    ms(*took_ms)
                )
            }
            Self::Connection { host, took_ms } => {
                write!(
                    f,
                    "it took {} to connect to {host}, or to give that up",
                    ms(*took_ms)
                )
            }
            Self::Server { url, took_ms } => {
                write!(f, "{url} told its address after {} only", ms(*took_ms))
            }
            Self::Signaling { took_ms } => {
                write!(f, "the peer's description came after {} only", ms(*took_ms))
            }
            Self::Candidate { address, took_ms } => write!(
                f,
                "the peer's candidate {address}, which worked first, came {} after its description",
                ms(*took_ms)
            ),
            Self::Checks { checks, took_ms } => write!(
                f,
                "{checks} checks and {} were needed until the first path answered: packets were lost, or the other \
                 side was not ready",
                ms(*took_ms)
            ),
            Self::Outage { at_ms, took_ms } => {
                write!(
                    f,
                    "after {} there was no path for {}",
                    ms(*at_ms),
                    ms(*took_ms)
                )
            }
            Self::GivingUp { took_ms } => write!(
                f,
                "it was given up after {}: RFC 8863 asks for patience",
                ms(*took_ms)
            ),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowDirect => f.write_str("this agent was told to use relays only: allow it more"),
            Self::LocalAddress => f.write_str(
                "this machine has no address to use: bring an interface up, or let the filter admit one",
            ),
            Self::Signaling => f.write_str(
                "the peer's description or candidates did not come: look at the signaling, and at the peer",
            ),
            Self::AddStunServer => f.write_str(
                "this side has no public address and no server to tell it one: configure a STUN server",
            ),
            Self::FixServer { url } => write!(
                f,
                "{url} did not answer, while others did: correct or replace it"
            ),
            Self::LetUdpOut => f.write_str(
                "nothing at all came back over UDP: a firewall on this side has to let UDP out, or the servers are wrong",
            ),
            Self::PeerStunServer => f.write_str(
                "the peer told private addresses only: it needs a STUN server, too, or UDP to it",
            ),
            Self::CommonFamily => {
                f.write_str("one side needs an address of the other's family (IPv4 or IPv6)")
            }
            Self::LocalNat => f.write_str(
                "the NAT of this side gives each destination another port: it has to keep one for all (RFC 4787 REQ-1), or \
                 forward one",
            ),
            Self::RemoteNat => f.write_str(
                "the NAT of the peer gives each destination another port: it has to keep one for all (RFC 4787 REQ-1), or \
                 forward one",
            ),
            Self::EitherNat => f.write_str(
                "the NATs or firewalls between the two sides let nothing of the other side in: one of them has to, by a \
                 forwarded port or by filtering less",
            ),
            Self::Ipv6 => f.write_str("with IPv6 on both sides no NAT would be in between"),
            Self::OneWay => f.write_str(
                "the peer's packets arrive, and ours do not reach it: something near the peer drops them",
            ),
            Self::PeerBack => f.write_str(
                "nothing in the network: it worked, until the peer or the way to it was gone",
            ),
        }
    }
}

/// Milliseconds, or seconds where they are many.
fn ms(milliseconds: f64) -> String {
    match milliseconds {
        few if few < 1_000.0 => format!("{few:.0} ms"),
        many => format!("{:.1} s", many / 1_000.0),
    }
}
