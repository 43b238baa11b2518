//! Tickets with which a client goes on from another address (RFC 8016).

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;

use aes_gcm::aead::{Aead, Nonce, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};

use super::io::{Path, WorkerId};
use crate::arena::Key;
use crate::time::Time;

/// The length of a ticket: nonce, what is sealed, and its tag.
const TICKET_LENGTH: usize = NONCE_LENGTH + SEALED_LENGTH + 16;
const NONCE_LENGTH: usize = 12;
const SEALED_LENGTH: usize = 13;
/// RFC 8016 section 3.2.2: how long the ticket before is still known, for a request that is sent again.
pub(super) const OLD_TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// A ticket as it stands in MOBILITY-TICKET. Only the server can read it.
pub(super) type Ticket = [u8; TICKET_LENGTH];

/// What an allocation knows about its client's moves. However often it moves, there is one path it comes from,
/// one it goes to, and one ticket before the present one.
#[derive(Debug)]
pub(super) struct Mobility {
    /// The number of the present ticket.
    pub(super) serial: u32,
    /// The path that the client has asked to be moved to and has not used yet.
    pub(super) next_path: Option<Path>,
    /// The move that the ticket before led to.
    pub(super) last: Option<LastMove>,
}

/// The latest move, to know a retransmission of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastMove {
    pub(super) path: Path,
    pub(super) until: Time,
}

/// What is sealed in a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketContents {
    /// The core that holds the allocation.
    pub(super) worker: WorkerId,
    pub(super) allocation: Key,
    pub(super) serial: u32,
}

/// What tickets are sealed with (RFC 8016 section 5: authenticated and encrypted).
pub(super) struct TicketKey(Aes256Gcm);

impl TicketKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Seals a ticket. Each has a nonce of its own from a cryptographic generator.
    pub(super) fn seal(
        &self,
        contents: TicketContents,
        nonce: [u8; NONCE_LENGTH],
    ) -> Option<Ticket> {
        let mut plain = [0; SEALED_LENGTH];
        plain[0] = contents.worker.0;
        plain[1..5].copy_from_slice(&contents.allocation.slot.to_be_bytes());
        plain[5..9].copy_from_slice(&contents.allocation.generation.get().to_be_bytes());
        plain[9..].copy_from_slice(&contents.serial.to_be_bytes());
        let sealed = self
            .0
            .encrypt(&Nonce::<Aes256Gcm>::from(nonce), Payload::from(&plain[..]))
            .ok()?;
        let mut ticket = [0; TICKET_LENGTH];
        ticket[..NONCE_LENGTH].copy_from_slice(&nonce);
        ticket
            .get_mut(NONCE_LENGTH..)?
            .copy_from_slice(sealed.get(..SEALED_LENGTH + 16)?);
        Some(ticket)
    }

    /// Opens a ticket, if it is one of this server's.
    pub(super) fn open(&self, ticket: &[u8]) -> Option<TicketContents> {
        let ticket: &Ticket = ticket.try_into().ok()?;
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LENGTH>()?;
        let plain = self
            .0
            .decrypt(&Nonce::<Aes256Gcm>::from(*nonce), Payload::from(sealed))
            .ok()?;
        let [worker, s0, s1, s2, s3, g0, g1, g2, g3, n0, n1, n2, n3] = plain[..] else {
            return None;
        };
        Some(TicketContents {
            worker: WorkerId(worker),
            allocation: Key {
                slot: u32::from_be_bytes([s0, s1, s2, s3]),
                generation: NonZeroU32::new(u32::from_be_bytes([g0, g1, g2, g3]))?,
            },
            serial: u32::from_be_bytes([n0, n1, n2, n3]),
        })
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_only_as_it_was_sealed() {
        let key = TicketKey::new(&[7; 32]);
        let contents = TicketContents {
            worker: WorkerId(3),
            allocation: Key {
                slot: 70_000,
                generation: NonZeroU32::MIN,
            },
            serial: 9,
        };
        let ticket = key.seal(contents, [1; 12]).unwrap();
        assert_eq!(key.open(&ticket), Some(contents));
        for place in 0..ticket.len() {
            let mut changed = ticket;
            changed[place] ^= 0x80;
            assert_eq!(key.open(&changed), None, "{place}");
            assert_eq!(key.open(&ticket[..place]), None);
        }
        assert_eq!(TicketKey::new(&[8; 32]).open(&ticket), None);
    }
}
