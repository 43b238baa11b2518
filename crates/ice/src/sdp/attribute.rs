//! The attributes of RFC 8839 in a session description, one line at a time.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use std::borrow::Cow;

use crate::candidate::Candidate;
use crate::candidate_line::{self, CandidateError};
use crate::parameters::{Parameters, is_ice_char};

/// What RFC 8839 sections 4.2.1.3, 4.2.1.4 and 4.2.1.5 encode: one attribute of its section 5, or `end-of-candidates` of RFC 8840 section 8.
///
/// `Display` writes it without `a=`; `FromStr` reads it with or without, its name in any case (RFC 8840 section 9.2).
///
/// ```
/// use nilas_ice::Attribute;
/// let attribute: Attribute = "a=ice-options:ice2 trickle".parse()?;
/// assert_eq!(attribute, Attribute::IceOptions(vec!["ice2".into(), "trickle".into()]));
/// assert_eq!(attribute.to_string(), "ice-options:ice2 trickle");
/// # Ok::<(), nilas_ice::AttributeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// RFC 8839 section 5.1.
    Candidate(Candidate),
    /// RFC 8839 section 5.2: the remote candidates that the offerer has selected.
    RemoteCandidates(Vec<RemoteCandidate>),
    /// RFC 8839 section 5.3: the agent is a lite implementation.
    IceLite,
    /// RFC 8839 section 5.3: the default destination matches no candidate.
    IceMismatch,
    /// RFC 8839 section 5.4: the username fragment.
    IceUfrag(String),
    /// RFC 8839 section 5.4: the password.
    IcePwd(Secret),
    /// RFC 8839 section 5.5: the pacing wanted, in milliseconds.
    IcePacing(u32),
    /// RFC 8839 section 5.6: the options.
    IceOptions(Vec<Cow<'static, str>>),
    /// RFC 8840 section 8: no more candidates follow.
    EndOfCandidates,
}

/// An entry of `remote-candidates` (RFC 8839 section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// The component, 1 to 256.
    pub component: u16,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// A password: it stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Parameters {
    /// The attributes that say these parameters, in the order of RFC 8839 section 5.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute> + use<> {
        [
            self.lite.then_some(Attribute::IceLite),
            Some(Attribute::IceUfrag(self.ufrag.clone())),
            Some(Attribute::IcePwd(Secret(self.pwd.clone()))),
            self.pacing.map(Attribute::IcePacing),
            (!self.options.is_empty()).then(|| Attribute::IceOptions(self.options.clone())),
        ]
        .into_iter()
        .flatten()
    }

    /// Takes over what an attribute says about the parameters; false if it says nothing about them.
    pub fn apply(&mut self, attribute: &Attribute) -> bool {
        match attribute {
            Attribute::IceLite => self.lite = true,
            Attribute::IceUfrag(ufrag) => self.ufrag.clone_from(ufrag),
            Attribute::IcePwd(pwd) => self.pwd.clone_from(&pwd.0),
            Attribute::IcePacing(pacing) => self.pacing = Some(*pacing),
            Attribute::IceOptions(options) => self.options.clone_from(options),
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(candidate) => candidate.fmt(f),
            Self::RemoteCandidates(candidates) => {
                f.write_str("remote-candidates:")?;
                for (index, candidate) in candidates.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(
                        f,
                        "{gap}{} {} {}",
                        candidate.component, candidate.address, candidate.port
                    )?;
                }
                Ok(())
            }
            Self::IceLite => f.write_str("ice-lite"),
            Self::IceMismatch => f.write_str("ice-mismatch"),
            Self::IceUfrag(ufrag) => write!(f, "ice-ufrag:{ufrag}"),
            Self::IcePwd(pwd) => write!(f, "ice-pwd:{}", pwd.0),
            Self::IcePacing(milliseconds) => write!(f, "ice-pacing:{milliseconds}"),
            Self::IceOptions(options) => {
                f.write_str("ice-options:")?;
                for (index, option) in options.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(f, "{gap}{option}")?;
                }
                Ok(())
            }
            Self::EndOfCandidates => f.write_str("end-of-candidates"),
        }
    }
}

