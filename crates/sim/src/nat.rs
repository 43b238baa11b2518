//! NATs in the terms of RFC 4787: what a mapping and what a filter depends on.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use nilas_ice::Time;

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nat {
    /// What the mapping of an inside address depends on (RFC 4787 section 4.1).
    pub mapping: Dependence,
    /// What decides whether a datagram from outside may pass (RFC 4787 section 5).
    pub filtering: Dependence,
    /// Whether two inside addresses reach each other through their outside ones (RFC 4787 section 6).
    pub hairpin: bool,
    /// How long a mapping lives after the last datagram from inside (RFC 4787 section 4.3).
    pub lifetime: Duration,
}

impl Nat {
    /// A NAT of this mapping and filtering that hairpins, whose mappings live two minutes.
    pub const fn new(mapping: Dependence, filtering: Dependence) -> Self {
        // RFC 4787 section 4.3: a mapping must not expire in less than two minutes.
        Self {
            mapping,
            filtering,
            hairpin: true,
            lifetime: Duration::from_secs(120),
        }
    }
}

impl Default for Nat {
    /// The commonest NAT at home: endpoint-independent mapping, address and port-dependent filtering.
    fn default() -> Self {
        Self::new(
            Dependence::EndpointIndependent,
            Dependence::AddressAndPortDependent,
        )
    }
}

/// What of the outside endpoint makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 4787 sections 4.1 and 5 know these three"
)]
pub enum Dependence {
    /// Nothing of it.
    EndpointIndependent,
    /// Its address.
    AddressDependent,
    /// Its address and its port.
    AddressAndPortDependent,
}

impl Dependence {
    /// Only what makes a difference; the rest is put to nothing.
    const fn part_of(self, endpoint: SocketAddr) -> (Option<IpAddr>, u16) {
        match self {
            Self::EndpointIndependent => (None, 0),
            Self::AddressDependent => (Some(endpoint.ip()), 0),
            Self::AddressAndPortDependent => (Some(endpoint.ip()), endpoint.port()),
        }
    }
}

/// A NAT at work.
#[derive(Debug)]
pub(crate) struct NatState {
    behaviour: Nat,
    outside: IpAddr,
    /// The outside port of each mapping.
    ports: BTreeMap<MappingKey, u16>,
    mappings: BTreeMap<u16, Mapping>,
    /// The port of each session: of an inside address and an outside endpoint that exchanged datagrams.
    sessions: BTreeMap<(SocketAddr, SocketAddr), u16>,
    next_port: u16,
}

/// An inside address, and what of the outside endpoint its mapping depends on.
type MappingKey = (SocketAddr, (Option<IpAddr>, u16));

#[derive(Debug)]
struct Mapping {
    key: MappingKey,
    last_used: Time,
    /// The outside endpoints that the inside has sent to, as far as the filter looks at them.
    permitted: BTreeSet<(Option<IpAddr>, u16)>,
    /// The sessions that use it.
    sessions: Vec<(SocketAddr, SocketAddr)>,
}

/// Where a NAT takes its ports from; those below are left to services.
const FIRST_PORT: u16 = 20_000;

impl NatState {
    pub(crate) const fn new(behaviour: Nat, outside: IpAddr) -> Self {
        Self {
            behaviour,
            outside,
            ports: BTreeMap::new(),
            mappings: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_port: FIRST_PORT,
        }
    }

    /// The source that a datagram from inside has outside; `None` if it cannot pass.
    pub(crate) fn translate_out(
        &mut self,
        now: Time,
        inside: SocketAddr,
        destination: SocketAddr,
    ) -> Option<SocketAddr> {
        if inside.is_ipv4() != self.outside.is_ipv4() {
            return None;
        }
        let key = (inside, self.behaviour.mapping.part_of(destination));
        let live = |port: &u16| self.is_live(now, *port);
        let session = self.sessions.get(&(inside, destination)).copied();
        let mapped = || self.ports.get(&key).copied().filter(live);
        let port = match session.filter(live).or_else(mapped) {
            Some(port) => port,
            None => self.open(now, key)?,
        };
        self.keep_session(now, inside, destination, port);
        let mapping = self.mappings.get_mut(&port)?;
        // RFC 4787 section 4.3: outbound refresh.
        mapping.last_used = now;
        mapping
            .permitted
            .insert(self.behaviour.filtering.part_of(destination));
        Some(SocketAddr::new(self.outside, port))
    }

