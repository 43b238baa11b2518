//! How a peer reaches the internet, as one word.

use core::fmt;
use core::str::FromStr;

use crate::nat::{Dependence, Nat};

/// What stands between a peer and the internet.
///
/// The words are those of the laboratory of kernel NATs: `open`, `eim-apdf`, `cgn:plain:sym`, ...
///
/// ```
/// use nilas_sim::matrix::Access;
/// let access: Access = "cgn:plain:eim-apdf+hairpin".parse()?;
/// assert_eq!(access.to_string(), "cgn:eim-apdf:eim-apdf+hairpin");
/// let error = "plane".parse::<Access>().unwrap_err();
/// assert!(error.to_string().starts_with("no kind of access is called `plane`"));
/// # Ok::<(), nilas_sim::matrix::AccessError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// `open`: a public IPv4 address, no NAT, no firewall.
    Open,
    /// One NAT: `MAPPING-FILTERING`, or `plain` (eim-apdf) or `sym` (apdm-apdf).
    Nat(Nat),
    /// `cgn:INNER:OUTER`: a home router behind a carrier's NAT.
    Cgn {
        /// The home router's NAT.
        inner: Nat,
        /// The carrier's NAT.
        outer: Nat,
    },
    /// `same`: on the other peer's home network (the second peer only).
    Same,
    /// `samecgn`: a home router of its own behind the other peer's carrier (the second peer only).
    SameCgn,
}

impl Access {
    /// Whether the other peer's access makes no difference to how this one is built.
    pub(crate) const fn stands_alone(self) -> bool {
        !matches!(self, Self::Same | Self::SameCgn)
    }
}

/// Why a word is no kind of access.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// No kind has this name.
    Unknown(String),
    /// `cgn:` without two NATs after it.
    Cgn(String),
    /// No flag has this name, or this kind has no use for it.
    Flag(String),
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(
                f,
                "no kind of access is called `{word}`: use open, plain, sym, {{eim,adm,apdm}}-{{eif,adf,apdf}}, cgn:INNER:OUTER, same or samecgn"
            ),
            Self::Cgn(word) => write!(
                f,
                "`{word}` needs two NATs, the home router's and the carrier's, such as cgn:plain:sym"
            ),
            Self::Flag(word) => write!(
                f,
                "`+{word}` is no flag of this kind: a NAT takes +hairpin, others take none"
            ),
        }
    }
}

impl std::error::Error for AccessError {}

impl FromStr for Access {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let (kind, flag) = match text.split_once('+') {
            Some((kind, flag)) => (kind, Some(flag)),
            None => (text, None),
        };
        let mut access = parse_kind(kind)?;
        match (flag, &mut access) {
            (None, _) => {}
            (Some("hairpin"), Self::Nat(nat) | Self::Cgn { outer: nat, .. }) => nat.hairpin = true,
            (Some(flag), _) => return Err(AccessError::Flag(flag.to_owned())),
        }
        Ok(access)
    }
}

fn parse_kind(kind: &str) -> Result<Access, AccessError> {
    if let Some(nats) = kind.strip_prefix("cgn:") {
        let broken = || AccessError::Cgn(kind.to_owned());
        let (inner, outer) = nats.split_once(':').ok_or_else(broken)?;
        return Ok(Access::Cgn {
            inner: parse_nat(inner).ok_or_else(broken)?,
            outer: parse_nat(outer).ok_or_else(broken)?,
        });
    }
    Ok(match kind {
        "open" => Access::Open,
        "same" => Access::Same,
        "samecgn" => Access::SameCgn,
        _ => Access::Nat(parse_nat(kind).ok_or_else(|| AccessError::Unknown(kind.to_owned()))?),
    })
}

/// A NAT by its word; it does not hairpin unless a flag says so.
fn parse_nat(word: &str) -> Option<Nat> {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let (mapping, filtering) = match word {
        "plain" => ("eim", "apdf"),
        "sym" => ("apdm", "apdf"),
        _ => word.split_once('-')?,
    };
    let mapping = match mapping {
        "eim" => EndpointIndependent,
        "adm" => AddressDependent,
        "apdm" => AddressAndPortDependent,
        _ => return None,
    };
    let filtering = match filtering {
        "eif" => EndpointIndependent,
        "adf" => AddressDependent,
        "apdf" => AddressAndPortDependent,
        _ => return None,
    };
    let mut nat = Nat::new(mapping, filtering);
    nat.hairpin = false;
    Some(nat)
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hairpin = |nat: &Nat| if nat.hairpin { "+hairpin" } else { "" };
        match self {
            Self::Open => f.write_str("open"),
            Self::Nat(nat) => write!(f, "{}{}", NatWord(nat), hairpin(nat)),
            Self::Cgn { inner, outer } => {
                write!(
                    f,
                    "cgn:{}:{}{}",
                    NatWord(inner),
                    NatWord(outer),
                    hairpin(outer)
                )
            }
            Self::Same => f.write_str("same"),
            Self::SameCgn => f.write_str("samecgn"),
        }
    }
}

struct NatWord<'a>(&'a Nat);

impl fmt::Display for NatWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.mapping {
            Dependence::EndpointIndependent => "eim-",
            Dependence::AddressDependent => "adm-",
            Dependence::AddressAndPortDependent => "apdm-",
        })?;
        f.write_str(match self.0.filtering {
            Dependence::EndpointIndependent => "eif",
            Dependence::AddressDependent => "adf",
            Dependence::AddressAndPortDependent => "apdf",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_back() {
        for word in [
            "open",
            "same",
            "samecgn",
            "eim-eif",
            "adm-adf",
            "apdm-apdf+hairpin",
            "cgn:eim-eif:apdm-apdf",
        ] {
            let access: Access = word.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(access.to_string(), word);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_word() {
        for (word, reason) in [
            ("", "no kind of access is called ``"),
            ("eim", "no kind of access is called `eim`"),
            ("eim-xxx", "no kind of access is called `eim-xxx`"),
            ("cgn:plain", "`cgn:plain` needs two NATs"),
            ("cgn:plain:open", "`cgn:plain:open` needs two NATs"),
            ("open+hairpin", "`+hairpin` is no flag"),
            ("plain+mirror", "`+mirror` is no flag"),
        ] {
            let error = word.parse::<Access>().expect_err(word).to_string();
            assert!(error.starts_with(reason), "{word}: {error}");
        }
    }
}
