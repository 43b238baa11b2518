//! The transaction ids of Send indications.

use std::hash::Hasher;

use nilas_ice::Framing;
use nilas_net::os_seed;
use nilas_stun::TransactionId;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Makes the ids of one sender: a counter under a keyed function, so that nobody can tell the next one
/// (RFC 8489 section 5) and none costs a call of the system or a lock.
#[derive(Debug, Default)]
pub(crate) struct IndicationIds {
    keyed: Option<SipHasher24>,
    counter: u64,
}

impl IndicationIds {
    /// An id for the next datagram; ChannelData needs none, and gets zeros that nobody sees.
    #[inline]
    pub(crate) fn next_for(&mut self, framing: Option<Framing>) -> TransactionId {
        match framing {
            Some(Framing::Send { .. }) => self.next(),
            Some(Framing::Channel { .. } | Framing::Length) | None => TransactionId::new([0; 12]),
        }
    }

    fn next(&mut self) -> TransactionId {
        let keyed = self.keyed.get_or_insert_with(|| {
            // Without randomness no agent could have been made. Should the system run out of it later,
            // ids that can be guessed are better than none: nothing answers an indication.
            let seed = os_seed().unwrap_or_default();
            let key = seed.first_chunk().copied().unwrap_or_default();
            SipHasher24::new_with_key(&key)
        });
        let mut hasher = *keyed;
        hasher.write_u64(self.counter);
        self.counter = self.counter.wrapping_add(1);
        let mut id = [0; 12];
        id.copy_from_slice(&hasher.finish128().as_bytes()[..12]);
        TransactionId::new(id)
    }
}

impl Clone for IndicationIds {
    /// One with a key of its own: the clone's ids must not be those of the first.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_id_comes_twice_from_a_sender_or_its_clone() {
        let mut first = IndicationIds::default();
        first.next();
        let mut second = first.clone();
        let ids: BTreeSet<_> = (0..1000)
            .flat_map(|_| [first.next(), second.next()])
            .map(|id| *id.as_bytes())
            .collect();
        assert_eq!(ids.len(), 2000);
    }
}