impl FromStr for Attribute {
    type Err = AttributeError;

    fn from_str(line: &str) -> Result<Self, AttributeError> {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = line.strip_prefix("a=").unwrap_or(line);
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        let known = NAMES.iter().find(|known| name.eq_ignore_ascii_case(known));
        match (known.copied().unwrap_or_default(), value) {
            ("candidate", Some(value)) => candidate_line::read(value)
                .map(Self::Candidate)
                .map_err(AttributeError::Candidate),
            ("remote-candidates", Some(value)) => remote_candidates(value),
            ("ice-lite", None) => Ok(Self::IceLite),
            ("ice-mismatch", None) => Ok(Self::IceMismatch),
            ("ice-ufrag", Some(value)) if is_credential(value, 4) => {
                Ok(Self::IceUfrag(value.into()))
            }
            ("ice-pwd", Some(value)) if is_credential(value, 22) => {
                Ok(Self::IcePwd(Secret(value.into())))
            }
            ("ice-pacing", Some(value)) => pacing(value),
            ("ice-options", Some(value)) => options(value),
            ("end-of-candidates", None) => Ok(Self::EndOfCandidates),
            ("ice-ufrag", Some(_)) => Err(AttributeError::Value("ice-ufrag")),
            ("ice-pwd", Some(_)) => Err(AttributeError::Value("ice-pwd")),
            (
                "candidate" | "remote-candidates" | "ice-ufrag" | "ice-pwd" | "ice-pacing"
                | "ice-options",
                None,
            )
            | ("ice-lite" | "ice-mismatch" | "end-of-candidates", Some(_)) => {
                Err(AttributeError::Form)
            }
            _ => Err(AttributeError::NotIce),
        }
    }
}

const NAMES: [&str; 9] = [
    "candidate",
    "remote-candidates",
    "ice-lite",
    "ice-mismatch",
    "ice-ufrag",
    "ice-pwd",
    "ice-pacing",
    "ice-options",
    "end-of-candidates",
];

fn is_credential(value: &str, least: usize) -> bool {
    (least..=256).contains(&value.len()) && value.bytes().all(is_ice_char)
}

/// `1*10DIGIT`.
fn pacing(value: &str) -> Result<Attribute, AttributeError> {
    if value.len() > 10 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AttributeError::Value("ice-pacing"));
    }
    value
        .parse()
        .map(Attribute::IcePacing)
        .map_err(|_| AttributeError::Value("ice-pacing"))
}

/// `ice-option-tag *(SP ice-option-tag)`, each of ice-chars; `-` is met in the wild as well.
fn options(value: &str) -> Result<Attribute, AttributeError> {
    let is_tag =
        |tag: &str| !tag.is_empty() && tag.bytes().all(|byte| is_ice_char(byte) || byte == b'-');
    if value.len() > 1024 || !value.split(' ').all(is_tag) {
        return Err(AttributeError::Value("ice-options"));
    }
    Ok(Attribute::IceOptions(
        value.split(' ').map(|tag| tag.to_owned().into()).collect(),
    ))
}

fn remote_candidates(value: &str) -> Result<Attribute, AttributeError> {
    let wrong = AttributeError::Value("remote-candidates");
    let fields: Vec<&str> = value.split(' ').take(3 * 256 + 1).collect();
    let (entries, rest) = fields.as_chunks::<3>();
    if !rest.is_empty() || entries.len() > 256 {
        return Err(wrong);
    }
    let mut candidates = Vec::with_capacity(entries.len());
    for [component, address, port] in entries {
        let component = component
            .parse()
            .ok()
            .filter(|component| (1..=256).contains(component));
        match (component, address.parse(), port.parse()) {
            (Some(component), Ok(address), Ok(port)) => {
                candidates.push(RemoteCandidate {
                    component,
                    address,
                    port,
                });
            }
            _ => return Err(wrong),
        }
    }
    Ok(Attribute::RemoteCandidates(candidates))
}

