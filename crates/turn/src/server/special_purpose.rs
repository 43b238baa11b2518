//! Addresses that no peer has by right: the IANA special-purpose registries (RFC 6890 and what was registered
//! since), multicast, and what IPv6 has not given out.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why an address is special, as the registries call it, or `None` if it is like any other.
///
/// Entries that the registries mark as globally reachable are special too: nobody's peer is a DNS sink.
pub(super) fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, name)| *name),
        IpAddr::V6(address) => {
            if NAT64.contains(&address) {
                // RFC 6052 section 3.1: stands for the IPv4 address inside, which is judged for itself.
                return None;
            }
            V6.iter()
                .find(|(network, _)| network.contains(&address))
                .map(|(_, name)| *name)
                .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some("not global unicast"))
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, in any of the spellings that a translator, a tunnel or a
/// socket unwraps.
pub(super) fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if address.is_unspecified() || address.is_loopback() {
        // These two are of IPv6 itself, although they lie among the compatible ones.
        return None;
    }
    let octets = address.octets();
    let [a, b, c, d] = if MAPPED.contains(&address)
        || TRANSLATED.contains(&address)
        || COMPATIBLE.contains(&address)
        || NAT64.contains(&address)
    {
        [octets[12], octets[13], octets[14], octets[15]]
    } else if SIX_TO_FOUR.contains(&address) {
        // RFC 6890 section 2.2.3 lists 6to4, whose routers take the address from behind the prefix.
        [octets[2], octets[3], octets[4], octets[5]]
    } else if TEREDO.contains(&address) {
        // RFC 6890 section 2.2.3 lists Teredo: the client's address is hidden by inverting its bits.
        [!octets[12], !octets[13], !octets[14], !octets[15]]
    } else if NAT64_LOCAL.contains(&address) {
        // RFC 6052 section 2.2: behind a prefix of 48 bits, around the octet that is zero.
        [octets[6], octets[7], octets[9], octets[10]]
    } else {
        return None;
    };
    Some(Ipv4Addr::new(a, b, c, d))
}

const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xFFFF, 0, 0], 96);
const TRANSLATED: Ipv6Net = v6([0, 0, 0, 0, 0xFFFF, 0, 0, 0], 96);
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xFF9B, 0, 0, 0, 0, 0, 0], 96);
const NAT64_LOCAL: Ipv6Net = v6([0x64, 0xFF9B, 1, 0, 0, 0, 0, 0], 48);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const V4: [(Ipv4Net, &str); 18] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([10, 0, 0, 0], 8), "private use"),
    (v4([100, 64, 0, 0], 10), "shared address space"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link local"),
    (v4([172, 16, 0, 0], 12), "private use"),
    (v4([192, 0, 0, 0], 24), "IETF protocol assignments"),
    (v4([192, 0, 2, 0], 24), "documentation"),
    (v4([192, 31, 196, 0], 24), "AS112"),
    (v4([192, 52, 193, 0], 24), "AMT"),
    (v4([192, 88, 99, 0], 24), "6to4 relay anycast"),
    (v4([192, 168, 0, 0], 16), "private use"),
    (v4([192, 175, 48, 0], 24), "AS112"),
    (v4([198, 18, 0, 0], 15), "benchmarking"),
    (v4([198, 51, 100, 0], 24), "documentation"),
    (v4([203, 0, 113, 0], 24), "documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    // The limited broadcast address is its last.
    (v4([240, 0, 0, 0], 4), "reserved"),
];

const V6: [(Ipv6Net, &str); 15] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (COMPATIBLE, "IPv4-compatible"),
    (MAPPED, "IPv4-mapped"),
    (NAT64_LOCAL, "local IPv4/IPv6 translation"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard only"),
    // With Teredo, benchmarking, AMT, AS112, ORCHID and drone remote identification.
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        "IETF protocol assignments",
    ),
    (v6([0x2001, 0xDB8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (SIX_TO_FOUR, "6to4"),
    (v6([0x2620, 0x4F, 0x8000, 0, 0, 0, 0, 0], 48), "AS112"),
    (v6([0x3FFF, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5F00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xFC00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local"),
    (v6([0xFE80, 0, 0, 0, 0, 0, 0, 0], 10), "link local"),
    (v6([0xFF00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}
