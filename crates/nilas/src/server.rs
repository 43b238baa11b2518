//! Servers as users write them, and as the engine wants them.

use core::fmt;

use nilas_ice::{Credentials, StreamTransport, StunServer, TurnServer, TurnTransport};
use nilas_net::dns::ServerTransport;
use nilas_net::ice_servers::{IceServersError, ServerUrl};
use nilas_stun::uri::{DEFAULT_SECURE_PORT, Host, StunUri, Transport, TurnUri, UriError};

use crate::servers::{Server, Service};

/// A server of either kind. The service is there where records of the DNS may tell its addresses.
pub(crate) enum Entry {
    Stun(StunServer, Option<(Server, Service)>),
    /// The one that was named, and those that its domain may offer beside it.
    Turn(Vec<TurnServer>, Vec<(Server, Service)>),
}

/// A STUN server, with or without its scheme.
pub(crate) fn parse_stun(text: &str) -> Result<Entry, ServerError> {
    let error = |reason| ServerError {
        server: text.to_owned(),
        reason,
    };
    // Without a scheme, `host:port`; a host that is called `stun` needs its scheme.
    let bare = || format!("stun:{text}").parse::<StunUri>();
    let uri = match text.parse::<StunUri>() {
        Err(UriError::Scheme { .. }) if text.parse::<TurnUri>().is_ok() => {
            return Err(error(ServerErrorReason::Turn));
        }
        // What has slashes was meant as a URI.
        Err(wrong @ UriError::Scheme { .. }) => bare().map_err(|of_bare| {
            let wrong = if text.contains('/') { wrong } else { of_bare };
            error(ServerErrorReason::Uri(wrong))
        })?,
        parsed => parsed.map_err(|wrong| error(ServerErrorReason::Uri(wrong)))?,
    };
    stun(&uri)
}

/// A TURN server and its credentials.
pub(crate) fn parse_turn(text: &str, user: &str, password: &str) -> Result<Entry, ServerError> {
    let uri: TurnUri = text.parse().map_err(|wrong| ServerError {
        server: text.to_owned(),
        reason: ServerErrorReason::TurnUri(wrong),
    })?;
    turn(&uri, user, password)
}

/// A server of a list, with the list's user and password.
pub(crate) fn parse_url(
    url: &ServerUrl,
    credentials: Option<(&str, &str)>,
) -> Result<Entry, ServerError> {
    match (url, credentials) {
        (ServerUrl::Stun(uri), _) => stun(uri),
        (ServerUrl::Turn(uri), Some((user, password))) => turn(uri, user, password),
        (ServerUrl::Turn(uri), None) => Err(ServerError {
            server: uri.to_string(),
            reason: ServerErrorReason::Credentials,
        }),
    }
}

fn stun(uri: &StunUri) -> Result<Entry, ServerError> {
    if uri.secure {
        return Err(ServerError {
            server: uri.to_string(),
            reason: ServerErrorReason::Tls,
        });
    }
    let (host, port) = (host(&uri.host), uri.port_or_default());
    let service = service(&uri.host, uri.port, Service::Stun, &host, port);
    Ok(Entry::Stun(StunServer { host, port }, service))
}

fn turn(uri: &TurnUri, user: &str, password: &str) -> Result<Entry, ServerError> {
    let transport = match (uri.secure, &uri.transport) {
        (false, None | Some(Transport::Udp)) => TurnTransport::Udp,
        (false, Some(Transport::Tcp)) => TurnTransport::Stream(StreamTransport::Tcp),
        (true, None | Some(Transport::Tcp)) => TurnTransport::Stream(StreamTransport::Tls),
        (true, Some(Transport::Udp)) => TurnTransport::Stream(StreamTransport::Dtls),
        (_, Some(_)) => {
            return Err(ServerError {
                server: uri.to_string(),
                reason: ServerErrorReason::Transport,
            });
        }
    };
    let credentials = Credentials {
        username: user.to_owned(),
        password: password.to_owned(),
    };
    let (host, port) = (host(&uri.host), uri.port_or_default());
    let over = over(transport);
    let kind = match uri.transport {
        Some(_) => Service::Turn { over },
        None => Service::AnyTurn { secure: uri.secure },
    };
    let service = service(&uri.host, uri.port, kind, &host, port);
    let mut services: Vec<_> = service.into_iter().collect();
    let mut servers = vec![TurnServer::new(
        &*host,
        port,
        transport,
        credentials.clone(),
    )];
    if let [(_, Service::AnyTurn { secure })] = services[..] {
        // RFC 5928 section 3, step 4: the domain's NAPTR records may lead to other transports. They are tried at once
        // and not in the records' order, as a relay is to be there early; the agent prefers the fewest layers.
        let (default, tls) = (port, DEFAULT_SECURE_PORT);
        let others = match secure {
            false => &[
                (default, StreamTransport::Tcp),
                (tls, StreamTransport::Tls),
                (tls, StreamTransport::Dtls),
            ][..],
            true => &[(tls, StreamTransport::Dtls)][..],
        };
        for (port, transport) in others {
            let transport = TurnTransport::Stream(*transport);
            let mut server = TurnServer::new(&*host, *port, transport, credentials.clone());
            server.may_be_absent = true;
            servers.push(server);
            services.push(((host.clone(), *port), Service::AnyTurn { secure }));
        }
        services.dedup();
    }
    Ok(Entry::Turn(servers, services))
}

