//! The crate `is`: two agents and the wire between them, in virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

use crate::allocator::uncounted;

struct UnderWay {
    at: Instant,
    to: usize,
    source: SocketAddr,
    destination: SocketAddr,
    bytes: Vec<u8>,
}

/// Two agents of `is`.
pub(crate) struct IsPair {
    agents: [IceAgent; 2],
    nominated: [bool; 2],
    wire: VecDeque<UnderWay>,
    start: Instant,
    now: Instant,
    packets: u64,
}

const DELAY: Duration = Duration::from_millis(25);

impl IsPair {
    /// Two agents with this many host candidates each, introduced. `start` is any moment.
    pub(crate) fn start(addresses: u8, start: Instant) -> Self {
        let credentials = [IceCreds::new(), IceCreds::new()];
        let mut agents = credentials.clone().map(IceAgent::new);
        for (side, agent) in agents.iter_mut().enumerate() {
            agent.set_controlling(side == 0);
            agent.set_max_candidate_pairs(512);
            // As nilas does, and RFC 8445 section 14.2 allows.
            agent.set_timing_advance(Duration::from_millis(5));
            agent.set_remote_credentials(credentials[1 - side].clone());
        }
        for side in 0..2 {
            for n in 1..=addresses {
                let address = SocketAddr::from(([10, 0, side as u8, n], 10_000));
                let candidate = Candidate::host(address, "udp").expect("a candidate");
                let Some(added) = agents[side].add_local_candidate(candidate).cloned() else {
                    continue;
                };
                agents[1 - side].add_remote_candidate(added);
            }
        }
        Self {
            agents,
            nominated: [false; 2],
            wire: uncounted(|| VecDeque::with_capacity(256)),
            start,
            now: start,
            packets: 0,
        }
    }

    /// Runs until both have a nominated pair; how long that takes.
    pub(crate) fn run_until_nominated(&mut self) -> Duration {
        let end = self.start + Duration::from_secs(60);
        self.tick(0);
        self.tick(1);
        while self.nominated != [true; 2] {
            self.step(end);
        }
        self.now - self.start
    }

    /// Runs for this long.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
        // The wire's own memory is none of the agents'.
        self.wire.shrink_to_fit();
    }

    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.wire.front().map(|datagram| datagram.at);
        let wakes = [0, 1].map(|side: usize| self.agents[side].poll_timeout());
        let Some(next) = wakes
            .into_iter()
            .flatten()
            .chain(arrival)
            .min()
            .filter(|next| *next <= end)
        else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let Some(UnderWay {
                to,
                source,
                destination,
                bytes,
                ..
            }) = self.wire.pop_front()
            else {
                return true;
            };
            if let Ok(message) = StunMessage::parse(&bytes) {
                let packet = StunPacket {
                    proto: Protocol::Udp,
                    source,
                    destination,
                    message,
                };
                self.agents[to].handle_packet(self.now, packet);
            }
            // As its own owner does: time moves on with every input.
            self.tick(to);
        } else {
            for (side, wake) in wakes.into_iter().enumerate() {
                if wake.is_some_and(|at| at <= self.now) {
                    self.tick(side);
                }
            }
        }
        true
    }

    fn tick(&mut self, side: usize) {
        self.agents[side].handle_timeout(self.now);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        while let Some(transmit) = self.agents[side].poll_transmit() {
            self.packets += 1;
            self.wire.push_back(UnderWay {
                at: self.now + DELAY,
                to: 1 - side,
                source: transmit.source,
                destination: transmit.destination,
                bytes: transmit.contents.into(),
            });
        }
        while let Some(event) = self.agents[side].poll_event() {
            self.nominated[side] |= matches!(event, IceAgentEvent::NominatedSend { .. });
        }
    }

    /// Datagrams sent so far, by both sides.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }
}
