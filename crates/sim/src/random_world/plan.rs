//! A world as data: drawn from a seed, and made smaller.

use core::fmt;
use core::time::Duration;

use nilas_ice::Role;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::link::{Link, Wire};
use crate::nat::{Dependence, Nat};

/// A world, and what happens in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) peers: [Peer; 2],
    /// Whether there is a STUN server.
    pub(super) stun: bool,
    pub(super) trickle: bool,
    pub(super) signaling_delay: Duration,
    /// What happens when the session has come to rest.
    pub(super) disturbance: Option<Disturbance>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    pub(super) role: Role,
    /// How long after the beginning of the world this peer begins to gather.
    pub(super) late: Duration,
    /// One at least.
    pub(super) interfaces: Vec<Uplink>,
}

/// An interface, and what stands between it and the Internet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Uplink {
    /// From the interface outwards: none, a home router's, or a home router's and a carrier's.
    pub(super) nats: [Option<Nat>; 2],
    /// Between the outermost address and the Internet.
    pub(super) link: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// One peer restarts, or both at the same time.
    Restart([bool; 2]),
    /// A peer is gone for so long.
    Away { peer: usize, seconds: u64 },
    /// The NATs of a peer forget all they know.
    Reboot { peer: usize },
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        // Not the stream of the world itself, which has the same seed.
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0x706c_616e));
        let calm = dice.one_of(2);
        let peers = [0, 1].map(|_| Peer {
            role: if dice.one_of(2) {
                Role::Controlling
            } else {
                Role::Controlled
            },
            late: if dice.one_of(4) {
                dice.millis(12_000)
            } else {
                Duration::ZERO
            },
            interfaces: (0..=[0, 0, 0, 1, 1, 2][dice.up_to(5)])
                .map(|_| dice.uplink(calm))
                .collect(),
        });
        Self {
            seed,
            peers,
            stun: !dice.one_of(8),
            trickle: !dice.one_of(4),
            signaling_delay: if dice.one_of(4) {
                dice.millis(3_000)
            } else {
                dice.millis(100)
            },
            disturbance: dice.disturbance(),
        }
    }

    /// Whether the wires deliver everything once and in order.
    pub(super) fn is_calm(&self) -> bool {
        self.uplinks().all(|uplink| {
            let up = uplink.link.up;
            up.loss == 0.0 && up.duplication == 0.0 && up.jitter.is_zero()
        })
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
        push(&|plan| plan.disturbance = None);
        push(&|plan| plan.stun = false);
        for peer in 0..2 {
            for interface in 0..self.peers[peer].interfaces.len() {
                push(&|plan| {
                    if plan.peers[peer].interfaces.len() > 1 {
                        plan.peers[peer].interfaces.remove(interface);
                    }
                });
                push(&|plan| plan.peers[peer].interfaces[interface].nats = [None, None]);
                push(&|plan| plan.peers[peer].interfaces[interface].nats[1] = None);
                push(&|plan| {
                    let link = &mut plan.peers[peer].interfaces[interface].link;
                    *link = Link::new(Duration::from_millis(10));
                });
                push(&|plan| {
                    let link = &mut plan.peers[peer].interfaces[interface].link;
                    *link = Link::new(link.up.delay);
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

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed: _,
            peers,
            stun,
            trickle,
            signaling_delay,
            disturbance,
        } = self;
        for Peer {
            role,
            late,
            interfaces,
        } in peers
        {
            write!(f, "{role:?} after {late:?}")?;
            for Uplink { nats, link } in interfaces {
                let Wire {
                    delay,
                    jitter,
                    loss,
                    duplication,
                    ..
                } = link.up;
                f.write_str(", an interface")?;
                for nat in nats.iter().flatten() {
                    let hairpin = if nat.hairpin { " hairpinning" } else { "" };
                    write!(
                        f,
                        " behind {:?} mapping {:?} filtering{hairpin}",
                        nat.mapping, nat.filtering
                    )?;
                }
                write!(
                    f,
                    " {delay:?} away (jitter {jitter:?}, loss {loss}, duplication {duplication})"
                )?;
            }
            f.write_str("; ")?;
        }
        let servers = if *stun { "STUN" } else { "no server" };
        let trickle = if *trickle { "trickled" } else { "told at once" };
        write!(
            f,
            "{servers}, {trickle} in {signaling_delay:?}; later {disturbance:?}"
        )
    }
}

struct Dice(ChaCha8Rng);

impl Dice {
    /// From zero to this, both included.
    fn up_to(&mut self, most: usize) -> usize {
        self.0.next_u32() as usize % (most + 1)
    }

    fn one_of(&mut self, chances: usize) -> bool {
        self.up_to(chances - 1) == 0
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.up_to(most) as u64)
    }

    fn uplink(&mut self, calm: bool) -> Uplink {
        let mut link = Link::new(self.millis(60));
        if !calm {
            link = link
                .with_loss(self.up_to(100) as f64 / 1_000.0)
                .with_duplication(self.up_to(100) as f64 / 1_000.0)
                .with_jitter(self.millis(30));
        }
        let nats = match self.up_to(5) {
            0 | 1 => [None, None],
            2..=4 => [Some(self.nat()), None],
            _ => [Some(self.nat()), Some(self.nat())],
        };
        Uplink { nats, link }
    }

    fn nat(&mut self) -> Nat {
        let mut kind = || Dependence::ALL[self.up_to(2)];
        let mut nat = Nat::new(kind(), kind());
        nat.hairpin = self.one_of(2);
        nat
    }

    fn disturbance(&mut self) -> Option<Disturbance> {
        Some(match self.up_to(9) {
            0 => Disturbance::Restart([true, false]),
            1 => Disturbance::Restart([false, true]),
            2 => Disturbance::Restart([true, true]),
            3 => Disturbance::Away {
                peer: self.up_to(1),
                seconds: 2 + self.up_to(80) as u64,
            },
            4 => Disturbance::Reboot {
                peer: self.up_to(1),
            },
            _ => return None,
        })
    }
}
