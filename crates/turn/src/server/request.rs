//! A message from a client: what it is, who sent it, and what it leads to.

use core::net::SocketAddr;

use nilas_stun::{AttributeType, Class, ErrorCode, Fingerprint, Message, Method};

use super::Server;
use super::answer::{Answer, MAX_UNKNOWN_LISTED, Reply};
use super::authenticate::{Caller, Unknown, authenticate, nonce};
use super::credential::Origin;
use super::io::{Handled, Path};
use super::mobility::TicketContents;
use crate::time::Time;

/// The longest answer to a datagram whose source is not verified, in lengths of its request.
const LONGEST_ANSWER: usize = 5;

/// What a request of a known user leads to.
pub(super) enum Outcome {
    /// This answer.
    Answer(Answer),
    /// An answer later, or none.
    Later,
}

/// An outcome, or the error to answer.
pub(super) type Handling = Result<Outcome, ErrorCode<'static>>;

impl Server {
    /// A whole message from a client, in a datagram or cut out of a stream.
    pub(super) fn client_message(&mut self, now: Time, path: Path, bytes: &[u8]) -> Handled {
        // RFC 8656 section 12: the first byte tells, here with the channels of RFC 5766.
        match bytes.first() {
            Some(64..=127) => self.channel_data(now, path, bytes),
            Some(0..=3) => self.stun_message(now, path, bytes),
            _ => {
                self.counters.not_stun += 1;
                Handled::Done
            }
        }
    }

    fn stun_message(&mut self, now: Time, path: Path, bytes: &[u8]) -> Handled {
        // RFC 8489 section 6.3: what is wrong in any of these ways is silently discarded.
        let message = match Message::parse(bytes) {
            Ok(message) if message.fingerprint() != Fingerprint::Invalid => message,
            _ => {
                self.counters.malformed += 1;
                return Handled::Done;
            }
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => return self.send(now, path, message),
            // RFC 8489 section 6.3.2: a keepalive.
            (Class::Indication, Method::BINDING) => {}
            (Class::Request, _) => return self.request(now, path, message),
            _ => self.counters.unexpected += 1,
        }
        Handled::Done
    }

    fn request(&mut self, now: Time, path: Path, message: Message<'_>) -> Handled {
        let method = message.method();
        let known = matches!(
            method,
            Method::BINDING
                | Method::ALLOCATE
                | Method::REFRESH
                | Method::CREATE_PERMISSION
                | Method::CHANNEL_BIND
                | Method::CONNECT
                | Method::CONNECTION_BIND
        );
        let Some(client) = self.client_of(path).filter(|_| known) else {
            // RFC 8489 section 6.3: a method that the server does not have is silently discarded.
            self.counters.unknown_method += 1;
            return Handled::Done;
        };
        self.renew_stream_patience(now, path);
        let mut reply = Reply {
            path,
            method,
            id: message.transaction_id(),
            signer: None,
            fingerprint: message.fingerprint() == Fingerprint::Valid,
            longest: match path {
                Path::Datagram { .. } => Some(message.bytes().len() * LONGEST_ANSWER),
                Path::Stream(_) => None,
            },
        };
        if method == Method::BINDING {
            self.binding(now, message, client, reply);
            return Handled::Done;
        }
        if let Some(worker) = self.worker_of_connection_bind(message) {
            return Handled::Elsewhere(worker);
        }
        let moving = if method == Method::REFRESH {
            match self.opened_ticket(message) {
                Ok(Some(ticket))
                    if ticket.worker != self.worker && self.common.has(ticket.worker) =>
                {
                    return Handled::Elsewhere(ticket.worker);
                }
                Ok(moving) => moving,
                Err(error) => {
                    self.refuse_unknown(now, client, reply, Answer::Error(error));
                    return Handled::Done;
                }
            }
        } else {
            None
        };
        // RFC 8016 section 3.2.2: with a ticket, the allocation is the ticket's and not the 5-tuple's.
        let subject = moving
            .map(|ticket| ticket.allocation)
            .or_else(|| self.allocation_at(path))
            .or_else(|| self.subject_of_connection_bind(message));
        let existing = subject
            .and_then(|key| self.allocations.get(key))
            .map(|allocation| &allocation.credential);
        let unix = self.common.unix(now);
        let caller = authenticate(&self.common, &self.config, message, client, existing, unix)
            .and_then(|caller| self.check_expiry(method, caller, unix));
        let caller = match caller {
            Ok(caller) => caller,
            Err(unknown) => {
                self.challenge(now, client, reply, &unknown);
                return Handled::Done;
            }
        };
        reply.signer = Some((caller.credential.clone(), caller.answer_with));
        // Whoever has a nonce of the server and a key has shown where it is.
        reply.longest = None;
        if let Some(answer) = self.unknown_attributes(message) {
            self.counters.refused += 1;
            self.outbox.answer(&mut self.counters, reply, answer);
            return Handled::Done;
        }
        let handling = match method {
            Method::ALLOCATE => self.allocate(now, path, &caller, &reply),
            Method::REFRESH => self.refresh(now, path, &caller, moving),
            Method::CREATE_PERMISSION => self.create_permission(now, path, &caller),
            Method::CHANNEL_BIND => self.channel_bind(now, path, &caller),
            Method::CONNECT => self.connect(now, path, &caller, &reply),
            _ => self.connection_bind(path, &caller, &reply),
        };
        match handling {
            Ok(Outcome::Answer(answer)) => self.outbox.answer(&mut self.counters, reply, answer),
            Ok(Outcome::Later) => {}
            Err(error) => {
                self.count_refusal(error);
                self.outbox
                    .answer(&mut self.counters, reply, Answer::Error(error));
            }
        }
        Handled::Done
    }

