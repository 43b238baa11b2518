//! Two peers, the relaying between them, and what was seen.

use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use serde_json::{Value, json};

use crate::HANG_GUARD;
use crate::peer::{Line, Peer};
use crate::talk::Talk;

/// What one side has said so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every state in the order told.
    pub states: Vec<String>,
    /// Every selected pair, as (local, remote) candidate lines.
    pub selected: Vec<(String, String)>,
    /// Candidate lines of its own.
    pub candidates: Vec<String>,
    /// How often it told credentials: once, and once more for each restart.
    pub generations: usize,
    /// The ICE options of its latest parameters.
    pub options: Vec<String>,
    /// Whether it told the end of its candidates.
    pub end_of_candidates: bool,
    /// Application data that arrived.
    pub data: Vec<String>,
    /// What it complained about.
    pub errors: Vec<String>,
    /// The answer to each `stats` command.
    pub stats: Vec<Value>,
    /// Whether its output ended.
    pub ended: bool,
}

impl Seen {
    /// Whether the last state is `connected` or `completed`.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.states
            .last()
            .is_some_and(|state| state == "connected" || state == "completed")
    }

    /// The types of the selected pair's candidates, local and remote.
    #[must_use]
    pub fn selected_types(&self) -> Option<(&str, &str)> {
        let (local, remote) = self.selected.last()?;
        Some((candidate_type(local)?, candidate_type(remote)?))
    }
}

/// The word after `typ` in a candidate line.
#[must_use]
pub fn candidate_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == "typ")?;
    words.next()
}

/// Two peers at work.
#[derive(Debug)]
pub struct Pair {
    peers: [Peer; 2],
    seen: [Seen; 2],
    lines: Receiver<(usize, Line)>,
    /// The sides whose candidates the other is not told.
    withheld: [bool; 2],
    /// Whether the peers were told to end.
    closing: bool,
}

impl Pair {
    /// Starts both programs and gives each its `start` command.
    ///
    /// # Errors
    /// A sentence, when a program does not start.
    pub fn start(commands: [Command; 2], starts: [Value; 2]) -> Result<Self, String> {
        let (sender, lines) = channel();
        let [first, second] = commands;
        let spawn = |command: Command, mark| {
            let program = command.get_program().to_string_lossy().into_owned();
            Peer::spawn(command, mark, sender.clone())
                .map_err(|error| format!("{program} does not start: {error}"))
        };
        let mut peers = [spawn(first, 0)?, spawn(second, 1)?];
        for (peer, start) in peers.iter_mut().zip(&starts) {
            peer.send(start);
        }
        Ok(Self {
            peers,
            seen: [Seen::default(), Seen::default()],
            lines,
            withheld: [false; 2],
            closing: false,
        })
    }

    /// What a side has said.
    #[must_use]
    pub fn seen(&self, side: usize) -> &Seen {
        &self.seen[side]
    }

    /// From now on the other side is not told this one's candidates, nor their end: it must be found by this one's checks.
    pub fn withhold_candidates(&mut self, side: usize) {
        self.withheld[side] = true;
    }

    /// Sends a command to one side.
    pub fn send(&mut self, side: usize, command: &Value) {
        self.peers[side].send(command);
    }

    /// Sends one side a line as it is, JSON or not.
    pub fn send_text(&mut self, side: usize, line: &str) {
        self.peers[side].send_text(line);
    }

