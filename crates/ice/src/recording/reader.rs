//! Reading a recording, entry by entry.

use core::fmt;

use nilas_turn::Time;

use super::entry::{Entry, Header, MAGIC, Step};
use super::wire::{Malformed, Reader, Wire};

/// A recording, read as it is asked for.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    pub(crate) header: Header,
    from: Reader<'a>,
    end: Option<RecordingEnd>,
    last: Time,
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordingEnd {
    /// It was ended and is whole.
    Whole,
    /// It had reached its limit: its end is missing.
    Limited {
        /// So many calls were not recorded.
        missed: u64,
        /// When the last of them was.
        until: Time,
    },
    /// It stops without a mark of the end, as when the program was killed: its end is missing.
    CutOff {
        /// Behind the last entry that is whole.
        offset: usize,
    },
}

/// Why something is no recording that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordingError {
    /// It is no recording of nilas.
    NotARecording,
    /// It is of a version that this build does not read.
    Version(u8),
    /// It is damaged at this byte.
    Damaged {
        /// Where the entry begins that cannot be read.
        offset: usize,
    },
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording => f.write_str("this is no recording of nilas"),
            Self::Version(version) => write!(
                f,
                "the recording has version {version}, and this nilas reads version {}: use one that is as new",
                MAGIC[7]
            ),
            Self::Damaged { offset } => {
                write!(
                    f,
                    "the recording is damaged: the entry at byte {offset} cannot be read"
                )
            }
        }
    }
}

impl core::error::Error for RecordingError {}

impl<'a> Steps<'a> {
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        let mut from = Reader::new(bytes);
        let (magic, version) = (&MAGIC[..7], MAGIC[7]);
        match from.take(MAGIC.len()) {
            Ok([start @ .., found]) if start == magic && *found == version => {}
            Ok([start @ .., found]) if start == magic => {
                return Err(RecordingError::Version(*found));
            }
            _ => return Err(RecordingError::NotARecording),
        }
        let header = Header::read(&mut from).map_err(|_| RecordingError::Damaged {
            offset: MAGIC.len(),
        })?;
        Ok(Self {
            header,
            from,
            end: None,
            last: Time::ZERO,
        })
    }

    /// Where the next entry begins.
    pub(crate) const fn offset(&self) -> usize {
        self.from.offset()
    }

    /// The next call, until the end.
    pub(crate) fn next(&mut self) -> Result<Option<Box<Step>>, RecordingError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let offset = self.from.offset();
        match Entry::read(&mut self.from) {
            Ok(Entry::Step(step)) => {
                self.last = step.now;
                Ok(Some(step))
            }
            Ok(Entry::End(_)) if !self.from.is_at_end() => Err(RecordingError::Damaged { offset }),
            Ok(Entry::End(ended)) => {
                self.end = Some(match ended.missed {
                    0 => RecordingEnd::Whole,
                    missed => RecordingEnd::Limited {
                        missed,
                        until: ended.at,
                    },
                });
                Ok(None)
            }
            Err(Malformed::Short) => {
                self.end = Some(RecordingEnd::CutOff { offset });
                Ok(None)
            }
            Err(Malformed::Wrong) => Err(RecordingError::Damaged { offset }),
        }
    }

    /// How it ends: to be asked when there are no more calls.
    pub(crate) fn end(&self) -> RecordingEnd {
        let offset = self.from.offset();
        self.end.unwrap_or(RecordingEnd::CutOff { offset })
    }

    /// When the last call was that was read.
    pub(crate) const fn last(&self) -> Time {
        self.last
    }
}

impl fmt::Display for RecordingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the recording is whole"),
            Self::Limited { missed, until } => write!(
                f,
                "the end is missing: the recording had reached its limit, and {missed} more calls until {:.3} s were not recorded",
                until.as_nanos() as f64 / 1e9
            ),
            Self::CutOff { offset } => write!(
                f,
                "the end is missing: the recording stops at byte {offset} without a mark of its end, as when the program was killed"
            ),
        }
    }
}
