//! The `candidate` attribute of RFC 8839 section 5.1: a line of text, in and out.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::{FromStr, Split};

use crate::candidate::{
    Candidate, CandidateAddress, CandidateType, Foundation, TcpType, Transport,
};
use crate::parameters::is_ice_char;

/// Longer lines are refused unread: ten times what any known agent writes.
const MAX_LINE: usize = 2048;

impl FromStr for Candidate {
    type Err = CandidateError;

    /// Accepts `candidate:…` and, as browsers do, `a=candidate:…`.
    fn from_str(line: &str) -> Result<Self, CandidateError> {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = line.strip_prefix("a=").unwrap_or(line);
        let value = line
            .strip_prefix("candidate:")
            .ok_or(CandidateError::Field("candidate:"))?;
        read(value)
    }
}

/// What follows `candidate:`.
pub(crate) fn read(value: &str) -> Result<Candidate, CandidateError> {
    if value.len() > MAX_LINE {
        return Err(CandidateError::TooLong);
    }
    parse(value.split(' '))
}

fn parse(mut fields: Split<'_, char>) -> Result<Candidate, CandidateError> {
    let mut next = |name| fields.next().ok_or(CandidateError::Missing(name));
    let foundation =
        Foundation::new(next("foundation")?).ok_or(CandidateError::Field("foundation"))?;
    let component = number::<u16>(next("component-id")?, 3, "component-id")?;
    if !(1..=256).contains(&component) {
        return Err(CandidateError::Field("component-id"));
    }
    let transport = match next("transport")? {
        udp if udp.eq_ignore_ascii_case("udp") => Transport::Udp,
        other if is_token(other) => Transport::Other(other.into()),
        _ => return Err(CandidateError::Field("transport")),
    };
    let priority = number::<u32>(next("priority")?, 10, "priority")?;
    if priority == 0 || priority > i32::MAX as u32 {
        return Err(CandidateError::Field("priority"));
    }
    let host = next("connection-address")?;
    let port = number(next("port")?, 5, "port")?;
    let address = match parse_ip(host) {
        Some(ip) => CandidateAddress::Ip(SocketAddr::new(ip, port)),
        None if is_name(host) => CandidateAddress::Name {
            name: host.into(),
            port,
        },
        None => return Err(CandidateError::Field("connection-address")),
    };
    if next("typ")? != "typ" {
        return Err(CandidateError::Field("typ"));
    }
    let kind = match next("cand-type")? {
        "host" => CandidateType::Host,
        "srflx" => CandidateType::Srflx,
        "prflx" => CandidateType::Prflx,
        "relay" => CandidateType::Relay,
        _ => return Err(CandidateError::Field("cand-type")),
    };

    let mut candidate = Candidate {
        foundation,
        component,
        transport,
        priority,
        address,
        kind,
        related: None,
        ufrag: None,
        extensions: Vec::new(),
    };
    let (mut related_host, mut related_port) = (None, None);
    while let Some(name) = fields.next() {
        // Some agents end their lines with a space; nothing is lost by letting it pass.
        if name.is_empty() {
            continue;
        }
        let value = fields
            .next()
            .ok_or(CandidateError::Missing("extension-att-value"))?;
        match name {
            "raddr" if related_host.is_none() => related_host = Some(value),
            "rport" if related_port.is_none() => related_port = Some(number(value, 5, "rport")?),
            "ufrag" if candidate.ufrag.is_none() => {
                // Anything else, such as the end of a line, would be written into a description of ours.
                if !is_ufrag(value) {
                    return Err(CandidateError::Field("ufrag"));
                }
                candidate.ufrag = Some(value.into());
            }
            "tcptype" if is_tcp(&candidate.transport) && tcp_type(value).is_some() => {
                candidate.transport = tcp_type(value).map_or(candidate.transport, Transport::Tcp);
            }
            // Said twice: the first one holds.
            "raddr" | "rport" | "ufrag" => {}
            "tcptype" if matches!(candidate.transport, Transport::Tcp(_)) => {}
            _ if is_token(name) && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                candidate.extensions.push((name.into(), value.into()));
            }
            _ => return Err(CandidateError::Field("extension-att-name")),
        }
    }
    if let (Some(host), Some(port)) = (related_host, related_port) {
        // A related address is for diagnosis only: a name there is no reason to lose the candidate.
        candidate.related = parse_ip(host).map(|ip| SocketAddr::new(ip, port));
    }
    Ok(candidate)
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "candidate:{} {} ", self.foundation, self.component)?;
        match &self.transport {
            Transport::Udp => f.write_str("udp")?,
            Transport::Tcp(_) => f.write_str("tcp")?,
            Transport::Other(token) => f.write_str(token)?,
        }
        write!(f, " {} ", self.priority)?;
        match &self.address {
            CandidateAddress::Ip(address) => write!(f, "{} {}", address.ip(), address.port())?,
            CandidateAddress::Name { name, port } => write!(f, "{name} {port}")?,
        }
        write!(f, " typ {}", self.kind)?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        if let Transport::Tcp(tcp_type) = self.transport {
            write!(f, " tcptype {tcp_type}")?;
        }
        for (name, value) in &self.extensions {
            write!(f, " {name} {value}")?;
        }
        match &self.ufrag {
            Some(ufrag) => write!(f, " ufrag {ufrag}"),
            None => Ok(()),
        }
    }
}

