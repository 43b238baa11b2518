//! What an agent of this program uses of the machine's network.

use nilas::{Config, Role};
use nilas_ice::{Interface, InterfaceFilter, StunServer};

use crate::arguments::Network;
use crate::failure::Failure;

/// The configuration of an agent, from the command line.
pub(crate) fn from_arguments(role: Role, network: &Network) -> Result<Config, Failure> {
    let interfaces = interfaces()?;
    if let Some(missing) = missing(&network.interface, &interfaces).first() {
        return Err(Failure::usage(missing));
    }
    let mut config = config(role, &network.interface, &interfaces);
    if network.loopback {
        config = config.loopback(true);
    }
    for server in &network.stun {
        config = config.stun(server).map_err(Failure::usage)?;
    }
    require_address(&mut config, &interfaces)?;
    Ok(config)
}

/// Refuses a machine on which an agent would find nothing: waiting for its verdict would help nobody.
pub(crate) fn require_address(
    config: &mut Config,
    interfaces: &[Interface],
) -> Result<(), Failure> {
    let filter = &config.engine_config_mut().filter;
    if interfaces.iter().any(|interface| admits(filter, interface)) {
        return Ok(());
    }
    Err(Failure::usage(
        "no network interface has an address to use: bring one up, or name another one",
    ))
}

/// An agent on the interfaces with these names, or on all if there is none. Loopback addresses are used where
/// nothing else is there: otherwise two programs on this machine could not find each other.
pub(crate) fn config(role: Role, names: &[String], interfaces: &[Interface]) -> Config {
    let mut config = Config::new(role);
    for name in names {
        config = config.interface(name);
    }
    let filter = &config.engine_config_mut().filter;
    let nothing_else = !interfaces.iter().any(|interface| admits(filter, interface));
    config.loopback(nothing_else)
}

/// A sentence for each name that no interface has.
pub(crate) fn missing(names: &[String], interfaces: &[Interface]) -> Vec<String> {
    let there: Vec<_> = interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let missing = names.iter().filter(|name| !there.contains(&name.as_str()));
    missing
        .map(|name| {
            format!(
                "no interface that is up is called {name:?}: there are {}",
                there.join(", ")
            )
        })
        .collect()
}

/// The server that a text names: `host:port`, `[v6]:port`, or a `stun:` URI.
pub(crate) fn stun_server(text: &str) -> Result<StunServer, nilas::ServerError> {
    let mut config = Config::controlling().stun(text)?;
    // One text is one server.
    Ok(config.engine_config_mut().stun_servers.remove(0))
}

/// All interfaces of this machine that are up.
pub(crate) fn interfaces() -> Result<Vec<Interface>, Failure> {
    nilas_net::interfaces().map_err(|error| {
        Failure::internal(format!(
            "the operating system does not list its interfaces: {error}"
        ))
    })
}

fn admits(filter: &InterfaceFilter, interface: &Interface) -> bool {
    interface
        .addresses
        .iter()
        .any(|address| filter.admits(interface, *address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            index: 1,
            addresses: vec![address.parse().expect("an address")],
        }
    }

    #[test]
    fn loopback_is_used_where_there_is_nothing_else() {
        let uses_loopback = |names: &[String], interfaces: &[Interface]| {
            config(Role::Controlled, names, interfaces)
                .engine_config_mut()
                .filter
                .loopback
        };
        let (loopback, ethernet) = (interface("lo", "127.0.0.1"), interface("eth0", "192.0.2.1"));
        assert!(uses_loopback(&[], &[]));
        assert!(uses_loopback(
            &[],
            &[loopback.clone(), interface("eth0", "fe80::1")]
        ));
        assert!(!uses_loopback(&[], &[loopback.clone(), ethernet.clone()]));
        assert!(uses_loopback(&["lo".to_owned()], &[loopback, ethernet]));
    }

    #[test]
    fn a_machine_without_an_address_is_refused_at_once() {
        let up = [interface("lo", "127.0.0.1")];
        assert_eq!(
            require_address(&mut config(Role::Controlled, &[], &up), &up),
            Ok(())
        );
        let failure = require_address(&mut config(Role::Controlled, &[], &[]), &[]);
        assert_eq!(failure.map_err(|failure| failure.exit_code()), Err(2));
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let names = ["eth0".to_owned(), "eth9".to_owned()];
        let missing = missing(&names, &[interface("eth0", "192.0.2.1")]);
        assert_eq!(
            missing,
            [r#"no interface that is up is called "eth9": there are eth0"#]
        );
    }

    #[test]
    fn a_server_is_named_in_every_spelling() {
        for text in ["192.0.2.1:7", "stun:192.0.2.1:7"] {
            assert_eq!(
                stun_server(text),
                Ok(StunServer {
                    host: "192.0.2.1".to_owned(),
                    port: 7
                })
            );
        }
        assert!(stun_server("turn:192.0.2.1").is_err());
        assert!(stun_server("a b").is_err());
    }
}
