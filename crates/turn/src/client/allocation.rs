//! Allocate and Refresh (RFC 8656 sections 7 and 8).

use core::time::Duration;

use nilas_stun::{Class, ErrorCode, Message, MessageBuilder, Method};

use super::auth::{Auth, Challenge};
use super::transaction::{Purpose, Transaction};
use super::{Client, ClientEvent, Failure, Families, State};
use crate::time::Time;

/// Requests in a row that a server answers with challenges before it is given up.
const MAX_ATTEMPTS: u8 = 4;
/// Many requests may be under way when a nonce goes stale, and each brings a challenge.
const MAX_STALE: u8 = 64;

/// RFC 8445 section 11: Tr, 15 s.
const KEEPALIVE: Duration = Duration::from_secs(15);

const UNAUTHENTICATED: u16 = ErrorCode::UNAUTHENTICATED.code();
const STALE_NONCE: u16 = ErrorCode::STALE_NONCE.code();
const ALLOCATION_MISMATCH: u16 = ErrorCode::ALLOCATION_MISMATCH.code();
const TRY_ALTERNATE: u16 = ErrorCode::TRY_ALTERNATE.code();
const WRONG_CREDENTIALS: u16 = ErrorCode::WRONG_CREDENTIALS.code();
const UNKNOWN_ATTRIBUTE: u16 = ErrorCode::UNKNOWN_ATTRIBUTE.code();
const BAD_REQUEST: u16 = ErrorCode::BAD_REQUEST.code();
const ADDRESS_FAMILY_NOT_SUPPORTED: u16 = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED.code();

impl Client {
    pub(super) fn fire_allocation(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if self.expires_at.is_some_and(|at| at <= now) && self.state == State::Allocated {
            self.lose(now);
        }
        let purpose = match self.state {
            State::Allocating => Purpose::Allocate,
            State::Allocated => Purpose::Refresh,
            State::Releasing => Purpose::Release,
            State::Ended => return None,
        };
        let due = match purpose {
            Purpose::Allocate => &mut self.retry_at,
            _ => &mut self.refresh_at,
        };
        if due.is_none_or(|at| at > now) {
            return None;
        }
        *due = None;
        self.begin(now, purpose, buffer)
    }

    /// An allocation that nothing is sent through is refreshed every nine minutes, and NATs forget sooner. A
    /// Binding indication is what RFC 8445 section 11 keeps them awake with; it is not answered. Data and
    /// checks pass by here unseen, so that it is sent beside them, too: one small datagram in Tr.
    pub(super) fn fire_keepalive(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if self.keepalive_at.is_none_or(|at| at > now) {
            return None;
        }
        self.keepalive_at = Some(now + KEEPALIVE);
        let id = self.transaction_id();
        let mut message =
            MessageBuilder::new(buffer, Class::Indication, Method::BINDING, id).ok()?;
        message.fingerprint().ok()?;
        Some(message.finish())
    }

    pub(super) fn allocation_deadline(&self) -> Option<Time> {
        match self.state {
            State::Allocating => self.retry_at,
            State::Allocated => self.refresh_at.into_iter().chain(self.expires_at).min(),
            State::Releasing => self.refresh_at,
            State::Ended => None,
        }
    }

