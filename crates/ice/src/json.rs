//! The shapes that web applications exchange: RTCIceCandidateInit, RTCIceParameters.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::candidate_line::{CandidateError, is_ufrag};
use crate::parameters::Parameters;

/// RTCIceCandidateInit: `{"candidate":"candidate:…","sdpMid":…,"sdpMLineIndex":…,"usernameFragment":…}`.
///
/// An empty `candidate` is the end of candidates of the generation that `usernameFragment` names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcIceCandidateInit {
    /// The candidate line, without `a=`.
    #[serde(default)]
    pub candidate: String,
    /// The media stream identification tag.
    #[serde(default)]
    pub sdp_mid: Option<String>,
    /// The index of the media description.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
    /// The username fragment of the generation.
    #[serde(default)]
    pub username_fragment: Option<String>,
}

impl RtcIceCandidateInit {
    /// The end of candidates of a generation.
    pub fn end_of_candidates(ufrag: impl Into<String>) -> Self {
        Self {
            username_fragment: Some(ufrag.into()),
            ..Self::of_first_stream()
        }
    }

    fn of_first_stream() -> Self {
        Self {
            sdp_mid: Some("0".into()),
            sdp_m_line_index: Some(0),
            ..Self::default()
        }
    }

    /// The candidate; `None` is the end of candidates.
    pub fn parse(&self) -> Result<Option<Candidate>, CandidateInitError> {
        // W3C webrtc-pc, addIceCandidate: it must be said which media description is meant.
        if self.sdp_mid.is_none() && self.sdp_m_line_index.is_none() && !self.candidate.is_empty() {
            return Err(CandidateInitError::NoMedia);
        }
        if self.candidate.is_empty() {
            return Ok(None);
        }
        let mut candidate: Candidate = self
            .candidate
            .parse()
            .map_err(CandidateInitError::Candidate)?;
        if candidate.ufrag.is_none() {
            if !self.username_fragment.as_deref().is_none_or(is_ufrag) {
                let error = CandidateError::Field("usernameFragment");
                return Err(CandidateInitError::Candidate(error));
            }
            candidate.ufrag = self.username_fragment.as_deref().map(Into::into);
        }
        Ok(Some(candidate))
    }
}

impl From<&Candidate> for RtcIceCandidateInit {
    fn from(candidate: &Candidate) -> Self {
        Self {
            candidate: candidate.to_string(),
            username_fragment: candidate.ufrag.as_deref().map(Into::into),
            ..Self::of_first_stream()
        }
    }
}

/// RTCIceParameters: `{"usernameFragment":…,"password":…}`, and `iceLite` as ORTC has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcIceParameters {
    /// The username fragment.
    pub username_fragment: String,
    /// The password.
    pub password: String,
    /// Whether the agent is a lite implementation.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub ice_lite: bool,
}

impl fmt::Debug for RtcIceParameters {
    /// The password stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtcIceParameters")
            .field("username_fragment", &self.username_fragment)
            .finish_non_exhaustive()
    }
}

impl From<&Parameters> for RtcIceParameters {
    fn from(parameters: &Parameters) -> Self {
        Self {
            username_fragment: parameters.ufrag.clone(),
            password: parameters.pwd.clone(),
            ice_lite: parameters.lite,
        }
    }
}

impl From<RtcIceParameters> for Parameters {
    fn from(parameters: RtcIceParameters) -> Self {
        let RtcIceParameters {
            username_fragment,
            password,
            ice_lite,
        } = parameters;
        Self {
            lite: ice_lite,
            ..Self::new(username_fragment, password)
        }
    }
}

/// Why an [`RtcIceCandidateInit`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CandidateInitError {
    /// Neither `sdpMid` nor `sdpMLineIndex` is there.
    NoMedia,
    /// The line breaks the grammar.
    Candidate(CandidateError),
}

impl fmt::Display for CandidateInitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMedia => {
                f.write_str("sdpMid or sdpMLineIndex is needed to tell which stream is meant")
            }
            Self::Candidate(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CandidateInitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_sends_is_read_and_written_back() {
        let text = r#"{"candidate":"candidate:1 1 udp 5 192.0.2.3 9 typ host generation 0 ufrag AbCd","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"AbCd"}"#;
        let init: RtcIceCandidateInit = serde_json::from_str(text).expect("a candidate");
        let candidate = init.parse().expect("a candidate").expect("not the end");
        assert_eq!(candidate.ufrag.as_deref(), Some("AbCd"));
        assert_eq!(
            serde_json::to_string(&RtcIceCandidateInit::from(&candidate))
                .ok()
                .as_deref(),
            Some(text)
        );
    }

    #[test]
    fn an_empty_candidate_is_the_end() {
        let end: RtcIceCandidateInit = serde_json::from_str(r#"{"candidate":""}"#).expect("an end");
        assert_eq!(end.parse(), Ok(None));
        let json =
            serde_json::to_string(&RtcIceCandidateInit::end_of_candidates("AbCd")).expect("json");
        assert_eq!(
            json,
            r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"AbCd"}"#
        );
        let lost = RtcIceCandidateInit {
            candidate: "candidate:1".into(),
            ..Default::default()
        };
        assert_eq!(lost.parse(), Err(CandidateInitError::NoMedia));
        let two_lines = RtcIceCandidateInit {
            candidate: "candidate:1 1 udp 5 192.0.2.3 9 typ host".into(),
            sdp_mid: Some("0".into()),
            username_fragment: Some("a\r\na=ice-lite".into()),
            ..Default::default()
        };
        let wrong = CandidateError::Field("usernameFragment");
        assert_eq!(two_lines.parse(), Err(CandidateInitError::Candidate(wrong)));
    }

    #[test]
    fn parameters_have_w3c_names() {
        let parameters = Parameters::new("AbCd", "asd88fgpdd777uzjYhagZg");
        let w3c = RtcIceParameters::from(&parameters);
        let json = serde_json::to_string(&w3c).expect("json");
        assert_eq!(
            json,
            r#"{"usernameFragment":"AbCd","password":"asd88fgpdd777uzjYhagZg"}"#
        );
        assert!(
            !format!("{w3c:?}{parameters:?}").contains("asd88"),
            "a password in a log"
        );
        assert_eq!(Parameters::from(w3c), parameters);
    }
}
