//! The engine's own values, as they stand in a recording. A tag never changes its meaning: what is new gets a
//! new one.

use core::num::NonZeroU32;
use core::ops::Range;

use nilas_turn::client::{Credentials, Families};

use super::wire::{Malformed, Reader, Wire, Writer, wire_enum, wire_struct};
use crate::arena::Key;
use crate::candidate::{
    Candidate, CandidateAddress, CandidateType, Foundation, TcpType, Transport,
};
use crate::config::{
    AddressPolicy, AgentConfig, EngineConfig, ExternalAddress, InterfaceFilter, MdnsCandidates,
    Mode, Mtu, PortRange, StunServer, TcpCandidates, TemporaryAddresses, TurnServer, TurnTransport,
};
use crate::dscp::Dscp;
use crate::error::AgentError;
use crate::event::{
    CandidateError, ChecklistState, Event, GatheringState, RestartReason, Role, SessionEvent, State,
};
use crate::ids::{AgentId, RequestId, SessionId, SocketId, StreamId};
use crate::io::{
    Application, BindError, Command, Handled, Interface, PortMappingError, ResolveError,
    SelectedPair, SendError, StreamError, StreamTransport,
};
use crate::parameters::{Parameters, ParametersError};
use crate::selection::{self, SelectionPolicy};
use crate::stats::PairState;
use crate::verdict::Verdict;

impl Wire for NonZeroU32 {
    fn write(&self, out: &mut Writer) {
        self.get().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(u32::read(from)?).ok_or(Malformed::Wrong)
    }
}

impl Wire for Range<usize> {
    fn write(&self, out: &mut Writer) {
        self.start.write(out);
        self.len().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (start, length) = (usize::read(from)?, usize::read(from)?);
        Ok(start..start.checked_add(length).ok_or(Malformed::Wrong)?)
    }
}

impl Wire for Foundation {
    fn write(&self, out: &mut Writer) {
        out.blob(self.as_str().as_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(&String::read(from)?).ok_or(Malformed::Wrong)
    }
}

impl Wire for Dscp {
    fn write(&self, out: &mut Writer) {
        self.code().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(u8::read(from)?).ok_or(Malformed::Wrong)
    }
}

/// A function of the application's own is not in a recording, only that there was one: it plays back with the policy of
/// nilas, and [`Replay`](super::Replay) says so.
impl Wire for SelectionPolicy {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(selection::select)
    }
}

wire_struct!(Key { slot, generation });
wire_struct!(AgentId { 0 });
wire_struct!(SessionId { 0 });
wire_struct!(SocketId { 0 });
wire_struct!(StreamId { 0 });
wire_struct!(RequestId { 0 });

wire_struct!(EngineConfig {
    pacing_floor,
    max_agents,
    shared_port,
});
wire_struct!(AgentConfig {
    role,
    mode,
    tcp,
    mdns,
    stun_servers,
    turn_servers,
    addresses,
    ports,
    external_addresses,
    restarts_alone,
    continual,
    filter,
    credentials,
    pacing,
    max_pairs,
    max_peer_reflexive,
    selection,
    patience,
    dscp,
    mtu,
    port_mapping,
});
wire_struct!(StunServer { host, port });
wire_struct!(TurnServer {
    host,
    port,
    transport,
    credentials,
    families,
    may_be_absent
});
wire_struct!(Credentials { username, password });
wire_struct!(InterfaceFilter {
    loopback,
    link_local,
    ipv4,
    ipv6,
    temporary,
    names,
    excluded,
    addresses
});
wire_enum!(AddressPolicy {
    0 = All {},
    1 = DefaultRoute {},
    2 = DefaultRouteHidden {},
    3 = RelayOnly {},
});
wire_struct!(PortRange { first, last });
wire_struct!(ExternalAddress {
    external,
    local,
    replaces
});
wire_enum!(TemporaryAddresses { 0 = Preferred {}, 1 = Avoided {}, 2 = Both {} });
wire_enum!(Mtu { 0 = Fixed { 0: length }, 1 = Discover { 0: longest } });
wire_enum!(Mode { 0 = Full {}, 1 = Lite {} });
wire_enum!(MdnsCandidates { 0 = Off {}, 1 = Resolve {}, 2 = Hide {} });
wire_enum!(TcpCandidates { 0 = Off {}, 1 = Active {}, 2 = All {} });
wire_enum!(TurnTransport { 0 = Udp {}, 1 = Stream { 0: transport } });
wire_enum!(StreamTransport { 0 = Tcp {}, 1 = Tls {}, 2 = Dtls {} });
wire_enum!(Families { 0 = V4 {}, 1 = V6 {}, 2 = Both {} });

