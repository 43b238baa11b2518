//! What a section says about ICE, and what a later one changes.

use core::fmt;
use core::net::SocketAddr;

use super::attribute::{Attribute, RemoteCandidate};
use super::error::SdpError;
use crate::candidate::{Candidate, CandidateType, Transport};
use crate::parameters::Parameters;

/// Everything that an `m=` section says about ICE: read from one, or to be written into one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceDescription {
    /// The parameters, from the section or from the session's lines; a section's own take precedence (RFC
    /// 8839 section 5.4). `None`: no ICE is supported here (RFC 8839 section 4.2.5).
    pub parameters: Option<Parameters>,
    /// The default destination: the `c=` line and the port of the `m=` line.
    pub destination: Destination,
    /// The default destination of component 2, where an `rtcp` attribute tells it. Without one it has the
    /// address of component 1 and the next port.
    pub rtcp_destination: Option<Destination>,
    /// The candidates, in their order.
    pub candidates: Vec<Candidate>,
    /// No more candidates follow (RFC 8840 section 8).
    pub end_of_candidates: bool,
    /// The default destination of the offer matched no candidate, and ICE is not used (RFC 8839 section
    /// 5.3).
    pub mismatch: bool,
    /// The candidates of the receiver that the sender has selected (RFC 8839 section 5.2).
    pub remote_candidates: Vec<RemoteCandidate>,
}

impl IceDescription {
    /// What a side says before it has any candidate: its parameters, and no destination (RFC 8840 sections
    /// 4.1.1 and 4.1.3).
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters: Some(parameters),
            ..Self::default()
        }
    }

    /// Makes the default candidates of components 1 and 2 the default destinations.
    pub fn choose_destinations(&mut self) {
        self.destination = Destination::of(&self.candidates, 1);
        self.rtcp_destination = match Destination::of(&self.candidates, 2) {
            Destination::Unknown => None,
            known => Some(known),
        };
    }

    /// What this side, which said `previous` before, now asks for.
    ///
    /// A `c=` line of 0.0.0.0 with the credentials of before is not taken for a restart, although RFC 8839
    /// section 4.4.1.1.1 says that it implies one: it is how old agents put a call on hold, and an
    /// answer with other credentials would be one that they do not expect.
    pub fn change_since(&self, previous: &Self) -> IceChange {
        let Some(now) = self.parameters.as_ref().filter(|_| !self.mismatch) else {
            return IceChange::Ends;
        };
        let Some(before) = previous.parameters.as_ref().filter(|_| !previous.mismatch) else {
            return IceChange::Restarts;
        };
        match (now.ufrag == before.ufrag, now.pwd == before.pwd) {
            (false, false) => IceChange::Restarts,
            (true, true) if same_but_credentials(now, before) => IceChange::Continues,
            _ => IceChange::Refused,
        }
    }

    /// The lines that say all this, without what concerns the whole session.
    pub(super) fn lines(&self) -> Result<Vec<String>, SdpError> {
        let parameters = self.parameters.iter().flat_map(Parameters::attributes);
        let parameters = parameters
            .filter(|attribute| !matches!(attribute, Attribute::IceLite | Attribute::IcePacing(_)));
        // RFC 8839 section 4.2.5: with "ice-mismatch" an agent MUST omit "candidate" attributes.
        let candidates = self.candidates.iter().filter(|_| !self.mismatch);
        let remote = &self.remote_candidates;
        parameters
            .chain(self.mismatch.then_some(Attribute::IceMismatch))
            .chain((!remote.is_empty()).then(|| Attribute::RemoteCandidates(remote.clone())))
            .chain(candidates.cloned().map(Attribute::Candidate))
            .chain(self.end_of_candidates.then_some(Attribute::EndOfCandidates))
            .map(line)
            .collect()
    }
}

/// RFC 8839 section 4.4.1.1.1: "The agent MUST NOT modify the SDP "ice-options", "ice-pacing", and
/// "ice-lite" attributes in a subsequent offer unless the offer is sent in order to request an ICE restart."
fn same_but_credentials(now: &Parameters, before: &Parameters) -> bool {
    let options = |parameters: &Parameters| {
        let mut options = parameters.options.clone();
        options.sort_unstable();
        options
    };
    now.pacing() == before.pacing() && now.lite == before.lite && options(now) == options(before)
}

/// The line of an attribute, if what is written reads the same again: fields are public, and may hold
/// anything.
pub(super) fn line(attribute: Attribute) -> Result<String, SdpError> {
    let line = format!("a={attribute}");
    match line.parse::<Attribute>() {
        Ok(read) if read == attribute => Ok(line),
        _ => Err(SdpError::Unwritable),
    }
}

/// Where data goes that knows nothing of ICE (RFC 8839 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Nothing is known yet, or nothing is told: 0.0.0.0 or ::, and port 9 (RFC 8840 section 4.1.1).
    #[default]
    Unknown,
    /// An address.
    Address(SocketAddr),
    /// A name, which no candidate can match.
    Name {
        /// The name.
        name: Box<str>,
        /// The port.
        port: u16,
    },
}

impl Destination {
    /// The default candidate of a component: the one that most likely reaches a peer without ICE. That is a
    /// relayed one before one that a server saw, and that before one of the machine (RFC 6544 section
    /// 4.3 wants UDP); among those of a type the one of the highest priority.
    pub fn of(candidates: &[Candidate], component: u16) -> Self {
        let rank = |kind| match kind {
            CandidateType::Relay => 3,
            CandidateType::Srflx => 2,
            CandidateType::Prflx => 1,
            CandidateType::Host => 0,
        };
        candidates
            .iter()
            .filter(|own| own.component == component && own.transport == Transport::Udp)
            .filter_map(|own| Some((rank(own.kind), own.priority, own.ip_address()?)))
            .max()
            .map_or(Self::Unknown, |(_, _, address)| Self::Address(address))
    }

    pub(super) const fn port(&self) -> u16 {
        match self {
            Self::Unknown => 9,
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl fmt::Display for Destination {
    /// As in a `c=` line: `IN IP4 192.0.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("IN IP4 0.0.0.0"),
            Self::Address(SocketAddr::V4(address)) => write!(f, "IN IP4 {}", address.ip()),
            Self::Address(SocketAddr::V6(address)) => write!(f, "IN IP6 {}", address.ip()),
            Self::Name { name, .. } => write!(f, "IN IP4 {name}"),
        }
    }
}

/// What a later description asks for, compared with the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceChange {
    /// The session goes on.
    Continues,
    /// ICE begins (RFC 8839 section 4.4.1.1.3), or begins anew: ufrag and password are both new (RFC 8839 section
    /// 4.4.1.1.1).
    Restarts,
    /// ICE is no longer used (RFC 8839 sections 4.2.5 and 4.4.3.1).
    Ends,
    /// Only one of ufrag and password is new, or options, pacing or lite changed without a restart: such
    /// an offer must be rejected (RFC 8839 section 4.4.2.1).
    Refused,
}
