//! IPv4 from a machine that has IPv6 only: through a translator of its network (NAT64, RFC 6146).
//!
//! Behind one, an IPv4 address is reached as an IPv6 address that holds it (RFC 6052). Under which prefix, the
//! network's DNS tells: it makes up IPv6 addresses for the name `ipv4only.arpa`, whose IPv4 addresses everybody
//! knows (RFC 7050). All agents of an engine share the answer, for it is the machine's network that gives it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::RequestId;
use crate::io::Command;

/// RFC 7050 section 8.1.
const WELL_KNOWN_NAME: &str = "ipv4only.arpa";
/// RFC 7050 section 8.2.
const WELL_KNOWN_ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// RFC 6052 section 2.1.
const WELL_KNOWN_PREFIX: Prefix = Prefix {
    bits: 0x0064_ff9b << 96,
    length: Length::L96,
};

/// What an engine knows of its network's translator.
#[derive(Debug, Default)]
pub(crate) struct Nat64 {
    /// The question that is being asked.
    request: Option<RequestId>,
    prefix: Option<Prefix>,
    asked: u32,
}

impl Nat64 {
    /// The question to the DNS, unless it is being asked.
    ///
    /// RFC 7050 section 3 has it asked again when the answer's TTL ends. The engine does not learn that: each
    /// gathering asks, of which only the first waits, and the system's resolver keeps the answer as long as it holds.
    pub(crate) fn ask(&mut self) -> Option<Command> {
        if self.request.is_some() {
            return None;
        }
        self.asked = self.asked.wrapping_add(1);
        let request = RequestId::of_engine(self.asked);
        self.request = Some(request);
        Some(Command::Resolve {
            request,
            name: WELL_KNOWN_NAME.into(),
            port: 0,
        })
    }

    /// The answer: whether agents learn something from it; `None` if the question was another.
    ///
    /// Of several prefixes the first is used, as of the several addresses of a server.
    pub(crate) fn answered(
        &mut self,
        request: RequestId,
        addresses: &[SocketAddr],
    ) -> Option<bool> {
        if self.request != Some(request) {
            return None;
        }
        self.request = None;
        let before = self.prefix;
        self.prefix = addresses.iter().find_map(|address| match address.ip() {
            IpAddr::V6(v6) => Prefix::of_well_known(v6),
            IpAddr::V4(_) => None,
        });
        // That there is none is worth knowing, too, to who waits.
        Some(before.is_none() || before != self.prefix)
    }

    /// The machine is in another network, perhaps: what was known or asked is of no use.
    pub(crate) fn forget(&mut self) {
        (self.request, self.prefix) = (None, None);
    }

    /// Whether a prefix may be known soon.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.prefix.is_none() && self.request.is_some()
    }

    /// Where an IPv4 address is reached through the translator, if there is one.
    pub(crate) fn through(&self, address: SocketAddr) -> Option<SocketAddr> {
        let (prefix, SocketAddr::V4(v4)) = (self.prefix?, address) else {
            return None;
        };
        // Those mean something on this machine or its link only, or nobody.
        let passes = !v4.ip().is_loopback()
            && !v4.ip().is_link_local()
            && !v4.ip().is_multicast()
            && !v4.ip().is_broadcast()
            && !v4.ip().is_unspecified();
        // RFC 6052 section 3.1: the well-known prefix must not stand before addresses that are not global.
        let allowed = prefix != WELL_KNOWN_PREFIX || is_global(*v4.ip());
        (passes && allowed).then(|| SocketAddr::new(prefix.embed(*v4.ip()).into(), v4.port()))
    }

    /// Whose address a translated one is: the way back. Any other stays as it is.
    pub(crate) fn back(&self, address: SocketAddr) -> SocketAddr {
        match (self.prefix, address) {
            (Some(prefix), SocketAddr::V6(v6)) if prefix.holds(*v6.ip()) => {
                let ipv4 = prefix.length.extract(v6.ip().octets());
                SocketAddr::new(ipv4.into(), v6.port())
            }
            _ => address,
        }
    }
}

/// A translator's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    bits: u128,
    length: Length,
}

/// The lengths that RFC 6052 section 2.2 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    L32,
    L40,
    L48,
    L56,
    L64,
    L96,
}

impl Length {
    const ALL: [Self; 6] = [
        Self::L96,
        Self::L64,
        Self::L56,
        Self::L48,
        Self::L40,
        Self::L32,
    ];

    /// Where the four octets of the IPv4 address stand. The octet 8, "u", is left out.
    const fn octets(self) -> [usize; 4] {
        match self {
            Self::L32 => [4, 5, 6, 7],
            Self::L40 => [5, 6, 7, 9],
            Self::L48 => [6, 7, 9, 10],
            Self::L56 => [7, 9, 10, 11],
            Self::L64 => [9, 10, 11, 12],
            Self::L96 => [12, 13, 14, 15],
        }
    }

    fn extract(self, octets: [u8; 16]) -> Ipv4Addr {
        Ipv4Addr::from(self.octets().map(|at| octets[at]))
    }
}

impl Prefix {
    /// The prefix of an address that the DNS made up for one of the well-known ones (RFC 7050 section 3).
    fn of_well_known(address: Ipv6Addr) -> Option<Self> {
        // What a resolver makes of IPv4 by itself, and what nobody translates.
        if address.to_ipv4().is_some() || address.is_multicast() || address.is_unicast_link_local()
        {
            return None;
        }
        let octets = address.octets();
        let lengths = WELL_KNOWN_ADDRESSES
            .iter()
            .find_map(|known| only_place(octets, *known))?;
        let mut bits = octets;
        let first = lengths.octets()[0];
        bits[first..].fill(0);
        // RFC 6052 section 2.2: this octet is zero; where it belongs to the prefix it stays as it came.
        if lengths != Length::L96 && octets[8] != 0 {
            return None;
        }
        Some(Self {
            bits: u128::from_be_bytes(bits),
            length: lengths,
        })
    }