fn number<T: FromStr>(text: &str, digits: usize, field: &'static str) -> Result<T, CandidateError> {
    if text.is_empty() || text.len() > digits || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CandidateError::Field(field));
    }
    text.parse().map_err(|_| CandidateError::Field(field))
}

/// RFC 8839 section 5.1: a colon tells an IPv6 address. A zone has no meaning for the peer.
fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 253
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        // What looks like an IPv4 address and is none must not become a name.
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// TCP whose type was not told yet. Without one it stays what cannot be paired: RFC 6544 section 4.5 demands it.
fn is_tcp(transport: &Transport) -> bool {
    matches!(transport, Transport::Other(token) if token.eq_ignore_ascii_case("tcp"))
}

/// RFC 6544 section 4.5.
fn tcp_type(value: &str) -> Option<TcpType> {
    [TcpType::Active, TcpType::Passive, TcpType::So]
        .into_iter()
        .find(|tcp_type| tcp_type.as_str() == value)
}

/// What a generation can be called (RFC 8839 section 5.4), or be called by a peer that is less strict.
pub(crate) fn is_ufrag(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(is_ice_char)
}

/// `token` of RFC 3261.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte))
}

/// What is wrong with a candidate line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CandidateError {
    /// The line ends before this field.
    Missing(&'static str),
    /// This field is not what RFC 8839 section 5.1 allows.
    Field(&'static str),
    /// The line is longer than any candidate.
    TooLong,
}

impl fmt::Display for CandidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "candidate line ends before its {field}"),
            Self::Field(field) => write!(f, "candidate line: {field} is not valid"),
            Self::TooLong => write!(f, "candidate line is longer than {MAX_LINE} bytes"),
        }
    }
}

