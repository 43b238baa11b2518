//! Lists of STUN and TURN servers, in every shape that users hold them.
//!
//! Providers hand out what W3C calls RTCIceServer, each in a wrapping of its own; what is understood:
//!
//! - `{"urls": ..., "username": ..., "credential": ...}`, alone or in an array (W3C); `url` for `urls`;
//! - `{"iceServers": ...}` around one or an array of them, as in an RTCConfiguration;
//! - `{"ice_servers": [...]}`, where each server has `url` and `urls`;
//! - `{"username": ..., "password": ..., "ttl": ..., "uris": [...]}`, of servers that share a secret;
//! - text: `turn:turn.example.org user password`, or a URI alone, one on each line.

use std::fmt;
use std::str::FromStr;

use nilas_stun::uri::{StunUri, TurnUri, UriError};
use serde::{Deserialize, Serialize, Serializer};

/// Longer text is no list of servers.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The most servers, and URLs in all.
const MAX_SERVERS: usize = 100;

/// A STUN or TURN server, or several that share their credentials. It serializes as W3C's RTCIceServer.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// Where the servers are; at least one.
    pub urls: Vec<ServerUrl>,
    /// The user name, for TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, for TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The URL of a STUN or TURN server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ServerUrl {
    /// `stun:` or `stuns:` (RFC 7064).
    Stun(StunUri),
    /// `turn:` or `turns:` (RFC 7065).
    Turn(TurnUri),
}

/// Reads a list of servers.
///
/// ```
/// use nilas_net::ice_servers;
///
/// let servers = ice_servers::parse(
///     r#"[{"urls": "stun:stun.example.org"},
///         {"urls": ["turn:turn.example.org"], "username": "anna", "credential": "secret"}]"#,
/// )?;
/// assert_eq!(servers.len(), 2);
/// assert_eq!(ice_servers::parse("turn:turn.example.org anna secret")?, servers[1..]);
/// # Ok::<(), nilas_net::ice_servers::IceServersError>(())
/// ```
///
/// # Errors
/// When the text has none of the shapes, a URL is none, or a TURN server comes without credentials; the
/// error says at which server.
pub fn parse(text: &str) -> Result<Vec<IceServer>, IceServersError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(IceServersError::TooMany);
    }
    let trimmed = text.trim();
    let written = if trimmed.starts_with(['{', '[']) {
        read_json(trimmed).map_err(|error| IceServersError::Shape {
            line: error.line(),
            column: error.column(),
        })?
    } else {
        read_lines(trimmed)?
    };
    if written.is_empty() {
        return Err(IceServersError::Empty);
    }
    if written.len() > MAX_SERVERS
        || written
            .iter()
            .map(|server| server.urls().count())
            .sum::<usize>()
            > MAX_SERVERS
    {
        return Err(IceServersError::TooMany);
    }
    written
        .into_iter()
        .enumerate()
        .map(|(index, server)| server.check(index + 1))
        .collect()
}

/// Writes a list of servers as W3C has it: an array of RTCIceServer, for `new RTCPeerConnection({iceServers})`.
///
/// # Panics
/// Never: what is written is text and lists of text.
#[must_use]
pub fn to_json(servers: &[IceServer]) -> String {
    serde_json::to_string(servers).expect("text and lists of text have a JSON form")
}

fn read_json(text: &str) -> serde_json::Result<Vec<Written>> {
    if text.starts_with('[') {
        return serde_json::from_str(text);
    }
    let written: WrittenObject = serde_json::from_str(text)?;
    Ok(match written.servers {
        Some(OneOrMany::Many(servers)) => servers,
        Some(OneOrMany::One(server)) => vec![server],
        None => vec![written.server],
    })
}

/// A server, or what is around servers: then what stands beside them (an account, a policy) is not theirs.
#[derive(Deserialize)]
struct WrittenObject {
    #[serde(rename = "iceServers", alias = "ice_servers")]
    servers: Option<OneOrMany<Written>>,
    #[serde(flatten)]
    server: Written,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

/// A server as it is written. What else is written with it (a lifetime, a type) is not looked at, but for
/// the kind of credential, since another kind than a password would be useless.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    urls: Option<OneOrMany<String>>,
    url: Option<OneOrMany<String>>,
    uris: Option<OneOrMany<String>>,
    username: Option<String>,
    credential: Option<Credential>,
    password: Option<String>,
    #[serde(rename = "credentialType")]
    credential_type: Option<String>,
}