    /// The inside address that a datagram from `source` to an outside port is for; `None` if no
    /// mapping or the filter stops it.
    ///
    /// What passes is answered from the port it came to, unless the inside has sent to `source` before: so do
    /// all NATs that keep a table of sessions, Linux's among them. It matters where the mapping depends on the
    /// destination and the filter lets strangers in, of which RFC 4787 says nothing.
    pub(crate) fn translate_in(
        &mut self,
        now: Time,
        source: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        let mapping = self
            .mappings
            .get(&port)
            .filter(|_| self.is_live(now, port))?;
        let filtering = self.behaviour.filtering.part_of(source);
        if !mapping.permitted.contains(&filtering) {
            return None;
        }
        let inside = mapping.key.0;
        self.keep_session(now, inside, source, port);
        Some(inside)
    }

    pub(crate) const fn hairpins(&self) -> bool {
        self.behaviour.hairpin
    }

    fn is_live(&self, now: Time, port: u16) -> bool {
        self.mappings
            .get(&port)
            .is_some_and(|mapping| now.since(mapping.last_used) <= self.behaviour.lifetime)
    }

    /// Writes down which port a session has, if it has none yet.
    fn keep_session(&mut self, now: Time, inside: SocketAddr, outside: SocketAddr, port: u16) {
        let session = (inside, outside);
        let known = self.sessions.get(&session).copied();
        if known.is_none_or(|port| !self.is_live(now, port)) {
            self.sessions.insert(session, port);
            if let Some(mapping) = self.mappings.get_mut(&port) {
                mapping.sessions.push(session);
            }
        }
    }

    fn open(&mut self, now: Time, key: MappingKey) -> Option<u16> {
        let ports = u32::from(u16::MAX - FIRST_PORT) + 1;
        let start = u32::from(self.next_port - FIRST_PORT);
        let port = (0..ports)
            .map(|step| FIRST_PORT + ((start + step) % ports) as u16)
            .find(|port| !self.is_live(now, *port))?;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        let mapping = Mapping {
            key,
            last_used: now,
            permitted: BTreeSet::new(),
            sessions: Vec::new(),
        };
        // What expired on this port must not lead to its new owner.
        if let Some(expired) = self.mappings.insert(port, mapping) {
            if self.ports.get(&expired.key) == Some(&port) {
                self.ports.remove(&expired.key);
            }
            for session in expired.sessions {
                if self.sessions.get(&session) == Some(&port) {
                    self.sessions.remove(&session);
                }
            }
        }
        self.ports.insert(key, port);
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Dependence; 3] = [
        Dependence::EndpointIndependent,
        Dependence::AddressDependent,
        Dependence::AddressAndPortDependent,
    ];

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> NatState {
        NatState::new(Nat::new(mapping, filtering), address("203.0.113.1:0").ip())
    }

    #[test]
    fn mappings_depend_on_what_they_say() {
        // Another port, then another address: do they share the mapping of the first?
        for (kind, shares) in KINDS
            .into_iter()
            .zip([[true, true], [true, false], [false, false]])
        {
            let mut nat = nat(kind, Dependence::EndpointIndependent);
            let inside = address("10.0.0.1:1000");
            let mut to = |text| {
                nat.translate_out(Time::ZERO, inside, address(text))
                    .expect("a port")
            };
            let first = to("192.0.2.1:1");
            assert_eq!(
                [to("192.0.2.1:2") == first, to("192.0.2.2:1") == first],
                shares,
                "{kind:?}"
            );
            assert_eq!(to("192.0.2.1:1"), first);
        }
    }