/// The same in the terms of the DNS.
pub(crate) const fn over(transport: TurnTransport) -> ServerTransport {
    match transport {
        TurnTransport::Udp => ServerTransport::Udp,
        TurnTransport::Stream(StreamTransport::Tls) => ServerTransport::Tls,
        TurnTransport::Stream(StreamTransport::Dtls) => ServerTransport::Dtls,
        TurnTransport::Stream(_) => ServerTransport::Tcp,
    }
}

/// The host without brackets and without the root's dot.
fn host(host: &Host) -> String {
    match host {
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
        Host::Name(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
    }
}

/// RFC 5928 section 3 and RFC 8489 section 8.1: a name without a port is a service's.
fn service(
    written: &Host,
    port: Option<u16>,
    service: Service,
    host: &str,
    default_port: u16,
) -> Option<(Server, Service)> {
    (port.is_none() && matches!(written, Host::Name(_)))
        .then(|| ((host.to_owned(), default_port), service))
}

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// The server, as it was given.
    pub server: String,
    /// What is wrong with it.
    pub reason: ServerErrorReason,
}

/// What is wrong with a server's URI.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerErrorReason {
    /// It breaks the grammar of RFC 7064.
    Uri(UriError),
    /// It breaks the grammar of RFC 7065.
    TurnUri(UriError),
    /// A TURN server, given as a STUN server.
    Turn,
    /// A TURN server without user and password.
    Credentials,
    /// The secret to make a TURN server's credentials from is empty, and no server takes one.
    EmptySecret,
    /// This machine's clock stands before 1970, and credentials that are made from a secret say when they end.
    Clock,
    /// A TURN server with a transport that is neither `udp` nor `tcp`.
    Transport,
    /// A list of servers that is none.
    List(IceServersError),
    /// STUN over TLS is not supported yet.
    Tls,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, reason } = self;
        match reason {
            ServerErrorReason::Uri(wrong) => {
                write!(f, "{server:?} names no STUN server: {wrong}")
            }
            ServerErrorReason::TurnUri(wrong) => {
                write!(f, "{server:?} names no TURN server: {wrong}")
            }
            ServerErrorReason::Turn => write!(
                f,
                "{server:?} is a TURN server: give it as one, with a user and a password"
            ),
            ServerErrorReason::Credentials => {
                write!(f, "{server:?} needs a user and a password")
            }
            ServerErrorReason::EmptySecret => {
                write!(f, "{server:?}: the secret is empty, which no server takes")
            }
            ServerErrorReason::Clock => write!(
                f,
                "{server:?}: this machine's clock stands before 1970: set it, since credentials expire by it"
            ),
            ServerErrorReason::Transport => write!(
                f,
                "{server:?} asks for a transport that is not known: use `udp` or `tcp`"
            ),
            ServerErrorReason::List(wrong) => wrong.fmt(f),
            ServerErrorReason::Tls => write!(
                f,
                "{server:?} asks for STUN over TLS, which is not supported yet: use `stun:`"
            ),
        }
    }
}

