//! What peers tell each other: a description before any candidate, and everything in its order (RFC 8838 sections 4
//! and 17). A rendezvous server relays it without a look.

use core::fmt;

use serde::{Deserialize, Serialize};

/// One thing that a peer tells the other.
///
/// As JSON, an object with a `type`: `description`, `candidate`, `candidate_removed` or `end_of_candidates`. Fields that are
/// not known are ignored, and so are signals of a type that is not known ([`Signal::Unknown`]), so that
/// later versions can say more.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// The parameters of a generation. They come before the first candidate of that generation; new
    /// ones later are a restart (RFC 8445 section 9).
    Description(Description),
    /// A candidate, as it is found (RFC 8838 section 9).
    Candidate(CandidateInit),
    /// A candidate whose address is gone; sent only where both sides offer the ice-option `continual`.
    CandidateRemoved(CandidateInit),
    /// No more candidates of this generation will come (RFC 8838 section 13).
    EndOfCandidates {
        /// The generation that it belongs to.
        #[serde(
            rename = "usernameFragment",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        username_fragment: Option<String>,
    },
    /// Something that this version does not know. Ignore it.
    #[serde(other)]
    Unknown,
}

impl fmt::Debug for Signal {
    /// Credentials stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description(description) => description.fmt(f),
            Self::Candidate(candidate) => candidate.fmt(f),
            Self::CandidateRemoved(candidate) => {
                f.debug_tuple("CandidateRemoved").field(candidate).finish()
            }
            Self::EndOfCandidates { .. } => f.write_str("EndOfCandidates"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

/// ICE parameters of one generation (RFC 8839 section 5.4), in plain strings; whoever uses them checks them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
    /// The options offered, such as `ice2` and `trickle` (RFC 8839 section 5.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The pacing wanted, in milliseconds (RFC 8839 section 5.5). Absent: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<u32>,
    /// Whether the sender is a lite implementation (RFC 8839 section 5.3).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub lite: bool,
    /// The username fragment of the description that this one answers. Absent where it is told unasked, and from a peer
    /// that does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
}

impl Description {
    /// A description with these credentials and nothing else.
    pub fn new(ufrag: impl Into<String>, pwd: impl Into<String>) -> Self {
        Self {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
            ..Self::default()
        }
    }
}

impl fmt::Debug for Description {
    /// The credentials stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("options", &self.options)
            .field("pacing", &self.pacing)
            .field("lite", &self.lite)
            .finish_non_exhaustive()
    }
}

/// W3C's RTCIceCandidateInit.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CandidateInit {
    /// The candidate attribute, `candidate:…` (RFC 8839 section 5.1).
    pub candidate: String,
    /// The media stream identification tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    /// The index of the media description.
    #[serde(
        rename = "sdpMLineIndex",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub sdp_m_line_index: Option<u16>,
    /// The generation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

impl CandidateInit {
    /// The candidate of this line, `candidate:…`, and nothing else.
    pub fn new(candidate: impl Into<String>) -> Self {
        Self {
            candidate: candidate.into(),
            ..Self::default()
        }
    }
}

impl fmt::Debug for CandidateInit {
    /// The username fragment stays out of logs, also the one that the line may end in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self.candidate.split_once(" ufrag ") {
            Some((before, _)) => before,
            None => &self.candidate,
        };
        f.debug_struct("CandidateInit")
            .field("candidate", &line)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_w3c_s() {
        let mut candidate = CandidateInit::new("candidate:1 1 udp 1 192.0.2.1 9 typ host");
        candidate.sdp_mid = Some("0".into());
        candidate.sdp_m_line_index = Some(0);
        candidate.username_fragment = Some("abcd".into());
        assert_eq!(
            serde_json::to_string(&Signal::Candidate(candidate)).unwrap(),
            r#"{"type":"candidate","candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"abcd"}"#
        );
        let end = Signal::EndOfCandidates {
            username_fragment: None,
        };
        assert_eq!(
            serde_json::to_string(&end).unwrap(),
            r#"{"type":"end_of_candidates"}"#
        );
        let description = Signal::Description(Description::new("abcd", "0123456789012345678901"));
        assert_eq!(
            serde_json::to_string(&description).unwrap(),
            r#"{"type":"description","ufrag":"abcd","pwd":"0123456789012345678901"}"#
        );
    }

    #[test]
    fn what_is_not_known_is_ignored() {
        let text = r#"{"type":"description","ufrag":"abcd","pwd":"p","setup":"actpass","options":["ice2"]}"#;
        let mut expected = Description::new("abcd", "p");
        expected.options = vec!["ice2".into()];
        assert_eq!(
            serde_json::from_str::<Signal>(text).unwrap(),
            Signal::Description(expected)
        );
        let text = r#"{"type":"weather","sunny":true}"#;
        assert_eq!(
            serde_json::from_str::<Signal>(text).unwrap(),
            Signal::Unknown
        );
        assert!(
            serde_json::from_str::<Signal>(r#"{"type":"description","ufrag":"abcd"}"#).is_err()
        );
    }

    #[test]
    fn debug_hides_credentials() {
        let description = Signal::Description(Description::new("topfrag", "topsecret"));
        let mut candidate =
            CandidateInit::new("candidate:1 1 udp 1 192.0.2.1 9 typ host ufrag topfrag");
        candidate.username_fragment = Some("topfrag".into());
        let text = format!("{description:?} {:?}", Signal::Candidate(candidate));
        assert!(
            !text.contains("topfrag") && !text.contains("topsecret"),
            "{text}"
        );
        assert!(text.contains("192.0.2.1"));
    }
}
