//! Every setting, once: its name, its help, what it does.

use super::draft::Draft;
use super::value::{
    address, alternate_server, duration, network, number, ports, rate, relay_address, switch,
};
use crate::config::{DEFAULT_RENDEZVOUS_PORT, DEFAULT_STUN_PORT};

/// RFC 8656 section 3.1 and RFC 7065: the port of TURN over TLS and DTLS.
const DEFAULT_TLS_PORT: u16 = 5349;
/// The port of metrics, where nothing else has it.
const DEFAULT_METRICS_PORT: u16 = 9478;

/// A setting of a server, as its flag, its key in a file and its variable.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The name: of the flag without its dashes, and of the key.
    pub name: &'static str,
    /// How often it may be given.
    pub kind: Kind,
    /// What kind of thing its value is, such as `ADDRESS:PORT`.
    pub value: &'static str,
    /// Whether its value is a secret.
    pub is_secret: bool,
    /// Which settings it stands with.
    pub group: Group,
    /// A line of help.
    pub help: &'static str,
    /// What holds without it.
    pub default: &'static str,
    pub(super) apply: fn(&mut Draft, &str) -> Result<(), String>,
}

/// How often a setting may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Once.
    One,
    /// Several times; in a file also as a list.
    Many,
    /// Once, as `true` or `false`; a flag without a value is `true`.
    Switch,
}

/// Settings that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Group {
    /// Where the server listens.
    Listening,
    /// Who may use the relay.
    Access,
    /// What the relay is.
    Relay,
    /// How much is allowed.
    Limits,
}

impl Group {
    /// Its heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Listening => "Where it listens",
            Self::Access => "Who may use the relay",
            Self::Relay => "The relay",
            Self::Limits => "Limits",
        }
    }
}

impl Setting {
    /// The setting of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// The name of its variable.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.name.to_ascii_uppercase().replace('-', "_");
        format!("{}{name}", super::VARIABLE_PREFIX)
    }

    const fn many(name: &'static str, value: &'static str, group: Group, apply: Apply) -> Self {
        Self {
            name,
            kind: Kind::Many,
            value,
            is_secret: false,
            group,
            help: "",
            default: "none",
            apply,
        }
    }

    const fn one(name: &'static str, value: &'static str, group: Group, apply: Apply) -> Self {
        Self {
            kind: Kind::One,
            ..Self::many(name, value, group, apply)
        }
    }

    const fn switch(name: &'static str, group: Group, apply: Apply) -> Self {
        Self {
            kind: Kind::Switch,
            ..Self::many(name, "true|false", group, apply)
        }
    }

    const fn secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

type Apply = fn(&mut Draft, &str) -> Result<(), String>;

/// The word for no address at all.
const NONE: &str = "none";