    /// A response of the server; false if it belongs to nothing here.
    pub(super) fn handle_response(&mut self, now: Time, response: &Message<'_>) -> bool {
        let id = response.transaction_id();
        let Some(index) = self
            .transactions
            .iter()
            .position(|transaction| transaction.id == id)
        else {
            return false;
        };
        let transaction = self.transactions[index].clone();
        let code = match response.error_code() {
            Ok(Some(error)) if response.class() == Class::ErrorResponse => Some(error.code()),
            _ => None,
        };
        // RFC 8489 section 9.2.5: the challenges are believed as they are, every other answer to an
        // authenticated request only when it is authentic. A bare answer to the first request can
        // redirect or refuse; what it cannot is allocate.
        let challenge = matches!(code, Some(UNAUTHENTICATED | STALE_NONCE));
        let authentic = self.auth.verify(response).is_some();
        let believed = challenge
            || authentic
            || (!transaction.authenticated && code.is_some_and(|c| c != BAD_REQUEST));
        if !believed || response.method() != method_of(transaction.purpose) {
            self.transactions[index].tampered |= transaction.authenticated && !authentic;
            if !self.datagram() && self.transactions[index].tampered {
                // RFC 8489 section 9.2.5: over a reliable transport the transaction ends at once.
                self.transactions.swap_remove(index);
                self.end(ClientEvent::Failed(Failure::Tampered));
            }
            return true;
        }
        self.transactions.swap_remove(index);
        match code {
            None => self.succeeded(now, &transaction, response),
            Some(code) if challenge => self.challenged(now, &transaction, response, code),
            Some(code) => self.refused(now, &transaction, response, code),
        }
        true
    }

    fn challenged(
        &mut self,
        now: Time,
        transaction: &Transaction,
        response: &Message<'_>,
        code: u16,
    ) {
        let stale = code == STALE_NONCE;
        let limit = if stale { MAX_STALE } else { MAX_ATTEMPTS };
        self.attempts = self.attempts.saturating_add(1);
        let outcome = self
            .auth
            .challenge(response, stale, transaction.authenticated);
        let failure = match outcome {
            Challenge::Retry if self.attempts <= limit => {
                return self.again(now, transaction.purpose);
            }
            Challenge::Refused if self.fresh.is_some() => Failure::Superseded,
            Challenge::Retry | Challenge::Refused => Failure::Unauthorized,
            Challenge::Tampered => Failure::Tampered,
            Challenge::Unusable => Failure::Credentials,
            Challenge::Malformed => Failure::Refused {
                code,
                reason: "without realm or nonce".into(),
            },
        };
        match self.state {
            State::Releasing => self.end(ClientEvent::Released),
            _ => self.end(ClientEvent::Failed(failure)),
        }
    }

    /// Makes a request again, now that its credentials are known.
    fn again(&mut self, now: Time, purpose: Purpose) {
        match purpose {
            Purpose::Allocate => self.retry_at = Some(now),
            Purpose::Refresh | Purpose::Release => self.refresh_at = Some(now),
            Purpose::Permit { ip } => self.permit_again(now, ip),
            Purpose::Bind { peer, .. } => self.bind_again(now, peer),
        }
    }

    fn succeeded(&mut self, now: Time, transaction: &Transaction, response: &Message<'_>) {
        self.attempts = 0;
        match transaction.purpose {
            Purpose::Allocate => self.allocated(now, response),
            Purpose::Refresh => {
                self.granted(now, response);
                self.events.push_back(ClientEvent::Refreshed);
            }
            Purpose::Release => self.end(ClientEvent::Released),
            Purpose::Permit { ip } => self.permitted(now, ip),
            Purpose::Bind { peer, channel } => self.channel_bound(now, peer, channel),
        }
    }

    fn allocated(&mut self, now: Time, response: &Message<'_>) {
        let relayed: Vec<_> = response
            .xor_relayed_addresses()
            .filter_map(Result::ok)
            .take(2)
            .collect();
        let (false, Ok(Some(mapped))) = (relayed.is_empty(), response.xor_mapped_address()) else {
            // RFC 8656 section 7.3: what is of no use is deleted, and then told.
            self.state = State::Allocated;
            self.release();
            self.is_unusable = true;
            return;
        };
        self.state = State::Allocated;
        self.relayed.clone_from(&relayed);
        self.mapped = Some(mapped);
        self.keepalive_at = self.datagram().then(|| now + KEEPALIVE);
        self.granted(now, response);
        self.events
            .push_back(ClientEvent::Allocated { relayed, mapped });
    }

