//! Own addresses behind names (draft-ietf-mmusic-mdns-ice-candidates-03, 3.1).
//!
//! With [`MdnsCandidates::Hide`](crate::MdnsCandidates::Hide) a host candidate is told with a name, `<UUID>.local`, which
//! the link resolves and nobody beyond it. The name is a keyed function of the address, so that there is nothing to remember: each address has one name
//! for as long as the agent lives, restarts included, and no other agent has it (3.3.3).
//!
//! What else could show an address is hidden with it: the base of a server-reflexive candidate, the mapped address of a
//! relayed one, which a server on the same network sees as it is, and the local address in an error. A foundation is a
//! number that the address has no part in.

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::generation::LocalCandidate;
use super::{Agent, Duty};
use crate::candidate::CandidateType;
use crate::io::Command;
use crate::shared::Shared;

/// What an agent's names are made with.
#[derive(Debug)]
pub(super) struct NameKey([u8; 16]);

impl NameKey {
    pub(super) fn fresh(shared: &mut Shared) -> Self {
        let mut key = [0; 16];
        shared.source.fill_bytes(&mut key);
        Self(key)
    }

    /// The name of an address: a UUID of version 4 (RFC 4122), whose bits nobody without the key can tell from
    /// random ones.
    fn name(&self, ip: IpAddr) -> String {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        match ip {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        let (version, variant) = (0x4 << 76, 0b10 << 62);
        let uuid = hasher.finish128().as_u128() & !(0xf << 76) & !(0b11 << 62) | version | variant;
        let hex = format!("{uuid:032x}");
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &hex[range]);
        format!("{a}-{b}-{c}-{d}-{e}.local")
    }
}

impl Agent {
    /// The name that a local candidate is told with, if its address is hidden by one. What the configuration says that an
    /// address is outside hides nothing.
    pub(super) fn own_name(&self, local: &LocalCandidate) -> Option<String> {
        let key = self.settings.name_key()?;
        let ip = local.address.ip();
        let is_own = ip == self.sockets[usize::from(local.socket)].address.ip();
        let is_hidden = local.kind == CandidateType::Host && is_own && self.is_told(local);
        is_hidden.then(|| key.name(ip))
    }

    /// Has the link answer for a candidate's name before the peer hears of it.
    ///
    /// The draft (3.1.1) has the candidate told even where nobody answers: so nothing waits for that.
    pub(super) fn register_name(&self, shared: &mut Shared, local: &LocalCandidate) {
        if let Some(name) = self.own_name(local) {
            let address = local.address.ip();
            shared.command(Command::RegisterName { name, address });
        }
    }

    /// Nobody is to answer for the names of these sockets' addresses any more.
    pub(super) fn unregister_names(&self, shared: &mut Shared, sockets: &[u16]) {
        let Some(key) = self.settings.name_key() else {
            return;
        };
        let sockets = sockets
            .iter()
            .map(|index| &self.sockets[usize::from(*index)]);
        let mut addresses: Vec<_> = sockets
            .filter(|own| own.relay.is_none() && own.duty != Duty::Carrier)
            .map(|own| own.address.ip())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            let name = key.name(address);
            shared.command(Command::UnregisterName { name });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_random_uuid_to_whoever_lacks_the_key() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let (one, other) = (NameKey([1; 16]), NameKey([2; 16]));
        let name = one.name(ip("192.0.2.1"));
        assert_eq!(
            name,
            one.name(ip("192.0.2.1")),
            "as long as the agent lives"
        );
        let different = [
            one.name(ip("192.0.2.2")),
            one.name(ip("2001:db8::1")),
            other.name(ip("192.0.2.1")),
        ];
        for different in &different {
            assert_ne!(*different, name);
        }
        for name in different.iter().chain([&name]) {
            let uuid = name.strip_suffix(".local").expect("a name of the link");
            let parts: Vec<_> = uuid.split('-').collect();
            let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{name}");
            assert!(parts[2].starts_with('4'), "version 4: {name}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{name}");
        }
    }
}
