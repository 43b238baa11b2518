//! An ICE agent without I/O.
#![forbid(unsafe_code)]

mod agent;
mod arena;
mod candidate;
mod candidate_line;
mod config;
mod counters;
mod demux;
mod engine;
mod error;
mod event;
mod ids;
mod io;
mod parameters;
mod path;
mod shared;
mod stats;
mod time;
mod verdict;

pub use candidate::{Candidate, CandidateAddress, CandidateType, Foundation, Transport, priority};
pub use candidate_line::CandidateError as CandidateLineError;
pub use config::{AgentConfig, EngineConfig, InterfaceFilter, StunServer};
pub use counters::Counters;
pub use engine::{AgentMut, Engine};
pub use error::AgentError;
pub use event::{CandidateError, Event, GatheringState, Role, State};
pub use ids::{AgentId, RequestId, SocketId};
pub use io::{
    BindError, Command, Handled, Input, Interface, Output, ResolveError, SelectedPair, SendError,
    Transmit,
};
pub use parameters::{Parameters, ParametersError};
pub use path::{NoPath, Path, PathCell};
pub use stats::{CandidatePairStats, CandidateStats, PairState, Stats, TransportStats};
pub use time::Time;
pub use verdict::Verdict;