    /// The expiry of time-limited credentials stands against new allocations, and against old ones if the operator
    /// wants it so. A token must be good for both (RFC 7635 section 9).
    fn check_expiry<'a>(
        &self,
        method: Method,
        caller: Caller<'a>,
        unix: u64,
    ) -> Result<Caller<'a>, Unknown> {
        let allocates = method == Method::ALLOCATE;
        let refreshes = method == Method::REFRESH;
        let (expiry, matters) = match caller.credential.origin {
            Origin::Static => return Ok(caller),
            Origin::Secret { expiry } => {
                (expiry, allocates || refreshes && self.config.strict_expiry)
            }
            Origin::Token { expiry } => (expiry, allocates || refreshes),
        };
        if matters && expiry <= unix && !self.releases(method, &caller) {
            return Err(Unknown::Wrong);
        }
        Ok(caller)
    }

    /// Whoever is let in no more may still give back what is there.
    fn releases(&self, method: Method, caller: &Caller<'_>) -> bool {
        method == Method::REFRESH && caller.request.lifetime() == Ok(Some(0))
    }

    /// RFC 8016 section 3.2.2: the ticket of a client that moves.
    fn opened_ticket(
        &self,
        message: Message<'_>,
    ) -> Result<Option<TicketContents>, ErrorCode<'static>> {
        let Some(ticket) = message.mobility_ticket() else {
            return Ok(None);
        };
        if !self.config.mobility {
            return Err(ErrorCode::MOBILITY_FORBIDDEN);
        }
        let contents = self
            .common
            .ticket_key
            .open(ticket)
            .ok_or(ErrorCode::BAD_REQUEST)?;
        Ok(Some(contents))
    }

    /// RFC 8489 section 9.2.4: what someone who is not known is told.
    fn challenge(&mut self, now: Time, client: SocketAddr, reply: Reply, unknown: &Unknown) {
        let error = match unknown {
            Unknown::Missing => {
                self.counters.challenged += 1;
                ErrorCode::UNAUTHENTICATED
            }
            Unknown::Wrong => {
                self.counters.wrong_credentials += 1;
                ErrorCode::UNAUTHENTICATED
            }
            Unknown::Malformed => {
                self.counters.refused += 1;
                let answer = Answer::Error(ErrorCode::BAD_REQUEST);
                return self.refuse_unknown(now, client, reply, answer);
            }
            Unknown::Stale => {
                self.counters.stale_nonces += 1;
                ErrorCode::STALE_NONCE
            }
        };
        let nonce = nonce(&self.common, &self.config, client, self.common.unix(now));
        self.refuse_unknown(now, client, reply, Answer::Challenge { error, nonce });
    }

    /// Sends an error to someone who is not known, unless that address has had many.
    pub(super) fn refuse_unknown(
        &mut self,
        now: Time,
        client: SocketAddr,
        reply: Reply,
        answer: Answer,
    ) {
        if !self
            .limiter
            .allow(client.ip(), now, self.config.error_interval)
        {
            self.counters.answers_limited += 1;
            return;
        }
        self.outbox.answer(&mut self.counters, reply, answer);
    }

    /// RFC 8489 section 6.3.1: 420 with the list, if there is anything on it.
    pub(super) fn unknown_attributes(&self, message: Message<'_>) -> Option<Answer> {
        let mut types = [0; MAX_UNKNOWN_LISTED];
        let mut count = 0;
        let unknown = message.comprehension_required_beyond(&self.understood);
        for (place, attribute) in types.iter_mut().zip(unknown) {
            *place = attribute;
            count += 1;
        }
        (count > 0).then_some(Answer::UnknownAttributes { types, count })
    }

    /// Whether an indication has what this server does not understand: then it is discarded.
    pub(super) fn has_unknown_attributes(&self, message: Message<'_>) -> bool {
        // The two that Send has are by far the most frequent.
        message.attributes().any(|attribute| {
            let kind = attribute.attribute_type;
            kind.is_comprehension_required()
                && !matches!(
                    kind,
                    AttributeType::XOR_PEER_ADDRESS
                        | AttributeType::DATA
                        | AttributeType::MESSAGE_INTEGRITY
                        | AttributeType::MESSAGE_INTEGRITY_SHA256
                )
                && !self.understood.contains(&kind)
        })
    }

    pub(super) fn count_refusal(&mut self, error: ErrorCode<'static>) {
        let counter = match error {
            ErrorCode::WRONG_CREDENTIALS => &mut self.counters.wrong_user,
            ErrorCode::FORBIDDEN => &mut self.counters.peers_forbidden,
            ErrorCode::ALLOCATION_QUOTA_REACHED => &mut self.counters.over_quota,
            ErrorCode::INSUFFICIENT_CAPACITY => &mut self.counters.no_capacity,
            _ => &mut self.counters.refused,
        };
        *counter += 1;
    }
}
