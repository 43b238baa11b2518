//! How a session's packets are marked for the network: checks (RFC 8445 section 7.2.3) and consent checks (RFC 7675
//! section 6) like the data.

use core::fmt;
use core::str::FromStr;

/// A Differentiated Services Code Point: what routers may give a packet precedence by. Zero, the
/// default, is best effort.
///
/// RFC 8837 section 5 says which suits which media. Networks may ignore it, change it, or drop what carries it.
///
/// ```
/// use nilas_ice::Dscp;
/// assert_eq!(Dscp::new(46), Some(Dscp::EF));
/// assert_eq!("34".parse(), Ok(Dscp::AF41));
/// assert_eq!(Dscp::new(64), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dscp(u8);

impl Dscp {
    /// Best effort.
    pub const DEFAULT: Self = Self(0);
    /// Audio of high or medium priority (RFC 8837 section 5).
    pub const EF: Self = Self(46);
    /// Interactive video of high priority.
    pub const AF41: Self = Self(34);
    /// Interactive video of medium priority.
    pub const AF42: Self = Self(36);
    /// Anything of very low priority: less than best effort.
    pub const LE: Self = Self(1);

    /// A code point from 0 to 63.
    pub const fn new(code: u8) -> Option<Self> {
        if code < 64 { Some(Self(code)) } else { None }
    }

    /// The number, from 0 to 63.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Dscp {
    type Err = DscpError;

    fn from_str(text: &str) -> Result<Self, DscpError> {
        text.parse().ok().and_then(Self::new).ok_or(DscpError)
    }
}

/// A text is no [`Dscp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DscpError;

impl fmt::Display for DscpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 63 is needed, such as 46 for audio")
    }
}

impl core::error::Error for DscpError {}
