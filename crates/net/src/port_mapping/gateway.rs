//! The network's gateway, as the system's routes have it.

use std::net::{Ipv4Addr, UdpSocket};

/// What is known of the gateway that a local address leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gateway {
    Known(Ipv4Addr),
    /// There is none.
    Nowhere,
    /// The system does not tell.
    Untold,
}

/// The gateway of the default route on which this machine sends from `local`.
pub(super) fn gateway_of(local: Ipv4Addr) -> Gateway {
    // Of the thread's own network namespace. Elsewhere, and without /proc, there is no such file.
    let Ok(listing) = std::fs::read_to_string("/proc/thread-self/net/route") else {
        return Gateway::Untold;
    };
    let mut gateways = default_gateways(&listing).into_iter();
    let found = gateways.find(|gateway| source_towards(*gateway) == Some(local));
    found.map_or(Gateway::Nowhere, Gateway::Known)
}

/// The gateways of the default routes in a listing, those of the least metric first. Its lines have the interface, the
/// destination, the gateway, the flags, two counters, the metric and the mask; addresses are in hexadecimal digits, as
/// they lie in memory.
fn default_gateways(listing: &str) -> Vec<Ipv4Addr> {
    // Of <linux/route.h>.
    const UP: u32 = 0x1;
    const GATEWAY: u32 = 0x2;
    let route = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        let metric: u32 = fields.get(6)?.parse().ok()?;
        let is_default = number(1)? == 0 && number(7)? == 0;
        let leads_on = number(3)? & (UP | GATEWAY) == UP | GATEWAY;
        let gateway = Ipv4Addr::from(number(2)?.to_ne_bytes());
        (is_default && leads_on).then_some((metric, gateway))
    };
    let mut routes: Vec<_> = listing.lines().filter_map(route).collect();
    routes.sort_by_key(|(metric, _)| *metric);
    routes.into_iter().map(|(_, gateway)| gateway).collect()
}

/// The local address that the system would send from. Nothing is sent.
fn source_towards(to: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(own) => Some(own),
        std::net::IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateways_are_those_of_the_default_routes_that_linux_tells() {
        let listing = "\
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            ppp0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n\
            eth1\t00000000\t0103A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0\n\
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t0104A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            nothing that can be read\n";
        let found = default_gateways(listing);
        let found: Vec<_> = found.iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(found, ["192.168.1.1", "192.168.2.1"]);
    }

    #[test]
    fn loopback_has_no_gateway() {
        let found = gateway_of(Ipv4Addr::LOCALHOST);
        let told = std::path::Path::new("/proc/thread-self/net/route").exists();
        let wanted = if told {
            Gateway::Nowhere
        } else {
            Gateway::Untold
        };
        assert_eq!(found, wanted);
    }
}
