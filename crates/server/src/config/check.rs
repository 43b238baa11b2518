//! What cannot be true of a configuration, found all at once.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_turn::server::{AlternateServer, ConfigError, RelayFamilies};

use super::ServerConfig;

/// RFC 8656 section 5: a nonce is valid for an hour at most. RFC 8656 section 7.2: so is an allocation that is not
/// refreshed.
const HOUR: Duration = Duration::from_secs(3_600);
/// RFC 8656 section 12: channel numbers are 0x4000 to 0x4FFF.
const MAX_CHANNELS: usize = 4_096;
/// The most bytes of SOFTWARE, a name and a version; RFC 8489 section 14.14 allows fewer than 128 characters.
const MAX_SOFTWARE_BYTES: usize = 127;
/// RFC 8489 section 14.16: the name in ALTERNATE-DOMAIN has at most 255 bytes.
const MAX_DOMAIN: usize = 255;

/// A mistake in a configuration: where it is, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigMistake {
    /// The name of the setting, which is the one of its flag and of its key in a file.
    pub setting: &'static str,
    /// Which one, from zero, of a setting that may be given several times.
    pub item: Option<usize>,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a setting. The text tells what to do, and repeats no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The relay's core refuses it.
    Core(ConfigError),
    /// Two listeners want the same port of the same address.
    SamePort {
        /// What they want.
        address: SocketAddr,
        /// The setting that has it already.
        other: &'static str,
    },
    /// A listener that is not for clients of the relay is where relayed addresses are, so that they could reach it.
    PortOfRelay(SocketAddr),
    /// TLS without a certificate.
    NoCertificate,
    /// A range of ports that is empty or begins with zero.
    PortRange,
    /// An address to relay on that is no single machine's, or of another family than its public one.
    RelayAddress(IpAddr),
    /// A second address to relay on of the same family.
    SecondOfFamily,
    /// A duration beyond its bounds.
    Duration {
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
    /// A number beyond its bounds.
    Number {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// Clients are to be sent elsewhere, and nowhere is given.
    NoAlternate,
    /// The name of an alternate server is empty, longer than 255 bytes, or not ASCII.
    Domain,
    /// The two addresses of NAT behavior discovery are not two addresses of one family with two ports.
    Discovery,
    /// The first address of NAT behavior discovery is not listened on.
    DiscoveryPrimary,
    /// SOFTWARE is empty or too long.
    Software,
}

/// Everything that cannot be true.
pub(super) fn check(config: &ServerConfig) -> Vec<ConfigMistake> {
    let mut mistakes = Mistakes::default();
    listeners(config, &mut mistakes);
    relay(config, &mut mistakes);
    discovery(config, &mut mistakes);
    if let Err(core) = turn(config) {
        mistakes.0.extend(core);
    }
    mistakes.0
}

fn listeners(config: &ServerConfig, mistakes: &mut Mistakes) {
    let metrics: Vec<_> = config.metrics.into_iter().collect();
    let udp = [("listen", &config.stun_udp), ("tls-listen", &config.tls)];
    let tcp = [
        ("listen", &config.stun_tcp),
        ("tls-listen", &config.tls),
        ("signal-listen", &config.rendezvous),
        ("metrics", &metrics),
    ];
    overlaps(&tcp, mistakes);
    overlaps(&udp, mistakes);
    if !config.tls.is_empty() && config.certificate.is_none() {
        mistakes.add("tls-listen", None, Reason::NoCertificate);
    }
    // The relay's addresses are peers, by the ports of relays. STUN and TURN are for everybody anyway.
    let on_relay = |address: &SocketAddr| {
        let mut relays = config.relay.addresses.iter();
        relays.any(|relay| {
            relay.local == address.ip()
                || address.ip().is_unspecified() && relay.local.is_ipv4() == address.is_ipv4()
        })
    };
    for (name, addresses) in &tcp[2..] {
        for (item, address) in addresses.iter().enumerate() {
            if config.relay.ports.contains(&address.port()) && on_relay(address) {
                mistakes.add(name, Some(item), Reason::PortOfRelay(*address));
            }
        }
    }
}

/// Pairs of listeners that cannot both have their port.
fn overlaps(lists: &[(&'static str, &Vec<SocketAddr>)], mistakes: &mut Mistakes) {
    let mut seen: Vec<(&'static str, SocketAddr)> = Vec::new();
    for (name, addresses) in lists {
        for (item, address) in addresses.iter().enumerate() {
            let taken = seen.iter().find(|(_, other)| {
                address.port() != 0
                    && address.port() == other.port()
                    && address.is_ipv4() == other.is_ipv4()
                    && (address.ip() == other.ip()
                        || address.ip().is_unspecified()
                        || other.ip().is_unspecified())
            });
            if let Some((other, _)) = taken {
                let (address, other) = (*address, *other);
                mistakes.add(name, Some(item), Reason::SamePort { address, other });
            }
            seen.push((name, *address));
        }
    }
}

fn relay(config: &ServerConfig, mistakes: &mut Mistakes) {
    let relay = &config.relay;
    for (item, address) in relay.addresses.iter().enumerate() {
        let single =
            |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast() && ip.to_canonical() == ip;
        if let Some(wrong) = [address.local, address.public]
            .into_iter()
            .find(|ip| !single(*ip))
        {
            mistakes.add("relay-address", Some(item), Reason::RelayAddress(wrong));
        } else if address.local.is_ipv4() != address.public.is_ipv4() {
            mistakes.add(
                "relay-address",
                Some(item),
                Reason::RelayAddress(address.public),
            );
        }
        let before = &relay.addresses[..item];
        if before
            .iter()
            .any(|other| other.local.is_ipv4() == address.local.is_ipv4())
        {
            mistakes.add("relay-address", Some(item), Reason::SecondOfFamily);
        }
    }
    if relay.ports.is_empty() || *relay.ports.start() == 0 {
        mistakes.add("relay-ports", None, Reason::PortRange);
    }
    let second = Duration::from_secs(1);
    mistakes.duration("max-lifetime", relay.max_lifetime, second, HOUR);
    mistakes.duration(
        "default-lifetime",
        relay.default_lifetime,
        second,
        relay.max_lifetime,
    );
    mistakes.duration("nonce-lifetime", relay.nonce_lifetime, second, HOUR);
    let quotas = &relay.quotas;
    for (name, count, most) in [
        (
            "max-allocations-per-user",
            quotas.allocations_per_user,
            usize::MAX,
        ),
        ("max-allocations", quotas.allocations, usize::MAX),
        ("max-permissions", quotas.permissions, usize::MAX),
        ("max-channels", quotas.channels, MAX_CHANNELS),
    ] {
        mistakes.number(name, count as u64, most as u64);
    }
    for (name, rate) in [
        ("user-bandwidth", quotas.user_bytes_per_second),
        ("total-bandwidth", quotas.total_bytes_per_second),
    ] {
        mistakes.number(name, rate.unwrap_or(1), u64::MAX);
    }
    if relay.redirect && relay.alternate_servers.is_empty() {
        mistakes.add("redirect", None, Reason::NoAlternate);
    }
    for (item, server) in relay.alternate_servers.iter().enumerate() {
        let domain = server.domain.as_deref().unwrap_or("none");
        // RFC 8489 section 14.16: a name of the DNS, in ASCII.
        if domain.is_empty() || domain.len() > MAX_DOMAIN || !domain.is_ascii() {
            mistakes.add("alternate-server", Some(item), Reason::Domain);
        }
    }
    if let Some(software) = &config.software
        && (software.is_empty() || software.len() > MAX_SOFTWARE_BYTES)
    {
        mistakes.add("software", None, Reason::Software);
    }
}

fn discovery(config: &ServerConfig, mistakes: &mut Mistakes) {
    let Some(discovery) = config.discovery else {
        return;
    };
    let (first, second) = (discovery.primary, discovery.alternate);
    // RFC 5780 section 6: two addresses, and two ports of each.
    let two = first.is_ipv4() == second.is_ipv4()
        && first.ip() != second.ip()
        && first.port() != second.port()
        && ![first, second]
            .iter()
            .any(|address| address.ip().is_unspecified() || address.port() == 0);
    if !two {
        mistakes.add("alternate-address", None, Reason::Discovery);
    }
    if !config.stun_udp.contains(&first) {
        mistakes.add("alternate-address", None, Reason::DiscoveryPrimary);
    }
}

/// The core's configuration, or everything that the core refuses.
pub(super) fn turn(
    config: &ServerConfig,
) -> Result<nilas_turn::server::ServerConfig, Vec<ConfigMistake>> {
    let ServerConfig { access, relay, .. } = config;
    let mut mistakes = Mistakes::default();
    // Without a realm nothing else can be said about users.
    let mut turn = nilas_turn::server::ServerConfig::new(&access.realm).map_err(|error| {
        mistakes.core("realm", None, error);
        core::mem::take(&mut mistakes.0)
    })?;
    for (item, user) in access.users.iter().enumerate() {
        // A password that is no text holds characters that the profile excludes.
        let added = match core::str::from_utf8(user.password.reveal()) {
            Ok(password) => turn.add_user(&user.name, password),
            Err(_) => Err(ConfigError::Credential(
                nilas_stun::CredentialError::Disallowed,
            )),
        };
        if let Err(error) = added {
            mistakes.core("user", Some(item), error);
        }
    }
    for (item, secret) in access.secrets.iter().enumerate() {
        if let Err(error) = turn.add_secret(secret.reveal()) {
            mistakes.core("secret", Some(item), error);
        }
    }
    if let Some(tokens) = &access.tokens {
        for (item, key) in tokens.keys.iter().enumerate() {
            match turn.add_token_key(&tokens.server_name, &key.id, key.key.reveal()) {
                Ok(()) => {}
                Err(ConfigError::ServerName) => {
                    // The same for every key.
                    mistakes.core("token-server-name", None, ConfigError::ServerName);
                    break;
                }
                Err(error) => mistakes.core("token-key", Some(item), error),
            }
        }
    }
    turn.strict_expiry = access.strict_expiry;
    turn.nonce_lifetime = relay.nonce_lifetime;
    turn.default_lifetime = relay.default_lifetime;
    turn.max_lifetime = relay.max_lifetime;
    turn.families = RelayFamilies {
        ipv4: relay
            .addresses
            .iter()
            .any(|address| address.local.is_ipv4()),
        ipv6: relay
            .addresses
            .iter()
            .any(|address| address.local.is_ipv6()),
    };
    turn.tcp_relay = relay.tcp;
    turn.mobility = relay.mobility;
    turn.peer_rule.allow.clone_from(&relay.allow_peers);
    turn.peer_rule.deny.clone_from(&relay.deny_peers);
    turn.peer_rule.relay = relay
        .addresses
        .iter()
        .map(|address| address.public)
        .collect();
    turn.peer_rule.relay_ports = Some(relay.ports.clone());
    let quotas = &relay.quotas;
    turn.max_allocations_per_user = quotas.allocations_per_user;
    turn.max_allocations = quotas.allocations;
    turn.user_bandwidth = quotas.user_bytes_per_second;
    turn.total_bandwidth = quotas.total_bytes_per_second;
    turn.max_permissions = quotas.permissions;
    turn.max_channels = quotas.channels;
    turn.max_connections = quotas.connections;
    turn.error_interval = quotas.error_interval;
    turn.alternate_servers = relay
        .alternate_servers
        .iter()
        .map(|server| AlternateServer {
            address: server.address,
            domain: server.domain.as_deref().map(Into::into),
        })
        .collect();
    turn.redirect = relay.redirect;
    turn.software = config.software.as_deref().map(Into::into);
    turn.stream_patience = config.stun_idle_time;
    if mistakes.0.is_empty() {
        Ok(turn)
    } else {
        Err(mistakes.0)
    }
}

/// What differs and cannot change while the server runs.
pub(super) fn fixed_differences(old: &ServerConfig, new: &ServerConfig) -> Vec<&'static str> {
    let (old_limits, new_limits) = (&old.rendezvous_limits, &new.rendezvous_limits);
    [
        (
            "listen",
            old.stun_udp != new.stun_udp || old.stun_tcp != new.stun_tcp,
        ),
        ("tls-listen", old.tls != new.tls),
        // What is in the files can change, and where they are cannot.
        ("cert", old.certificate != new.certificate),
        ("signal-listen", old.rendezvous != new.rendezvous),
        ("metrics", old.metrics != new.metrics),
        ("alternate-address", old.discovery != new.discovery),
        ("workers", old.workers != new.workers),
        (
            "max-streams",
            old.max_stun_connections != new.max_stun_connections,
        ),
        (
            "max-streams-per-source",
            old.max_stun_connections_per_source != new.max_stun_connections_per_source,
        ),
        (
            "stream-message-time",
            old.stun_message_time != new.stun_message_time,
        ),
        (
            "max-rendezvous",
            old_limits.max_connections != new_limits.max_connections,
        ),
        (
            "max-rendezvous-per-source",
            old_limits.max_connections_per_source != new_limits.max_connections_per_source,
        ),
        (
            "code-lifetime",
            old_limits.code_lifetime != new_limits.code_lifetime,
        ),
        ("realm", old.access.realm != new.access.realm),
        ("relay-address", old.relay.addresses != new.relay.addresses),
        ("relay-ports", old.relay.ports != new.relay.ports),
        ("drain-time", old.drain_time != new.drain_time),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[derive(Default)]
struct Mistakes(Vec<ConfigMistake>);

impl Mistakes {
    fn add(&mut self, setting: &'static str, item: Option<usize>, reason: Reason) {
        let mistake = ConfigMistake {
            setting,
            item,
            reason,
        };
        // What is wrong over UDP and over TCP is told once.
        if !self.0.contains(&mistake) {
            self.0.push(mistake);
        }
    }

    fn core(&mut self, setting: &'static str, item: Option<usize>, error: ConfigError) {
        self.add(setting, item, Reason::Core(error));
    }

    fn duration(
        &mut self,
        setting: &'static str,
        value: Duration,
        least: Duration,
        most: Duration,
    ) {
        if value < least || value > most {
            self.add(setting, None, Reason::Duration { least, most });
        }
    }

    fn number(&mut self, setting: &'static str, value: u64, most: u64) {
        if value < 1 || value > most {
            self.add(setting, None, Reason::Number { least: 1, most });
        }
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl core::error::Error for ConfigMistake {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            Self::SamePort { address, other } => {
                write!(f, "{address} is taken by `{other}` already: choose another port")
            }
            Self::PortOfRelay(address) => write!(
                f,
                "port {} is one of `relay-ports`, so clients could reach it through the relay: choose another port, or another range",
                address.port()
            ),
            Self::NoCertificate => f.write_str("TLS needs a certificate: give `cert` and `key`"),
            Self::PortRange => f.write_str("the range of ports must be FIRST-LAST, with 1 <= FIRST <= LAST <= 65535"),
            Self::RelayAddress(address) => write!(
                f,
                "{address} cannot be relayed on: give an address that peers reach this machine by, and of one family with the one behind a NAT"
            ),
            Self::SecondOfFamily => f.write_str("there is one relay address of each family, IPv4 and IPv6: remove one"),
            Self::Duration { least, most } => write!(f, "must be {least:?} at least and {most:?} at most"),
            Self::Number { least, most } if *most >= u64::from(u32::MAX) => write!(f, "must be {least} at least"),
            Self::Number { least, most } => write!(f, "must be {least} at least and {most} at most"),
            Self::NoAlternate => f.write_str("clients are to be sent elsewhere: give `alternate-server`, too"),
            Self::Domain => write!(f, "the name of a server has 1 to {MAX_DOMAIN} ASCII characters"),
            Self::Discovery => f.write_str(
                "NAT behavior discovery needs another address and another port than the first address in `listen`, of the same family, and neither 0.0.0.0 nor ::",
            ),
            Self::DiscoveryPrimary => f.write_str("NAT behavior discovery begins at an address in `listen`, which must be given with its port"),
            Self::Software => write!(f, "must have 1 to {MAX_SOFTWARE_BYTES} bytes"),
        }
    }
}