/// W3C once had an object here, for OAuth.
#[derive(Deserialize)]
#[serde(untagged)]
enum Credential {
    Password(String),
    Other(serde::de::IgnoredAny),
}

impl Written {
    fn urls(&self) -> impl Iterator<Item = &str> {
        [&self.urls, &self.url, &self.uris]
            .into_iter()
            .flatten()
            .flat_map(|urls| match urls {
                OneOrMany::Many(urls) => urls.as_slice(),
                OneOrMany::One(url) => std::slice::from_ref(url),
            })
            .map(String::as_str)
    }

    fn check(self, number: usize) -> Result<IceServer, IceServersError> {
        let mut urls = Vec::new();
        for text in self.urls() {
            let url = text.trim().parse().map_err(|error| IceServersError::Url {
                server: number,
                error,
            })?;
            // Some providers write one URL as `url` and as `urls`.
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.is_empty() {
            return Err(IceServersError::NoUrl { server: number });
        }
        let other_type = self.credential_type.is_some_and(|kind| kind != "password");
        let credential = match self.credential {
            Some(Credential::Other(_)) => return Err(IceServersError::Kind { server: number }),
            _ if other_type => return Err(IceServersError::Kind { server: number }),
            Some(Credential::Password(password)) => Some(password),
            None => self.password,
        };
        let turn = urls.iter().any(|url| matches!(url, ServerUrl::Turn(_)));
        // W3C: a TURN server without user name and credential is an error, at once and not at the server.
        if turn && (self.username.is_none() || credential.is_none()) {
            return Err(IceServersError::NoCredentials { server: number });
        }
        Ok(IceServer {
            urls,
            username: self.username,
            credential,
        })
    }
}

fn read_lines(text: &str) -> Result<Vec<Written>, IceServersError> {
    text.lines()
        .map(str::split_whitespace)
        .filter_map(|mut words| words.next().map(|url| (url, words)))
        .enumerate()
        .map(|(index, (url, mut words))| {
            let (username, password) = (words.next(), words.next());
            if words.next().is_some() {
                return Err(IceServersError::Words { server: index + 1 });
            }
            Ok(Written {
                urls: Some(OneOrMany::One(url.to_owned())),
                username: username.map(ToOwned::to_owned),
                password: password.map(ToOwned::to_owned),
                ..Written::default()
            })
        })
        .collect()
}

impl FromStr for ServerUrl {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let scheme = text.split(':').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("turn") || scheme.eq_ignore_ascii_case("turns") {
            text.parse().map(Self::Turn)
        } else {
            text.parse().map(Self::Stun)
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stun(uri) => uri.fmt(f),
            Self::Turn(uri) => uri.fmt(f),
        }
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for IceServer {
    /// Without the user name, which may name a person, and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "...");
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &hidden(&self.username))
            .field("credential", &hidden(&self.credential))
            .finish()
    }
}

/// Why text is no list of servers. The text itself is not repeated: it may hold passwords.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IceServersError {
    /// It is no JSON, or has none of the shapes.
    Shape {
        /// The line where reading ended, from 1.
        line: usize,
        /// The column, from 1; 0 before the first.
        column: usize,
    },
    /// It is empty.
    Empty,
    /// More than 100 servers or URLs, or more than 64 KiB.
    TooMany,
    /// A server without a URL.
    NoUrl {
        /// Which server, from 1.
        server: usize,
    },
    /// A URL that is none.
    Url {
        /// Which server, from 1.
        server: usize,
        /// What is wrong with it.
        error: UriError,
    },
    /// A TURN server without a user name or a password.
    NoCredentials {
        /// Which server, from 1.
        server: usize,
    },
    /// A credential that is no password.
    Kind {
        /// Which server, from 1.
        server: usize,
    },
    /// A line with more than a URL, a user and a password.
    Words {
        /// Which server, from 1.
        server: usize,
    },
}

impl fmt::Display for IceServersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { line, column } => write!(
                f,
                r#"the list of servers cannot be read past line {line}, column {column}; write [{{"urls": "turn:host", "username": "user", "credential": "password"}}]"#
            ),
            Self::Empty => f.write_str("the list of servers is empty"),
            Self::TooMany => f.write_str("the list of servers is too long: at most 100, in 64 KiB"),
            Self::NoUrl { server } => write!(f, "server {server} has no `urls`"),
            Self::Url { server, error } => write!(f, "server {server}: {error}"),
            Self::NoCredentials { server } => write!(
                f,
                "server {server} is a TURN server and needs a `username` and a `credential`"
            ),
            Self::Kind { server } => write!(
                f,
                "server {server} has a credential that is no password; only passwords are supported"
            ),
            Self::Words { server } => write!(
                f,
                "server {server}: write the URI, the user and the password, and nothing after them"
            ),
        }
    }
}

