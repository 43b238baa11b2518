//! Signaling: how the descriptions of two agents reach each other.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use nilas_ice::{
    Candidate, CandidateAddress, CandidateType, Event, GatheringState, Parameters, Transport,
};

use crate::agents::Agent;

/// How signaling between two agents behaves; see [`World::signal_between`](crate::World::signal_between).
///
/// It loses nothing and keeps the order, as a signaling connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signaling {
    delay: Duration,
    trickle: bool,
    disguise: Disguise,
}

/// What peers that are others than ours would tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disguise {
    /// No renomination and no continual gathering.
    pub(crate) plain: bool,
    /// Names in place of the addresses of host candidates.
    pub(crate) names: bool,
}

impl Disguise {
    fn put_on(self, signal: &mut Signal) {
        match signal {
            Signal::Parameters(parameters) if self.plain => {
                let extensions = ["renomination", "continual"];
                parameters
                    .options
                    .retain(|option| !extensions.contains(&&**option));
            }
            Signal::Candidate(candidate) | Signal::CandidateRemoved(candidate) if self.names => {
                // As browsers do, which have no TCP candidates that others could reach.
                let is_host = candidate.kind == CandidateType::Host;
                if let Some(address) = candidate.ip_address()
                    && is_host
                    && candidate.transport == Transport::Udp
                {
                    candidate.address = CandidateAddress::Name {
                        name: name_of(address.ip()).into(),
                        port: address.port(),
                    };
                }
            }
            _ => {}
        }
    }
}

/// The name that stands for an address.
pub(crate) fn name_of(address: IpAddr) -> String {
    let plain = address.to_string().replace(['.', ':'], "-");
    format!("{plain}.local")
}

impl Signaling {
    /// Everything is carried as soon as it is known (RFC 8838), and takes `delay`.
    pub const fn trickled(delay: Duration) -> Self {
        Self {
            delay,
            trickle: true,
            disguise: Disguise {
                plain: false,
                names: false,
            },
        }
    }

    /// Nothing is carried until gathering is complete; then everything at once, and it takes `delay`.
    pub const fn all_at_once(delay: Duration) -> Self {
        Self {
            delay,
            trickle: false,
            ..Self::trickled(delay)
        }
    }

    /// The same between peers that tell something else.
    pub(crate) const fn disguised(mut self, disguise: Disguise) -> Self {
        self.disguise = disguise;
        self
    }
}

/// One thing that an agent tells its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Its parameters; new ones are a restart.
    Parameters(Parameters),
    /// A candidate.
    Candidate(Candidate),
    /// A candidate is taken back.
    CandidateRemoved(Candidate),
    /// There are no more candidates of this generation.
    EndOfCandidates,
}

impl Signal {
    /// What an event of an agent means to its peer.
    pub(crate) fn from_event(event: &Event) -> Option<Self> {
        match event {
            Event::LocalParameters(parameters) => Some(Self::Parameters(parameters.clone())),
            Event::Candidate(candidate) => Some(Self::Candidate(candidate.clone())),
            Event::CandidateRemoved(candidate) => Some(Self::CandidateRemoved(candidate.clone())),
            Event::GatheringStateChange(GatheringState::Complete) => Some(Self::EndOfCandidates),
            _ => None,
        }
    }
}

/// One direction between two peers: what all components of a session tell goes one after the other.
#[derive(Debug)]
pub(crate) struct Channel {
    signaling: Signaling,
    held: bool,
    /// Who has not told all of its generation.
    incomplete: BTreeSet<Agent>,
    /// What waits, and for whom.
    waiting: Vec<(Agent, Signal)>,
}

impl Channel {
    /// A channel on which these have not told anything.
    pub(crate) fn new(signaling: Signaling, from: impl Iterator<Item = Agent>) -> Self {
        Self {
            signaling,
            held: false,
            incomplete: from.collect(),
            waiting: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, from: Agent, to: Agent, mut signal: Signal) {
        self.signaling.disguise.put_on(&mut signal);
        match signal {
            Signal::Parameters(_) => {
                self.incomplete.insert(from);
            }
            Signal::EndOfCandidates => {
                self.incomplete.remove(&from);
            }
            Signal::Candidate(_) | Signal::CandidateRemoved(_) => {}
        }
        self.waiting.push((to, signal));
    }

    /// Nothing more comes of an agent.
    pub(crate) fn close(&mut self, from: Agent) {
        self.incomplete.remove(&from);
    }

    pub(crate) const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// What may leave now.
    pub(crate) fn leaving(&mut self) -> Vec<(Agent, Signal)> {
        let ready = !self.held && (self.signaling.trickle || self.incomplete.is_empty());
        if ready {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }

    pub(crate) const fn delay(&self) -> Duration {
        self.signaling.delay
    }
}

/// Where an agent's signals go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The place of its channel among those of the world.
    pub(crate) channel: usize,
    pub(crate) to: Agent,
}