wire_struct!(Interface {
    name,
    index,
    addresses,
    cost,
    temporary,
    deprecated,
    default_route
});
wire_enum!(BindError {
    0 = AddressInUse {},
    1 = AddressNotAvailable {},
    2 = PermissionDenied {},
    3 = Other {},
});
wire_enum!(ResolveError { 0 = NotFound {}, 1 = TimedOut {}, 2 = Other {} });
wire_enum!(PortMappingError {
    0 = NoGateway {},
    1 = NoAnswer {},
    2 = Refused {},
    3 = Unusable {},
    4 = Other {},
});
wire_enum!(StreamError {
    0 = Unresolved {},
    1 = Refused {},
    2 = TimedOut {},
    3 = Proxy {},
    4 = Handshake {},
    5 = Other {},
});
wire_enum!(SendError {
    0 = Unreachable {},
    1 = PermissionDenied {},
    2 = TooLarge {},
    3 = Other {},
});
wire_enum!(Handled {
    0 = Consumed {},
    1 = Application { 0: application },
    2 = Stream { taken: taken, application: application },
    3 = NotOurs {},
});
wire_struct!(Application {
    agent,
    component,
    range
});

wire_struct!(Parameters {
    ufrag,
    pwd,
    options,
    pacing,
    lite,
    answers
});
wire_struct!(Candidate {
    foundation,
    component,
    transport,
    priority,
    address,
    kind,
    related,
    ufrag,
    extensions,
});
wire_enum!(CandidateAddress { 0 = Ip { 0: address }, 1 = Name { name: name, port: port } });
wire_enum!(CandidateType { 0 = Host {}, 1 = Srflx {}, 2 = Prflx {}, 3 = Relay {} });
wire_enum!(Transport { 0 = Udp {}, 1 = Other { 0: token }, 2 = Tcp { 0: kind } });
wire_enum!(TcpType { 0 = Active {}, 1 = Passive {}, 2 = So {} });
wire_enum!(Role { 0 = Controlling {}, 1 = Controlled {} });

wire_enum!(AgentError {
    0 = UnknownAgent {},
    1 = TooManyAgents {},
    2 = UfragInUse {},
    3 = Parameters { 0: error },
    4 = PartialRestart {},
    5 = StaleCandidate {},
    6 = UnusableCandidate {},
    7 = TooManyCandidates {},
    8 = AfterEndOfCandidates {},
    9 = LiteHasHostsOnly {},
    10 = UnknownSession {},
    11 = UnknownStream {},
    12 = SessionTooLarge {},
    13 = NoIce {},
    14 = UnknownServer {},
});
wire_enum!(SessionEvent {
    0 = ChecklistStateChange { stream: stream, state: state },
    1 = StateChange { 0: state },
});
wire_enum!(ChecklistState { 0 = Running {}, 1 = Completed {}, 2 = Failed {} });
wire_enum!(ParametersError { 0 = Ufrag {}, 1 = Pwd {}, 2 = LongUfrag {} });

wire_enum!(Event {
    0 = LocalParameters { 0: parameters },
    1 = Candidate { 0: candidate },
    2 = CandidateError { 0: error },
    3 = GatheringStateChange { 0: state },
    4 = StateChange { state: state, verdict: verdict },
    5 = SelectedPairChange { 0: pair },
    6 = Nominated { 0: pair },
    7 = RoleChange { 0: role },
    8 = CandidateRemoved { 0: candidate },
    9 = MaxPayloadChange { bytes: bytes },
    10 = RestartDue { 0: reason },
});
wire_enum!(RestartReason { 0 = PathDied {}, 1 = AddressesChanged {}, 2 = OtherPath {} });
wire_struct!(CandidateError {
    address,
    port,
    url,
    error_code,
    error_text
});
wire_enum!(GatheringState { 0 = New {}, 1 = Gathering {}, 2 = Complete {} });
wire_enum!(State {
    0 = New {},
    1 = Checking {},
    2 = Connected {},
    3 = Completed {},
    4 = Disconnected {},
    5 = Failed {},
    6 = Closed {},
});
wire_struct!(SelectedPair {
    local,
    remote,
    base,
    round_trip,
    nominated
});
wire_enum!(Verdict {
    0 = NoRemoteParameters {},
    1 = NoLocalCandidates {},
    2 = NoRemoteCandidates {},
    3 = NothingToPair {},
    4 = RelayNeeded { pairs: pairs },
    5 = NoRelay { pairs: pairs },
    6 = RelayFailed { pairs: pairs },
    7 = OneWay { pairs: pairs },
    8 = Rejected { code: code },
    9 = ConsentExpired {},
    10 = NotChecked {},
    11 = ConnectionBroken {},
});
wire_enum!(PairState {
    0 = Frozen {},
    1 = Waiting {},
    2 = InProgress {},
    3 = Failed {},
    4 = Succeeded {},
});

wire_enum!(Command {
    0 = Bind { request: request, address: address },
    1 = CloseSocket { 0: socket },
    2 = Resolve { request: request, name: name, port: port },
    3 = OpenStream { request: request, transport: transport, host: host, port: port, address: address },
    4 = CloseStream { 0: stream },
    5 = Listen { request: request, address: address },
    6 = Connect { request: request, local: local, remote: remote },
    7 = FindName { request: request, name: name, port: port },
    8 = RegisterName { name: name, address: address },
    9 = UnregisterName { name: name },
    10 = MapPort { socket: socket, address: address },
    11 = UnmapPort { 0: socket },
});
