//! From settings to a configuration: what was not said, and what only this run knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nilas_server::settings::{Mistake, Settings};
use nilas_server::{RelayAddress, ServerConfig, User};

use crate::arguments;
use crate::failure::Failure;

/// Enough that nobody guesses it: 144 bits.
const PASSWORD_BYTES: usize = 18;

/// A configuration, and where its credentials come from.
pub(super) struct Configuration {
    pub(super) config: ServerConfig,
    pub(super) credentials: Credentials,
}

/// Where the credentials of a configuration come from, which decides whether they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// They were made for this run: nobody knows them who is not told.
    OfThisRun,
    /// They stand on the command line, where everybody on this machine can read them.
    OfFlags,
    /// They are kept secret.
    Secret,
}

/// What is found out or made once, and holds for the whole run, whatever is read again.
#[derive(Default)]
pub(super) struct Run {
    user: Option<User>,
    relay_addresses: Option<Vec<RelayAddress>>,
}

impl Run {
    /// Reads the file, the environment and the flags, and fills in what they leave open.
    ///
    /// # Errors
    /// All mistakes at once; or nothing could be read or made.
    pub(super) fn configure(
        &mut self,
        arguments: &arguments::Server,
    ) -> Result<Configuration, Vec<String>> {
        let mut settings = Settings::new();
        if let Some(path) = &arguments.config {
            let text = read(path).map_err(|error| vec![error])?;
            settings.file(path, &text);
        }
        // What is no text is no setting of ours.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            // It was a flag's: it names the file.
            .filter(|(name, _)| name != "NILAS_SERVER_CONFIG");
        settings.environment(variables);
        arguments.settings.give(&mut settings);
        let configured = settings.finish().map_err(|mistakes| words(&mistakes))?;
        for name in &configured.unknown_variables {
            tracing::warn!(name, "a variable of the environment that is no setting");
        }
        let mut config = configured.config;
        let serves_turn = [&config.stun_udp, &config.stun_tcp, &config.tls]
            .iter()
            .any(|list| !list.is_empty());
        if configured.relay_address_is_open && serves_turn {
            let chosen = self
                .relay_addresses
                .get_or_insert_with(|| relay_addresses(&config));
            config.relay.addresses.clone_from(chosen);
        }
        let mut credentials = if configured.credentials_are_flags {
            Credentials::OfFlags
        } else {
            Credentials::Secret
        };
        if config.access.is_empty() && !config.relay.addresses.is_empty() {
            config
                .access
                .users
                .push(self.user().map_err(|error| vec![error])?);
            credentials = Credentials::OfThisRun;
        }
        // An address that was chosen can be one that a listener must not have.
        let mistakes: Vec<_> = config.check().iter().map(ToString::to_string).collect();
        if mistakes.is_empty() {
            Ok(Configuration {
                config,
                credentials,
            })
        } else {
            Err(mistakes)
        }
    }

    /// The user of this run, which is made when it is needed first.
    fn user(&mut self) -> Result<User, String> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let mut password = [0; PASSWORD_BYTES];
        getrandom::fill(&mut password)
            .map_err(|_| "the operating system gives no random numbers for a password")?;
        let user = User::new("nilas", BASE64URL_NOPAD.encode(&password));
        Ok(self.user.insert(user).clone())
    }
}

/// The text of a file of settings.
pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Mistakes, one on each line.
pub(super) fn words(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

/// All mistakes as the end of the command.
pub(super) fn failure(mistakes: &[String]) -> Failure {
    Failure::usage(mistakes.join("\n       "))
}

/// Where to relay if nobody said so: the addresses that are listened on, and where that is all of them, the address
/// from which this machine would reach the internet.
fn relay_addresses(config: &ServerConfig) -> Vec<RelayAddress> {
    let listening = || {
        config
            .stun_udp
            .iter()
            .chain(&config.stun_tcp)
            .chain(&config.tls)
    };
    // Documentation addresses, which lie beyond the default routes.
    let families: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let mut addresses = Vec::new();
    for (wildcard, far) in families {
        let mut own = listening()
            .map(SocketAddr::ip)
            .filter(|ip| ip.is_ipv4() == wildcard.is_ipv4());
        let chosen = match own.clone().find(|ip| !ip.is_unspecified()) {
            Some(ip) => Some(ip),
            None => own.next().and_then(|_| source_address(wildcard, far)),
        };
        addresses.extend(chosen.map(RelayAddress::from));
    }
    addresses
}

/// The address from which this machine would send there. Connecting a UDP socket asks the routes, and sends nothing.
fn source_address(wildcard: IpAddr, far: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((wildcard, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Whether nobody on the internet reaches this address, so that an operator who means the internet wants to know.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_listens_it_relays() {
        let mut config = ServerConfig::loopback();
        let ips = |config: &ServerConfig| {
            let addresses = relay_addresses(config);
            addresses
                .iter()
                .map(|address| address.public.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(ips(&config), ["127.0.0.1", "::1"]);
        config.stun_udp.truncate(1);
        config.stun_tcp.truncate(1);
        assert_eq!(
            ips(&config),
            ["127.0.0.1"],
            "not on a family that is not listened on"
        );
        config.tls = vec!["[2001:db8::7]:5349".parse().unwrap()];
        assert_eq!(ips(&config), ["127.0.0.1", "2001:db8::7"]);
    }

    #[test]
    fn the_user_of_a_run_stays_and_is_another_in_the_next() {
        let mut run = Run::default();
        let first = run.user().unwrap();
        assert_eq!(run.user().unwrap(), first);
        assert_ne!(Run::default().user().unwrap(), first);
        assert_eq!(first.password.reveal().len(), 24);
    }
}
