//! Slots with generations: an id of something that is gone finds nothing, never its successor.

use core::num::NonZeroU32;

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

/// Values under generational keys.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    occupied: usize,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            occupied: 0,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.occupied += 1;
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

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self
            .slots
            .get_mut(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        self.occupied -= 1;
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

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slots
            .get(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)
            .and_then(|entry| entry.value.as_ref())
    }

    /// In the order of their slots.
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

    pub(crate) const fn len(&self) -> usize {
        self.occupied
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
        assert_eq!(arena.len(), 2);
        assert_eq!(
            arena
                .iter_mut()
                .map(|(_, value)| *value)
                .collect::<String>(),
            "cb"
        );
    }
}
