//! HTTP CONNECT and SOCKS5 proxies, for networks that let nothing else out.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{StreamCause, StreamRemote};

/// An HTTP proxy's whole answer to CONNECT; those in use send a few hundred bytes.
const MAX_HTTP_REPLY_BYTES: usize = 8 * 1024;
/// SOCKS5 (RFC 1928) and its passwords (RFC 1929) write lengths in one byte.
const MAX_SOCKS_TEXT_BYTES: usize = 255;

/// A proxy that opens TCP connections: `http://user:password@host:port` or `socks5://host:port`.
///
/// ```
/// use nilas_net::stream::Proxy;
///
/// let proxy: Proxy = "socks5://anna:secret@proxy.example.org".parse()?;
/// assert_eq!(proxy.port(), 1080);
/// assert_eq!(proxy.to_string(), "socks5://proxy.example.org:1080");
/// assert!(!format!("{proxy:?}").contains("secret"));
/// # Ok::<(), nilas_net::stream::ProxyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    user: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Http,
    Socks5,
}

impl Proxy {
    /// The proxy's host: a name or an address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port: 80 for HTTP and 1080 for SOCKS5 where none is named.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn address(&self) -> String {
        join(&self.host, self.port)
    }

    /// Asks the proxy, to which `stream` is connected, for a connection to `remote`. Afterwards the
    /// stream is that connection; not a byte of it has been read.
    pub(super) async fn negotiate(
        &self,
        stream: &mut TcpStream,
        remote: &StreamRemote,
    ) -> Result<(), StreamCause> {
        if let StreamRemote::Name { host, .. } = remote
            && !is_host_name(host)
        {
            return Err(ProxyRefusal::Name.into());
        }
        match self.kind {
            Kind::Http => self.connect_http(stream, remote).await,
            Kind::Socks5 => self.connect_socks5(stream, remote).await,
        }
    }

    async fn connect_http(
        &self,
        stream: &mut TcpStream,
        remote: &StreamRemote,
    ) -> Result<(), StreamCause> {
        let mut request = format!("CONNECT {remote} HTTP/1.1\r\nHost: {remote}\r\n");
        if let Some((user, password)) = &self.user {
            let basic = BASE64.encode(format!("{user}:{password}").as_bytes());
            request += &format!("Proxy-Authorization: Basic {basic}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await?;
        let reply = read_http_head(stream).await?;
        match http_status(&reply).ok_or(ProxyRefusal::NoProxy)? {
            200..=299 => Ok(()),
            407 => Err(self.refused_credentials().into()),
            status => Err(ProxyRefusal::Http { status }.into()),
        }
    }

    async fn connect_socks5(
        &self,
        stream: &mut TcpStream,
        remote: &StreamRemote,
    ) -> Result<(), StreamCause> {
        const VERSION: u8 = 5;
        const NO_AUTHENTICATION: u8 = 0;
        const USER_PASSWORD: u8 = 2;
        const NONE_ACCEPTABLE: u8 = 0xff;

        let greeting: &[u8] = match self.user {
            None => &[VERSION, 1, NO_AUTHENTICATION],
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_PASSWORD],
        };
        stream.write_all(greeting).await?;
        let [version, method] = read_array(stream).await?;
        if version != VERSION {
            return Err(ProxyRefusal::NoProxy.into());
        }
        match (method, &self.user) {
            (NO_AUTHENTICATION, _) => (),
            (USER_PASSWORD, Some((user, password))) => {
                let mut message = vec![1];
                push_text(&mut message, user)?;
                push_text(&mut message, password)?;
                stream.write_all(&message).await?;
                let [_, status] = read_array(stream).await?;
                if status != 0 {
                    return Err(self.refused_credentials().into());
                }
            }
            (NONE_ACCEPTABLE, _) => return Err(self.refused_credentials().into()),
            _ => return Err(ProxyRefusal::NoProxy.into()),
        }

        let mut request = vec![VERSION, 1, 0];
        let port = match remote {
            StreamRemote::Address(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        request.push(1);
                        request.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        request.push(4);
                        request.extend_from_slice(&ip.octets());
                    }
                }
                address.port()
            }
            StreamRemote::Name { host, port } => {
                request.push(3);
                push_text(&mut request, host)?;
                *port
            }
        };
        request.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&request).await?;

        let [version, reply, _, address_type] = read_array(stream).await?;
        if version != VERSION {
            return Err(ProxyRefusal::NoProxy.into());
        }
        if reply != 0 {
            return Err(ProxyRefusal::Socks { reply }.into());
        }
        // The address that the proxy connected from is of no use, but stands before the first byte that is.
        let rest = 2 + match address_type {
            1 => 4,
            4 => 16,
            3 => {
                let [length] = read_array(stream).await?;
                usize::from(length)
            }
            _ => return Err(ProxyRefusal::NoProxy.into()),
        };
        let mut bound = [0; 2 + MAX_SOCKS_TEXT_BYTES];
        stream.read_exact(&mut bound[..rest]).await?;
        Ok(())
    }

    const fn refused_credentials(&self) -> ProxyRefusal {
        ProxyRefusal::Credentials {
            given: self.user.is_some(),
        }
    }
}