    /// Refreshes by the lifetime that was granted: a minute before its end, or halfway of a short one.
    fn granted(&mut self, now: Time, response: &Message<'_>) {
        let seconds = match response.lifetime() {
            Ok(Some(seconds)) => u64::from(seconds),
            _ => 600,
        };
        let lifetime = Duration::from_secs(seconds);
        let margin = Duration::from_secs(60).min(lifetime / 2);
        self.refresh_at = Some(now + (lifetime - margin));
        self.expires_at = Some(now + lifetime);
    }

    fn refused(&mut self, now: Time, transaction: &Transaction, response: &Message<'_>, code: u16) {
        match (transaction.purpose, code) {
            (Purpose::Permit { ip }, code) => self.permission_failed(now, ip, Some(code)),
            // RFC 8656 section 8.3: the allocation is gone already, which is what was wanted.
            (Purpose::Release, _) => self.end(ClientEvent::Released),
            // RFC 8656 section 5: the server does not know the allocation any more.
            (Purpose::Refresh | Purpose::Bind { .. }, ALLOCATION_MISMATCH) => self.lose(now),
            (Purpose::Bind { peer, .. }, _) => self.channel_failed(now, peer),
            (Purpose::Refresh, _) => {
                // Another try in a while, until it expires.
                self.refresh_at = Some(now + Duration::from_secs(5));
            }
            (Purpose::Allocate, TRY_ALTERNATE) => self.redirected(response),
            (Purpose::Allocate, ALLOCATION_MISMATCH) => {
                self.end(ClientEvent::Failed(Failure::Mismatch))
            }
            (Purpose::Allocate, WRONG_CREDENTIALS) => {
                self.end(ClientEvent::Failed(Failure::Unauthorized))
            }
            // A server that knows nothing of two families (RFC 8656 section 7.4) gives one.
            (Purpose::Allocate, UNKNOWN_ATTRIBUTE | ADDRESS_FAMILY_NOT_SUPPORTED | BAD_REQUEST)
                if self.families == Families::Both =>
            {
                self.families = Families::V4;
                self.retry_at = Some(now);
            }
            (Purpose::Allocate, code) => {
                let reason = match response.error_code() {
                    Ok(Some(error)) => error
                        .reason()
                        .chars()
                        .filter(|c| !c.is_control())
                        .take(64)
                        .collect(),
                    _ => String::new(),
                };
                self.end(ClientEvent::Failed(Failure::Refused { code, reason }));
            }
        }
    }

    /// RFC 8489 section 10. Whoever drives this client guards against loops.
    fn redirected(&mut self, response: &Message<'_>) {
        let event = match response.alternate_server() {
            Ok(Some(server)) => {
                let domain = response.alternate_domain().ok().flatten().map(Into::into);
                ClientEvent::Redirected { server, domain }
            }
            _ => {
                let reason = "a redirection without a server".into();
                ClientEvent::Failed(Failure::Refused {
                    code: TRY_ALTERNATE,
                    reason,
                })
            }
        };
        self.end(event);
    }

    /// The allocation is gone: another is made at once, with the peers that mattered.
    pub(super) fn lose(&mut self, now: Time) {
        if self.state == State::Allocated {
            self.events.push_back(ClientEvent::Lost);
        }
        if let Some(fresh) = self.fresh.take() {
            self.auth = Auth::new(fresh);
        }
        self.state = State::Allocating;
        self.relayed.clear();
        self.transactions.clear();
        self.keepalive_at = None;
        self.attempts = 0;
        self.refresh_at = None;
        self.expires_at = None;
        self.retry_at = Some(now);
        self.forget_peers();
    }
}

const fn method_of(purpose: Purpose) -> Method {
    match purpose {
        Purpose::Allocate => Method::ALLOCATE,
        Purpose::Refresh | Purpose::Release => Method::REFRESH,
        Purpose::Permit { .. } => Method::CREATE_PERMISSION,
        Purpose::Bind { .. } => Method::CHANNEL_BIND,
    }
}
