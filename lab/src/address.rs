//! The addresses that every laboratory uses: documentation prefixes (RFC 5737, RFC 3849), so that
//! nothing of it can be mistaken for a real host.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::node::{Side, Uplink};

/// The two IPv4 addresses of the server.
pub const SERVER_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 10),
    Ipv4Addr::new(203, 0, 113, 11),
];

/// The two IPv6 addresses of the server.
pub const SERVER_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x11),
];

/// The prefix (96 bits) under which the kind `nat64` reaches IPv4: the last 32 bits are the IPv4
/// address. Not the well-known `64:ff9b::/96`, under which tayga refuses documentation addresses.
pub const NAT64_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0x64, 0, 0, 0, 0);

/// An uplink's public IPv4 network is a /26; its first address is the core's.
pub(crate) const PUBLIC_PREFIX_LENGTH: u32 = 26;

/// The network address of an uplink's public /26.
const fn public_network(uplink: Uplink) -> u32 {
    let base = Ipv4Addr::new(198, 51, 100, 0).to_bits();
    match uplink {
        Uplink::A => base,
        Uplink::B => base + 64,
        Uplink::Cell => base + 128,
    }
}

/// The core's address on an uplink.
pub(crate) const fn gateway_v4(uplink: Uplink) -> Ipv4Addr {
    Ipv4Addr::from_bits(public_network(uplink) + 1)
}

/// The address that an uplink has when the laboratory starts.
pub(crate) const fn public_v4(uplink: Uplink) -> Ipv4Addr {
    Ipv4Addr::from_bits(public_network(uplink) + 2)
}

/// Whether an uplink may be given `address`: inside its /26 and neither end of it nor the gateway.
pub(crate) const fn may_renumber_to(uplink: Uplink, address: Ipv4Addr) -> bool {
    let network = public_network(uplink);
    let address = address.to_bits();
    address > network + 1 && address < network + (1 << (32 - PUBLIC_PREFIX_LENGTH)) - 1
}

/// The first three bytes of a home network, `overlap` puts B on A's.
pub(crate) const fn lan_v4(side: Side, overlap: bool) -> &'static str {
    match side {
        Side::B if !overlap => "192.168.2",
        _ => "192.168.1",
    }
}

/// The IPv6 prefix (64 bits, without `::`) between the core and a side.
pub(crate) const fn wan_v6(side: Side) -> &'static str {
    match side {
        Side::A => "2001:db8:a",
        Side::B => "2001:db8:b",
    }
}

/// The IPv6 prefix (64 bits, without `::`) of a side's home network.
pub(crate) const fn lan_v6(side: Side) -> &'static str {
    match side {
        Side::A => "2001:db8:a1",
        Side::B => "2001:db8:b1",
    }
}

/// The Ethernet address of an uplink's end at the core.
pub(crate) fn upper_ethernet(uplink: Uplink) -> String {
    format!("02:00:00:00:01:{:02x}", uplink as u8)
}

/// The Ethernet address of an uplink's other end.
pub(crate) fn lower_ethernet(uplink: Uplink) -> String {
    format!("02:00:00:00:02:{:02x}", uplink as u8)
}
