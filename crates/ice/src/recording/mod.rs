//! Recordings of an engine: everything that it was given and decided, so that it can be played back and explained.
//!
//! `docs/event-log.md` describes the file. An engine that is made by [`Engine::recorded`](crate::Engine::recorded)
//! writes it, whoever drives it; [`replay()`] gives the same to the same core and compares.
//!
//! A recording is of an engine and not of an agent, because agents of one engine share its pacing, its sockets and
//! its randomness: only the whole replays to the same bytes. An engine of one is an agent.
//!
//! | room | what lives there |
//! |---|---|
//! | [`entry`] | what stands in a recording |
//! | [`values`], [`wire`] | how it stands there, as bytes |
//! | [`recorder`] | what an engine that is recorded does besides |
//! | [`conceal`] | how it holds no secret and plays all the same |
//! | [`watcher`] | what the engine decides without saying so: candidates and pairs |
//! | [`reader`], [`replay`](mod@replay) | reading it, playing it back |

mod conceal;
mod entry;
mod reader;
mod recorder;
mod replay;
mod values;
mod watcher;
mod wire;

pub(crate) use self::entry::{Answer, Call, Decision, LocalView, PairName, PairView, Step};
pub(crate) use self::reader::Steps;
pub use self::reader::{RecordingEnd, RecordingError};
pub(crate) use self::recorder::{Recorder, Told};
pub use self::replay::{Difference, Replay, replay};

/// How an engine is to be recorded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordingOptions {
    /// The recording grows to so many bytes at most. What comes later is only counted. 16 MiB by default.
    pub limit_bytes: u64,
    /// Something to stand at its beginning, such as who recorded what.
    pub note: String,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        Self {
            limit_bytes: 16 << 20,
            note: String::new(),
        }
    }
}
