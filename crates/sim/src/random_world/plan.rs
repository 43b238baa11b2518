//! A world as data, and made smaller.

use core::fmt;
use core::time::Duration;

use nilas_ice::{Role, StreamTransport, TcpCandidates, TurnTransport};

use crate::link::{Link, Wire};
use crate::nat::Nat;

/// A world, and what happens in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) peers: [Peer; 2],
    pub(super) servers: Servers,
    pub(super) trickle: bool,
    pub(super) signaling_delay: Duration,
    /// Neither side offers the other what RFC 8445 and RFC 8838 do not have: renomination, continual gathering.
    pub(super) plain: bool,
    pub(super) names: Names,
    /// Of how many components each stream of the session is. A session of one component is an agent on its own.
    pub(super) streams: Vec<u16>,
    /// What happens when the session has come to rest, one after the other.
    pub(super) later: Vec<Disturbance>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    pub(super) role: Role,
    /// A lite agent, which has a public address and asks no servers.
    pub(super) lite: bool,
    pub(super) tcp: TcpCandidates,
    pub(super) continual: bool,
    /// How long after the beginning of the world this peer begins to gather.
    pub(super) late: Duration,
    /// One at least.
    pub(super) interfaces: Vec<Uplink>,
}

/// An interface, and what stands between it and the Internet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Uplink {
    pub(super) net: Net,
    /// Of IPv4, from the interface outwards: none, a home router's, or a home router's and a carrier's.
    pub(super) nats: [Option<Nat>; 2],
    /// Whether UDP passes.
    pub(super) udp: bool,
    /// Between the outermost address and the Internet.
    pub(super) link: Link,
    /// What the host is told that it costs.
    pub(super) cost: u16,
}

/// The families of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Net {
    /// IPv4 only.
    V4,
    /// IPv4, and IPv6 without translation.
    Dual,
    /// Both, behind a stateful firewall.
    Guarded,
    /// IPv6 behind a stateful firewall, and IPv4 by translation (NAT64).
    Translated,
}

/// Which servers both peers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    None,
    Stun,
    /// STUN, and a relay over this transport.
    Turn(TurnTransport),
}

/// How host candidates are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// By their addresses.
    Addresses,
    /// By names that lead to them.
    Hidden,
    /// By names that lead nowhere.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// Peers restart, each so many milliseconds after the one before.
    Restarts(Vec<(usize, u64)>),
    /// A peer is unplugged for so long.
    Away { peer: usize, seconds: u64 },
    /// A peer's machine is suspended for so long.
    Sleep { peer: usize, seconds: u64 },
    /// The NATs of a peer forget all they know.
    Reboot { peer: usize },
    /// The outermost NATs of a peer get other addresses.
    Renumber { peer: usize },
    /// An interface is lost, and comes back after so long, if ever.
    Lose {
        peer: usize,
        interface: usize,
        seconds: Option<u64>,
    },
    /// An interface gets another address.
    Move { peer: usize, interface: usize },
    /// Using an interface costs something else.
    Cost {
        peer: usize,
        interface: usize,
        cost: u16,
    },
    /// The server is out of reach for so long.
    ServerAway { seconds: u64 },
    /// The server forgets all it gave.
    ServerReboot,
}

impl Plan {
    /// Whether the wires deliver everything once and in order.
    pub(super) fn is_calm(&self) -> bool {
        self.uplinks().all(|uplink| {
            let up = uplink.link.up;
            up.loss == 0.0 && up.duplication == 0.0 && up.jitter.is_zero()
        })
    }

    pub(super) fn has_tcp(&self) -> bool {
        self.peers.iter().any(|peer| peer.tcp != TcpCandidates::Off)
    }

    /// Whether both sides offer to tell and take candidates at any time.
    pub(super) fn is_continual(&self) -> bool {
        !self.plain && self.peers.iter().all(|peer| peer.continual)
    }

    /// Of all streams.
    pub(super) fn components(&self) -> usize {
        self.streams.iter().copied().map(usize::from).sum()
    }

    /// Whether what signaling brings is waited for before a nomination.
    pub(super) fn is_told_soon(&self) -> bool {
        self.signaling_delay <= Duration::from_millis(100)
    }

    /// Whether a network costs something, now or later.
    pub(super) fn has_costs(&self) -> bool {
        let later = |later: &Disturbance| matches!(later, Disturbance::Cost { .. });
        self.uplinks().any(|uplink| uplink.cost > 0) || self.later.iter().any(later)
    }

    pub(super) fn uplinks(&self) -> impl Iterator<Item = &Uplink> {
        self.peers.iter().flat_map(|peer| &peer.interfaces)
    }

