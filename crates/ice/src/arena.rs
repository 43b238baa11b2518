//! Slots with generations: an id of something that is gone finds nothing, never its successor.

use core::num::NonZeroU32;

use smallvec::SmallVec;

/// A stable name of a value in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: NonZeroU32,
}

/// Values under generational keys; iterated in the order of their slots.
///
/// Values and generations lie apart: who looks for whatever lives in a slot reads the value alone.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    /// The first one in place: an idle session has one pair.
    values: SmallVec<[Option<T>; 1]>,
    /// Those of the values, or of the next ones where there are none.
    generations: SmallVec<[NonZeroU32; 1]>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Self {
            values: SmallVec::new(),
            generations: SmallVec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.values.get_mut(key.slot as usize) {
            Some(entry) => {
                *entry = Some(value);
                self.free.pop();
            }
            None => {
                self.values.push(Some(value));
                self.generations.push(key.generation);
            }
        }
        key
    }

    /// Inserts what `make` makes of its own key, or nothing.
    pub(crate) fn try_insert_with<E>(
        &mut self,
        make: impl FnOnce(Key) -> Result<T, E>,
    ) -> Result<Key, E> {
        let value = make(self.next_key())?;
        Ok(self.insert(value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = key.slot as usize;
        let generation = self.generations.get_mut(slot)?;
        if *generation != key.generation {
            return None;
        }
        let value = self.values[slot].take()?;
        // A slot whose generations are used up is never used again.
        if let Some(next) = generation.checked_add(1) {
            *generation = next;
            self.free.push(key.slot);
        }
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.generations.get(key.slot as usize) {
            Some(generation) if *generation == key.generation => self.by_slot_mut(key.slot),
            _ => None,
        }
    }

    /// Whatever lives in a slot now.
    pub(crate) fn by_slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.values.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let keys = keys(&self.generations);
        keys.zip(&mut self.values)
            .filter_map(|(key, value)| value.as_mut().map(|value| (key, value)))
    }

    /// Drops every value that `keep` refuses.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Key, &T) -> bool) {
        for slot in 0..self.values.len() {
            let key = Key {
                slot: slot as u32,
                generation: self.generations[slot],
            };
            if self.values[slot]
                .as_ref()
                .is_some_and(|value| !keep(key, value))
            {
                self.remove(key);
            }
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.generations.get(key.slot as usize) {
            Some(generation) if *generation == key.generation => {
                self.values[key.slot as usize].as_ref()
            }
            _ => None,
        }
    }

    /// Whatever lives in a slot now.
    pub(crate) fn by_slot(&self, slot: u32) -> Option<&T> {
        self.values.get(slot as usize)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        keys(&self.generations)
            .zip(&self.values)
            .filter_map(|(key, value)| value.as_ref().map(|value| (key, value)))
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// The key of the next value to be inserted.
    fn next_key(&self) -> Key {
        match self.free.last() {
            Some(&slot) => Key {
                slot,
                generation: self.generations[slot as usize],
            },
            None => Key {
                slot: self.values.len() as u32,
                generation: NonZeroU32::MIN,
            },
        }
    }
}

/// The keys of the slots, in their order.
fn keys(generations: &[NonZeroU32]) -> impl Iterator<Item = Key> {
    (0..)
        .zip(generations)
        .map(|(slot, &generation)| Key { slot, generation })
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
