//! Whether the driver looks once more before it sleeps.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Whoever sends to a socket that somebody sleeps on pays for waking it, which on one machine costs as much as the
/// datagram itself. So while something comes every few microseconds, the driver lets the other tasks have their turn and looks
/// again, a few times, before it sleeps; where that is in vain, it does so less.
#[derive(Debug, Default)]
pub(super) struct Haste {
    /// How often to look before sleeping.
    looks: u8,
    /// Looks since something was found.
    vain: u8,
    /// How often in a row all looks were in vain, as where each datagram answers one of this side.
    doubt: u8,
    /// So often it is not worth to look.
    skip: u8,
}

impl Haste {
    /// What comes so soon after the last is worth a look.
    const SOON: Duration = Duration::from_micros(8);
    const MOST_LOOKS: u8 = 16;
    const MOST_DOUBT: u8 = 6;

    /// Nothing is there: whether to look once more.
    pub(super) fn looks_again(&mut self) -> bool {
        if self.vain < self.looks {
            self.vain += 1;
            return true;
        }
        if self.looks > 0 {
            // They were all in vain.
            self.looks = 0;
            self.doubt = (self.doubt + 1).min(Self::MOST_DOUBT);
            self.skip = 1 << self.doubt;
        }
        false
    }

    /// A look was not in vain.
    pub(super) fn found(&mut self) {
        (self.vain, self.doubt) = (0, 0);
        self.looks = (self.looks * 2).min(Self::MOST_LOOKS);
    }

    /// Something has come, so long after the driver began to sleep.
    pub(super) fn woken(&mut self, slept: Duration) {
        let is_soon = slept <= Self::SOON;
        let looks = is_soon && self.skip == 0;
        if is_soon {
            self.skip = self.skip.saturating_sub(1);
        }
        (self.vain, self.looks) = (0, u8::from(looks));
    }
}

/// Lets the other tasks of this runtime have their turn. Unlike with [`yield_now`](tokio::task::yield_now) it does not look for
/// what the system has to tell, which costs more than the turn.
pub(super) async fn others_first() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(haste: &mut Haste) -> u8 {
        let mut count = 0;
        while haste.looks_again() {
            count += 1;
        }
        count
    }

    #[test]
    fn a_flow_is_looked_for_ever_more_and_what_is_rare_is_not() {
        let mut haste = Haste::default();
        assert_eq!(looks(&mut haste), 0);
        haste.woken(Haste::SOON);
        for _ in 0..6 {
            assert!(haste.looks_again());
            haste.found();
        }
        assert_eq!(looks(&mut haste), Haste::MOST_LOOKS);
        assert_eq!(looks(&mut haste), 0);
        haste.woken(Haste::SOON * 2);
        assert_eq!(looks(&mut haste), 0);
    }

    #[test]
    fn where_looking_is_in_vain_it_is_tried_ever_less() {
        let mut haste = Haste::default();
        let mut skipped = Vec::new();
        let mut count = 0;
        for _ in 0..300 {
            haste.woken(Haste::SOON);
            match looks(&mut haste) {
                0 => count += 1,
                _ => skipped.push(std::mem::take(&mut count)),
            }
        }
        assert_eq!(skipped, [0, 2, 4, 8, 16, 32, 64, 64, 64]);
    }
}