    /// Worlds that are a step smaller, the largest steps first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            if plan != *self {
                all.push(plan);
            }
        };
        push(&|plan| plan.later.clear());
        for place in 0..self.later.len() {
            push(&|plan| drop(plan.later.remove(place)));
            push(&|plan| {
                if let Disturbance::Restarts(restarts) = &mut plan.later[place]
                    && restarts.len() > 1
                {
                    restarts.pop();
                }
            });
        }
        push(&|plan| plan.streams = vec![1]);
        push(&|plan| plan.streams.truncate(1));
        push(&|plan| plan.streams.fill(1));
        push(&|plan| plan.servers = Servers::None);
        push(&|plan| plan.servers = Servers::Stun);
        push(&|plan| plan.names = Names::Addresses);
        push(&|plan| plan.plain = false);
        for peer in 0..2 {
            push(&|plan| plan.peers[peer].lite = false);
            push(&|plan| plan.peers[peer].tcp = TcpCandidates::Off);
            push(&|plan| plan.peers[peer].continual = true);
            // The numbers of the others, which what happens later may name, stay.
            push(&|plan| {
                let last = plan.peers[peer].interfaces.len() - 1;
                if last > 0 && !plan.later.iter().any(|later| later.is_of(peer, last)) {
                    plan.peers[peer].interfaces.pop();
                }
            });
            for interface in 0..self.peers[peer].interfaces.len() {
                let own = |plan: &mut Self, change: &dyn Fn(&mut Uplink)| {
                    change(&mut plan.peers[peer].interfaces[interface]);
                };
                push(&|plan| own(plan, &|uplink| uplink.nats = [None, None]));
                push(&|plan| own(plan, &|uplink| uplink.nats[1] = None));
                push(&|plan| own(plan, &|uplink| uplink.net = Net::V4));
                push(&|plan| own(plan, &|uplink| uplink.udp = true));
                push(&|plan| own(plan, &|uplink| uplink.cost = 0));
                push(&|plan| {
                    own(plan, &|uplink| {
                        uplink.link = Link::new(Duration::from_millis(10));
                    })
                });
                push(&|plan| {
                    own(plan, &|uplink| {
                        uplink.link = Link::new(uplink.link.up.delay)
                    })
                });
            }
            push(&|plan| plan.peers[peer].late = Duration::ZERO);
        }
        push(&|plan| plan.peers[0].role = plan.peers[1].role.opposite());
        push(&|plan| plan.signaling_delay = Duration::ZERO);
        push(&|plan| plan.trickle = true);
        all
    }
}

impl Disturbance {
    /// Whether it happens to this interface.
    fn is_of(&self, of: usize, number: usize) -> bool {
        match self {
            Self::Lose {
                peer, interface, ..
            }
            | Self::Move { peer, interface }
            | Self::Cost {
                peer, interface, ..
            } => (*peer, *interface) == (of, number),
            _ => false,
        }
    }
}

impl Uplink {
    pub(super) const fn has_v4(&self) -> bool {
        !matches!(self.net, Net::Translated)
    }

    pub(super) const fn has_v6(&self) -> bool {
        !matches!(self.net, Net::V4)
    }

    /// Whether anybody may send to it unasked.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.net, Net::V4 | Net::Dual) && self.nats == [None, None]
    }

    /// Whether anybody may send to it by IPv6 unasked.
    pub(super) const fn is_open_v6(&self) -> bool {
        matches!(self.net, Net::Dual)
    }
}

impl Servers {
    /// Whether an interface has a way to the relay.
    pub(super) const fn relay_for(self, uplink: &Uplink) -> bool {
        match self {
            Self::None | Self::Stun => false,
            Self::Turn(TurnTransport::Udp) => uplink.udp,
            Self::Turn(_) => true,
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no server",
            Self::Stun => "STUN",
            Self::Turn(TurnTransport::Udp) => "TURN over UDP",
            Self::Turn(TurnTransport::Stream(StreamTransport::Tcp)) => "TURN over TCP",
            Self::Turn(_) => "TURN over TLS",
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            lite,
            tcp,
            continual,
            late,
            interfaces,
        } = self;
        let lite = if *lite { "lite, " } else { "" };
        write!(f, "{lite}{role:?} after {late:?}")?;
        if *tcp != TcpCandidates::Off {
            write!(f, ", TCP {tcp:?}")?;
        }
        if !continual {
            f.write_str(", not continual")?;
        }
        interfaces.iter().try_for_each(|uplink| uplink.fmt(f))
    }
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            net,
            nats,
            udp,
            link,
            cost,
        } = self;
        let Wire {
            delay,
            jitter,
            loss,
            duplication,
            ..
        } = link.up;
        write!(f, ", an interface {net:?}")?;
        for nat in nats.iter().flatten() {
            let hairpin = if nat.hairpin { " hairpinning" } else { "" };
            write!(
                f,
                " behind {:?} mapping {:?} filtering{hairpin}",
                nat.mapping, nat.filtering
            )?;
        }
        if !udp {
            f.write_str(" without UDP")?;
        }
        if *cost > 0 {
            write!(f, " that costs {cost}")?;
        }
        write!(
            f,
            " {delay:?} away (jitter {jitter:?}, loss {loss}, duplication {duplication})"
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed: _,
            peers: [a, b],
            servers,
            trickle,
            signaling_delay,
            plain,
            names,
            streams,
            later,
        } = self;
        let trickle = if *trickle { "trickled" } else { "told at once" };
        write!(f, "{a}; {b}; {servers}, {trickle} in {signaling_delay:?}")?;
        if *plain {
            f.write_str(", plain")?;
        }
        if *names != Names::Addresses {
            write!(f, ", names {names:?}")?;
        }
        if self.components() > 1 {
            write!(f, ", streams of {streams:?} components")?;
        }
        write!(f, "; later {later:?}")
    }
}
