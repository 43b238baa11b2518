//! Two peers that talk all the time, and for how long either hears nothing.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::HANG_GUARD;
use crate::pair::Pair;

/// A conversation under way.
#[derive(Debug)]
pub struct Talk<'a> {
    pair: &'a mut Pair,
    start: Instant,
    /// How many bytes a message has.
    length: usize,
    /// How often each side has spoken.
    sent: u32,
    hearing: [Hearing; 2],
}

/// What one side hears.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    /// How many messages of any kind had come at the start.
    before: usize,
    heard: usize,
    last: Instant,
    longest: Duration,
}

/// What came of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    sent: u32,
    sides: [Hearing; 2],
}

impl<'a> Talk<'a> {
    /// Messages a second that each side sends.
    pub const RATE: u32 = 200;

    pub(crate) fn new(pair: &'a mut Pair, length: usize) -> Self {
        let now = Instant::now();
        let hearing = [0, 1].map(|side| Hearing {
            before: pair.seen(side).data.len(),
            heard: 0,
            last: now,
            longest: Duration::ZERO,
        });
        Self {
            pair,
            start: now,
            length,
            sent: 0,
            hearing,
        }
    }

    /// Goes on until this time after the start.
    ///
    /// # Errors
    /// A sentence with what was seen, when a side ends, gives the session up or speaks garbage.
    pub fn until(&mut self, time: Duration) -> Result<(), String> {
        let end = self.start + time;
        loop {
            let next = self.start + Duration::from_secs(1) * self.sent / Self::RATE;
            self.pair.relay_for(next.min(end))?;
            self.listen()?;
            if next >= end {
                return Ok(());
            }
            for side in 0..2 {
                let data = format!("{:.<1$}", format!("message {} ", self.sent), self.length);
                self.pair.send(side, &json!({"cmd": "send", "data": data}));
            }
            self.sent += 1;
        }
    }

    /// Goes on until `done` holds of what was seen.
    ///
    /// # Errors
    /// As `until`; and when nothing like it comes.
    pub fn until_seen(&mut self, goal: &str, done: impl Fn(&Pair) -> bool) -> Result<(), String> {
        let begin = Instant::now();
        while !done(self.pair) {
            if begin.elapsed() > HANG_GUARD {
                return Err(self.pair.report(goal, "nothing more came"));
            }
            self.until(self.start.elapsed() + Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Ends the conversation at this time after its start, or later, once each side has heard of the other again.
    ///
    /// # Errors
    /// As `until`; and when a side hears nothing any more.
    pub fn finish(mut self, time: Duration) -> Result<Told, String> {
        self.until(time)?;
        let before = self.hearing.map(|hearing| hearing.heard);
        let mut end = time;
        while (0..2).any(|side| self.hearing[side].heard == before[side]) {
            end += Duration::from_millis(50);
            if end > time + HANG_GUARD {
                return Err("a side hears nothing any more".to_owned());
            }
            self.until(end)?;
        }
        Ok(Told {
            sent: self.sent,
            sides: self.hearing,
        })
    }

    /// Looks what has come since the last time.
    fn listen(&mut self) -> Result<(), String> {
        let now = Instant::now();
        for (side, hearing) in self.hearing.iter_mut().enumerate() {
            let seen = self.pair.seen(side);
            let heard = seen.data.len() - hearing.before;
            hearing.longest = hearing.longest.max(now - hearing.last);
            if heard > hearing.heard {
                (hearing.heard, hearing.last) = (heard, now);
            }
            if seen.states.last().is_some_and(|state| state == "failed") {
                return Err(format!("side {side} has given the session up"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, side) in ["a", "; b"].iter().zip(&self.sides) {
            write!(
                f,
                "{name} heard {} of {} messages, and nothing for {} ms at most",
                side.heard,
                self.sent,
                side.longest.as_millis()
            )?;
        }
        Ok(())
    }
}
