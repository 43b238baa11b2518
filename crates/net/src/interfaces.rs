//! The machine's addresses, interface by interface.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use getifaddrs::{InterfaceFlags, getifaddrs};
use nilas_ice::Interface;

/// Up, and with a carrier. What can have none, such as loopback and most tunnels, always runs to the system; a cable
/// that leads nowhere and a wireless network that was not joined do not.
const USABLE: InterfaceFlags = InterfaceFlags::UP.union(InterfaceFlags::RUNNING);

/// All addresses of all interfaces that are up and run, in the order of the interfaces' indices, and which of them are
/// temporary or deprecated, as far as the system tells: that is so on Linux.
///
/// Of addresses that cannot be used yet, or not at all because another machine has them, nothing is said. Nothing else is left out: which of them become candidates is decided by the agent's
/// [`InterfaceFilter`](nilas_ice::InterfaceFilter).
///
/// # Errors
/// When the operating system refuses to list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: BTreeMap<(u32, String), Interface> = BTreeMap::new();
    let kinds = kinds();
    for entry in getifaddrs()? {
        if !entry.flags.contains(USABLE) {
            continue;
        }
        let Some(address) = entry.address.ip_addr() else {
            continue;
        };
        let index = entry.index.unwrap_or_default();
        let kind = kinds.get(&(index, address)).copied().unwrap_or_default();
        if kind.is_unusable {
            continue;
        }
        let interface = found.entry((index, entry.name));
        let interface = interface.or_insert_with_key(|(index, name)| Interface {
            cost: cost(name),
            name: name.clone(),
            index: *index,
            ..Interface::default()
        });
        if interface.addresses.contains(&address) {
            continue;
        }
        interface.addresses.push(address);
        if kind.is_temporary {
            interface.temporary.push(address);
        }
        if kind.is_deprecated {
            interface.deprecated.push(address);
        }
    }
    let routes = default_routes();
    for interface in found.values_mut() {
        let mut addresses = interface.addresses.iter();
        interface.default_route = addresses.any(|address| routes.contains(address));
    }
    Ok(found.into_values().collect())
}

/// All addresses of this machine, in order: also those of interfaces that are down, or have no carrier. What is sent to
/// any of them from here never leaves.
///
/// # Errors
/// When the operating system refuses to list them.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<_> = getifaddrs()?
        .filter_map(|entry| entry.address.ip_addr())
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// What the system says of an IPv6 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    is_temporary: bool,
    is_deprecated: bool,
    is_unusable: bool,
}

/// The kinds of the addresses, by their interface.
fn kinds() -> BTreeMap<(u32, IpAddr), Kind> {
    // Of the thread's own network namespace. Elsewhere, and without /proc, there is no such file.
    let listing = std::fs::read_to_string("/proc/thread-self/net/if_inet6");
    parse_kinds(&listing.unwrap_or_default())
}

/// Reads lines of an address, the index of its interface, the length of its prefix, its scope, its flags, all in
/// hexadecimal digits, and the name of the interface.
fn parse_kinds(listing: &str) -> BTreeMap<(u32, IpAddr), Kind> {
    // Of <linux/if_addr.h>.
    const TEMPORARY: u8 = 0x01;
    const DAD_FAILED: u8 = 0x08;
    const DEPRECATED: u8 = 0x20;
    const TENTATIVE: u8 = 0x40;
    let kind = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let index = u32::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
        let kind = Kind {
            is_temporary: flags & TEMPORARY != 0,
            is_deprecated: flags & DEPRECATED != 0,
            is_unusable: flags & (TENTATIVE | DAD_FAILED) != 0,
        };
        Some(((index, Ipv6Addr::from_bits(address).into()), kind))
    };
    listing.lines().filter_map(kind).collect()
}

/// The local addresses that the system would send from to somewhere on the Internet (RFC 8828 section 6.2), one of
/// each family that has a route. Nothing is sent.
fn default_routes() -> Vec<IpAddr> {
    // Addresses for documentation: nothing more special than the default route leads there.
    let far: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(203, 0, 113, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let source = |(own, far): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    far.into_iter().filter_map(source).collect()
}

/// What libwebrtc has for each kind of network.
const WIRELESS: u16 = 10;
const CELLULAR: u16 = 900;

/// What it costs to send by an interface: see [`Interface::cost`]. Linux says which ones are wireless; modems are known
/// by the names that systems give them. All others, bridges and tunnels among them, count as wired.
fn cost(name: &str) -> u16 {
    const MODEMS: [&str; 5] = ["wwan", "rmnet", "ccmni", "ppp", "pdp_ip"];
    if MODEMS.iter().any(|modem| name.starts_with(modem)) {
        return CELLULAR;
    }
    let wireless = cfg!(target_os = "linux")
        && !name.contains('/')
        && Path::new("/sys/class/net")
            .join(name)
            .join("wireless")
            .exists();
    if wireless { WIRELESS } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modems_cost_more_than_wires() {
        assert_eq!(
            ["wwan0", "rmnet_data1", "lo", "../net/lo"].map(cost),
            [900, 900, 0, 0]
        );
    }

    #[test]
    fn the_kinds_of_addresses_are_those_that_linux_tells() {
        let listing = "\
            fe800000000000000000000000000001 02 40 20 80     eth0\n\
            20010db8000000000000000000000001 02 40 00 00     eth0\n\
            20010db8000000000000000000000002 02 40 00 01     eth0\n\
            20010db8000000000000000000000003 02 40 00 21     eth0\n\
            20010db8000000000000000000000004 0c 40 00 40     wlan0\n\
            20010db8000000000000000000000005 0c 40 00 c8     wlan0\n\
            nothing that can be read\n";
        let kinds = parse_kinds(listing);
        let found: Vec<_> = kinds
            .into_iter()
            .map(|((index, address), kind)| {
                let flags = (kind.is_temporary, kind.is_deprecated, kind.is_unusable);
                (index, address.to_string(), flags)
            })
            .collect();
        let wanted = [
            (2, "2001:db8::1", (false, false, false)),
            (2, "2001:db8::2", (true, false, false)),
            (2, "2001:db8::3", (true, true, false)),
            (2, "fe80::1", (false, false, false)),
            (12, "2001:db8::4", (false, false, true)),
            (12, "2001:db8::5", (false, false, true)),
        ];
        assert_eq!(
            found,
            wanted.map(|(index, address, flags)| (index, address.to_owned(), flags))
        );
    }

    #[test]
    fn an_interface_with_the_default_route_is_found() {
        let routes = default_routes();
        let found = interfaces().unwrap();
        // A machine may have no default route, as one without a network.
        for route in &routes {
            let of = |interface: &&Interface| interface.addresses.contains(route);
            let interface = found.iter().find(of).expect("the route's address");
            assert!(interface.default_route, "{interface:?}");
        }
        let marked = found.iter().filter(|interface| interface.default_route);
        assert!(marked.count() <= routes.len());
    }

    #[test]
    fn loopback_is_listed_with_its_index() {
        let found = interfaces().unwrap();
        let loopback = found
            .iter()
            .find(|interface| {
                interface
                    .addresses
                    .iter()
                    .any(|address| address.is_loopback())
            })
            .expect("a machine with a loopback interface that is up");
        assert_ne!(loopback.index, 0);
        for interface in &found {
            assert!(
                !interface.name.is_empty() && !interface.addresses.is_empty(),
                "{interface:?}"
            );
            let own = own_addresses().unwrap();
            for address in &interface.addresses {
                assert!(own.contains(address), "{interface:?}");
            }
        }
    }
}
