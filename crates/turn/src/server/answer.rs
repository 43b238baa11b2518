//! Answers, from what a request led to, to bytes; and whatever else waits for the driver to poll.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use nilas_stun::{
    AddressFamily, BuildError, Class, ErrorCode, Icmp, IntegrityAlgorithm, MessageBuilder, Method,
    TransactionId,
};

use super::authenticate::PASSWORD_ALGORITHMS;
use super::config::ServerConfig;
use super::counters::Counters;
use super::credential::Credential;
use super::event::Event;
use super::io::{Command, Path};
use super::mobility::Ticket;
use super::nonce::Nonce;

/// More messages than these are not kept waiting for the driver to poll.
const MAX_MESSAGES: usize = 1_024;
/// More unknown attributes than these are not listed: an answer must not grow with what a stranger sends.
pub(super) const MAX_UNKNOWN_LISTED: usize = 8;

/// How an answer is sent: everything about it but what it says.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Where to.
    pub(super) path: Path,
    pub(super) method: Method,
    pub(super) id: TransactionId,
    /// What protects it; nothing if the request was not authenticated.
    pub(super) signer: Option<(Arc<Credential>, IntegrityAlgorithm)>,
    pub(super) fingerprint: bool,
    /// The longest it may be, because its request may come from someone else.
    pub(super) longest: Option<usize>,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Binding(Binding),
    Allocated(Allocated),
    Refreshed {
        lifetime: u32,
        ticket: Option<Ticket>,
    },
    /// Success, with nothing more to say: CreatePermission, ChannelBind, ConnectionBind.
    Done,
    Connected {
        connection_id: u32,
    },
    Error(ErrorCode<'static>),
    /// 420.
    UnknownAttributes {
        types: [u16; MAX_UNKNOWN_LISTED],
        count: usize,
    },
    /// 401 or 438.
    Challenge {
        error: ErrorCode<'static>,
        nonce: Nonce,
    },
    /// 300.
    Alternate {
        address: SocketAddr,
        domain: Option<Box<str>>,
    },
}

/// The answer to a Binding request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) mapped: SocketAddr,
    /// RFC 5780: from where it comes, and from where it could.
    pub(super) origin_and_other: Option<(SocketAddr, SocketAddr)>,
    /// Bytes of PADDING.
    pub(super) padding: Option<usize>,
}

/// The answer to an Allocate request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocated {
    pub(super) relayed: [Option<SocketAddr>; 2],
    /// The family that is missing, and why.
    pub(super) missing: Option<(AddressFamily, ErrorCode<'static>)>,
    pub(super) lifetime: u32,
    pub(super) mapped: SocketAddr,
    pub(super) token: Option<[u8; 8]>,
    pub(super) ticket: Option<Ticket>,
}

/// An indication to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Indication {
    /// RFC 6062 section 5.3.
    ConnectionAttempt {
        peer: SocketAddr,
        connection_id: u32,
    },
    /// RFC 8656 section 11.5.
    Icmp { peer: SocketAddr, icmp: Icmp },
}

/// Something that `poll` will give, in this order.
#[derive(Debug)]
pub(super) enum Queued {
    Answer(Reply, Answer),
    Indication(Path, TransactionId, Indication),
    Command(Command),
    Event(Event),
}

/// What waits for the driver.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Queued>,
    messages: usize,
}

impl Outbox {
    pub(super) fn answer(&mut self, counters: &mut Counters, reply: Reply, answer: Answer) {
        if self.admit(counters) {
            self.queue.push_back(Queued::Answer(reply, answer));
        }
    }