impl std::error::Error for IceServersError {}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: &str =
        r#"[{"urls":["turn:a.example?transport=udp"],"username":"u","credential":"p"}]"#;

    #[test]
    fn every_shape_reads_as_the_same_servers() {
        for text in [
            TURN,
            r#"{"urls": "turn:a.example?transport=udp", "username": "u", "credential": "p"}"#,
            r#"{"url": "turn:a.example?transport=udp", "username": "u", "credential": "p", "credentialType": "password"}"#,
            r#"{"iceServers": {"urls": ["turn:a.example?transport=udp"], "username": "u", "credential": "p"}}"#,
            r#"{"iceServers": [{"urls": ["turn:a.example?transport=udp"], "username": "u", "credential": "p"}], "iceTransportPolicy": "all"}"#,
            r#"{"account_sid": "A", "username": "x", "password": "y", "ttl": "86400", "ice_servers": [
                {"url": "turn:a.example?transport=udp", "urls": "turn:a.example?transport=udp", "username": "u", "credential": "p"}]}"#,
            r#"{"username": "u", "password": "p", "ttl": 86400, "uris": ["turn:a.example?transport=udp"]}"#,
            " turn:a.example?transport=udp u p\n",
        ] {
            let servers = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(to_json(&servers), TURN, "{text}");
        }
        assert_eq!(
            parse(TURN).map(|servers| to_json(&servers)).as_deref(),
            Ok(TURN)
        );
    }

    #[test]
    fn stun_servers_need_no_credentials_and_lists_keep_their_order() {
        let text = "stun:a.example\n\nstuns:b.example:443\nturns:c.example u p";
        let servers = parse(text).unwrap();
        assert_eq!(
            to_json(&servers),
            r#"[{"urls":["stun:a.example"]},{"urls":["stuns:b.example:443"]},{"urls":["turns:c.example"],"username":"u","credential":"p"}]"#
        );
    }

    #[test]
    fn debug_and_errors_keep_secrets() {
        let servers =
            parse(r#"{"urls": "turn:a", "username": "anna", "credential": "secret"}"#).unwrap();
        let debug = format!("{servers:?}");
        assert!(
            !debug.contains("anna") && !debug.contains("secret"),
            "{debug}"
        );
        for text in [
            "turn:a anna secret more",
            r#"{"urls": "turn:a", "credential": "secret""#,
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let error = |text: &str| parse(text).unwrap_err();
        assert_eq!(error(""), IceServersError::Empty);
        assert_eq!(error("[]"), IceServersError::Empty);
        assert!(matches!(
            error("[{"),
            IceServersError::Shape { line: 1, .. }
        ));
        for text in ["[1]", "{\"iceServers\": 1}", "[{\"urls\": 1}]"] {
            assert!(
                matches!(error(text), IceServersError::Shape { .. }),
                "{text}"
            );
        }
        assert_eq!(error("{}"), IceServersError::NoUrl { server: 1 });
        assert!(matches!(
            error(r#"[{"urls": "stun:a"}, {"urls": "http://a"}]"#),
            IceServersError::Url { server: 2, .. }
        ));
        for text in [
            r#"{"urls": "turn:a"}"#,
            r#"{"urls": "turn:a", "username": "u"}"#,
            r#"{"urls": ["stun:a", "turns:a"], "credential": "p"}"#,
            "turn:a u",
        ] {
            assert_eq!(
                error(text),
                IceServersError::NoCredentials { server: 1 },
                "{text}"
            );
        }
        for text in [
            r#"{"urls": "turn:a", "username": "u", "credential": {"macKey": "k", "accessToken": "t"}}"#,
            r#"{"urls": "turn:a", "username": "u", "credential": "p", "credentialType": "oauth"}"#,
        ] {
            assert_eq!(error(text), IceServersError::Kind { server: 1 }, "{text}");
        }
        assert_eq!(error("turn:a u p x"), IceServersError::Words { server: 1 });
        assert_eq!(error(&"stun:a\n".repeat(101)), IceServersError::TooMany);
        assert_eq!(error(&"x".repeat(70_000)), IceServersError::TooMany);
        assert!(parse(&"[".repeat(60_000)).is_err());
    }
}
