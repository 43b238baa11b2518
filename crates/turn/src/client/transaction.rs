//! Requests in flight (RFC 8489 section 6.2).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_stun::{AddressFamily, Class, MessageBuilder, Method, TransactionId};

use super::{Client, ClientEvent, Failure, Families, RTO, State};
use crate::time::Time;

/// What a request asks for; it is written anew for each transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Allocate,
    Refresh,
    /// Refresh with lifetime 0.
    Release,
    Permit {
        ip: IpAddr,
    },
    Bind {
        peer: SocketAddr,
        channel: u16,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) purpose: Purpose,
    /// Whether it was sent with credentials.
    pub(super) authenticated: bool,
    /// Whether an answer came that was not authentic.
    pub(super) tampered: bool,
    pub(super) due: Time,
    sent: u8,
    limit: u8,
}

/// Over a stream nothing is retransmitted; an answer that takes longer than this is none. RFC 8489
/// section 6.2.2 has 39.5 s, far too long for anyone who waits for a path.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// Begins a transaction and writes its request.
    pub(super) fn begin(
        &mut self,
        now: Time,
        purpose: Purpose,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let id = self.transaction_id();
        // The first request of an allocation is waited for 5 s, the others as long as there is time:
        // at 0, 0.5, 1.5, 3.5, 7.5 s ...
        let (limit, wait) = match (self.datagram(), purpose) {
            (false, _) => (1, STREAM_TIMEOUT),
            (true, Purpose::Allocate) => (4, RTO),
            (true, Purpose::Release) => (3, RTO),
            (true, _) => (6, RTO),
        };
        let authenticated = self.auth.is_ready();
        let transaction = Transaction {
            id,
            purpose,
            authenticated,
            tampered: false,
            due: now + wait,
            sent: 1,
            limit,
        };
        let size = self.encode(&transaction, buffer);
        self.transactions.push(transaction);
        size
    }

    /// Retransmits, and ends what has timed out.
    pub(super) fn fire_transactions(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        while let Some(index) = self
            .transactions
            .iter()
            .position(|transaction| transaction.due <= now)
        {
            let transaction = &mut self.transactions[index];
            if transaction.sent == transaction.limit {
                let ended = self.transactions.swap_remove(index);
                self.timed_out(now, &ended);
                continue;
            }
            transaction.sent += 1;
            let doublings = u32::from(transaction.sent - 1);
            let last = transaction.sent == transaction.limit;
            transaction.due = now
                + if last {
                    RTO * 3
                } else {
                    RTO * (1 << doublings)
                };
            let transaction = transaction.clone();
            if let Some(size) = self.encode(&transaction, buffer) {
                return Some(size);
            }
        }
        None
    }

    fn timed_out(&mut self, now: Time, transaction: &Transaction) {
        match transaction.purpose {
            Purpose::Allocate if transaction.tampered => {
                self.end(ClientEvent::Failed(Failure::Tampered))
            }
            Purpose::Allocate => self.end(ClientEvent::Failed(Failure::Timeout)),
            Purpose::Release => self.end(ClientEvent::Released),
            // Until it expires there is time for another try.
            Purpose::Refresh => match self.expires_at {
                Some(expires) if expires > now => self.refresh_at = Some(now + RTO * 2),
                _ => self.lose(now),
            },
            Purpose::Permit { ip } => self.permission_failed(now, ip, None),
            Purpose::Bind { peer, .. } => self.channel_failed(now, peer),
        }
    }

    fn encode(&self, transaction: &Transaction, buffer: &mut [u8]) -> Option<usize> {
        let method = match transaction.purpose {
            Purpose::Allocate => Method::ALLOCATE,
            Purpose::Refresh | Purpose::Release => Method::REFRESH,
            Purpose::Permit { .. } => Method::CREATE_PERMISSION,
            Purpose::Bind { .. } => Method::CHANNEL_BIND,
        };
        let mut message =
            MessageBuilder::new(buffer, Class::Request, method, transaction.id).ok()?;
        match transaction.purpose {
            Purpose::Allocate => {
                // RFC 8656 section 7.1: UDP is what is relayed.
                message.requested_transport(17).ok()?;
                match self.families {
                    Families::V4 => {}
                    Families::V6 => {
                        message.requested_address_family(AddressFamily::Ipv6).ok()?;
                    }
                    Families::Both => {
                        message
                            .additional_address_family(AddressFamily::Ipv6)
                            .ok()?;
                    }
                }
            }
            // RFC 8656 section 8.1: no LIFETIME asks for the default.
            Purpose::Refresh => {}
            Purpose::Release => {
                message.lifetime(0).ok()?;
            }
            Purpose::Permit { ip } => {
                message.xor_peer_address(SocketAddr::new(ip, 0)).ok()?;
            }
            Purpose::Bind { peer, channel } => {
                message.channel_number(channel).ok()?;
                message.xor_peer_address(peer).ok()?;
            }
        }
        if transaction.authenticated {
            self.auth.sign(&mut message).ok()?;
        }
        // RFC 8656 has no FINGERPRINT; where TURN shares a socket with data it tells them apart.
        message.fingerprint().ok()?;
        Some(message.finish())
    }

    pub(super) fn is_in_flight(&self, wanted: impl Fn(Purpose) -> bool) -> bool {
        self.transactions
            .iter()
            .any(|transaction| wanted(transaction.purpose))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Allocated
    }
}