    fn holds(self, address: Ipv6Addr) -> bool {
        self.embed(self.length.extract(address.octets())) == address
    }

    fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.bits.to_be_bytes();
        for (at, octet) in self.length.octets().into_iter().zip(address.octets()) {
            octets[at] = octet;
        }
        octets.into()
    }
}

/// The format in which an IPv6 address holds this IPv4 address. None if it is there more than once, on whichever
/// octets: nobody could say which of them is meant (RFC 7050 section 3).
fn only_place(octets: [u8; 16], known: Ipv4Addr) -> Option<Length> {
    let mut formats = Length::ALL
        .into_iter()
        .filter(|length| length.extract(octets) == known);
    let found = formats.next()?;
    let in_a_row = octets
        .windows(4)
        .filter(|window| **window == known.octets())
        .count();
    (formats.next().is_none() && in_a_row <= 1).then_some(found)
}

/// Whether it is none of those that RFC 6052 section 3.1 names, after RFC 1918 and RFC 5735.
const fn is_global(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || a == 100 && b & 0xc0 == 64
        || a == 198 && b & 0xfe == 18
        || a == 192 && b == 0 && c == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    /// RFC 6052 section 2.4, and the same places for the well-known addresses.
    #[test]
    fn all_lengths_of_the_rfc_are_found_and_filled() {
        for (known, wanted) in [
            ("2001:db8:c000:aa::", "2001:db8:c000:221::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:2:21::"),
            ("2001:db8:122:c000:0:aa00::", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:3c0:0:221::"),
            (
                "2001:db8:122:344:c0:0:aa00:0",
                "2001:db8:122:344:c0:2:2100::",
            ),
            (
                "2001:db8:122:344::192.0.0.170",
                "2001:db8:122:344::192.0.2.33",
            ),
            ("64:ff9b::192.0.0.171", "64:ff9b::192.0.2.33"),
        ] {
            let prefix = Prefix::of_well_known(v6(known)).unwrap_or_else(|| panic!("{known}"));
            let embedded = prefix.embed(Ipv4Addr::new(192, 0, 2, 33));
            assert_eq!(embedded, v6(wanted), "{known} {prefix:?}");
            let nat64 = Nat64 {
                prefix: Some(prefix),
                ..Nat64::default()
            };
            let told = SocketAddr::from(([192, 0, 2, 33], 7));
            assert_eq!(nat64.back(SocketAddr::new(embedded.into(), 7)), told);
            let other = SocketAddr::new(v6("2001:db8:9::1").into(), 7);
            assert_eq!(nat64.back(other), other);
        }
    }

    #[test]
    fn what_is_ambiguous_or_no_translation_is_no_prefix() {
        for text in [
            "::ffff:192.0.0.170",
            "::192.0.0.170",
            "2001:db8::1",
            "fe80::192.0.0.170",
            "ff05::192.0.0.170",
            // The address twice, in two formats, and in one format and elsewhere.
            "2001:db8:c000:aa::192.0.0.170",
            "2001:c000:aa:0::192.0.0.170",
            // The octet that must be zero.
            "2001:db8:c000:aa:100::",
        ] {
            assert_eq!(Prefix::of_well_known(v6(text)), None, "{text}");
        }
        // The other address tells where the first is there twice.
        let prefix = Prefix::of_well_known(v6("c000:aa:c000:aa::192.0.0.171"));
        assert_eq!(prefix.map(|prefix| prefix.length), Some(Length::L96));
    }

    #[test]
    fn the_well_known_prefix_is_for_global_addresses_and_any_for_those_of_others() {
        let mut nat64 = Nat64::default();
        let ask = |nat64: &mut Nat64| match nat64.ask() {
            Some(Command::Resolve { request, .. }) => request,
            other => panic!("{other:?}"),
        };
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let request = ask(&mut nat64);
        assert!(nat64.ask().is_none() && nat64.is_awaited());
        let known = [address("[64:ff9b::192.0.0.170]:0")];
        assert_eq!(nat64.answered(request, &known), Some(true));
        let request = ask(&mut nat64);
        assert_eq!(nat64.answered(request, &known), Some(false));
        let through = |nat64: &Nat64, text: &str| nat64.through(address(text)).is_some();
        assert!(through(&nat64, "8.8.8.8:1"));
        for local in [
            "10.0.0.1:1",
            "100.64.0.1:1",
            "127.0.0.1:1",
            "224.0.0.1:1",
            "[2001:db8::1]:1",
        ] {
            assert!(!through(&nat64, local), "{local}");
        }
        let request = ask(&mut nat64);
        assert!(!nat64.is_awaited(), "what is known holds until then");
        let another = [address("[2001:db8:64::192.0.0.170]:0")];
        assert_eq!(nat64.answered(request, &another), Some(true));
        assert!(through(&nat64, "10.0.0.1:1"));
        for nobody in [
            "127.0.0.1:1",
            "169.254.0.1:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
        ] {
            assert!(!through(&nat64, nobody), "{nobody}");
        }
        let late = ask(&mut nat64);
        nat64.forget();
        assert_eq!(nat64.answered(late, &another), None);
        assert!(!through(&nat64, "8.8.8.8:1"));
    }
}
