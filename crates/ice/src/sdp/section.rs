//! One `m=` section of a description, read.

use core::net::{IpAddr, SocketAddr};

use super::attribute::Attribute;
use super::ice::{Destination, IceDescription};
use super::text::{Defaults, MediaLine, attributes, lines, value};
use crate::candidate::{Candidate, Transport};
use crate::candidate_line::is_name;
use crate::parameters::Parameters;

/// A component id is 256 at the most (RFC 8839 section 5.1).
const MAX_COMPONENTS: usize = 256;

/// An `m=` section of a session description or fragment: one data stream (RFC 8839 section 4.2.1.1).
#[derive(Clone, Copy, Debug)]
pub struct MediaSection<'a> {
    defaults: &'a Defaults,
    text: &'a str,
}

impl<'a> MediaSection<'a> {
    pub(super) const fn new(defaults: &'a Defaults, text: &'a str) -> Self {
        Self { defaults, text }
    }

    /// What is described, such as `audio` or `application`.
    pub fn media(&self) -> &'a str {
        self.media_line().map_or("", |line| line.media)
    }

    /// The port in the `m=` line.
    pub fn port(&self) -> u16 {
        self.media_line().map_or(0, |line| line.port)
    }

    /// The protocol in the `m=` line, such as `UDP/TLS/RTP/SAVPF`.
    pub fn protocol(&self) -> &'a str {
        self.media_line().map_or("", |line| line.protocol)
    }

    /// The identification tag, by which candidates that trickle and groups name the section.
    pub fn mid(&self) -> Option<&'a str> {
        value(self.text, "a=mid:")
    }

    /// The section's lines, the `m=` line first, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        lines(self.text)
    }

    /// Whether it has no transport of its own unless it is bundled (RFC 8829 section 5.2.1).
    pub fn is_bundle_only(&self) -> bool {
        self.has("a=bundle-only")
    }

    /// Whether the stream was rejected or removed: its port is 0, and it is not bundle-only.
    pub fn is_rejected(&self) -> bool {
        self.port() == 0 && !self.is_bundle_only()
    }

    /// What the section says about ICE, and what the session's lines say for it.
    ///
    /// A candidate that cannot be read is left out, as RFC 8839 section 5.1 demands for what is not
    /// supported or recognized.
    pub fn ice(&self) -> IceDescription {
        let mut parameters = self.defaults.parameters.clone();
        let mut ice = IceDescription {
            end_of_candidates: self.defaults.end_of_candidates,
            destination: self.destination(),
            rtcp_destination: self.rtcp_destination(),
            ..IceDescription::default()
        };
        for attribute in attributes(self.text) {
            parameters.apply(&attribute);
            match attribute {
                Attribute::Candidate(candidate) => ice.candidates.push(candidate),
                // RFC 8839 section 5.2 shows a line for each component.
                Attribute::RemoteCandidates(told) => {
                    let room = MAX_COMPONENTS - ice.remote_candidates.len();
                    ice.remote_candidates.extend(told.into_iter().take(room));
                }
                Attribute::EndOfCandidates => ice.end_of_candidates = true,
                Attribute::IceMismatch => ice.mismatch = true,
                _ => {}
            }
        }
        // RFC 8839 section 4.2.5: an agent indicates support of ICE by both.
        let supported = !parameters.ufrag.is_empty() && !parameters.pwd.is_empty();
        ice.parameters = supported.then_some(parameters);
        ice
    }

    /// The parameters, with empty credentials where none are told.
    pub(super) fn parameters(&self) -> Parameters {
        let mut parameters = self.defaults.parameters.clone();
        for attribute in attributes(self.text) {
            parameters.apply(&attribute);
        }
        parameters
    }

    /// Whether a default destination is none of the candidates (RFC 8445 section 5.4, RFC 8839 section 4.2.5).
    pub(super) fn is_mismatched(&self) -> bool {
        let ice = self.ice();
        if ice.parameters.is_none() || ice.mismatch || self.port() == 0 {
            return false;
        }
        let tcp = self.is_tcp();
        let is_told = |candidate: &Candidate, address: SocketAddr| {
            let transport = match candidate.transport {
                Transport::Udp => !tcp,
                Transport::Tcp(_) => tcp,
                Transport::Other(_) => false,
            };
            transport && candidate.ip_address() == Some(address)
        };
        let lost = |destination: &Destination| match destination {
            // RFC 8840 sections 4.1.2 and 4.1.4: the port of one who knows no candidate yet, with or without its address.
            Destination::Address(address) if address.port() == 9 => false,
            Destination::Address(address) => {
                !ice.candidates.iter().any(|known| is_told(known, *address))
            }
            // Neither the form of trickling nor a name is a failure.
            Destination::Unknown | Destination::Name { .. } => false,
        };
        lost(&ice.destination) || ice.rtcp_destination.as_ref().is_some_and(lost)
    }

    /// Whether the `m=` line names TCP.
    fn is_tcp(&self) -> bool {
        self.protocol().split('/').next() == Some("TCP")
    }

    fn destination(&self) -> Destination {
        self.connection()
            .map_or(Destination::Unknown, |connection| {
                destination(connection, self.port())
            })
    }

    /// `a=rtcp:<port> [IN <addrtype> <address>]`.
    fn rtcp_destination(&self) -> Option<Destination> {
        let rtcp = value(self.text, "a=rtcp:")?;
        let (port, connection) = match rtcp.split_once(' ') {
            Some((port, connection)) => (port, Some(connection)),
            None => (rtcp, self.connection()),
        };
        Some(destination(connection?, port.parse().ok()?))
    }

    /// The value of the `c=` line that holds here.
    pub(super) fn connection(&self) -> Option<&'a str> {
        value(self.text, "c=").or(self.defaults.connection.as_deref())
    }

    pub(super) fn has(&self, line: &str) -> bool {
        lines(self.text).any(|own| own == line)
    }

    pub(super) fn media_line(&self) -> Option<MediaLine<'a>> {
        MediaLine::parse(lines(self.text).next()?)
    }
}

/// Of `IN <addrtype> <address>` and a port.
fn destination(connection: &str, port: u16) -> Destination {
    let host = connection.split(' ').nth(2).unwrap_or_default();
    // A multicast address may be followed by its scope.
    let host = host.split('/').next().unwrap_or_default();
    match host.parse::<IpAddr>() {
        // RFC 8839 section 4.2.5: this MUST NOT be considered as an ICE failure.
        Ok(ip) if ip.is_unspecified() && port == 9 => Destination::Unknown,
        Ok(ip) => Destination::Address(SocketAddr::new(ip, port)),
        Err(_) if is_name(host) => Destination::Name {
            name: host.into(),
            port,
        },
        Err(_) => Destination::Unknown,
    }
}
