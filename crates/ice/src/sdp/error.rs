//! Why a description or fragment is refused.

use core::fmt;

use super::attribute::AttributeError;
use super::text::{MAX_SECTIONS, MAX_TEXT};
use crate::parameters::ParametersError;

/// Why a session description or fragment is refused. Nothing has changed.
///
/// Lines are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SdpError {
    /// The text is longer than any description.
    TooLong,
    /// There are more `m=` sections than in any description.
    TooManySections,
    /// The text does not begin with `v=0`.
    Version,
    /// This line is not `x=…`, or has control characters in it.
    Line(u32),
    /// This `m=` line lacks a field, or its port is none.
    Media(u32),
    /// The ufrag or password in this line breaks the grammar.
    Credentials(u32, AttributeError),
    /// Two sections have one `mid`; this is the line of the second.
    SameMid(u32),
    /// Two sections have one ufrag, and different passwords (RFC 8839 section 5.4).
    SameUfrag,
    /// A section of a fragment has no `mid` (RFC 8840 section 4.4). Its `m=` is in this line.
    NoMid(u32),
    /// There is no such section.
    NoSection,
    /// The section was rejected, or is bundle-only: it has no transport of its own.
    Rejected,
    /// The parameters to be written break the grammar.
    Parameters(ParametersError),
    /// Something to be written is not one line of the grammar.
    Unwritable,
    /// The fragment is of another generation than the description: its ufrag and password differ.
    Generation,
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the description is longer than {MAX_TEXT} bytes"),
            Self::TooManySections => {
                write!(
                    f,
                    "the description has more than {MAX_SECTIONS} m= sections"
                )
            }
            Self::Version => f.write_str("a session description begins with v=0"),
            Self::Line(line) => write!(f, "line {line} is no line of a session description"),
            Self::Media(line) => write!(f, "the m= line {line} is not valid"),
            Self::Credentials(line, error) => write!(f, "line {line}: {error}"),
            Self::SameMid(line) => write!(f, "the mid in line {line} is already another section's"),
            Self::SameUfrag => {
                f.write_str("two sections have the same ufrag and different passwords")
            }
            Self::NoMid(line) => {
                write!(
                    f,
                    "the section in line {line} has no mid that says which stream it is of"
                )
            }
            Self::NoSection => f.write_str("the description has no such m= section"),
            Self::Rejected => {
                f.write_str("the m= section was rejected, or is bundle-only: it has no transport")
            }
            Self::Parameters(error) => error.fmt(f),
            Self::Unwritable => f.write_str(
                "a candidate, option or name is not of the grammar, and would not stay in its line",
            ),
            Self::Generation => {
                f.write_str("the fragment's ufrag and pwd are not those of the description")
            }
        }
    }
}

impl core::error::Error for SdpError {}

impl From<ParametersError> for SdpError {
    fn from(error: ParametersError) -> Self {
        Self::Parameters(error)
    }
}