/// Why a line is no attribute of ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeError {
    /// It is an attribute, or a line, of something else: keep it as it is.
    NotIce,
    /// It has a value and must not, or the other way round.
    Form,
    /// The value of this attribute breaks the grammar.
    Value(&'static str),
    /// The candidate breaks the grammar.
    Candidate(CandidateError),
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIce => f.write_str("not an attribute of ICE"),
            Self::Form => f.write_str("the attribute has a value and must not, or lacks one"),
            Self::Value(name) => write!(f, "the value of {name} is not valid"),
            Self::Candidate(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AttributeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        for line in [
            "candidate:1 1 udp 2130706431 203.0.113.141 8998 typ host",
            "remote-candidates:1 192.0.2.3 45664 2 192.0.2.3 45665",
            "ice-lite",
            "ice-mismatch",
            "ice-ufrag:8hhY",
            "ice-pwd:asd88fgpdd777uzjYhagZg",
            "ice-pacing:50",
            "ice-options:ice2 rtp+ecn",
            "end-of-candidates",
        ] {
            assert_eq!(
                line.parse::<Attribute>().map(|a| a.to_string()).as_deref(),
                Ok(line)
            );
            assert_eq!(format!("a={line}\r\n").parse::<Attribute>(), line.parse());
            let (name, value) = line.split_at(line.find(':').unwrap_or(line.len()));
            let shouted = format!("{}{value}", name.to_ascii_uppercase());
            assert_eq!(shouted.parse::<Attribute>(), line.parse());
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_named() {
        for (line, error) in [
            ("a=ice-ufrag:abc", AttributeError::Value("ice-ufrag")),
            ("a=ice-ufrag:ab cd", AttributeError::Value("ice-ufrag")),
            ("a=ice-pwd:tooshort", AttributeError::Value("ice-pwd")),
            (
                "a=ice-pacing:12345678901",
                AttributeError::Value("ice-pacing"),
            ),
            ("a=ice-pacing:-1", AttributeError::Value("ice-pacing")),
            ("a=ice-options:", AttributeError::Value("ice-options")),
            ("a=ice-options:a  b", AttributeError::Value("ice-options")),
            ("a=ice-lite:1", AttributeError::Form),
            ("a=ice-ufrag", AttributeError::Form),
            (
                "a=remote-candidates:1 192.0.2.3",
                AttributeError::Value("remote-candidates"),
            ),
            (
                "a=remote-candidates:0 192.0.2.3 5",
                AttributeError::Value("remote-candidates"),
            ),
            ("a=rtpmap:0 PCMU/8000", AttributeError::NotIce),
            ("m=audio 1 RTP/AVP 0", AttributeError::NotIce),
            (
                "a=candidate:1",
                AttributeError::Candidate(CandidateError::Missing("component-id")),
            ),
        ] {
            assert_eq!(line.parse::<Attribute>(), Err(error), "{line}");
        }
    }

    #[test]
    fn parameters_go_through_their_attributes() {
        let mut parameters = Parameters::new("8hhY", "asd88fgpdd777uzjYhagZg");
        parameters.options = vec!["ice2".into()];
        parameters.pacing = Some(10);
        parameters.lite = true;
        let mut copy = Parameters::new("", "");
        for attribute in parameters.attributes() {
            let read: Attribute = attribute.to_string().parse().expect("an attribute");
            assert!(copy.apply(&read));
            assert!(
                !format!("{read:?}").contains("asd88"),
                "a password in a log"
            );
        }
        assert_eq!(copy, parameters);
        assert!(!copy.apply(&Attribute::EndOfCandidates));
    }
}