impl core::error::Error for CandidateError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_with_their_extensions() {
        for line in [
            "candidate:2 1 udp 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
            "candidate:1 1 udp 2130706431 2001:db8::1 9 typ host generation 0 network-cost 999 ufrag AbCd",
            "candidate:a+/1 256 tcp 1 192.0.2.3 9 typ host tcptype active x y",
            "candidate:0 1 udp 5 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 7 typ host",
            "candidate:0 1 udp 5 192.0.2.3 7 typ relay raddr 0.0.0.0 rport 9 x y",
        ] {
            let parsed = line.parse::<Candidate>();
            assert_eq!(parsed.map(|c| c.to_string()).as_deref(), Ok(line));
        }
        let upper: Candidate = "a=candidate:1 1 UDP 1 192.0.2.3 9 typ host\r\n"
            .parse()
            .expect("a candidate");
        assert_eq!(upper.transport, Transport::Udp);
    }

    #[test]
    fn what_is_written_reads_the_same_and_is_one_line() {
        let line = |rest: &str| format!("candidate:1 1 udp 1 192.0.2.3 9 typ host {rest}");
        for rest in ["ufrag a\r\na=ice-lite", "ufrag a\tb", "ufrag ä", "ufrag "] {
            let expected = Err(CandidateError::Field("ufrag"));
            assert_eq!(line(rest).parse::<Candidate>(), expected, "{rest:?}");
        }
        for rest in [
            "ufrag a ufrag b",
            "raddr a.local rport 9 raddr 192.0.2.1 rport 5",
        ] {
            let first: Candidate = line(rest).parse().expect("the first holds");
            assert_eq!(first.to_string().parse(), Ok(first), "{rest:?}");
        }
    }

    #[test]
    fn tcp_candidates_keep_their_type() {
        // RFC 6544 appendix C, in lower case.
        for (line, tcp_type) in [
            (
                "candidate:1 1 tcp 2128609279 10.0.1.1 9 typ host tcptype active",
                TcpType::Active,
            ),
            (
                "candidate:5 1 tcp 1688207359 192.0.2.3 9 typ srflx raddr 10.0.1.1 rport 8998 tcptype passive",
                TcpType::Passive,
            ),
            (
                "candidate:3 1 tcp 2120220671 10.0.1.1 8999 typ host tcptype so generation 0 ufrag AbCd",
                TcpType::So,
            ),
        ] {
            let candidate: Candidate = line.parse().expect("a candidate");
            assert_eq!(candidate.transport, Transport::Tcp(tcp_type), "{line}");
            assert!(candidate.extensions.len() < 2, "{line}");
            assert_eq!(candidate.to_string(), line);
        }
        let read = |line: &str| line.parse::<Candidate>().expect("a candidate");
        let twice = read("candidate:1 1 TCP 1 192.0.2.3 9 typ host tcptype so x y tcptype active");
        assert_eq!(twice.transport, Transport::Tcp(TcpType::So));
        assert_eq!(read(&twice.to_string()), twice);
        // What has no type, or one that nobody knows, is kept and can be paired with nothing.
        for line in [
            "candidate:1 1 TCP 1 192.0.2.3 9 typ host",
            "candidate:1 1 tcp 1 192.0.2.3 9 typ host tcptype sideways",
            "candidate:1 1 udp 1 192.0.2.3 9 typ host tcptype active",
        ] {
            let candidate = read(line);
            assert!(!matches!(candidate.transport, Transport::Tcp(_)), "{line}");
            assert_eq!(candidate.to_string(), line);
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (line, error) in [
            ("candidat:1", CandidateError::Field("candidate:")),
            ("candidate:", CandidateError::Field("foundation")),
            ("candidate:1", CandidateError::Missing("component-id")),
            (
                "candidate:1 0 udp 1 192.0.2.3 9 typ host",
                CandidateError::Field("component-id"),
            ),
            (
                "candidate:1 257 udp 1 192.0.2.3 9 typ host",
                CandidateError::Field("component-id"),
            ),
            (
                "candidate:1 1 u(p 1 192.0.2.3 9 typ host",
                CandidateError::Field("transport"),
            ),
            (
                "candidate:1 1 udp 0 192.0.2.3 9 typ host",
                CandidateError::Field("priority"),
            ),
            (
                "candidate:1 1 udp 2147483648 192.0.2.3 9 typ host",
                CandidateError::Field("priority"),
            ),
            (
                "candidate:1 1 udp -1 192.0.2.3 9 typ host",
                CandidateError::Field("priority"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.300 9 typ host",
                CandidateError::Field("connection-address"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 65536 typ host",
                CandidateError::Field("port"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 9 type host",
                CandidateError::Field("typ"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 9 typ hosts",
                CandidateError::Field("cand-type"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 9 typ",
                CandidateError::Missing("cand-type"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 9 typ host generation",
                CandidateError::Missing("extension-att-value"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.3 9 typ srflx raddr 1.2.3.4 rport x",
                CandidateError::Field("rport"),
            ),
        ] {
            assert_eq!(line.parse::<Candidate>(), Err(error), "{line}");
        }
        assert_eq!(
            "candidate:1 ".repeat(400).parse::<Candidate>(),
            Err(CandidateError::TooLong)
        );
    }
}