    pub(super) fn indicate(
        &mut self,
        counters: &mut Counters,
        path: Path,
        id: TransactionId,
        indication: Indication,
    ) {
        if self.admit(counters) {
            self.queue
                .push_back(Queued::Indication(path, id, indication));
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.queue.push_back(Queued::Command(command));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.queue.push_back(Queued::Event(event));
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front();
        if matches!(queued, Some(Queued::Answer(..) | Queued::Indication(..))) {
            self.messages -= 1;
        }
        if queued.is_none() && self.queue.capacity() > MAX_MESSAGES {
            // A burst is over: give its memory back.
            self.queue.shrink_to(64);
        }
        queued
    }

    fn admit(&mut self, counters: &mut Counters) -> bool {
        if self.messages == MAX_MESSAGES {
            counters.answers_dropped += 1;
            return false;
        }
        self.messages += 1;
        true
    }
}

/// Writes an answer.
pub(super) fn write(
    config: &ServerConfig,
    reply: &Reply,
    answer: &Answer,
    buffer: &mut [u8],
) -> Result<usize, BuildError> {
    let class = match answer {
        Answer::Binding(_)
        | Answer::Allocated(_)
        | Answer::Refreshed { .. }
        | Answer::Done
        | Answer::Connected { .. } => Class::SuccessResponse,
        _ => Class::ErrorResponse,
    };
    let mut builder = MessageBuilder::new(buffer, class, reply.method, reply.id)?;
    match answer {
        Answer::Binding(binding) => write_binding(&mut builder, reply, binding)?,
        Answer::Allocated(allocated) => write_allocated(&mut builder, allocated)?,
        Answer::Refreshed { lifetime, ticket } => {
            builder.lifetime(*lifetime)?;
            if let Some(ticket) = ticket {
                builder.mobility_ticket(ticket)?;
            }
        }
        Answer::Done => {}
        Answer::Connected { connection_id } => {
            builder.connection_id(*connection_id)?;
        }
        Answer::Error(error) => write_error(&mut builder, reply, *error)?,
        Answer::UnknownAttributes { types, count } => {
            write_error(&mut builder, reply, ErrorCode::UNKNOWN_ATTRIBUTE)?;
            builder.unknown_attributes(&types[..*count])?;
        }
        Answer::Challenge { error, nonce } => {
            builder
                .error_code(error.code(), "")?
                .realm(&config.realm)?
                .nonce(nonce.as_str())?
                .password_algorithms(&PASSWORD_ALGORITHMS)?;
            if let Some(tokens) = &config.tokens {
                // RFC 7635 section 4: that there is an authorization server, and how it calls this one.
                builder.third_party_authorization(&tokens.server_name)?;
            }
        }
        Answer::Alternate { address, domain } => {
            write_error(&mut builder, reply, ErrorCode::TRY_ALTERNATE)?;
            builder.alternate_server(*address)?;
            if let Some(domain) = domain {
                builder.alternate_domain(domain)?;
            }
        }
    }
    // RFC 8656 section 5 wants SOFTWARE in answers to Allocate and Refresh. Who is not known is not told.
    if let (Some(software), Some(_), Method::ALLOCATE | Method::REFRESH) =
        (&config.software, &reply.signer, reply.method)
    {
        builder.software(software)?;
    }
    if let Some((credential, algorithm)) = &reply.signer {
        builder.integrity(&credential.key, *algorithm)?;
    }
    // RFC 8489 section 7: the usage decides on FINGERPRINT; here, whoever sends one gets one.
    if reply.fingerprint {
        builder.fingerprint()?;
    }
    Ok(builder.finish())
}

/// Writes an indication.
pub(super) fn write_indication(
    indication: Indication,
    id: TransactionId,
    buffer: &mut [u8],
) -> Result<usize, BuildError> {
    let method = match indication {
        Indication::ConnectionAttempt { .. } => Method::CONNECTION_ATTEMPT,
        Indication::Icmp { .. } => Method::DATA,
    };
    let mut builder = MessageBuilder::new(buffer, Class::Indication, method, id)?;
    match indication {
        Indication::ConnectionAttempt {
            peer,
            connection_id,
        } => builder
            .xor_peer_address(peer)?
            .connection_id(connection_id)?,
        Indication::Icmp { peer, icmp } => builder.xor_peer_address(peer)?.icmp(icmp)?,
    };
    Ok(builder.finish())
}

fn write_binding(
    builder: &mut MessageBuilder<'_>,
    reply: &Reply,
    binding: &Binding,
) -> Result<(), BuildError> {
    builder.xor_mapped_address(binding.mapped)?;
    let Some((origin, other)) = binding.origin_and_other else {
        return Ok(());
    };
    builder.other_address(other)?.response_origin(origin)?;
    // RFC 5780 section 6.1 wants MAPPED-ADDRESS, too. Over IPv6 that would make the answer to a bare request more
    // than five times as long; whoever discovers behavior sends CHANGE-REQUEST, which makes room.
    let length = 20
        + [binding.mapped, origin, other, binding.mapped]
            .map(attribute_length)
            .iter()
            .sum::<usize>();
    if reply.longest.is_none_or(|longest| length <= longest) {
        builder.mapped_address(binding.mapped)?;
    }
    if let Some(padding) = binding.padding {
        builder.padding(padding)?;
    }
    Ok(())
}

const fn attribute_length(address: SocketAddr) -> usize {
    if address.is_ipv4() { 12 } else { 24 }
}

fn write_allocated(
    builder: &mut MessageBuilder<'_>,
    allocated: &Allocated,
) -> Result<(), BuildError> {
    for relayed in allocated.relayed.into_iter().flatten() {
        builder.xor_relayed_address(relayed)?;
    }
    builder
        .lifetime(allocated.lifetime)?
        .xor_mapped_address(allocated.mapped)?;
    if let Some((family, error)) = allocated.missing {
        builder.address_error_code(family, error)?;
    }
    if let Some(token) = allocated.token {
        builder.reservation_token(token)?;
    }
    if let Some(ticket) = &allocated.ticket {
        builder.mobility_ticket(ticket)?;
    }
    Ok(())
}

/// The reason is for people who have credentials: a forged source address gets as little as possible out of it.
fn write_error(
    builder: &mut MessageBuilder<'_>,
    reply: &Reply,
    error: ErrorCode<'_>,
) -> Result<(), BuildError> {
    let reason = if reply.signer.is_some() {
        error.reason()
    } else {
        ""
    };
    builder.error_code(error.code(), reason)?;
    Ok(())
}
