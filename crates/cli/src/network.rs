//! What an agent of this program uses of the machine's network.

use nilas::{AddressPolicy, Config, PortRange, Role};
use nilas_ice::{Interface, InterfaceFilter, TcpCandidates};

use crate::arguments::{Addresses, Network};
use crate::failure::Failure;

/// The configuration of an agent, from the command line.
pub(crate) fn from_arguments(role: Role, network: &Network) -> Result<Config, Failure> {
    let interfaces = interfaces()?;
    // A name that is mistyped would leave nothing out.
    for names in [&network.interface, &network.without_interface] {
        if let Some(missing) = missing(names, &interfaces).first() {
            return Err(Failure::usage(missing));
        }
    }
    let mut config = config(role, &network.interface, &interfaces);
    if network.loopback {
        config = config.loopback(true);
    }
    for name in &network.without_interface {
        config = config.without_interface(name);
    }
    if let Some(family) = network.family {
        config = config.family(family);
    }
    let port = network.port.and_then(|port| PortRange::new(port, port));
    if let Some(ports) = port.or(network.ports) {
        config = config.ports(ports);
    }
    if let Some(dscp) = network.dscp {
        config = config.dscp(dscp);
    }
    config = config.port_mapping(network.port_mapping);
    for address in &network.external_address {
        config = config.external_address(*address);
    }
    for server in &network.stun {
        config = config.stun(server).map_err(Failure::usage)?;
    }
    let account = [
        ("--password", &network.password, "NILAS_TURN_PASSWORD"),
        ("--secret", &network.secret, "NILAS_TURN_SECRET"),
    ];
    for (option, given, variable) in account {
        if network.turn.is_empty() && is_typed(given.as_deref(), variable) {
            return Err(Failure::usage(format_args!(
                "{option} is for the servers of --turn, and none is named"
            )));
        }
    }
    for url in &network.turn {
        config = add_turn(config, url, network)?;
    }
    for list in &network.ice_servers {
        config = config
            .ice_servers(&read_list(list)?)
            .map_err(Failure::usage)?;
    }
    if network.relay_only && config.engine_config_mut().turn_servers.is_empty() {
        return Err(Failure::usage(
            "--relay-only needs a relay: name one with --turn or --ice-servers",
        ));
    }
    config = config.addresses(match network.addresses {
        _ if network.relay_only => AddressPolicy::RelayOnly,
        Addresses::All => AddressPolicy::All,
        Addresses::DefaultRoute => AddressPolicy::DefaultRoute,
        Addresses::DefaultRouteHidden => AddressPolicy::DefaultRouteHidden,
    });
    if network.tcp {
        config = config.tcp(TcpCandidates::All);
    }
    if let Some(mdns) = network.mdns {
        config = config.mdns(mdns.into());
    }
    if let Some(proxy) = &network.proxy {
        config = config.proxy(proxy.clone());
    }
    require_address(&mut config, &interfaces)?;
    Ok(config)
}

/// Whether it is the command line that gives this, and not the environment, which may be set for other uses.
pub(crate) fn is_typed(given: Option<&str>, variable: &str) -> bool {
    given.is_some() && given != std::env::var(variable).ok().as_deref()
}

/// Nothing was found. `reasons` are what went wrong on the way.
pub(crate) fn no_candidate(network: &Network, reasons: &[String]) -> Failure {
    let hides = network.relay_only || network.addresses == Addresses::DefaultRouteHidden;
    Failure::no_connection(match reasons {
        [] if hides => {
            "no candidate was found: the local addresses are hidden, and no server told another one (--stun, --turn)"
                .to_owned()
        }
        [] => "no candidate was found: bring a network interface up, or add --loopback".to_owned(),
        reasons => format!("no candidate was found: {}", reasons.join("; ")),
    })
}

/// A TURN server, with the account that the command line gives or a secret makes.
fn add_turn(config: Config, url: &str, network: &Network) -> Result<Config, Failure> {
    let user = network.user.as_deref();
    match (user, &network.password, &network.secret) {
        (user, None, Some(secret)) => {
            config.turn_with_secret(url, secret, user.unwrap_or_default())
        }
        (Some(user), Some(password), None) => config.turn(url, user, password),
        (_, Some(_), Some(_)) => {
            return Err(Failure::usage(
                "there are a password and a secret for the TURN servers: leave out --password (NILAS_TURN_PASSWORD) or \
                 --secret (NILAS_TURN_SECRET)",
            ));
        }
        _ => {
            return Err(Failure::usage(
                "a TURN server wants to know who asks: give --user and --password, or --secret",
            ));
        }
    }
    .map_err(Failure::usage)
}

/// The list itself, or what is in the file that is called so.
fn read_list(text: &str) -> Result<String, Failure> {
    let trimmed = text.trim_start();
    let is_list = trimmed.starts_with(['{', '[']) || is_url(trimmed);
    if is_list {
        return Ok(text.to_owned());
    }
    std::fs::read_to_string(text)
        .map_err(|error| Failure::usage(format!("the list of servers {text}: {error}")))
}

fn is_url(text: &str) -> bool {
    ["stun:", "stuns:", "turn:", "turns:"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
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
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    fn interface(name: &str, address: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            index: 1,
            addresses: vec![address.parse().expect("an address")],
            ..Interface::default()
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
    fn a_relay_needs_a_user_and_a_password_or_a_secret() {
        let add = |user: Option<&str>, password: Option<&str>, secret: Option<&str>| {
            let arguments = ["nilas", "gather", "--turn", "turn:192.0.2.1"];
            let Verb::Gather(mut gather) = Arguments::parse_from(arguments).verb else {
                panic!("it is gather")
            };
            gather.network.user = user.map(Into::into);
            gather.network.password = password.map(Into::into);
            gather.network.secret = secret.map(Into::into);
            add_turn(
                Config::new(Role::Controlled),
                "turn:192.0.2.1",
                &gather.network,
            )
            .map(|mut config| {
                let made = &config.engine_config_mut().turn_servers[0].credentials;
                (made.username.clone(), made.password.clone())
            })
            .map_err(|failure| (failure.exit_code(), failure.to_string()))
        };
        let given = add(Some("u"), Some("p"), None).unwrap();
        assert_eq!(given, ("u".to_owned(), "p".to_owned()));
        let (user, password) = add(Some("u"), None, Some("north")).unwrap();
        assert!(user.ends_with(":u") && password.len() == 28, "{user}");
        assert!(add(None, None, Some("north")).is_ok());
        for (user, password, secret) in [
            (None, None, None),
            (Some("u"), None, None),
            (None, Some("p"), None),
            (Some("u"), Some("p"), Some("north")),
            (Some("u"), None, Some("")),
        ] {
            let (code, why) = add(user, password, secret).unwrap_err();
            assert!(code == 2 && why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn a_list_of_servers_may_stand_in_a_file() {
        for list in ["[]", " {\"urls\": \"stun:a\"}", "stun:a", "turns:a u p"] {
            assert_eq!(read_list(list).ok().as_deref(), Some(list));
        }
        let missing = read_list("no-such-file.json").map_err(|failure| failure.exit_code());
        assert_eq!(missing, Err(2));
    }
}
