//! The machine's addresses, interface by interface.

use std::collections::BTreeMap;
use std::io;

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
            name,
            index,
            addresses,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
