//! `stun:`, `stuns:`, `turn:` and `turns:` URIs (RFC 7064, RFC 7065, RFC 8656 section 4.1).

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// The port of `stun:` and `turn:` (RFC 7064 section 3.2, RFC 7065 section 3.2).
pub const DEFAULT_PORT: u16 = 3478;
/// The port of `stuns:` and `turns:` (RFC 7064 section 3.2, RFC 7065 section 3.2).
pub const DEFAULT_SECURE_PORT: u16 = 5349;

/// A STUN server.
///
/// ```
/// use nilas_stun::uri::StunUri;
///
/// let uri: StunUri = "stun:stun.example.org".parse()?;
/// assert!(!uri.secure);
/// assert_eq!(uri.port_or_default(), 3478);
/// assert_eq!(uri.to_string(), "stun:stun.example.org");
/// # Ok::<(), nilas_stun::uri::UriError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StunUri {
    /// Whether the scheme is `stuns`: over TLS or DTLS.
    pub secure: bool,
    /// The server.
    pub host: Host,
    /// Its port, if the URI names one.
    pub port: Option<u16>,
}

/// A TURN server.
///
/// ```
/// use nilas_stun::uri::{Transport, TurnUri};
///
/// let uri: TurnUri = "turns:[2001:db8::1]:443?transport=tcp".parse()?;
/// assert!(uri.secure);
/// assert_eq!(uri.transport, Some(Transport::Tcp));
/// assert_eq!(uri.port_or_default(), 443);
/// # Ok::<(), nilas_stun::uri::UriError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TurnUri {
    /// Whether the scheme is `turns`: over TLS or DTLS.
    pub secure: bool,
    /// The server.
    pub host: Host,
    /// Its port, if the URI names one.
    pub port: Option<u16>,
    /// The transport between client and server, if the URI names one.
    pub transport: Option<Transport>,
}

/// The host of a URI.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address, in brackets in the URI.
    Ipv6(Ipv6Addr),
    /// A DNS name, in ASCII, as written.
    Name(String),
}

/// The transport that a TURN URI names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// `udp`: UDP, or with `turns` DTLS.
    Udp,
    /// `tcp`: TCP, or with `turns` TLS.
    Tcp,
    /// A transport not known here, as written.
    Other(String),
}

impl StunUri {
    /// The port that the URI names or else the default of its scheme.
    #[must_use]
    pub const fn port_or_default(&self) -> u16 {
        port_or_default(self.port, self.secure)
    }
}

impl TurnUri {
    /// The port that the URI names or else the default of its scheme.
    #[must_use]
    pub const fn port_or_default(&self) -> u16 {
        port_or_default(self.port, self.secure)
    }
}

impl FromStr for StunUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        // RFC 7064 section 3.1: stunURI = scheme ":" host [ ":" port ].
        let (secure, rest) = split_scheme(text, "stun", "stuns")?;
        if rest.contains('?') {
            return Err(UriError::Query);
        }
        let (host, port) = parse_authority(rest)?;
        Ok(Self { secure, host, port })
    }
}

impl FromStr for TurnUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        // RFC 7065 section 3.1: turnURI = scheme ":" host [ ":" port ] [ "?transport=" transport ].
        let (secure, rest) = split_scheme(text, "turn", "turns")?;
        let (authority, transport) = match rest.split_once('?') {
            None => (rest, None),
            Some((authority, query)) => (authority, Some(parse_transport(query)?)),
        };
        let (host, port) = parse_authority(authority)?;
        Ok(Self {
            secure,
            host,
            port,
            transport,
        })
    }
}

impl fmt::Display for StunUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "stuns:" } else { "stun:" })?;
        write_authority(f, &self.host, self.port)
    }
}

impl fmt::Display for TurnUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "turns:" } else { "turn:" })?;
        write_authority(f, &self.host, self.port)?;
        match &self.transport {
            None => Ok(()),
            Some(transport) => write!(f, "?transport={transport}"),
        }
    }
}

impl fmt::Display for Host {
    /// As in a URI: an IPv6 address stands in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => write!(f, "{address}"),
            Self::Ipv6(address) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Other(name) => name,
        })
    }
}

const fn port_or_default(port: Option<u16>, secure: bool) -> u16 {
    match port {
        Some(port) => port,
        None if secure => DEFAULT_SECURE_PORT,
        None => DEFAULT_PORT,
    }
}

/// Splits off the scheme and says whether it is the secure one.
fn split_scheme<'t>(
    text: &'t str,
    plain: &'static str,
    secure: &'static str,
) -> Result<(bool, &'t str), UriError> {
    let wrong = UriError::Scheme { plain, secure };
    let (scheme, rest) = text.split_once(':').ok_or(wrong)?;
    // RFC 3986: schemes are case-insensitive.
    if scheme.eq_ignore_ascii_case(plain) {
        Ok((false, rest))
    } else if scheme.eq_ignore_ascii_case(secure) {
        Ok((true, rest))
    } else {
        Err(wrong)
    }
}

fn parse_authority(text: &str) -> Result<(Host, Option<u16>), UriError> {
    if text.starts_with("//") {
        return Err(UriError::Slashes);
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(UriError::Ipv6)?;
        let address = address.parse().map_err(|_| UriError::Ipv6)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => None,
            None => return Err(UriError::Port),
        };
        return Ok((Host::Ipv6(address), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, None),
    };
    if host.is_empty() {
        return Err(UriError::EmptyHost);
    }
    if let Ok(address) = host.parse() {
        return Ok((Host::Ipv4(address), port));
    }
    // RFC 3986 also allows percent-encoding and sub-delims in a registered name; no name in the
    // DNS has them, and a name beyond ASCII is written with A-labels.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    if let Some(character) = host.chars().find(|c| !allowed(*c)) {
        return Err(UriError::HostCharacter { character });
    }
    Ok((Host::Name(host.to_owned()), port))
}