/// All of them, in the order of their help.
pub const SETTINGS: &[Setting] = &[
    Setting::many("listen", "ADDRESS[:PORT]", Group::Listening, |draft, text| {
        if text != NONE {
            let address = address(text, DEFAULT_STUN_PORT)?;
            draft.config.stun_udp.push(address);
            draft.config.stun_tcp.push(address);
            draft.added("listen");
        }
        Ok(())
    })
    .default("port 3478 of all addresses")
    .help("Where to serve STUN and TURN over UDP and TCP, or `none`"),
    Setting::many("tls-listen", "ADDRESS[:PORT]", Group::Listening, |draft, text| {
        draft.config.tls.push(address(text, DEFAULT_TLS_PORT)?);
        draft.added("tls-listen");
        Ok(())
    })
    .help("Where to serve STUN, TURN and the rendezvous over TLS, and STUN and TURN over DTLS; the usual port is 5349, and 443 passes most firewalls; there is DTLS where the certificate serves for it"),
    Setting::one("cert", "FILE", Group::Listening, |draft, text| {
        draft.certificate = Some(draft.path(text));
        Ok(())
    })
    .help("The certificate chain in PEM, the server's own certificate first; DTLS needs a key of ECDSA, P-256 or P-384, and sends that certificate alone"),
    Setting::one("key", "FILE", Group::Listening, |draft, text| {
        draft.key = Some(draft.path(text));
        Ok(())
    })
    .help("The private key in PEM"),
    Setting::many("signal-listen", "ADDRESS[:PORT]", Group::Listening, |draft, text| {
        if text != NONE {
            draft.config.rendezvous.push(address(text, DEFAULT_RENDEZVOUS_PORT)?);
            draft.added("signal-listen");
        }
        Ok(())
    })
    .default("port 3480 of all addresses")
    .help("Where peers meet, a WebSocket, or `none`"),
    Setting::one("metrics", "ADDRESS[:PORT]", Group::Listening, |draft, text| {
        draft.config.metrics = Some(address(text, DEFAULT_METRICS_PORT)?);
        Ok(())
    })
    .help("Where to serve /metrics (for Prometheus) and /health; the usual port is 9478, and strangers should not reach it"),
    Setting::one("alternate-address", "ADDRESS:PORT", Group::Listening, |draft, text| {
        draft.alternate_address = Some(
            text.parse()
                .map_err(|_| "an address with its port is needed, such as 192.0.2.2:3479")?,
        );
        Ok(())
    })
    .help("A second address of this machine, and a second port, for NAT behavior discovery (RFC 5780)"),
    Setting::one("public-name", "NAME", Group::Listening, |draft, text| {
        // RFC 7065: what a URI could not hold is no name of a server.
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if text.is_empty() || text.len() > 253 || !text.chars().all(allowed) {
            return Err("a name of the DNS is needed, such as turn.example.org".into());
        }
        draft.config.public_name = Some(text.to_owned());
        Ok(())
    })
    .default("the address to relay on")
    .help("The name under which clients find this server, and for which the certificate is"),
    Setting::one("workers", "NUMBER", Group::Listening, |draft, text| {
        draft.config.workers = Some(number(text).map_err(|_| "a number from 1 to 255 is needed")?);
        Ok(())
    })
    .default("one for each core")
    .help("How many threads relay"),
    Setting::one("realm", "REALM", Group::Access, |draft, text| {
        draft.config.access.realm = text.to_owned();
        Ok(())
    })
    .default("nilas")
    .help("The realm of users and passwords, such as a domain name"),
    Setting::many("user", "NAME:PASSWORD", Group::Access, |draft, text| draft.add_user(text))
        .secret()
        .default("without users, secrets and token keys, one user for this run")
        .help("A user of the relay"),
    Setting::many("user-file", "FILE", Group::Access, |draft, text| {
        draft.add_lines(text, |draft, line| {
            if line.starts_with('#') {
                return Ok(());
            }
            draft.add_user(line)
        })
    })
    .help("A file with a NAME:PASSWORD on each line"),
    Setting::many("secret", "SECRET", Group::Access, |draft, text| {
        draft.add_secret(text);
        Ok(())
    })
    .secret()
    .help("A secret shared with whoever makes time-limited credentials (`nilas turn creds`), two while one replaces the other"),
    Setting::many("secret-file", "FILE", Group::Access, |draft, text| {
        draft.add_lines(text, |draft, line| {
            draft.add_secret(line);
            Ok(())
        })
    })
    .help("A file with a shared secret on each line"),
    Setting::one("token-server-name", "NAME", Group::Access, |draft, text| {
        draft.token_server_name = Some(text.to_owned());
        Ok(())
    })
    .help("The name under which authorization servers know this one (RFC 7635)"),
    Setting::many("token-key", "ID:BASE64", Group::Access, |draft, text| draft.add_token_key(text))
        .secret()
        .help("A key shared with an authorization server (RFC 7635), of 16 bytes (AES-128-GCM) or 32 (AES-256-GCM)"),
    Setting::many("token-key-file", "FILE", Group::Access, |draft, text| {
        draft.add_lines(text, Draft::add_token_key)
    })
    .help("A file with an ID:BASE64 on each line"),
    Setting::switch("strict-expiry", Group::Access, |draft, text| {
        draft.config.access.strict_expiry = switch(text)?;
        Ok(())
    })
    .default("false")
    .help("End allocations when their time-limited credentials end, and cut long calls"),
    Setting::many("relay-address", "ADDRESS", Group::Relay, |draft, text| {
        if text != NONE {
            draft.config.relay.addresses.push(relay_address(text)?);
            draft.added("relay-address");
        }
        Ok(())
    })
    .default("where it listens, or the addresses of the default routes")
    .help("The address that peers see, one of each family; behind a NAT PUBLIC/LOCAL; `none` to relay nothing"),
    Setting::one("relay-ports", "FIRST-LAST", Group::Relay, |draft, text| {
        draft.config.relay.ports = ports(text)?;
        Ok(())
    })
    .default("49152-65535")
    .help("The ports of relayed addresses"),
    Setting::many("allow-peer", "NETWORK", Group::Relay, |draft, text| {
        draft.config.relay.allow_peers.push(network(text)?);
        Ok(())
    })
    .help("A network that clients may reach although it is special, such as 10.0.0.0/8"),
    Setting::many("deny-peer", "NETWORK", Group::Relay, |draft, text| {
        draft.config.relay.deny_peers.push(network(text)?);
        Ok(())
    })
    .help("A network that clients may not reach, whatever else holds"),
    Setting::switch("tcp-relay", Group::Relay, |draft, text| {
        draft.config.relay.tcp = switch(text)?;
        Ok(())
    })
    .default("true")
    .help("Reach peers over TCP, too (RFC 6062)"),
    Setting::switch("mobility", Group::Relay, |draft, text| {
        draft.config.relay.mobility = switch(text)?;
        Ok(())
    })
    .default("true")
    .help("Let clients go on from another address (RFC 8016)"),
    Setting::many("alternate-server", "ADDRESS:PORT[/NAME]", Group::Relay, |draft, text| {
        draft.config.relay.alternate_servers.push(alternate_server(text)?);
        draft.added("alternate-server");
        Ok(())
    })
    .help("Where clients are sent while this server drains"),
    Setting::switch("redirect", Group::Relay, |draft, text| {
        draft.config.relay.redirect = switch(text)?;
        Ok(())
    })
    .default("false")
    .help("Send all clients to the alternate servers"),
    Setting::one("default-lifetime", "TIME", Group::Relay, |draft, text| {
        draft.config.relay.default_lifetime = duration(text)?;
        Ok(())
    })
    .default("10m")
    .help("The lifetime of an allocation whose client asks for none"),
    Setting::one("max-lifetime", "TIME", Group::Relay, |draft, text| {
        draft.config.relay.max_lifetime = duration(text)?;
        Ok(())
    })
    .default("1h")
    .help("The longest lifetime of an allocation"),
    Setting::one("nonce-lifetime", "TIME", Group::Relay, |draft, text| {
        draft.config.relay.nonce_lifetime = duration(text)?;
        Ok(())
    })
    .default("30m")
    .help("How long a nonce is valid"),
    Setting::one("software", "TEXT", Group::Relay, |draft, text| {
        draft.config.software = Some(text.to_owned());
        Ok(())
    })
    .default("nothing, as it tells attackers, too")
    .help("What the server tells users of itself"),
    Setting::one("drain-time", "TIME", Group::Relay, |draft, text| {
        draft.config.drain_time = duration(text)?;
        Ok(())
    })
    .default("10m")
    .help("How long a server that was told to end waits for its last allocation"),
    Setting::one("max-allocations-per-user", "NUMBER", Group::Limits, |draft, text| {
        draft.config.relay.quotas.allocations_per_user = number(text)?;
        Ok(())
    })
    .default("128")
    .help("Allocations that a user may have at one time"),
    Setting::one("max-allocations", "NUMBER", Group::Limits, |draft, text| {
        draft.config.relay.quotas.allocations = number(text)?;
        Ok(())
    })
    .default("as many as there are ports")
    .help("Allocations that there may be at one time"),
    Setting::one("user-bandwidth", "BYTES", Group::Limits, |draft, text| {
        draft.config.relay.quotas.user_bytes_per_second = Some(rate(text)?);
        Ok(())
    })
    .help("Bytes a second for one user, both directions together, such as 500k; more are dropped"),
    Setting::one("total-bandwidth", "BYTES", Group::Limits, |draft, text| {
        draft.config.relay.quotas.total_bytes_per_second = Some(rate(text)?);
        Ok(())
    })
    .help("Bytes a second for all users"),
    Setting::one("max-permissions", "NUMBER", Group::Limits, |draft, text| {
        draft.config.relay.quotas.permissions = number(text)?;
        Ok(())
    })
    .default("256")
    .help("Permissions of a relayed address"),
    Setting::one("max-channels", "NUMBER", Group::Limits, |draft, text| {
        draft.config.relay.quotas.channels = number(text)?;
        Ok(())
    })
    .default("256")
    .help("Channels of a relayed address"),
    Setting::one("max-connections", "NUMBER", Group::Limits, |draft, text| {
        draft.config.relay.quotas.connections = number(text)?;
        Ok(())
    })
    .default("64")
    .help("Connections to peers of an allocation (RFC 6062)"),
    Setting::one("error-interval", "TIME", Group::Limits, |draft, text| {
        draft.config.relay.quotas.error_interval = duration(text)?;
        Ok(())
    })
    .default("5ms")
    .help("An address without credentials gets 1,000 errors at once, then one in each such time; 0 for a load test"),
    Setting::one("max-streams", "NUMBER", Group::Limits, |draft, text| {
        draft.config.max_stun_connections = number(text)?;
        Ok(())
    })
    .default("1024")
    .help("Clients over TCP, TLS and DTLS"),
    Setting::one("max-streams-per-source", "NUMBER", Group::Limits, |draft, text| {
        draft.config.max_stun_connections_per_source = number(text)?;
        Ok(())
    })
    .default("32")
    .help("Clients over TCP, TLS and DTLS from one IPv4 address, or one IPv6 network of 64 bits"),
    Setting::one("stream-idle-time", "TIME", Group::Limits, |draft, text| {
        draft.config.stun_idle_time = duration(text)?;
        Ok(())
    })
    .default("2m")
    .help("How long a client without an allocation may be silent"),
    Setting::one("stream-message-time", "TIME", Group::Limits, |draft, text| {
        draft.config.stun_message_time = duration(text)?;
        Ok(())
    })
    .default("10s")
    .help("How long a message or a handshake may take"),
    Setting::one("max-rendezvous", "NUMBER", Group::Limits, |draft, text| {
        draft.config.rendezvous_limits.max_connections = number(text)?;
        Ok(())
    })
    .default("2048")
    .help("Clients of the rendezvous"),
    Setting::one("max-rendezvous-per-source", "NUMBER", Group::Limits, |draft, text| {
        draft.config.rendezvous_limits.max_connections_per_source = number(text)?;
        Ok(())
    })
    .default("64")
    .help("Clients of the rendezvous from one source"),
    Setting::one("code-lifetime", "TIME", Group::Limits, |draft, text| {
        draft.config.rendezvous_limits.code_lifetime = duration(text)?;
        Ok(())
    })
    .default("10m")
    .help("How long a code of the rendezvous holds while someone waits under it"),
];
