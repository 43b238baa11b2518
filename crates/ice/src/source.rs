//! What the engine takes from outside besides its inputs: chance, and when the application last sent.
//!
//! An engine that is recorded has a tape, on which all of that is written; one that plays a recording back
//! reads it from there. So the seed, from which everything to come could be told, is in no recording.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

#[derive(Debug)]
pub(crate) struct Source {
    random: ChaCha12Rng,
    tape: Option<Box<Tape>>,
}

/// What one call took, and whom it was about.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    playing: bool,
    bytes: Vec<u8>,
    /// Where playing has come to.
    position: usize,
    /// Playing has asked for more than there is.
    exhausted: bool,
    /// Passwords that were drawn, each with its stand-in on the tape.
    pub(crate) secrets: Vec<(Vec<u8>, Vec<u8>)>,
    /// Stand-ins so far.
    stand_ins: u32,
    /// The slots of the agents that may have changed.
    pub(crate) touched: Vec<u32>,
}

impl Source {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            random: ChaCha12Rng::from_seed(seed),
            tape: None,
        }
    }

    pub(crate) fn recorded(seed: [u8; 32]) -> Self {
        Self {
            tape: Some(Box::default()),
            ..Self::new(seed)
        }
    }

    /// Takes from the tape. What is not on it comes from a constant seed, so that nothing that tries again
    /// and again gets the same for ever.
    pub(crate) fn playing() -> Self {
        Self {
            tape: Some(Box::new(Tape {
                playing: true,
                ..Tape::default()
            })),
            ..Self::new([0; 32])
        }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        match self.tape {
            None => return self.random.next_u64(),
            Some(_) => self.fill_bytes(&mut bytes),
        }
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn fill_bytes(&mut self, bytes: &mut [u8]) {
        if self.play(bytes) {
            return;
        }
        self.random.fill_bytes(bytes);
        self.write(bytes);
    }

    /// Fills in what a password is made of.
    pub(crate) fn fill_secret(&mut self, bytes: &mut [u8]) {
        if self.play(bytes) {
            return;
        }
        self.random.fill_bytes(bytes);
        if let Some(tape) = &mut self.tape
            && !tape.playing
        {
            let mut number = tape.next_stand_in();
            let mut stand_in = vec![0; bytes.len()];
            for byte in stand_in.iter_mut().rev() {
                // The digits' places among the ice-chars.
                *byte = 52 + (number % 10) as u8;
                number /= 10;
            }
            tape.bytes.extend_from_slice(&stand_in);
            tape.secrets.push((bytes.to_vec(), stand_in));
        }
    }

    /// Passes on something that was seen of what others write at any time.
    pub(crate) fn observe(&mut self, seen: bool) -> bool {
        if self.tape.is_none() {
            return seen;
        }
        let mut byte = [u8::from(seen)];
        if !self.play(&mut byte) {
            self.write(&byte);
        }
        byte[0] != 0
    }

    /// This agent may have changed.
    pub(crate) fn touch(&mut self, slot: u32) {
        if let Some(tape) = &mut self.tape
            && !tape.touched.contains(&slot)
        {
            tape.touched.push(slot);
        }
    }

    pub(crate) fn tape(&mut self) -> Option<&mut Tape> {
        self.tape.as_deref_mut()
    }

    /// The recording is over.
    pub(crate) fn stop(&mut self) {
        self.tape = None;
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(tape) = &mut self.tape {
            tape.bytes.extend_from_slice(bytes);
        }
    }

    /// False where nothing can be played.
    fn play(&mut self, bytes: &mut [u8]) -> bool {
        let Some(tape) = self.tape.as_mut().filter(|tape| tape.playing) else {
            return false;
        };
        match tape.bytes[tape.position..].get(..bytes.len()) {
            Some(recorded) => {
                bytes.copy_from_slice(recorded);
                tape.position += bytes.len();
            }
            None => {
                tape.exhausted = true;
                self.random.fill_bytes(bytes);
            }
        }
        true
    }
}

impl Tape {
    /// The number of the next stand-in for a password.
    pub(crate) const fn next_stand_in(&mut self) -> u32 {
        self.stand_ins = self.stand_ins.wrapping_add(1);
        self.stand_ins
    }

    /// What was taken since the last time.
    pub(crate) fn taken(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Lays in what the next call is to take.
    pub(crate) fn load(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.position = 0;
        self.exhausted = false;
    }

    /// Whether exactly that was taken.
    pub(crate) fn is_used_up(&self) -> bool {
        !self.exhausted && self.position == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_plays_what_was_recorded_but_for_secrets() {
        let mut recorded = Source::recorded([7; 32]);
        let (number, mut secret) = (recorded.next_u64(), [0; 24]);
        recorded.fill_secret(&mut secret);
        assert!(recorded.observe(true));
        let tape = recorded.tape().unwrap();
        let (real, stand_in) = tape.secrets[0].clone();
        assert_eq!((&real[..], stand_in[23]), (&secret[..], 53));
        let bytes = tape.taken();

        // The same as without a tape.
        let mut plain = Source::new([7; 32]);
        let mut plain_secret = [0; 24];
        assert_eq!(plain.next_u64(), number);
        plain.fill_secret(&mut plain_secret);
        assert_eq!(plain_secret, secret);

        let mut playing = Source::playing();
        playing.tape().unwrap().load(&bytes);
        assert_eq!(playing.next_u64(), number);
        playing.fill_secret(&mut secret);
        assert_eq!(secret[..], stand_in[..]);
        assert!(!playing.tape().unwrap().is_used_up());
        assert!(playing.observe(false));
        assert!(playing.tape().unwrap().is_used_up());
        playing.next_u64();
        assert!(!playing.tape().unwrap().is_used_up());
    }
}
