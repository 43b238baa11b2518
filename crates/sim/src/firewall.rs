//! Firewalls: which ports may be reached, and whether what nobody asked for may come in.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use nilas_ice::Time;

use crate::nat::Dependence;
use crate::packet::Flow;

/// What a router lets pass.
///
/// ```
/// use nilas_sim::{Firewall, Ports};
///
/// // Nothing but TCP to port 443.
/// let mut office = Firewall::stateful();
/// office.udp = Ports::None;
/// office.tcp = Ports::Only(vec![443]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Firewall {
    /// What may come in. It holds for what is routed; what is translated, the NAT's own filter judges.
    pub inbound: Inbound,
    /// The outside ports that UDP may go to, and come from.
    pub udp: Ports,
    /// The outside ports that TCP may go to, and come from.
    pub tcp: Ports,
    /// How long a UDP flow is remembered after its last packet of either direction. TCP's times are those of RFC
    /// 5382 section 5.
    pub lifetime: Duration,
}

/// What may come in from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "it asks for a flow, or it does not"
)]
pub enum Inbound {
    /// Everything.
    Everything,
    /// Answers to what went out: from the very endpoint it went to, from its address, or from anywhere to the
    /// inside address that sent (RFC 6092).
    Answers(Dependence),
}

/// A set of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all, some or none")]
pub enum Ports {
    /// Every port.
    All,
    /// No port: the transport is blocked.
    None,
    /// These.
    Only(Vec<u16>),
}

impl Firewall {
    /// Lets everything pass: a start for one that blocks ports only.
    #[must_use]
    pub const fn open() -> Self {
        Self {
            inbound: Inbound::Everything,
            udp: Ports::All,
            tcp: Ports::All,
            lifetime: Duration::from_secs(120),
        }
    }

    /// Lets everything out, and in what answers it, endpoint by endpoint: the usual firewall of a home router.
    #[must_use]
    pub fn stateful() -> Self {
        Self {
            inbound: Inbound::Answers(Dependence::AddressAndPortDependent),
            ..Self::open()
        }
    }
}

impl Ports {
    fn contain(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// A firewall at work.
#[derive(Debug)]
pub(crate) struct FirewallState {
    rules: Firewall,
    /// Until when what is inside may be answered by what is outside.
    flows: BTreeMap<FlowKey, Time>,
    sweep_at: Time,
}

/// Whether it is TCP, the inside endpoint, and what of the outside endpoint makes a difference.
type FlowKey = (bool, SocketAddr, (Option<IpAddr>, u16));

/// RFC 5382 section 5: an established connection, idle.
const TCP_LIFETIME: Duration = Duration::from_secs(2 * 3_600 + 4 * 60);

impl FirewallState {
    pub(crate) const fn new(rules: Firewall) -> Self {
        Self {
            rules,
            flows: BTreeMap::new(),
            sweep_at: Time::ZERO,
        }
    }

    /// Whether the ports allow a packet to or from this outside endpoint.
    pub(crate) fn allows(&self, flow: Flow, outside: SocketAddr) -> bool {
        let ports = if flow.is_tcp() {
            &self.rules.tcp
        } else {
            &self.rules.udp
        };
        ports.contain(outside.port())
    }

    /// A packet goes out.
    pub(crate) fn note_out(
        &mut self,
        now: Time,
        flow: Flow,
        inside: SocketAddr,
        outside: SocketAddr,
    ) {
        let Inbound::Answers(dependence) = self.rules.inbound else {
            return;
        };
        if self.sweep_at <= now {
            self.sweep_at = now + self.rules.lifetime.max(Duration::from_secs(1));
            self.flows.retain(|_, until| *until >= now);
        }
        let key = (flow.is_tcp(), inside, dependence.part_of(outside));
        self.flows.insert(key, now + self.lifetime(flow));
    }

    /// Whether a packet may come in.
    pub(crate) fn admits(
        &mut self,
        now: Time,
        flow: Flow,
        inside: SocketAddr,
        outside: SocketAddr,
    ) -> bool {
        let Inbound::Answers(dependence) = self.rules.inbound else {
            return true;
        };
        let renewed = now + self.lifetime(flow);
        let key = (flow.is_tcp(), inside, dependence.part_of(outside));
        match self.flows.get_mut(&key) {
            Some(until) if *until >= now => {
                *until = renewed;
                true
            }
            _ => false,
        }
    }

    /// Forgets all flows.
    pub(crate) fn reboot(&mut self) {
        self.flows.clear();
    }

    const fn lifetime(&self, flow: Flow) -> Duration {
        match flow {
            Flow::Udp => self.rules.lifetime,
            Flow::Tcp(_) => TCP_LIFETIME,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn answers_pass_as_far_as_the_firewall_looks() {
        // From another port of the same address, from another address.
        for (dependence, passes) in
            Dependence::ALL
                .into_iter()
                .zip([[true, true], [true, false], [false, false]])
        {
            let mut firewall = FirewallState::new(Firewall {
                inbound: Inbound::Answers(dependence),
                ..Firewall::open()
            });
            let (inside, peer) = (address("[2001:db8:a::1]:1"), address("[2001:db8:b::1]:1"));
            let from = |firewall: &mut FirewallState, outside: &str| {
                firewall.admits(Time::ZERO, Flow::Udp, inside, address(outside))
            };
            assert!(!from(&mut firewall, "[2001:db8:b::1]:1"));
            firewall.note_out(Time::ZERO, Flow::Udp, inside, peer);
            assert!(from(&mut firewall, "[2001:db8:b::1]:1"));
            let others = ["[2001:db8:b::1]:2", "[2001:db8:c::1]:1"];
            assert_eq!(
                others.map(|other| from(&mut firewall, other)),
                passes,
                "{dependence:?}"
            );
        }
    }

    #[test]
    fn a_flow_lives_from_its_last_packet_of_either_direction() {
        let mut firewall = FirewallState::new(Firewall::stateful());
        let (inside, peer) = (address("[2001:db8:a::1]:1"), address("[2001:db8:b::1]:1"));
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        firewall.note_out(at(0), Flow::Udp, inside, peer);
        assert!(firewall.admits(at(119), Flow::Udp, inside, peer));
        assert!(firewall.admits(at(238), Flow::Udp, inside, peer));
        assert!(!firewall.admits(at(359), Flow::Udp, inside, peer));
        firewall.note_out(at(360), Flow::Udp, inside, peer);
        firewall.reboot();
        assert!(!firewall.admits(at(360), Flow::Udp, inside, peer));
    }

    #[test]
    fn ports_are_those_outside() {
        let mut rules = Firewall::open();
        rules.udp = Ports::None;
        rules.tcp = Ports::Only(vec![443]);
        let firewall = FirewallState::new(rules);
        let tcp = Flow::Tcp(crate::packet::Segment::default());
        let allowed = [(tcp, 443), (tcp, 80), (Flow::Udp, 443)]
            .map(|(flow, port)| firewall.allows(flow, SocketAddr::from(([192, 0, 2, 1], port))));
        assert_eq!(allowed, [true, false, false]);
    }
}