fn parse_port(text: &str) -> Result<Option<u16>, UriError> {
    // RFC 3986: port = *DIGIT, so that it may be empty; `parse` would take a sign.
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UriError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(UriError::Port),
        Ok(port) => Ok(Some(port)),
    }
}

fn parse_transport(query: &str) -> Result<Transport, UriError> {
    let (name, value) = query.split_once('=').ok_or(UriError::Query)?;
    if !name.eq_ignore_ascii_case("transport") {
        return Err(UriError::Query);
    }
    // RFC 7065 section 3.1: transport-ext = 1*unreserved.
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if value.is_empty() || !value.bytes().all(unreserved) {
        return Err(UriError::Query);
    }
    Ok(if value.eq_ignore_ascii_case("udp") {
        Transport::Udp
    } else if value.eq_ignore_ascii_case("tcp") {
        Transport::Tcp
    } else {
        Transport::Other(value.to_owned())
    })
}

fn write_authority(f: &mut fmt::Formatter<'_>, host: &Host, port: Option<u16>) -> fmt::Result {
    match port {
        None => write!(f, "{host}"),
        Some(port) => write!(f, "{host}:{port}"),
    }
}

/// Why text is no STUN or TURN URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UriError {
    /// The scheme is another one.
    Scheme {
        /// The scheme without TLS that was expected.
        plain: &'static str,
        /// The scheme with TLS that was expected.
        secure: &'static str,
    },
    /// `//` follows the scheme.
    Slashes,
    /// No host.
    EmptyHost,
    /// The host has a character that no DNS name has.
    HostCharacter {
        /// The first such character.
        character: char,
    },
    /// The part in brackets is no IPv6 address.
    Ipv6,
    /// The port is no number from 1 to 65535.
    Port,
    /// What follows `?` is not `transport=` and a name, or nothing may follow.
    Query,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { plain, secure } => {
                write!(
                    f,
                    "the server's URI must begin with `{plain}:` or `{secure}:`"
                )
            }
            Self::Slashes => f.write_str("no `//` follows the scheme; write `stun:host:port`"),
            Self::EmptyHost => f.write_str("the URI names no host"),
            Self::HostCharacter { character } => {
                write!(f, "a host cannot contain {character:?}")
            }
            Self::Ipv6 => {
                f.write_str("an IPv6 address in brackets is expected, such as `[2001:db8::1]`")
            }
            Self::Port => f.write_str("the port must be a number from 1 to 65535"),
            Self::Query => f.write_str(
                "only `?transport=udp` or `?transport=tcp` may follow, and only on a TURN URI",
            ),
        }
    }
}

impl core::error::Error for UriError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn uris_of_the_rfcs_read_and_print() {
        // RFC 7064 appendix A and RFC 7065 appendix A.
        for text in [
            "stun:example.org",
            "stuns:example.org",
            "stun:example.org:8000",
        ] {
            assert_eq!(text.parse::<StunUri>().unwrap().to_string(), text);
        }
        for text in [
            "turn:example.org",
            "turns:example.org",
            "turn:example.org:8000",
            "turn:example.org?transport=udp",
            "turn:example.org?transport=tcp",
            "turns:example.org?transport=tcp",
            "turn:192.0.2.1:3478?transport=sctp",
        ] {
            assert_eq!(text.parse::<TurnUri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn ports_default_by_scheme() {
        let port = |text: &str| text.parse::<TurnUri>().unwrap().port_or_default();
        assert_eq!(port("turn:a"), 3478);
        assert_eq!(port("TURNS:a"), 5349);
        assert_eq!(port("turns:a:"), 5349);
        assert_eq!(port("turn:[::1]:99"), 99);
    }

    #[test]
    fn each_part_that_is_wrong_is_named() {
        let stun = |text: &str| text.parse::<StunUri>().unwrap_err();
        let scheme = UriError::Scheme {
            plain: "stun",
            secure: "stuns",
        };
        assert_eq!(stun("turn:a"), scheme);
        assert_eq!(stun("example.org"), scheme);
        assert_eq!(stun(""), scheme);
        assert_eq!(stun("stun://a"), UriError::Slashes);
        assert_eq!(stun("stun:"), UriError::EmptyHost);
        assert_eq!(stun("stun::3478"), UriError::EmptyHost);
        assert_eq!(stun("stun:a b"), UriError::HostCharacter { character: ' ' });
        assert_eq!(stun("stun:u@a"), UriError::HostCharacter { character: '@' });
        assert_eq!(stun("stun:[::1"), UriError::Ipv6);
        assert_eq!(stun("stun:[fe80::1%25eth0]"), UriError::Ipv6);
        assert_eq!(stun("stun:[::1]x"), UriError::Port);
        for port in [
            "0",
            "65536",
            "+1",
            "-1",
            "x",
            "3478/",
            "99999999999999999999",
        ] {
            assert_eq!(
                stun(&alloc::format!("stun:a:{port}")),
                UriError::Port,
                "{port}"
            );
        }
        assert_eq!(stun("stun:a?transport=udp"), UriError::Query);
        let turn = |text: &str| text.parse::<TurnUri>().unwrap_err();
        for query in ["", "transport", "transport=", "transport=a b", "x=udp"] {
            assert_eq!(
                turn(&alloc::format!("turn:a?{query}")),
                UriError::Query,
                "{query}"
            );
        }
    }
}