    #[test]
    fn filters_depend_on_what_they_say() {
        for (kind, passes) in KINDS
            .into_iter()
            .zip([[true, true], [true, false], [false, false]])
        {
            let mut nat = nat(Dependence::EndpointIndependent, kind);
            let inside = address("10.0.0.1:1000");
            let outside = nat
                .translate_out(Time::ZERO, inside, address("192.0.2.1:1"))
                .expect("a port");
            let mut from = |text| nat.translate_in(Time::ZERO, address(text), outside.port());
            assert_eq!(from("192.0.2.1:1"), Some(inside));
            let others = [from("192.0.2.1:2").is_some(), from("192.0.2.2:1").is_some()];
            assert_eq!(others, passes, "{kind:?}");
        }
    }

    #[test]
    fn what_came_in_is_answered_from_where_it_came_to() {
        for mapping in [
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ] {
            let mut nat = nat(mapping, Dependence::EndpointIndependent);
            let inside = address("10.0.0.1:1000");
            let mapped = |nat: &mut NatState, to| {
                nat.translate_out(Time::ZERO, inside, address(to))
                    .expect("a port")
            };
            let told = mapped(&mut nat, "192.0.2.1:1");
            let older = mapped(&mut nat, "192.0.2.2:1");
            assert_ne!(older, told);
            for peer in ["192.0.2.2:1", "192.0.2.2:2"] {
                let came = nat.translate_in(Time::ZERO, address(peer), told.port());
                assert_eq!(came, Some(inside), "{peer}");
            }
            assert_eq!(mapped(&mut nat, "192.0.2.2:2"), told, "{mapping:?}");
            assert_eq!(mapped(&mut nat, "192.0.2.2:1"), older, "{mapping:?}");
            // Nothing of it is left when the mapping is gone.
            let later = Time::from_millis(121_000);
            let renewed = nat.translate_out(later, inside, address("192.0.2.2:2"));
            assert_ne!(renewed, Some(told), "{mapping:?}");
        }
    }

    #[test]
    fn mappings_live_from_the_last_datagram_out() {
        let mut nat = nat(
            Dependence::EndpointIndependent,
            Dependence::EndpointIndependent,
        );
        let (inside, outside) = (address("10.0.0.1:1000"), address("192.0.2.1:1"));
        let minute = |n: u64| Time::from_millis(n * 60_000);
        let port = nat
            .translate_out(minute(0), inside, outside)
            .expect("a port")
            .port();
        assert_eq!(
            nat.translate_out(minute(1), inside, outside)
                .map(|a| a.port()),
            Some(port)
        );
        assert_eq!(nat.translate_in(minute(3), outside, port), Some(inside));
        assert_eq!(nat.translate_in(minute(4), outside, port), None);
        let renewed = nat
            .translate_out(minute(4), inside, outside)
            .expect("a port")
            .port();
        assert_ne!(renewed, port);
    }

    #[test]
    fn ports_run_out_and_come_back() {
        let mut nat = nat(
            Dependence::EndpointIndependent,
            Dependence::EndpointIndependent,
        );
        let remote = address("192.0.2.1:1");
        let inside = |n: u16| SocketAddr::new(address("10.0.0.1:0").ip(), n);
        let all = u16::MAX - FIRST_PORT + 1;
        // The lifetime of the whole table is renewed by nobody, so one time is enough.
        for n in 0..all {
            assert!(
                nat.translate_out(Time::ZERO, inside(n), remote).is_some(),
                "{n}"
            );
        }
        assert_eq!(nat.translate_out(Time::ZERO, inside(all), remote), None);
        let later = Time::from_millis(121_000);
        assert!(nat.translate_out(later, inside(all), remote).is_some());
        assert_eq!(
            nat.translate_in(later, remote, FIRST_PORT),
            Some(inside(all))
        );
    }

    #[test]
    fn families_do_not_mix() {
        let mut nat = nat(
            Dependence::EndpointIndependent,
            Dependence::EndpointIndependent,
        );
        assert_eq!(
            nat.translate_out(
                Time::ZERO,
                address("[fd00::1]:1"),
                address("[2001:db8::1]:1")
            ),
            None
        );
    }
}