/// Reads up to and including the empty line, and nothing after it.
async fn read_http_head(stream: &mut TcpStream) -> Result<Vec<u8>, StreamCause> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let seen = stream.peek(&mut chunk).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let before = head.len();
        head.extend_from_slice(&chunk[..seen]);
        // The end may have begun in the chunk before.
        let from = before.saturating_sub(END.len() - 1);
        let end = head[from..]
            .windows(END.len())
            .position(|window| window == END)
            .map(|at| from + at + END.len());
        head.truncate(end.unwrap_or(head.len()));
        let taken = head.len() - before;
        stream.read_exact(&mut chunk[..taken]).await?;
        if end.is_some() {
            return Ok(head);
        }
        if head.len() > MAX_HTTP_REPLY_BYTES || !b"HTTP/".starts_with(&head[..head.len().min(5)]) {
            return Err(ProxyRefusal::NoProxy.into());
        }
    }
}

fn http_status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', a, b, c, b' ' | b'\r', ..] = rest else {
        return None;
    };
    std::str::from_utf8(&[*a, *b, *c]).ok()?.parse().ok()
}

async fn read_array<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn push_text(message: &mut Vec<u8>, text: &str) -> Result<(), ProxyRefusal> {
    let length = u8::try_from(text.len()).map_err(|_| ProxyRefusal::Name)?;
    message.push(length);
    message.extend_from_slice(text.as_bytes());
    Ok(())
}

/// What would end a line of HTTP or mean something else there is no name.
fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= MAX_SOCKS_TEXT_BYTES && host.bytes().all(allowed)
}

fn join(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyError::Scheme)?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            // `socks5h` is how others write that the proxy resolves names, which it does here anyway.
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return Err(ProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password may hold `@`, a host may not.
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(parse_user(user)?), authority),
            None => (None, rest),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']').ok_or(ProxyError::Host)?;
                let ip: std::net::Ipv6Addr = host.parse().map_err(|_| ProxyError::Host)?;
                let port = match port.strip_prefix(':') {
                    None if port.is_empty() => None,
                    None => return Err(ProxyError::Port),
                    Some(port) => Some(port),
                };
                (ip.to_string(), port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (authority.to_owned(), None),
            },
        };
        if host.parse::<IpAddr>().is_err() && !is_host_name(&host) {
            return Err(ProxyError::Host);
        }
        let port = match port {
            None => default_port,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
                Ok(0) | Err(_) => return Err(ProxyError::Port),
                Ok(port) => port,
            },
            Some(_) => return Err(ProxyError::Port),
        };
        Ok(Self {
            kind,
            host,
            port,
            user,
        })
    }
}

fn parse_user(text: &str) -> Result<(String, String), ProxyError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = (percent_decode(user)?, percent_decode(password)?);
    // SOCKS5 writes the lengths in one byte, from 1; in HTTP a colon would end the user's name.
    let fits = |text: &str| text.len() <= MAX_SOCKS_TEXT_BYTES;
    if decoded.0.is_empty() || decoded.0.contains(':') || !fits(&decoded.0) || !fits(&decoded.1) {
        return Err(ProxyError::User);
    }
    Ok(decoded)
}

fn percent_decode(text: &str) -> Result<String, ProxyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(ProxyError::User);
            };
            // Two hexadecimal digits fill a byte.
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| ProxyError::User)
}

impl fmt::Display for Proxy {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("authenticates", &self.user.is_some())
            .finish()
    }
}

