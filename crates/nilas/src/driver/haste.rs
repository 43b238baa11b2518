//! Whether the driver looks once more before it sleeps.

use std::time::Duration;

/// Whoever sends to a socket that somebody sleeps on pays for waking it, which on one machine costs as much as the
/// datagram itself. So while something comes every few microseconds, the driver lets the other tasks have their turn and looks
/// again, a few times, before it sleeps; where that was in vain, less often the next time.
#[derive(Debug, Default)]
pub(super) struct Haste(u8);

impl Haste {
    /// What comes so soon after the last is worth a look.
    const SOON: Duration = Duration::from_micros(8);
    const MOST_LOOKS: u8 = 8;

    /// How often to look before sleeping.
    pub(super) const fn looks(&self) -> u8 {
        self.0
    }

    /// Something has come, so long after what came before.
    pub(super) fn waited(&mut self, time: Duration) {
        self.0 = match time <= Self::SOON {
            true => (self.0 * 2).clamp(1, Self::MOST_LOOKS),
            false => self.0 / 2,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_looked_for_and_what_is_rare_is_not() {
        let mut haste = Haste::default();
        assert_eq!(haste.looks(), 0);
        for _ in 0..5 {
            haste.waited(Haste::SOON);
        }
        assert_eq!(haste.looks(), Haste::MOST_LOOKS);
        for _ in 0..4 {
            haste.waited(Haste::SOON * 2);
        }
        assert_eq!(haste.looks(), 0);
    }
}
