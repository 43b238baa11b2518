//! What stands in a recording: each call that the engine was given, with what it answered and decided.

use core::net::SocketAddr;
use core::time::Duration;

use nilas_turn::Time;
use nilas_turn::client::Credentials;

use super::wire::{Malformed, Reader, Wire, Writer, wire_enum, wire_struct};
use crate::candidate::{Candidate, CandidateType};
use crate::config::{AddressPolicy, AgentConfig, EngineConfig};
use crate::error::AgentError;
use crate::event::{Event, SessionEvent};
use crate::ids::{AgentId, RequestId, SessionId, SocketId, StreamId};
use crate::io::{
    BindError, Command, Handled, Interface, PortMappingError, ResolveError, SendError, StreamError,
};
use crate::parameters::Parameters;
use crate::stats::PairState;

/// The first bytes; the last of them is the version.
pub(super) const MAGIC: [u8; 8] = *b"nilasr\0\x01";
/// A datagram, or what a driver holds of a stream, is no longer.
const MAX_PAYLOAD: usize = 1 << 18;

/// What stands before all entries.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// The version of nilas.
    pub(crate) version: String,
    /// Who recorded, and what for.
    pub(crate) note: String,
    pub(crate) config: EngineConfig,
    /// What the engine took from outside when it was made.
    pub(crate) taken: Blob,
}

#[derive(Debug)]
pub(crate) enum Entry {
    Step(Box<Step>),
    /// The recording was ended, and did not just stop.
    End(Ended),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Calls that were not recorded any more, because of the limit.
    pub(crate) missed: u64,
    /// When the last call was.
    pub(crate) at: Time,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) now: Time,
    pub(crate) call: Call,
    /// What the engine took from outside meanwhile.
    pub(crate) taken: Blob,
    pub(crate) answer: Answer,
    pub(crate) decisions: Vec<Decision>,
}

/// What the engine was given.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Add(Box<AgentConfig>),
    /// A stream of a session, or of a new one, with so many components.
    AddStream(Option<SessionId>, Box<AgentConfig>, u16),
    Gather(AgentId),
    RemoteParameters(AgentId, Parameters),
    RemoteCandidate(AgentId, Candidate),
    RemoveRemoteCandidate(AgentId, Candidate),
    EndOfRemoteCandidates(AgentId),
    Restart(AgentId),
    Addresses(AgentId, AddressPolicy),
    TurnCredentials(AgentId, usize, Credentials),
    Close(AgentId),
    Datagram {
        socket: SocketId,
        remote: SocketAddr,
        payload: Payload,
    },
    Bound {
        request: RequestId,
        result: Result<(SocketId, SocketAddr), BindError>,
    },
    Resolved {
        request: RequestId,
        result: Result<Vec<SocketAddr>, ResolveError>,
    },
    PortMapped {
        socket: SocketId,
        result: Result<SocketAddr, PortMappingError>,
    },
    StreamOpened {
        request: RequestId,
        result: Result<StreamId, StreamError>,
    },
    StreamAccepted {
        socket: SocketId,
        stream: StreamId,
        remote: SocketAddr,
    },
    StreamBytes {
        stream: StreamId,
        payload: Payload,
    },
    StreamClosed(StreamId),
    SendError {
        socket: SocketId,
        remote: SocketAddr,
        error: SendError,
    },
    Interfaces(Vec<Interface>),
    /// With room for so many bytes.
    Poll(u32),
}

/// What the call answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Nothing,
    Added(Result<AgentId, AgentError>),
    AddedStream(Result<(SessionId, Vec<AgentId>), AgentError>),
    Accepted(Result<(), AgentError>),
    Handled(Handled),
    Transmit {
        socket: SocketId,
        destination: SocketAddr,
        sent: Sent,
    },
    StreamTransmit {
        stream: StreamId,
        sent: Sent,
    },
    Event(AgentId, Box<Event>),
    SessionEvent(SessionId, SessionEvent),
    Command(Command),
    Idle(Option<Time>),
}

/// A message that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) size: u32,
    /// Its first two bytes, which tell what kind of message it is.
    pub(crate) kind: u16,
    /// Of everything in it but what a stand-in changes.
    pub(crate) digest: u32,
}

/// Something that the engine decided by itself, as it was seen after the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A local candidate is known.
    Local(LocalView),
    /// A pair is new, or stands otherwise than before.
    Pair(PairView),
    /// A pair was given up.
    PairGone(PairName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalView {
    pub(crate) agent: AgentId,
    pub(crate) generation: u32,
    pub(crate) kind: CandidateType,
    pub(crate) address: SocketAddr,
    pub(crate) base: SocketAddr,
    /// The server that told it.
    pub(crate) url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairName {
    pub(crate) agent: AgentId,
    pub(crate) generation: u32,
    /// Its key among the pairs.
    pub(crate) slot: u32,
    pub(crate) version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairView {
    pub(crate) name: PairName,
    pub(crate) base: SocketAddr,
    /// Host or relay.
    pub(crate) base_kind: CandidateType,
    pub(crate) remote: SocketAddr,
    pub(crate) remote_kind: CandidateType,
    /// Whether it is of TCP (RFC 6544).
    pub(crate) tcp: bool,
    pub(crate) state: PairState,
    /// What its mapped address names, where it is valid.
    pub(crate) local: Option<(CandidateType, SocketAddr)>,
    pub(crate) nominated: bool,
    /// It carries the data.
    pub(crate) selected: bool,
    /// The data left it, because it did not answer any more.
    pub(crate) died: bool,
    /// The relay does not relay to the peer's address.
    pub(crate) refused: bool,
    pub(crate) requests_sent: u32,
    pub(crate) responses_received: u32,
    pub(crate) requests_received: u32,
    pub(crate) consent_requests_sent: u32,
    pub(crate) round_trip: Option<Duration>,
}

/// Bytes that are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

/// What a datagram or a stream brought; of what is nobody's business, only the length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Kept(Blob),
    /// So many bytes, which are zeros when it is played back.
    Hidden(usize),
}

impl Payload {
    /// Bytes, of which those in `hidden` are not kept.
    pub(crate) fn new(bytes: &[u8], mut hidden: Vec<core::ops::Range<usize>>) -> Self {
        let mut pieces = Vec::new();
        let mut at = 0;
        let keep = |pieces: &mut Vec<Piece>, kept: &[u8]| {
            if !kept.is_empty() {
                pieces.push(Piece::Kept(Blob(kept.to_vec())));
            }
        };
        hidden.sort_unstable_by_key(|range| range.start);
        for range in hidden {
            let range = range.start.max(at)..range.end.min(bytes.len());
            if !range.is_empty() {
                keep(&mut pieces, &bytes[at..range.start]);
                pieces.push(Piece::Hidden(range.len()));
                at = range.end;
            }
        }
        keep(&mut pieces, &bytes[at..]);
        Self(pieces)
    }

    /// The bytes, with zeros for those that were not kept.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Kept(Blob(kept)) => bytes.extend_from_slice(kept),
                Piece::Hidden(length) => bytes.resize(bytes.len() + length, 0),
            }
        }
        bytes
    }
}