/// Why a proxy did not open a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProxyRefusal {
    /// It wants a user and a password, or others than these.
    Credentials {
        /// Whether it was given some.
        given: bool,
    },
    /// An HTTP proxy's status other than success.
    Http {
        /// The status.
        status: u16,
    },
    /// A SOCKS5 proxy's reply other than success.
    Socks {
        /// The reply code of RFC 1928.
        reply: u8,
    },
    /// What it says is not what a proxy of this kind says.
    NoProxy,
    /// The server's name is not one that can be asked for.
    Name,
}

impl From<ProxyRefusal> for StreamCause {
    fn from(refusal: ProxyRefusal) -> Self {
        Self::Proxy(refusal)
    }
}

impl From<io::Error> for StreamCause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials { given: true } => {
                f.write_str("it does not take this user and password")
            }
            Self::Credentials { given: false } => f.write_str(
                "it asks for a user and a password; write `http://user:password@host:port`",
            ),
            Self::Http { status } => {
                write!(
                    f,
                    "it answers with HTTP status {status}; does it allow CONNECT to this port?"
                )
            }
            Self::Socks { reply } => f.write_str(match reply {
                2 => "its rules do not allow this server",
                3 => "it finds no network to the server",
                4 => "it finds no way to the server",
                5 => "the server refused it",
                6 => "the server did not answer it",
                7 => "it opens no TCP connections",
                8 => "it does not know this kind of address",
                _ => "it failed",
            }),
            Self::NoProxy => f.write_str("what answers is no proxy of this kind"),
            Self::Name => f.write_str("the server's name holds characters that no host name has"),
        }
    }
}

/// Why text names no proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// Another scheme, or none.
    Scheme,
    /// The host is missing or is none.
    Host,
    /// The port is no number from 1 to 65535.
    Port,
    /// The user or the password is empty, too long or badly encoded.
    User,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "a proxy begins with `http://` or `socks5://` (a proxy reached over TLS is not supported)"
            }
            Self::Host => "the proxy names no host; write `http://host:port`",
            Self::Port => "the proxy's port must be a number from 1 to 65535",
            Self::User => {
                "the proxy's user and password are at most 255 bytes each, with special characters as %XX"
            }
        })
    }
}

impl std::error::Error for ProxyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_read_and_print_without_their_secrets() {
        for (text, printed) in [
            ("http://proxy", "http://proxy:80"),
            ("HTTP://u:p@proxy:3128/", "http://proxy:3128"),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080"),
            ("socks5h://192.0.2.1:9", "socks5://192.0.2.1:9"),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap().to_string(), printed);
        }
        let proxy: Proxy = "http://us%65r:p@s%3As@h".parse().unwrap();
        assert_eq!(proxy.user, Some(("user".into(), "p@s:s".into())));
        assert!(!format!("{proxy:?}").contains("p@s"));
    }

    #[test]
    fn each_part_that_is_wrong_is_named() {
        let error = |text: &str| text.parse::<Proxy>().unwrap_err();
        assert_eq!(error("proxy:80"), ProxyError::Scheme);
        assert_eq!(error("https://proxy"), ProxyError::Scheme);
        assert_eq!(error("http://"), ProxyError::Host);
        assert_eq!(error("http://a b"), ProxyError::Host);
        assert_eq!(error("http://a\r\nX: y"), ProxyError::Host);
        assert_eq!(error("http://[::1"), ProxyError::Host);
        for port in ["", "0", "65536", "+1", "x"] {
            assert_eq!(
                error(&format!("http://a:{port}")),
                ProxyError::Port,
                "{port}"
            );
        }
        assert_eq!(error("http://:p@a"), ProxyError::User);
        assert_eq!(error("http://u%4@a"), ProxyError::User);
        assert_eq!(error("http://u%zz@a"), ProxyError::User);
        assert_eq!(
            error(&format!("http://{}@a", "u".repeat(256))),
            ProxyError::User
        );
    }

    #[test]
    fn only_a_status_line_of_http_1_is_one() {
        assert_eq!(http_status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(http_status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for head in [
            &b"HTTP/2 200\r\n\r\n"[..],
            b"HTTP/1.1 2000 \r\n\r\n",
            b"HTTP/1.1 +20 \r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"",
        ] {
            assert_ne!(http_status(head), Some(200), "{head:?}");
        }
    }
}
