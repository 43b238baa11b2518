//! What an application may choose for an agent.

use core::fmt;

use nilas_ice::{AgentConfig, Role, StunServer};
use nilas_stun::uri::{Host, StunUri, TurnUri, UriError};
use serde::Deserialize;

/// What an [`Agent`](crate::Agent) is to be.
///
/// ```
/// let config = nilas::Config::controlling()
///     .stun("stun:stun.example.org")?
///     .stun("203.0.113.10:3478")?
///     .interface("eth0");
/// # Ok::<_, nilas::ServerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) agent: AgentConfig,
    pub(crate) receive_queue_bytes: usize,
}

impl Config {
    /// The defaults, for this role: no servers, all interfaces but loopback and link-local addresses.
    pub fn new(role: Role) -> Self {
        AgentConfig::new(role).into()
    }

    /// The defaults for the side that takes the first step. If both sides choose the same role, the
    /// protocol heals it (RFC 8445 section 7.3.1.1).
    pub fn controlling() -> Self {
        Self::new(Role::Controlling)
    }

    /// The defaults for the side that follows.
    pub fn controlled() -> Self {
        Self::new(Role::Controlled)
    }

    /// Adds a STUN server that tells how the world sees this machine: a `stun:` URI (RFC 7064), or
    /// `host:port` alone.
    ///
    /// # Errors
    /// [`ServerError`] when the text is neither, or names a server of a kind that is not supported.
    pub fn stun(mut self, server: &str) -> Result<Self, ServerError> {
        self.agent.stun_servers.push(parse_server(server)?);
        Ok(self)
    }

    /// Adds the servers of a W3C RTCIceServer. Either all are added or none.
    ///
    /// # Errors
    /// As of [`stun`](Self::stun), for the first URL that cannot be used.
    pub fn ice_server(mut self, server: &IceServer) -> Result<Self, ServerError> {
        let servers: Result<Vec<_>, _> = server.urls.iter().map(|url| parse_server(url)).collect();
        self.agent.stun_servers.extend(servers?);
        Ok(self)
    }

    /// Admits only interfaces that were named so. May be called for several.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.agent.filter.names.push(name.into());
        self
    }

    /// Whether loopback addresses become candidates. They do not by default, because they mean another
    /// machine to the peer; two ends on one machine without a network need them.
    #[must_use]
    pub fn loopback(mut self, admit: bool) -> Self {
        self.agent.filter.loopback = admit;
        self
    }

    /// Whether link-local addresses become candidates. They do not by default.
    #[must_use]
    pub fn link_local(mut self, admit: bool) -> Self {
        self.agent.filter.link_local = admit;
        self
    }

    /// How many bytes of received datagrams wait for the application at most, 2 MiB by default. What
    /// comes when the queue is full is dropped and [counted](crate::Connection::dropped).
    #[must_use]
    pub fn receive_queue_bytes(mut self, bytes: usize) -> Self {
        self.receive_queue_bytes = bytes;
        self
    }

    /// Everything that the engine lets an application choose.
    pub fn engine_config_mut(&mut self) -> &mut AgentConfig {
        &mut self.agent
    }
}

impl From<AgentConfig> for Config {
    fn from(agent: AgentConfig) -> Self {
        Self {
            agent,
            receive_queue_bytes: 2 << 20,
        }
    }
}

/// W3C's RTCIceServer, as it stands in JSON: `{"urls": "stun:…"}` or `{"urls": ["stun:…", …]}`.
///
/// Credentials are for TURN, which is not supported yet, so that they are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct IceServer {
    /// The URLs.
    #[serde(deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
}

impl IceServer {
    /// The server with these URLs.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

fn parse_server(text: &str) -> Result<StunServer, ServerError> {
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
        Err(wrong @ UriError::Scheme { .. }) => {
            bare().map_err(|_| error(ServerErrorReason::Uri(wrong)))?
        }
        parsed => parsed.map_err(|wrong| error(ServerErrorReason::Uri(wrong)))?,
    };
    if uri.secure {
        return Err(error(ServerErrorReason::Tls));
    }
    let host = match &uri.host {
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    Ok(StunServer {
        host,
        port: uri.port_or_default(),
    })
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
    /// A TURN server: relays are not supported yet.
    Turn,
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
            ServerErrorReason::Turn => {
                write!(
                    f,
                    "{server:?} is a TURN server, which is not supported yet: leave it out"
                )
            }
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
        for (text, host, port) in [
            ("stun:stun.example.org", "stun.example.org", 3478),
            ("stun:192.0.2.1:9", "192.0.2.1", 9),
            ("192.0.2.1:9", "192.0.2.1", 9),
            ("[2001:db8::1]:3478", "2001:db8::1", 3478),
            ("stun:[2001:db8::1]", "2001:db8::1", 3478),
            ("localhost:3479", "localhost", 3479),
        ] {
            let config = Config::controlling().stun(text).unwrap();
            assert_eq!(
                config.agent.stun_servers,
                [StunServer {
                    host: host.into(),
                    port
                }],
                "{text}"
            );
        }
    }

    #[test]
    fn servers_that_cannot_be_used_say_why() {
        let reason = |text: &str| Config::controlled().stun(text).unwrap_err().reason;
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
    }

    #[test]
    fn ice_servers_have_the_shapes_of_the_w3c() {
        let one: IceServer = serde_json::from_str(r#"{"urls":"stun:192.0.2.1"}"#).unwrap();
        let two: IceServer =
            serde_json::from_str(r#"{"urls":["stun:192.0.2.1","stun:192.0.2.2:9"],"x":1}"#)
                .unwrap();
        let config = Config::controlling()
            .ice_server(&one)
            .unwrap()
            .ice_server(&two)
            .unwrap();
        assert_eq!(config.agent.stun_servers.len(), 3);
        let mixed = IceServer::new(["stun:192.0.2.1", "turn:192.0.2.1"]);
        assert!(Config::controlling().ice_server(&mixed).is_err());
    }
}