impl core::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_with_and_without_a_scheme() {
        for (text, host, port, named) in [
            ("stun:stun.example.org", "stun.example.org", 3478, true),
            ("stun:192.0.2.1:9", "192.0.2.1", 9, false),
            ("192.0.2.1:9", "192.0.2.1", 9, false),
            ("[2001:db8::1]:3478", "2001:db8::1", 3478, false),
            ("stun:[2001:db8::1]", "2001:db8::1", 3478, false),
            ("localhost:3479", "localhost", 3479, false),
        ] {
            let Ok(Entry::Stun(server, service)) = parse_stun(text) else {
                panic!("{text}")
            };
            let expected = StunServer {
                host: host.into(),
                port,
            };
            assert_eq!(server, expected, "{text}");
            assert_eq!(service.is_some(), named, "{text}");
        }
    }

    #[test]
    fn relays_come_with_their_transport() {
        let tcp = TurnTransport::Stream(StreamTransport::Tcp);
        let tls = TurnTransport::Stream(StreamTransport::Tls);
        let dtls = TurnTransport::Stream(StreamTransport::Dtls);
        for (text, host, port, transport, named) in [
            (
                "turn:t.example",
                "t.example",
                3478,
                TurnTransport::Udp,
                true,
            ),
            (
                "turn:t.example.:9",
                "t.example",
                9,
                TurnTransport::Udp,
                false,
            ),
            (
                "turn:192.0.2.1?transport=udp",
                "192.0.2.1",
                3478,
                TurnTransport::Udp,
                false,
            ),
            (
                "turn:[2001:db8::1]:443?transport=tcp",
                "2001:db8::1",
                443,
                tcp,
                false,
            ),
            ("turns:t.example", "t.example", 5349, tls, true),
            (
                "turns:t.example:443?transport=tcp",
                "t.example",
                443,
                tls,
                false,
            ),
            (
                "turns:192.0.2.1?transport=udp",
                "192.0.2.1",
                5349,
                dtls,
                false,
            ),
        ] {
            let Ok(Entry::Turn(servers, services)) = parse_turn(text, "u", "p") else {
                panic!("{text}")
            };
            let server = &servers[0];
            let is = (server.host.as_str(), server.port, server.transport);
            assert_eq!(is, (host, port, transport), "{text}");
            assert!(!server.may_be_absent, "{text}");
            assert!(
                servers[1..].iter().all(|server| server.may_be_absent),
                "{text}"
            );
            assert_eq!(!services.is_empty(), named, "{text}");
        }
        // Where neither port nor transport is named, the domain may offer others.
        for (text, others) in [
            ("turn:t.example", &[tcp, tls, dtls][..]),
            ("turns:t.example", &[dtls]),
            ("turn:t.example?transport=udp", &[]),
            ("turn:t.example:3478", &[]),
            ("turn:192.0.2.1", &[]),
        ] {
            let Ok(Entry::Turn(servers, _)) = parse_turn(text, "u", "p") else {
                panic!("{text}")
            };
            let transports: Vec<_> = servers[1..].iter().map(|server| server.transport).collect();
            assert_eq!(transports, others, "{text}");
        }
    }

    #[test]
    fn servers_that_cannot_be_used_say_why() {
        let reason = |text: &str| match parse_stun(text) {
            Ok(_) => panic!("{text}"),
            Err(error) => error.reason,
        };
        assert_eq!(reason("turn:turn.example.org"), ServerErrorReason::Turn);
        assert_eq!(
            reason("turns:192.0.2.1?transport=tcp"),
            ServerErrorReason::Turn
        );
        assert_eq!(reason("stuns:stun.example.org"), ServerErrorReason::Tls);
        for text in [
            "",
            "http://example.org",
            "stun:",
            "stun:a b",
            "h:99999",
            "stun:192.0.2.1:x",
        ] {
            assert!(
                matches!(reason(text), ServerErrorReason::Uri(_)),
                "{text:?}"
            );
        }
        let port = ServerErrorReason::Uri(UriError::Port);
        assert_eq!(reason("127.0.0.1:99999"), port, "no scheme is missed");
        let reason = |text: &str| match parse_turn(text, "u", "p") {
            Ok(_) => panic!("{text}"),
            Err(error) => error.reason,
        };
        for text in ["", "192.0.2.1:3478", "stun:192.0.2.1", "turn:"] {
            assert!(
                matches!(reason(text), ServerErrorReason::TurnUri(_)),
                "{text:?}"
            );
        }
        let sctp = reason("turn:192.0.2.1?transport=sctp");
        assert_eq!(sctp, ServerErrorReason::Transport);
    }
}
