//! The ends of a path by their kinds, and which of them are expected.

use core::fmt;
use core::str::FromStr;

use nilas_ice::{CandidateType, SelectedPair, Transport};

/// The kinds of a selected pair, as the first peer names them: its own, then the other's.
///
/// Written `srflx>prflx`, over TCP `tcp:prflx>host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a path has two ends")]
pub struct Ends {
    /// The first peer's own candidate, as its mapped address names it (RFC 8445 section 7.2.5.3.2).
    pub local: CandidateType,
    /// The other peer's candidate.
    pub remote: CandidateType,
    /// Whether it is a connection between the peers (RFC 6544).
    pub tcp: bool,
}

impl Ends {
    /// The kinds of a pair as its agent tells it.
    pub const fn of(pair: &SelectedPair) -> Self {
        Self {
            local: pair.local.kind,
            remote: pair.remote.kind,
            tcp: matches!(pair.local.transport, Transport::Tcp(_)),
        }
    }

    /// The same path named by the other peer.
    pub const fn mirrored(self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
            tcp: self.tcp,
        }
    }

    /// Whether the data goes through a relay.
    pub const fn is_relayed(self) -> bool {
        matches!(self.local, CandidateType::Relay) || matches!(self.remote, CandidateType::Relay)
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.tcp { "tcp:" } else { "" };
        write!(f, "{transport}{}>{}", self.local, self.remote)
    }
}

/// What a session is to come to: no path, or a path whose kinds are among these.
///
/// Written `none`, or alternatives such as `srflx>prflx|srflx>srflx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Vec<Ends>);

impl Expected {
    /// No path is possible.
    pub const NONE: Self = Self(Vec::new());

    /// Whether a session came to what is expected.
    ///
    /// Where the network loses datagrams, a check may be lost that would have named an end otherwise,
    /// or one may come late and find a way that both sides' haste would have closed. Then a path only has to be
    /// there, and as direct as the expected one.
    pub fn is_met_by(&self, got: Option<Ends>, lossless: bool) -> bool {
        match got {
            None => self.0.is_empty(),
            Some(ends) if lossless => self.0.contains(&ends),
            Some(ends) => !ends.is_relayed() || self.is_relayed(),
        }
    }

    /// What is left of it where there are no relays.
    pub fn without_relays(&self) -> Self {
        Self(
            self.0
                .iter()
                .copied()
                .filter(|ends| !ends.is_relayed())
                .collect(),
        )
    }

    /// Whether no path is expected.
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the data is expected to go through a relay.
    pub fn is_relayed(&self) -> bool {
        self.0.iter().any(|ends| ends.is_relayed())
    }

    /// The same expectation as the other peer words it.
    pub fn mirrored(&self) -> Self {
        Self(self.0.iter().map(|ends| ends.mirrored()).collect())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("none");
        };
        write!(f, "{first}")?;
        others.iter().try_for_each(|ends| write!(f, "|{ends}"))
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let ends = |word: &str| {
            let (tcp, ends) = match word.strip_prefix("tcp:") {
                Some(ends) => (true, ends),
                None => (false, word),
            };
            let (local, remote) = ends.split_once('>')?;
            Some(Ends {
                local: kind(local)?,
                remote: kind(remote)?,
                tcp,
            })
        };
        text.split('|')
            .map(|word| {
                ends(word).ok_or_else(|| format!("`{word}` names no path, such as srflx>host"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn kind(word: &str) -> Option<CandidateType> {
    use CandidateType::{Host, Prflx, Relay, Srflx};
    [Host, Srflx, Prflx, Relay]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(text: &str) -> Expected {
        text.parse().expect(text)
    }

    #[test]
    fn an_expectation_is_read_and_written_back() {
        for text in [
            "none",
            "host>host",
            "srflx>prflx|srflx>srflx",
            "tcp:prflx>host",
        ] {
            assert_eq!(expected(text).to_string(), text);
        }
        for wrong in ["", "host", "host>", "host>host|", "lan>host"] {
            assert!(wrong.parse::<Expected>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lossless_network_has_no_excuse() {
        let ends = |text| expected(text).0[0];
        let wanted = expected("srflx>prflx");
        assert!(wanted.is_met_by(Some(ends("srflx>prflx")), true));
        assert!(!wanted.is_met_by(Some(ends("srflx>srflx")), true));
        assert!(wanted.is_met_by(Some(ends("srflx>srflx")), false));
        assert!(!wanted.is_met_by(Some(ends("srflx>relay")), false));
        assert!(!wanted.is_met_by(None, false));
        assert!(Expected::NONE.is_met_by(None, true));
        assert!(!Expected::NONE.is_met_by(Some(ends("host>host")), true));
        assert!(expected("srflx>relay").is_met_by(Some(ends("srflx>srflx")), false));
    }
}