    /// Relays lines between the two until `done` holds.
    ///
    /// # Errors
    /// A sentence with what was seen, when a peer ends or speaks garbage before that, or nothing more comes.
    pub fn relay_until(
        &mut self,
        goal: &str,
        done: impl Fn(&[Seen; 2]) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + HANG_GUARD;
        while !done(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((side, line)) => self
                    .take(side, line)
                    .map_err(|why| self.report(goal, &why))?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.report(goal, "nothing more came"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.report(goal, "both peers have ended"));
                }
            }
        }
        Ok(())
    }

    /// Both sides connected, each with a selected pair.
    ///
    /// # Errors
    /// As `relay_until`.
    pub fn connect(&mut self) -> Result<(), String> {
        self.relay_until("both sides are connected", |seen| {
            seen.iter()
                .all(|side| side.is_connected() && !side.selected.is_empty())
        })
    }

    /// The whole life of a session: connect, `count` messages each way, close.
    ///
    /// # Errors
    /// As `relay_until`, and when the first side complained about anything.
    pub fn live(mut self, count: usize) -> Result<(), String> {
        self.connect()?;
        self.exchange(count)?;
        if !self.seen[0].errors.is_empty() {
            return Err(self.report("the first side has nothing to complain about", "it has"));
        }
        self.close()
    }

    /// One side restarts; both connect again, with new credentials each, and carry `count` messages each way.
    ///
    /// # Errors
    /// As `relay_until`.
    pub fn restart(&mut self, sides: &[usize], count: usize) -> Result<(), String> {
        let before = self
            .seen
            .each_ref()
            .map(|seen| (seen.generations, seen.selected.len(), seen.states.len()));
        for side in sides {
            self.send(*side, &json!({"cmd": "restart"}));
        }
        self.relay_until("both sides are connected in a new generation", |seen| {
            seen.iter()
                .zip(before)
                .all(|(seen, (generations, selected, states))| {
                    let again = seen.selected.len() > selected && seen.states.len() > states;
                    seen.generations > generations && again && seen.is_connected()
                })
        })?;
        self.exchange(count)
    }

    /// One side restarts; both have a pair again, with new credentials each. A peer that is connected all the time need
    /// not say so again.
    ///
    /// # Errors
    /// As `relay_until`.
    pub fn renew(&mut self, side: usize) -> Result<(), String> {
        let before = self
            .seen
            .each_ref()
            .map(|seen| (seen.generations, seen.selected.len()));
        self.send(side, &json!({"cmd": "restart"}));
        self.relay_until("both sides have a pair of a new generation", |seen| {
            seen.iter()
                .zip(before)
                .all(|(seen, (generations, selected))| {
                    let again = seen.selected.len() > selected;
                    seen.generations > generations && again && seen.is_connected()
                })
        })
    }

    /// Sends `count` messages each way and waits until every one of them has arrived.
    ///
    /// # Errors
    /// As `relay_until`; the links of the laboratory lose nothing unless told to.
    pub fn exchange(&mut self, count: usize) -> Result<(), String> {
        let before = self.seen.each_ref().map(|side| side.data.len());
        for number in 0..count {
            for (side, name) in ["a", "b"].iter().enumerate() {
                self.send(
                    side,
                    &json!({"cmd": "send", "data": format!("{name} says {number}")}),
                );
            }
        }
        let all = |seen: &[Seen; 2]| {
            seen.iter()
                .zip(before)
                .all(|(side, before)| side.data.len() >= before + count)
        };
        self.relay_until("all data has arrived both ways", all)?;
        for (side, other) in [(0, "b"), (1, "a")] {
            let mut arrived = self.seen[side].data[before[side]..].to_vec();
            let mut expected: Vec<String> = (0..count)
                .map(|number| format!("{other} says {number}"))
                .collect();
            arrived.sort();
            expected.sort();
            if arrived != expected {
                return Err(self.report("the data is what was sent", &format!("it is {arrived:?}")));
            }
        }
        Ok(())
    }

    /// Closes both sides: each tells `closed` and exits with 0.
    ///
    /// # Errors
    /// As `relay_until`, and when an exit code is another.
    pub fn close(mut self) -> Result<(), String> {
        for peer in &mut self.peers {
            peer.send(&json!({"cmd": "close"}));
        }
        self.ends()?;
        if self
            .seen
            .iter()
            .any(|side| side.states.last().is_none_or(|state| state != "closed"))
        {
            return Err(self.report("both sides tell that they are closed", "one does not"));
        }
        Ok(())
    }

    /// Ends the input of both sides: each exits with 0.
    ///
    /// # Errors
    /// As `relay_until`, and when an exit code is another.
    pub fn end_input(mut self) -> Result<(), String> {
        self.closing = true;
        for peer in &mut self.peers {
            peer.close_input();
        }
        self.ends()
    }

    fn ends(&mut self) -> Result<(), String> {
        self.closing = true;
        self.relay_until("both sides have ended", |seen| {
            seen.iter().all(|side| side.ended)
        })?;
        for side in 0..2 {
            let status = self.peers[side].wait().map_err(|error| error.to_string())?;
            if !status.success() {
                return Err(self.report(
                    "a side ends with exit code 0",
                    &format!("side {side}: {status}"),
                ));
            }
        }
        Ok(())
    }

    /// The two begin to talk, in messages of so many bytes.
    pub fn talk(&mut self, length: usize) -> Talk<'_> {
        Talk::new(self, length)
    }

    /// Hands over what comes until then.
    pub(crate) fn relay_for(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((side, line)) => self
                    .take(side, line)
                    .map_err(|why| self.report("the session goes on", &why))?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Records a line and hands it to the other side where signaling would.
    fn take(&mut self, side: usize, line: Line) -> Result<(), String> {
        let event = match line {
            Line::Event(event) => event,
            Line::Garbage(text) => {
                return Err(format!("side {side} printed what is not JSON: {text}"));
            }
            Line::End => {
                self.seen[side].ended = true;
                return if self.closing {
                    Ok(())
                } else {
                    Err(format!("side {side} ended without being closed"))
                };
            }
        };
        let seen = &mut self.seen[side];
        let other = &mut self.peers[1 - side];
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["ev"].as_str() {
            Some("params") => {
                seen.generations += 1;
                let options = event["options"].as_array().into_iter().flatten();
                seen.options = options
                    .filter_map(|option| option.as_str().map(str::to_owned))
                    .collect();
                // Handed over as they are: a key that the other side does not know is its to ignore.
                let mut command = event.clone();
                if let Some(fields) = command.as_object_mut() {
                    fields.remove("ev");
                    fields.insert("cmd".to_owned(), "remote".into());
                }
                other.send(&command);
            }
            Some("candidate") => {
                seen.candidates.push(text("candidate"));
                if !self.withheld[side] {
                    other.send(&json!({"cmd": "candidate", "candidate": event["candidate"]}));
                }
            }
            Some("removed") => {
                other.send(&json!({"cmd": "remove", "candidate": event["candidate"]}))
            }
            Some("eoc") => {
                seen.end_of_candidates = true;
                if !self.withheld[side] {
                    other.send(&json!({"cmd": "eoc"}));
                }
            }
            Some("selected") => seen.selected.push((text("local"), text("remote"))),
            Some("state") => seen.states.push(text("state")),
            Some("data") => seen.data.push(text("data")),
            Some("stats") => seen.stats.push(event["stats"].clone()),
            Some("error") => seen.errors.push(text("msg")),
            _ => {
                return Err(format!(
                    "side {side} told an event that the protocol does not have: {event}"
                ));
            }
        }
        Ok(())
    }

    /// For a person: what was wanted, why it is not so, what was seen. Credentials are never recorded.
    pub(crate) fn report(&self, goal: &str, why: &str) -> String {
        format!(
            "wanted: {goal}\n{why}\na: {:#?}\nb: {:#?}",
            self.seen[0], self.seen[1]
        )
    }
}
