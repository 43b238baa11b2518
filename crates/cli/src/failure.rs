//! How a command ends when it does not end well: a sentence for the user, and an exit code.

use std::fmt;
use std::io;

/// Why a command failed. Each kind has its exit code; the text is one sentence that tells what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection came about, or a check failed; the verdict says why. Exit code 1.
    NoConnection(String),
    /// The command was used or configured wrongly, or this machine lacks what it needs. Exit code 2.
    Usage(String),
    /// Something that must not happen. Exit code 3.
    Internal(String),
    /// Nobody reads the output any more. There is nobody to tell either. Exit code 1.
    OutputClosed,
    /// A check failed, and the verdict, which says why, was told with the results. Exit code 1.
    Told,
    /// A command that nilas ran for the user ended with this exit code, which becomes nilas's own.
    Command(u8),
}

impl Failure {
    /// The exit code of the process.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::NoConnection(_) | Self::OutputClosed | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Internal(_) => 3,
            Self::Command(code) => *code,
        }
    }

    pub(crate) fn no_connection(reason: impl fmt::Display) -> Self {
        Self::NoConnection(reason.to_string())
    }

    pub(crate) fn usage(reason: impl fmt::Display) -> Self {
        Self::Usage(reason.to_string())
    }

    pub(crate) fn internal(reason: impl fmt::Display) -> Self {
        Self::Internal(reason.to_string())
    }

    /// Whether there is something to tell: not where nobody listens, or the command has spoken for itself.
    pub(crate) const fn needs_telling(&self) -> bool {
        !matches!(self, Self::OutputClosed | Self::Told | Self::Command(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(text) | Self::Usage(text) => f.write_str(text),
            Self::Internal(text) => {
                write!(f, "{text}; this is a defect in nilas: please report it")
            }
            Self::Told => f.write_str("a check failed"),
            Self::OutputClosed => f.write_str("the output was closed"),
            Self::Command(code) => write!(f, "the command ended with exit code {code}"),
        }
    }
}

impl From<io::Error> for Failure {
    /// For errors of the standard streams; others are worded where they happen.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::NoConnection(format!("standard input or output failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(Failure::no_connection("x").exit_code(), 1);
        assert_eq!(Failure::usage("x").exit_code(), 2);
        assert_eq!(Failure::internal("x").exit_code(), 3);
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Failure::OutputClosed
        );
    }
}
