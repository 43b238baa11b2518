//! Bytes read as decisions. Where they end, every decision is zero.

/// Decisions yet to be taken.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn long(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Bytes with their length in front.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }
}

/// The same, to be written: for seeds.
#[derive(Clone, Default)]
pub struct Script(pub Vec<u8>);

impl Script {
    pub fn new(start: &[u8]) -> Self {
        Self(start.to_vec())
    }

    pub fn then(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("seeds are short");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.then(bytes)
    }

    pub fn times(mut self, count: usize, bytes: &[u8]) -> Self {
        for _ in 0..count {
            self.0.extend_from_slice(bytes);
        }
        self
    }
}
