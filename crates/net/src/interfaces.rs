//! The machine's addresses, interface by interface.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use getifaddrs::{InterfaceFlags, getifaddrs};
use nilas_ice::Interface;

/// All addresses of all interfaces that are up, in the order of the interfaces' indices.
///
/// Nothing else is left out: which of them become candidates is decided by the agent's
/// [`InterfaceFilter`](nilas_ice::InterfaceFilter).
///
/// # Errors
/// When the operating system refuses to list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: BTreeMap<(u32, String), Vec<_>> = BTreeMap::new();
    for entry in getifaddrs()? {
        if !entry.flags.contains(InterfaceFlags::UP) {
            continue;
        }
        let Some(address) = entry.address.ip_addr() else {
            continue;
        };
        let addresses = found
            .entry((entry.index.unwrap_or_default(), entry.name))
            .or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(found
        .into_iter()
        .map(|((index, name), addresses)| Interface {
            cost: cost(&name),
            name,
            index,
            addresses,
        })
        .collect())
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
        }
    }
}
