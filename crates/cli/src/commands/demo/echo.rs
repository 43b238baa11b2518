//! Numbered datagrams to the other peer and back.

use std::time::{Duration, Instant};

use super::result::Echo;

/// How many are sent.
const COUNT: u32 = 100;
const SIZE: usize = 64;
/// The first byte; its first bit keeps it apart from STUN (RFC 7983 section 7).
const PING: u8 = 0xe0;
const PONG: u8 = 0xe1;
/// The last ones are given so long to come back, and four round trips. It is waited for only where one was lost, and on a busy
/// machine one may be late.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// One direction of the echo, under way.
#[derive(Debug)]
pub(super) struct Echoing {
    sent: u32,
    back: Vec<bool>,
    last_sent: Instant,
}

impl Echoing {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            back: vec![false; COUNT as usize],
            last_sent: Instant::now(),
        }
    }

    /// The next datagram, until all are sent.
    pub(super) fn next(&mut self) -> Option<[u8; SIZE]> {
        if self.sent == COUNT {
            return None;
        }
        let datagram = frame(PING, self.sent);
        self.sent += 1;
        self.last_sent = Instant::now();
        Some(datagram)
    }

    /// The number of a datagram, and whether it is one that comes back.
    pub(super) fn read(datagram: &[u8]) -> Option<(u32, bool)> {
        let (&kind, rest) = datagram.split_first()?;
        let number = u32::from_be_bytes(*rest.first_chunk()?);
        match kind {
            PING => Some((number, false)),
            PONG => Some((number, true)),
            _ => None,
        }
    }

    pub(super) fn answer(number: u32) -> [u8; SIZE] {
        frame(PONG, number)
    }

    /// Only what was sent can come back, and each number counts once.
    pub(super) fn came_back(&mut self, number: u32) {
        if number < self.sent
            && let Some(back) = self.back.get_mut(number as usize)
        {
            *back = true;
        }
    }

    /// Whether all came back, or what has not by now will not.
    pub(super) fn is_over(&self, round_trip: Duration) -> bool {
        let patience = LEAST_PATIENCE.max(4 * round_trip);
        self.sent == COUNT
            && (self.figures().received == COUNT || self.last_sent.elapsed() > patience)
    }

    pub(super) fn figures(&self) -> Echo {
        // There are COUNT at the most.
        let received = self.back.iter().filter(|back| **back).count() as u32;
        Echo {
            sent: self.sent,
            received,
        }
    }
}

fn frame(kind: u8, number: u32) -> [u8; SIZE] {
    let mut datagram = [0; SIZE];
    datagram[0] = kind;
    datagram[1..5].copy_from_slice(&number.to_be_bytes());
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once_and_only_if_it_was_sent() {
        let mut echo = Echoing::new();
        echo.came_back(0);
        assert_eq!(
            echo.figures(),
            Echo {
                sent: 0,
                received: 0
            }
        );
        let datagram = echo.next().expect("the first");
        let Some((0, false)) = Echoing::read(&datagram) else {
            panic!("not the first ping")
        };
        let Some((0, true)) = Echoing::read(&Echoing::answer(0)) else {
            panic!("not its answer")
        };
        for number in [0, 0, 1, u32::MAX] {
            echo.came_back(number);
        }
        assert_eq!(
            echo.figures(),
            Echo {
                sent: 1,
                received: 1
            }
        );
        while echo.next().is_some() {}
        assert_eq!(echo.figures().sent, COUNT);
        assert_eq!(Echoing::read(&[]), None);
        assert_eq!(Echoing::read(&[PING, 0, 0, 0]), None);
    }
}
