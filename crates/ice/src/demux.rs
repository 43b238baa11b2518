//! Who owns a packet, in constant time.
//!
//! A request is found by the username fragment it names, a response by its transaction id, which
//! hides the agent's slot, and data by its socket and sender. Nothing here is ever iterated, so the
//! order of a hash map cannot reach an output.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use std::collections::HashMap;

use nilas_stun::TransactionId;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use siphasher::sip::SipHasher13;

use crate::ids::SocketId;

/// Where a username fragment leads: an agent's slot, and which generation of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
pub(crate) struct Demux {
    keys: Keys,
    ufrags: HashMap<Box<str>, Owner, Keys>,
    remotes: HashMap<(SocketId, SocketAddr), u32, Keys>,
}

impl Demux {
    pub(crate) fn new(rng: &mut ChaCha12Rng) -> Self {
        let keys = Keys(rng.next_u64(), rng.next_u64());
        Self {
            keys,
            ufrags: HashMap::with_hasher(keys),
            remotes: HashMap::with_hasher(keys),
        }
    }

    /// Claims a username fragment; false if another has it.
    pub(crate) fn claim_ufrag(&mut self, ufrag: &str, owner: Owner) -> bool {
        if self.ufrags.contains_key(ufrag) {
            return false;
        }
        self.ufrags.insert(ufrag.into(), owner);
        true
    }

    pub(crate) fn release_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag);
    }

    /// Lets data from this remote in on this socket; false if another agent has it.
    pub(crate) fn claim_remote(&mut self, socket: SocketId, remote: SocketAddr, slot: u32) -> bool {
        *self.remotes.entry((socket, remote)).or_insert(slot) == slot
    }

    pub(crate) fn release_remote(&mut self, socket: SocketId, remote: SocketAddr) {
        self.remotes.remove(&(socket, remote));
    }

    /// A fresh transaction id of this agent.
    ///
    /// 64 bits are random; the slot in the other 32 is masked by a keyed function of them. To whoever
    /// lacks the key all 96 look uniform, as RFC 8489 section 5 demands.
    pub(crate) fn transaction_id(&self, rng: &mut ChaCha12Rng, slot: u32) -> TransactionId {
        let random = rng.next_u64();
        let mut id = [0; 12];
        id[..8].copy_from_slice(&random.to_be_bytes());
        id[8..].copy_from_slice(&(slot ^ self.mask(random)).to_be_bytes());
        TransactionId::new(id)
    }

    /// The slot of the agent that made this id, if an agent made it: the agent must know it, too.
    pub(crate) fn slot_of(&self, id: TransactionId) -> u32 {
        let [r @ .., a, b, c, d] = *id.as_bytes();
        u32::from_be_bytes([a, b, c, d]) ^ self.mask(u64::from_be_bytes(r))
    }

    pub(crate) fn by_ufrag(&self, ufrag: &str) -> Option<Owner> {
        self.ufrags.get(ufrag).copied()
    }

    pub(crate) fn by_remote(&self, socket: SocketId, remote: SocketAddr) -> Option<u32> {
        self.remotes.get(&(socket, remote)).copied()
    }

    fn mask(&self, random: u64) -> u32 {
        let Keys(k0, k1) = self.keys;
        SipHasher13::new_with_keys(k0 ^ u64::MAX, k1).hash(&random.to_ne_bytes()) as u32
    }
}

/// Keys of SipHash, so that nobody outside can make entries collide.
#[derive(Clone, Copy, Debug)]
struct Keys(u64, u64);

impl BuildHasher for Keys {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_transaction_id_leads_back_to_its_agent() {
        let mut rng = ChaCha12Rng::from_seed([7; 32]);
        let demux = Demux::new(&mut rng);
        let ids = [0, 1, u32::MAX, 77].map(|slot| (slot, demux.transaction_id(&mut rng, slot)));
        for (slot, id) in ids {
            assert_eq!(demux.slot_of(id), slot);
        }
        // Neighbouring slots do not show.
        assert_ne!(ids[0].1.as_bytes()[8..], ids[1].1.as_bytes()[8..]);
        let again = demux.transaction_id(&mut rng, 0);
        assert_ne!(again.as_bytes()[8..], ids[0].1.as_bytes()[8..]);
    }

    #[test]
    fn claims_are_exclusive() {
        let mut demux = Demux::new(&mut ChaCha12Rng::from_seed([7; 32]));
        assert!(demux.claim_ufrag(
            "abcd",
            Owner {
                slot: 1,
                generation: 0
            }
        ));
        assert!(!demux.claim_ufrag(
            "abcd",
            Owner {
                slot: 2,
                generation: 0
            }
        ));
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(demux.claim_remote(SocketId(1), remote, 1));
        assert!(demux.claim_remote(SocketId(1), remote, 1));
        assert!(!demux.claim_remote(SocketId(1), remote, 2));
        assert!(demux.claim_remote(SocketId(2), remote, 2));
        demux.release_ufrag("abcd");
        demux.release_remote(SocketId(1), remote);
        assert_eq!(
            (demux.by_ufrag("abcd"), demux.by_remote(SocketId(1), remote)),
            (None, None)
        );
    }
}
