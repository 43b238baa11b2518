//! Slots with generations: an id of something that is gone finds nothing, never its successor.

use core::num::NonZeroU32;

use smallvec::SmallVec;

/// A stable name of a value in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: NonZeroU32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: NonZeroU32,
    value: Option<T>,
}

/// Values under generational keys; iterated in the order of their slots.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    /// The first one in place: an idle session has one pair.
    slots: SmallVec<[Slot<T>; 1]>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: SmallVec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.value = Some(value);
            return Key {
                slot,
                generation: entry.generation,
            };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: NonZeroU32::MIN,
            value: Some(value),
        });
        Key {
            slot,
            generation: NonZeroU32::MIN,
        }
    }

    /// Inserts what `make` makes of its own key, or nothing.
    pub(crate) fn try_insert_with<E>(
        &mut self,
        make: impl FnOnce(Key) -> Result<T, E>,
    ) -> Result<Key, E> {
        let key = match self.free.last() {
            Some(&slot) => Key {
                slot,
                generation: self.slots[slot as usize].generation,
            },
            None => Key {
                slot: self.slots.len() as u32,
                generation: NonZeroU32::MIN,
            },
        };
        let value = make(key)?;
        Ok(self.insert(value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self
            .slots
            .get_mut(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        // A slot whose generations are used up is never used again.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(key.slot);
        }
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots
            .get_mut(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)
            .and_then(|entry| entry.value.as_mut())
    }

    /// Whatever lives in a slot now.
    pub(crate) fn by_slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots
            .get_mut(slot as usize)
            .and_then(|entry| entry.value.as_mut())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let key = Key {
                    slot: slot as u32,
                    generation: entry.generation,
                };
                entry.value.as_mut().map(|value| (key, value))
            })
    }

    /// Drops every value that `keep` refuses.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Key, &T) -> bool) {
        for slot in 0..self.slots.len() as u32 {
            let entry = &self.slots[slot as usize];
            let key = Key {
                slot,
                generation: entry.generation,
            };
            if entry.value.as_ref().is_some_and(|value| !keep(key, value)) {
                self.remove(key);
            }
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slots
            .get(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)
            .and_then(|entry| entry.value.as_ref())
    }

    /// Whatever lives in a slot now.
    pub(crate) fn by_slot(&self, slot: u32) -> Option<&T> {
        self.slots
            .get(slot as usize)
            .and_then(|entry| entry.value.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let key = Key {
                slot: slot as u32,
                generation: entry.generation,
            };
            entry.value.as_ref().map(|value| (key, value))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut arena = Arena::new();
        let (a, b) = (arena.insert('a'), arena.insert('b'));
        assert_eq!(arena.remove(a), Some('a'));
        assert_eq!(arena.remove(a), None);
        let c = arena.insert('c');
        assert_eq!(c.slot, a.slot, "the slot is used again");
        assert_eq!(
            (arena.get(a), arena.get(b), arena.get(c)),
            (None, Some(&'b'), Some(&'c'))
        );
        assert_eq!(arena.by_slot_mut(a.slot), Some(&mut 'c'));
        arena.retain(|_, value| *value == 'b');
        assert_eq!(
            arena
                .iter()
                .map(|(key, value)| (key, *value))
                .collect::<Vec<_>>(),
            [(b, 'b')]
        );
        assert_eq!(arena.len(), 1);
    }
}
