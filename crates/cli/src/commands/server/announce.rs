//! What the server tells once it serves: its addresses, and what an application is to be told.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nilas_net::creds::{CredentialHash, time_limited};
use nilas_server::{LocalAddresses, ServerConfig};
use serde::Serialize;

use super::configure::Credentials;

/// How long credentials of a shared secret are good that are printed: for a day of trying.
const PRINTED_TTL: Duration = Duration::from_secs(86_400);

/// RTCIceServer of W3C.
#[derive(Debug, Serialize)]
pub(super) struct IceServer {
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

/// What an application is to be told of this server. Credentials that are kept secret are named and not shown.
pub(super) fn ice_servers(
    config: &ServerConfig,
    addresses: &LocalAddresses,
    credentials: Credentials,
) -> Vec<IceServer> {
    let hosts = |listener: &SocketAddr| hosts(config, listener);
    let urls = |listeners: &[SocketAddr], scheme: &str, transport: &str| {
        let mut urls = Vec::new();
        for listener in listeners {
            for host in hosts(listener) {
                let url = format!("{scheme}:{host}:{}{transport}", listener.port());
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    };
    let stun = urls(&addresses.stun_udp, "stun", "");
    let mut servers = Vec::new();
    if !stun.is_empty() {
        servers.push(IceServer {
            urls: stun,
            username: None,
            credential: None,
        });
    }
    if config.relay.addresses.is_empty() {
        return servers;
    }
    let turn = [
        urls(&addresses.stun_udp, "turn", "?transport=udp"),
        urls(&addresses.stun_tcp, "turn", "?transport=tcp"),
        urls(&addresses.tls, "turns", "?transport=tcp"),
    ]
    .concat();
    if let (false, Some((username, credential))) = (turn.is_empty(), login(config, credentials)) {
        servers.push(IceServer {
            urls: turn,
            username: Some(username),
            credential: Some(credential),
        });
    }
    servers
}

/// How clients call the machine behind a listener.
fn hosts(config: &ServerConfig, listener: &SocketAddr) -> Vec<String> {
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    if let Some(name) = &config.public_name {
        return vec![name.clone()];
    }
    let relay = config.relay.addresses.iter();
    let same_family = relay.filter(|address| address.public.is_ipv4() == listener.is_ipv4());
    if listener.ip().is_unspecified() {
        return same_family.map(|address| ip(address.public)).collect();
    }
    let behind_nat = same_family
        .clone()
        .find(|address| address.local == listener.ip());
    vec![ip(
        behind_nat.map_or_else(|| listener.ip(), |address| address.public)
    )]
}

/// A user name and a password, or what to put in its place.
fn login(config: &ServerConfig, credentials: Credentials) -> Option<(String, String)> {
    let access = &config.access;
    let printed = credentials != Credentials::Secret;
    if let Some(user) = access.users.first() {
        let password = if printed {
            String::from_utf8_lossy(user.password.reveal()).into_owned()
        } else {
            format!("(the password of {})", user.name)
        };
        return Some((user.name.clone(), password));
    }
    let secret = access.secrets.first()?;
    if !printed {
        let made = "(made by `nilas turn creds`)";
        return Some((made.to_owned(), made.to_owned()));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Some(time_limited(
        secret.reveal(),
        "nilas",
        PRINTED_TTL,
        now,
        CredentialHash::Sha1,
    ))
}

/// The line `ready` for people.
pub(super) fn ready(config: &ServerConfig, addresses: &LocalAddresses) -> String {
    let list = |addresses: &[SocketAddr]| {
        let texts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        texts.join(" ")
    };
    let relay: Vec<_> = config
        .relay
        .addresses
        .iter()
        .map(|address| address.public.to_string())
        .collect();
    let what = if relay.is_empty() {
        "STUN"
    } else {
        "STUN and TURN"
    };
    let mut parts = Vec::new();
    if !addresses.stun_udp.is_empty() && addresses.stun_udp == addresses.stun_tcp {
        parts.push(format!(
            "{what} over UDP and TCP at {}",
            list(&addresses.stun_udp)
        ));
    } else {
        for (over, listeners) in [("UDP", &addresses.stun_udp), ("TCP", &addresses.stun_tcp)] {
            if !listeners.is_empty() {
                parts.push(format!("{what} over {over} at {}", list(listeners)));
            }
        }
    }
    if !addresses.tls.is_empty() {
        let over = match addresses.dtls.is_empty() {
            false => "TLS and DTLS",
            true => "TLS",
        };
        parts.push(format!("over {over} at {}", list(&addresses.tls)));
    }
    if !relay.is_empty() {
        let ports = &config.relay.ports;
        parts.push(format!(
            "relaying at {} ports {}-{}",
            relay.join(" "),
            ports.start(),
            ports.end()
        ));
    }
    if !addresses.rendezvous.is_empty() {
        parts.push(format!(
            "rendezvous at {}",
            rendezvous(config, addresses).join(" ")
        ));
    }
    if let Some(metrics) = addresses.metrics {
        parts.push(format!("metrics at http://{metrics}/metrics"));
    }
    format!("ready: {}", parts.join("; "))
}

/// The rendezvous as its clients name it.
pub(super) fn rendezvous(config: &ServerConfig, addresses: &LocalAddresses) -> Vec<String> {
    let plain = addresses.rendezvous.iter();
    let mut urls: Vec<_> = plain.map(|address| format!("ws://{address}")).collect();
    // Without a listener of its own there is none at the ports of TLS either.
    if !urls.is_empty() {
        for listener in &addresses.tls {
            let hosts = hosts(config, listener).into_iter();
            urls.extend(hosts.map(|host| format!("wss://{host}:{}", listener.port())));
        }
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_certificate_does_not_serve_for_is_not_promised() {
        let config = ServerConfig::default();
        let mut addresses = LocalAddresses::default();
        addresses.tls = vec![SocketAddr::from(([192, 0, 2, 1], 5349))];
        let text = ready(&config, &addresses);
        assert!(text.contains("over TLS at 192.0.2.1:5349"), "{text}");
        addresses.dtls.clone_from(&addresses.tls);
        let text = ready(&config, &addresses);
        assert!(
            text.contains("over TLS and DTLS at 192.0.2.1:5349"),
            "{text}"
        );
    }
}