impl Wire for Payload {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let pieces = Vec::<Piece>::read(from)?;
        let length = pieces.iter().try_fold(0_usize, |sum, piece| {
            sum.checked_add(match piece {
                Piece::Kept(Blob(kept)) => kept.len(),
                Piece::Hidden(length) => *length,
            })
        });
        match length {
            Some(length) if length <= MAX_PAYLOAD => Ok(Self(pieces)),
            _ => Err(Malformed::Wrong),
        }
    }
}

impl Wire for Blob {
    fn write(&self, out: &mut Writer) {
        out.blob(&self.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(from.blob()?.to_vec()))
    }
}

impl<T: Wire> Wire for Box<T> {
    fn write(&self, out: &mut Writer) {
        (**self).write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::read(from).map(Self::new)
    }
}

wire_enum!(Piece { 0 = Kept { 0: bytes }, 1 = Hidden { 0: length } });
wire_struct!(Header {
    version,
    note,
    config,
    taken
});
wire_struct!(Ended { missed, at });
wire_enum!(Call {
    0 = Add { 0: config },
    1 = Gather { 0: agent },
    2 = RemoteParameters { 0: agent, 1: parameters },
    3 = RemoteCandidate { 0: agent, 1: candidate },
    4 = EndOfRemoteCandidates { 0: agent },
    5 = Restart { 0: agent },
    6 = Close { 0: agent },
    7 = Datagram { socket: socket, remote: remote, payload: payload },
    8 = Bound { request: request, result: result },
    9 = Resolved { request: request, result: result },
    10 = StreamOpened { request: request, result: result },
    11 = StreamBytes { stream: stream, payload: payload },
    12 = StreamClosed { 0: stream },
    13 = SendError { socket: socket, remote: remote, error: error },
    14 = Interfaces { 0: interfaces },
    15 = Poll { 0: room },
    17 = RemoveRemoteCandidate { 0: agent, 1: candidate },
    16 = StreamAccepted { socket: socket, stream: stream, remote: remote },
    18 = Addresses { 0: agent, 1: addresses },
    19 = AddStream { 0: session, 1: config, 2: components },
    20 = PortMapped { socket: socket, result: result },
    21 = TurnCredentials { 0: agent, 1: server, 2: credentials },
});
wire_enum!(Answer {
    0 = Nothing {},
    1 = Added { 0: result },
    2 = Accepted { 0: result },
    3 = Handled { 0: handled },
    4 = Transmit { socket: socket, destination: destination, sent: sent },
    5 = StreamTransmit { stream: stream, sent: sent },
    6 = Event { 0: agent, 1: event },
    7 = Command { 0: command },
    8 = Idle { 0: deadline },
    9 = AddedStream { 0: result },
    10 = SessionEvent { 0: session, 1: event },
});
wire_struct!(Sent { size, kind, digest });
wire_enum!(Decision {
    0 = Local { 0: local },
    1 = Pair { 0: pair },
    2 = PairGone { 0: name },
});
wire_struct!(LocalView {
    agent,
    generation,
    kind,
    address,
    base,
    url
});
wire_struct!(PairName {
    agent,
    generation,
    slot,
    version
});
wire_struct!(PairView {
    name,
    base,
    base_kind,
    remote,
    remote_kind,
    tcp,
    state,
    local,
    nominated,
    selected,
    died,
    refused,
    requests_sent,
    responses_received,
    requests_received,
    consent_requests_sent,
    round_trip,
});

const END: u8 = 0;
const STEP: u8 = 1;

impl Step {
    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes.push(STEP);
        out.number(self.now.since(out.now).as_nanos() as u64);
        out.now = self.now;
        self.call.write(out);
        self.taken.write(out);
        self.answer.write(out);
        self.decisions.write(out);
    }
}

impl Ended {
    pub(super) fn write(self, out: &mut Writer) {
        out.bytes.push(END);
        Wire::write(&self, out);
    }
}

impl Entry {
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.byte()? {
            END => Ended::read(from).map(Self::End),
            STEP => {
                from.now = from.now + Duration::from_nanos(from.number()?);
                Ok(Self::Step(Box::new(Step {
                    now: from.now,
                    call: Call::read(from)?,
                    taken: Blob::read(from)?,
                    answer: Answer::read(from)?,
                    decisions: Vec::read(from)?,
                })))
            }
            _ => Err(Malformed::Wrong),
        }
    }
}
