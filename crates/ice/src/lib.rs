//! An ICE agent without I/O: bytes and the time go in; datagrams, commands, events and the next
//! deadline come out.
//!
//! An [`Engine`] hosts agents, one or a hundred thousand, in one thread and without locks. Whoever
//! drives it gives it what happens ([`Engine::handle`]) and does what it says ([`Engine::poll`],
//! until [`Output::Idle`]). There is no socket, clock, thread or global in here, and all randomness
//! comes from one seed: the same inputs give the same outputs.
//!
//! ```
//! use nilas_ice::{AgentConfig, Command, Engine, EngineConfig, Input, Interface, Output, Role, SocketId, Time};
//!
//! let mut engine = Engine::new(EngineConfig::default(), [0; 32]); // a seed of the system's generator
//! let mut now = Time::ZERO; // of the driver's clock
//! let agent = engine.add_agent(now, AgentConfig::new(Role::Controlling))?;
//! let lan = Interface { name: "eth0".into(), index: 2, addresses: vec!["192.0.2.1".parse().unwrap()], ..Interface::default() };
//! let _ = engine.handle(now, Input::Interfaces(&[lan]));
//! engine.agent(agent)?.gather(now);
//!
//! let mut buffer = [0; 1280];
//! let deadline = loop {
//!     match engine.poll(now, &mut buffer) {
//!         Output::Transmit(_transmit) => { /* send buffer[..transmit.size] */ }
//!         Output::Event(_agent, event) => println!("{event:?}"), // candidates, states, the selected pair
//!         Output::Command(Command::Bind { request, address }) => {
//!             // bind a socket, and answer
//!             let result = Ok((SocketId(0), address));
//!             let _ = engine.handle(now, Input::Bound { request, result });
//!         }
//!         Output::Idle(deadline) => break deadline, // sleep until then, or until a datagram comes
//!         _ => {}
//!     }
//! };
//! # let _ = (&mut now, deadline);
//! # Ok::<(), nilas_ice::AgentError>(())
//! ```
//!
//! The way of a datagram: `engine` finds its owner in constant time with `demux` and authenticates
//! it; only then the owner, an `agent`, takes it in. Application data does not pass through here when
//! it is sent: an agent publishes where it goes in a [`PathCell`], which is read without a lock.
//!
//! | room | what lives there |
//! |---|---|
//! | `engine`, `shared`, `demux`, `mux`, `timers` | many agents: owners of packets, shared sockets, timers, pacing, queues |
//! | `engine/session` | sessions of several data streams and components |
//! | `agent/` | one component's state machine, one file for each concept of the RFCs |
//! | `candidate`, `candidate_line`, `sdp`, `json`, `parameters` | what signaling carries, in and out |
//! | `io`, `event`, `verdict`, `stats`, `counters` | what the engine is given and what it tells |
//! | `path` | where data goes, for senders |
//! | `dscp` | how packets are marked |
//! | `source` | chance, and what else is no input |
//! | `recording/` | recordings: making them, playing them back |
//! | `nat64` | IPv4 from a network of IPv6 only |
//! | [`explain`](mod@explain) | what happened in a recorded session, and why |
//! | `config`, `error`, `ids`, `arena` | the small things |
//!
//! What a session does in time: data can flow after one round trip. A session without a working pair
//! fails 39.5 s after both sides' parameters are known, or when the last check has ended (RFC 8863).
//! A connected session whose peer vanishes is *disconnected* 7 s and *failed* 30 s after the last
//! answer (RFC 7675). Everything received is bounded: 100 pairs, 32 peer-reflexive candidates and 32
//! early checks by default; what is dropped is counted in [`Counters`].
#![forbid(unsafe_code)]

mod agent;
mod arena;
mod candidate;
mod candidate_line;
mod config;
mod counters;
mod demux;
mod dscp;
mod engine;
mod error;
mod event;
pub mod explain;
mod ids;
mod io;
mod json;
mod mux;
mod nat64;
mod parameters;
mod path;
mod port_mapping;
mod recording;
mod sdp;
pub mod selection;
mod shared;
mod source;
mod stats;
mod timers;
mod verdict;

pub use candidate::{
    Candidate, CandidateAddress, CandidateType, Foundation, TcpType, Transport, priority,
};
pub use candidate_line::CandidateError as CandidateLineError;
pub use config::{
    AddressPolicy, AgentConfig, EngineConfig, ExternalAddress, InterfaceFilter, MdnsCandidates,
    Mode, Mtu, PortRange, PortRangeError, StunServer, TcpCandidates, TemporaryAddresses,
    TurnServer, TurnTransport,
};
pub use counters::Counters;
pub use dscp::{Dscp, DscpError};
pub use engine::{AgentMut, Engine, SessionMut};
pub use error::AgentError;
pub use event::{
    CandidateError, ChecklistState, Event, GatheringState, RestartReason, Role, SessionEvent, State,
};
pub use explain::explain;
pub use ids::{AgentId, RequestId, SessionId, SocketId, StreamId};
pub use io::{
    Application, BindError, Command, Handled, Input, Interface, Output, PortMappingError,
    ResolveError, SelectedPair, SendError, StreamError, StreamTransmit, StreamTransport, Transmit,
};
pub use json::{CandidateInitError, RtcIceCandidateInit, RtcIceParameters};
pub use nilas_turn::Time;
pub use nilas_turn::client::{Credentials, Families, Framing, MAX_HEAD, MAX_TAIL};
pub use parameters::{Parameters, ParametersError};
pub use path::{NoPath, Path, PathCell, Via};
pub use recording::{Difference, RecordingEnd, RecordingError, RecordingOptions, Replay, replay};
pub use sdp::{
    Attribute, AttributeError, Destination, IceChange, IceDescription, MediaSection,
    RemoteCandidate, SdpError, SdpFragment, Secret, SessionDescription, Trickled,
};
pub use selection::{Choice, Contender, Liveness, SelectionPolicy, SelectionReason, Situation};
pub use stats::{CandidatePairStats, CandidateStats, PairState, Stats, TransportStats};
pub use verdict::Verdict;
