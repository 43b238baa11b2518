//! ICE parameters: who an agent is in one generation of a session (RFC 8445 section 5.3).

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The ice-option of whoever tells candidates one by one (RFC 8838 section 3).
pub(crate) const TRICKLE: &str = "trickle";

/// What one side tells the other before any candidate: credentials and options.
///
/// As JSON: `{"ufrag":…,"pwd":…,"options":[…],"pacing":ms,"lite":bool,"answers":ufrag}`; what is not known is ignored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// The username fragment, 4 to 256 ice-chars, of which an own one has 32 at most (RFC 8839 section 5.4).
    pub ufrag: String,
    /// The password, 22 to 256 ice-chars (RFC 8839 section 5.4).
    pub pwd: String,
    /// The options offered, such as `ice2` and `trickle` (RFC 8839 section 5.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Cow<'static, str>>,
    /// The pacing wanted, in milliseconds (RFC 8839 section 5.5). Absent: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<u32>,
    /// Whether the agent is a lite implementation (RFC 8839 section 5.3).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub lite: bool,
    /// The username fragment of the other side's parameters that these answer; absent where they are told unasked: at the
    /// beginning, or by a restart. An offer and an answer of SDP are told apart by what carries them. Elsewhere they look
    /// alike, and where both sides restart several times, each could take the other's answers for restarts without end.
    /// An extension of nilas: a peer without it leaves the field out, and what its parameters are is guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
}

impl fmt::Debug for Parameters {
    /// The password stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("ufrag", &self.ufrag)
            .field("options", &self.options)
            .field("pacing", &self.pacing)
            .field("lite", &self.lite)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

impl Parameters {
    /// Parameters with these credentials and no options.
    pub fn new(ufrag: impl Into<String>, pwd: impl Into<String>) -> Self {
        Self {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
            options: Vec::new(),
            pacing: None,
            lite: false,
            answers: None,
        }
    }

    /// Refuses what the grammar of RFC 8839 section 5.4 does not allow.
    pub fn check(&self) -> Result<(), ParametersError> {
        let ice_chars = |text: &str| text.bytes().all(is_ice_char);
        if !(4..=256).contains(&self.ufrag.len()) || !ice_chars(&self.ufrag) {
            return Err(ParametersError::Ufrag);
        }
        if let Some(of) = &self.answers
            && (!(4..=256).contains(&of.len()) || !ice_chars(of))
        {
            return Err(ParametersError::Ufrag);
        }
        if !(22..=256).contains(&self.pwd.len()) || !ice_chars(&self.pwd) {
            return Err(ParametersError::Pwd);
        }
        Ok(())
    }

    /// Refuses besides what must not be sent: a username fragment of more than 32 characters, which any receiver must accept
    /// (RFC 8839 section 5.4).
    pub fn check_own(&self) -> Result<(), ParametersError> {
        self.check()?;
        match self.ufrag.len() {
            ..=32 => Ok(()),
            _ => Err(ParametersError::LongUfrag),
        }
    }

    /// The pacing this side asks for; 50 ms where it says nothing (RFC 8839 section 5.5).
    pub fn pacing(&self) -> Duration {
        Duration::from_millis(self.pacing.unwrap_or(50).into())
    }

    /// Whether an option was offered.
    pub fn has_option(&self, option: &str) -> bool {
        self.options.iter().any(|offered| offered == option)
    }
}

/// `ice-char` of RFC 8839 section 5.1.
pub(crate) const fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// What is wrong with [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParametersError {
    /// The username fragment.
    Ufrag,
    /// The password.
    Pwd,
    /// The username fragment is valid, and longer than one that may be sent.
    LongUfrag,
}

impl fmt::Display for ParametersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ufrag => "ufrag: 4 to 256 letters, digits, '+' or '/' are needed",
            Self::Pwd => "pwd: 22 to 256 letters, digits, '+' or '/' are needed",
            Self::LongUfrag => "ufrag: one that is sent has 32 characters at most",
        })
    }
}

impl core::error::Error for ParametersError {}
