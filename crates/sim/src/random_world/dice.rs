//! A plan drawn from a seed.

use core::time::Duration;

use nilas_ice::{Role, StreamTransport, TcpCandidates, TurnTransport};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::plan::{Disturbance, Names, Net, Peer, Plan, Servers, Uplink};
use crate::link::Link;
use crate::nat::{Dependence, Nat};

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        // Not the stream of the world itself, which has the same seed.
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0x706c_616e));
        let calm = dice.one_of(2);
        let mut peers = [0, 1].map(|_| dice.peer(calm));
        if dice.one_of(10) {
            let lite = &mut peers[dice.up_to(1)];
            lite.lite = true;
            lite.interfaces.truncate(1);
            let uplink = &mut lite.interfaces[0];
            (uplink.net, uplink.nats, uplink.udp) = (Net::V4, [None, None], true);
        }
        if dice.one_of(3) {
            for peer in &mut peers {
                peer.tcp = [
                    TcpCandidates::All,
                    TcpCandidates::All,
                    TcpCandidates::Active,
                ][dice.up_to(2)];
            }
        }
        let later = [0, 0, 0, 1, 1, 1, 2, 2, 3][dice.up_to(8)];
        let later = (0..later).map(|_| dice.disturbance(&peers)).collect();
        Self {
            seed,
            servers: dice.servers(),
            trickle: !dice.one_of(4),
            signaling_delay: if dice.one_of(4) {
                dice.millis(3_000)
            } else {
                dice.millis(100)
            },
            plain: dice.one_of(3),
            names: match dice.up_to(11) {
                0 => Names::Hidden,
                1 => Names::Lost,
                _ => Names::Addresses,
            },
            streams: match dice.up_to(17) {
                0 => vec![1, 1],
                1 => vec![2],
                2 => vec![2, 2],
                _ => vec![1],
            },
            later,
            peers,
        }
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

    fn peer(&mut self, calm: bool) -> Peer {
        let mut peer = Peer {
            role: if self.one_of(2) {
                Role::Controlling
            } else {
                Role::Controlled
            },
            lite: false,
            tcp: TcpCandidates::Off,
            continual: !self.one_of(4),
            late: if self.one_of(4) {
                self.millis(12_000)
            } else {
                Duration::ZERO
            },
            interfaces: (0..=[0, 0, 0, 1, 1, 2][self.up_to(5)])
                .map(|_| self.uplink(calm))
                .collect(),
        };
        if self.one_of(3) {
            for uplink in &mut peer.interfaces {
                uplink.cost = [0, 10, 900][self.up_to(2)];
            }
        }
        peer
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
        let net = match self.up_to(9) {
            // A carrier's NAT has no IPv6 behind it here.
            _ if nats[1].is_some() => Net::V4,
            0 => Net::Dual,
            1 => Net::Guarded,
            2 => Net::Translated,
            _ => Net::V4,
        };
        Uplink {
            net,
            nats,
            udp: !self.one_of(12),
            link,
            cost: 0,
        }
    }

    fn nat(&mut self) -> Nat {
        let mut kind = || Dependence::ALL[self.up_to(2)];
        let mut nat = Nat::new(kind(), kind());
        nat.hairpin = self.one_of(2);
        nat
    }

    fn servers(&mut self) -> Servers {
        match self.up_to(9) {
            0 => Servers::None,
            1..=5 => Servers::Stun,
            6 | 7 => Servers::Turn(TurnTransport::Udp),
            8 => Servers::Turn(TurnTransport::Stream(StreamTransport::Tcp)),
            _ => Servers::Turn(TurnTransport::Stream(StreamTransport::Tls)),
        }
    }

    fn disturbance(&mut self, peers: &[Peer; 2]) -> Disturbance {
        let peer = self.up_to(1);
        let interface = self.up_to(peers[peer].interfaces.len() - 1);
        match self.up_to(15) {
            0 => Disturbance::Restarts(vec![(peer, 0)]),
            1 => Disturbance::Restarts(vec![(0, 0), (1, 0)]),
            // Twice each at the most: of three in a row an answer does not tell which of them it answers.
            2 | 3 => {
                let order = [
                    [peer, peer, 1 - peer, 1 - peer],
                    [peer, 1 - peer, peer, 1 - peer],
                    [peer, 1 - peer, 1 - peer, peer],
                ];
                let order = &order[self.up_to(2)][..2 + self.up_to(2)];
                let after = |peer: &usize| (*peer, self.up_to(300) as u64);
                Disturbance::Restarts(order.iter().map(after).collect())
            }
            4 => Disturbance::Away {
                peer,
                seconds: 2 + self.up_to(80) as u64,
            },
            5 => Disturbance::Sleep {
                peer,
                seconds: 2 + self.up_to(80) as u64,
            },
            6 => Disturbance::Reboot { peer },
            7 => Disturbance::Renumber { peer },
            8 | 9 => Disturbance::Lose {
                peer,
                interface,
                seconds: None,
            },
            10 | 11 => Disturbance::Lose {
                peer,
                interface,
                seconds: Some(self.up_to(60) as u64),
            },
            12 => Disturbance::Move { peer, interface },
            13 => Disturbance::Cost {
                peer,
                interface,
                cost: [0, 10, 900][self.up_to(2)],
            },
            14 => Disturbance::ServerAway {
                seconds: 2 + self.up_to(80) as u64,
            },
            _ => Disturbance::ServerReboot,
        }
    }
}
