//! The Binding request (RFC 8489 sections 6.3.1.1 and 12), also for NAT behavior discovery (RFC 5780 section 6).

use core::net::SocketAddr;

use nilas_stun::{AttributeType, ChangeRequest, ErrorCode, Message};

use super::Server;
use super::allocation::canonical;
use super::answer::{Answer, Binding, MAX_UNKNOWN_LISTED, Reply};
use super::config::Discovery;
use super::io::{ListenerId, Path};
use crate::time::Time;

/// RFC 5780 section 7.6: PADDING as long as the MTU of the interface, which is taken to be Ethernet's.
const MAX_PADDING: usize = 1_500;

impl Server {
    /// Answers a Binding request: without credentials and without state.
    pub(super) fn binding(
        &mut self,
        now: Time,
        message: Message<'_>,
        client: SocketAddr,
        mut reply: Reply,
    ) {
        if let Some(answer) = self.unknown_attributes(message) {
            self.counters.refused += 1;
            return self.refuse_unknown(now, client, reply, answer);
        }
        let mut binding = Binding {
            mapped: canonical(client),
            origin_and_other: None,
            padding: None,
        };
        match self.config.discovery {
            None => {}
            Some(discovery) => {
                if let Err(refused) = discover(&discovery, message, &mut binding, &mut reply) {
                    self.counters.refused += 1;
                    return self.refuse_unknown(now, client, reply, refused.into());
                }
            }
        }
        self.counters.bindings += 1;
        self.outbox
            .answer(&mut self.counters, reply, Answer::Binding(binding));
    }
}

/// Chooses from where and to where the answer goes (RFC 5780 section 6.1).
fn discover(
    discovery: &Discovery,
    message: Message<'_>,
    binding: &mut Binding,
    reply: &mut Reply,
) -> Result<(), Refused> {
    let change = message.change_request().map_err(|_| Refused::Malformed)?;
    let response_port = message.response_port().map_err(|_| Refused::Malformed)?;
    let place = match reply.path {
        Path::Datagram { listener, .. } => Place::of(discovery, listener),
        Path::Stream(_) => None,
    };
    let (Some(place), Path::Datagram { client, .. }) = (place, reply.path) else {
        // Not on one of the four listeners: there is no alternate address, and the answer can only go back.
        return if change.is_some() {
            Err(Refused::NoAlternate)
        } else if response_port.is_some() || message.padding().is_some() {
            Err(Refused::Malformed)
        } else {
            Ok(())
        };
    };
    // RFC 5780 section 7.5: not both.
    if response_port.is_some() && message.padding().is_some() {
        return Err(Refused::Malformed);
    }
    let change = change.unwrap_or_default();
    let origin = place.changed(change);
    let other = place.changed(ChangeRequest {
        change_ip: true,
        change_port: true,
    });
    binding.origin_and_other = Some((origin.address(discovery), other.address(discovery)));
    binding.padding = message
        .padding()
        .map(|padding| padding.len().min(MAX_PADDING).next_multiple_of(4));
    reply.path = Path::Datagram {
        listener: origin.listener(discovery),
        client: SocketAddr::new(client.ip(), response_port.unwrap_or_else(|| client.port())),
        server: origin.address(discovery),
    };
    Ok(())
}

/// Why behavior cannot be discovered with this request.
enum Refused {
    Malformed,
    /// CHANGE-REQUEST where there is nothing to change to.
    NoAlternate,
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed => Self::Error(ErrorCode::BAD_REQUEST),
            Refused::NoAlternate => {
                // RFC 5780 section 6.1: 420.
                let mut types = [0; MAX_UNKNOWN_LISTED];
                types[0] = AttributeType::CHANGE_REQUEST.0;
                Self::UnknownAttributes { types, count: 1 }
            }
        }
    }
}

/// One of the four listeners: the second address or the first, the second port or the first.
#[derive(Clone, Copy)]
struct Place {
    alternate_ip: bool,
    alternate_port: bool,
}

impl Place {
    fn of(discovery: &Discovery, listener: ListenerId) -> Option<Self> {
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .map(|(alternate_ip, alternate_port)| Self {
                alternate_ip,
                alternate_port,
            })
            .find(|place| place.listener(discovery) == listener)
    }

    /// RFC 5780 section 6.1, table 1.
    const fn changed(self, change: ChangeRequest) -> Self {
        Self {
            alternate_ip: self.alternate_ip != change.change_ip,
            alternate_port: self.alternate_port != change.change_port,
        }
    }

    const fn listener(self, discovery: &Discovery) -> ListenerId {
        match (self.alternate_ip, self.alternate_port) {
            (false, false) => discovery.primary.0,
            (false, true) => discovery.primary_other_port,
            (true, false) => discovery.alternate_same_port,
            (true, true) => discovery.alternate.0,
        }
    }

    const fn address(self, discovery: &Discovery) -> SocketAddr {
        let ip = if self.alternate_ip {
            discovery.alternate.1.ip()
        } else {
            discovery.primary.1.ip()
        };
        let port = if self.alternate_port {
            discovery.alternate.1.port()
        } else {
            discovery.primary.1.port()
        };
        SocketAddr::new(ip, port)
    }
}
