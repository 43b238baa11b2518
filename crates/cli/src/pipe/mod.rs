//! A byte stream in both directions, complete and in order, over datagrams that may be lost.
//!
//! A connection of nilas carries datagrams, and a pipe that silently lost a block would corrupt what it
//! carries. Until the session layer brings real streams, `nilas connect` uses this small one: numbered
//! blocks, selective acknowledgements, retransmission, a congestion window, and the receiver's room so that
//! a slow reader slows the sender. No I/O and no clock: time is a parameter, counted from any beginning.
//!
//! # On the wire
//! One frame in each datagram, big-endian, at most 1,200 bytes:
//!
//! | kind | then |
//! |---|---|
//! | `0x81` data | sequence number (8 bytes), 1 to 1,191 bytes of the stream |
//! | `0x82` end | sequence number (8 bytes): the stream ends before it |
//! | `0x83` acknowledgement | next number expected (8), room in blocks from there on (2), a bit for each of the 256 numbers after the next one that has come (32) |
//! | `0x84` done | all was sent, acknowledged and received: nothing more will come |
//! | `0x85` leave | the sender goes away in the middle |
//!
//! The first bit of every kind is set, so that no frame looks like STUN (RFC 7983 section 7).
//!
//! The rooms: [`sender`] and [`receiver`] are the two halves of a side, and know nothing of each other.

mod receiver;
mod sender;

use std::time::Duration;

use receiver::Receiver;
use sender::Sender;

/// The most bytes of the stream in one block: with its header, 1,200 bytes fit every path that QUIC fits.
pub(crate) const MAX_BLOCK: usize = 1_191;
/// The most blocks that may be under way, and that a receiver holds back for a missing one.
const WINDOW: usize = 256;

const DATA: u8 = 0x81;
const END: u8 = 0x82;
const ACKNOWLEDGEMENT: u8 = 0x83;
const DONE: u8 = 0x84;
const LEAVE: u8 = 0x85;

/// The datagram that tells the other side that this one goes away in the middle.
pub(crate) const LEAVE_FRAME: [u8; 1] = [LEAVE];

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acknowledgement {
    /// All numbers before this one have come.
    next: u64,
    /// How many numbers from `next` on the receiver takes.
    room: u16,
    /// Which of the numbers after `next` have come: bit 0 is `next + 1`.
    came: [u8; WINDOW / 8],
}

/// One side of a pipe.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    sender: Sender,
    receiver: Receiver,
    /// Whether the other side has said that it is done.
    peer_done: bool,
    peer_left: bool,
    done_pending: bool,
    told_done: bool,
    /// When something last came, for the time to linger.
    last_heard: Duration,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether [`write`](Self::write) takes more.
    pub(crate) fn has_room(&self) -> bool {
        self.sender.has_room()
    }

    /// Puts up to [`MAX_BLOCK`] bytes into the stream, at once.
    pub(crate) fn write(&mut self, block: &[u8]) {
        debug_assert!(block.len() <= MAX_BLOCK);
        if !block.is_empty() {
            self.sender.push(block.into());
        }
    }

    /// Ends this side's stream.
    pub(crate) fn finish(&mut self) {
        self.sender.finish();
    }

    /// Takes in a datagram of the other side. What is no frame is ignored.
    pub(crate) fn handle(&mut self, now: Duration, datagram: &[u8]) {
        let Some((&kind, rest)) = datagram.split_first() else {
            return;
        };
        self.last_heard = now;
        match kind {
            DATA | END => {
                if let Some((sequence, block)) = rest.split_first_chunk() {
                    let sequence = u64::from_be_bytes(*sequence);
                    if kind == END {
                        self.receiver.end(sequence);
                    } else if !block.is_empty() && block.len() <= MAX_BLOCK {
                        self.receiver.block(sequence, block);
                    }
                }
                // Whoever repeats what was acknowledged has not heard it, nor that this side is done.
                self.done_pending = self.told_done;
            }
            ACKNOWLEDGEMENT => {
                if let Some(acknowledgement) = parse_acknowledgement(rest) {
                    self.sender.acknowledged(now, &acknowledgement);
                }
            }
            DONE => self.peer_done = true,
            LEAVE => self.peer_left = true,
            _ => {}
        }
    }

    /// The next bytes of the other side's stream, in order.
    pub(crate) fn read(&mut self) -> Option<Box<[u8]>> {
        self.receiver.read()
    }

    /// Whether [`read`](Self::read) has something.
    pub(crate) fn is_readable(&self) -> bool {
        self.receiver.is_readable()
    }

    /// Whether the other side's stream has ended and was read to its end.
    pub(crate) fn is_read_to_end(&self) -> bool {
        self.receiver.is_read_to_end()
    }

    /// Whether the other side went away in the middle.
    pub(crate) const fn peer_left(&self) -> bool {
        self.peer_left
    }

    /// Whether both streams have ended and arrived.
    pub(crate) fn is_complete(&self) -> bool {
        (self.sender.is_complete() || self.peer_done) && self.receiver.is_read_to_end()
    }

    /// Whether this side may go: both streams are complete and the other side knows, or has been silent for
    /// so long that it does not repeat anything any more.
    pub(crate) fn may_go(&self, now: Duration) -> bool {
        self.is_complete() && (self.peer_done || now >= self.last_heard + self.linger())
    }

    /// Writes the next datagram to send into `buffer` and returns its length.
    pub(crate) fn poll_transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> bool {
        buffer.clear();
        if let Some(acknowledgement) = self.receiver.poll_acknowledgement() {
            write_acknowledgement(&acknowledgement, buffer);
            return true;
        }
        if let Some((sequence, block)) = self.sender.poll(now) {
            buffer.push(if block.is_empty() { END } else { DATA });
            buffer.extend_from_slice(&sequence.to_be_bytes());
            buffer.extend_from_slice(block);
            return true;
        }
        if self.is_complete() && (self.done_pending || !self.told_done) {
            self.told_done = true;
            self.done_pending = false;
            buffer.push(DONE);
            return true;
        }
        false
    }

    /// When [`poll_transmit`](Self::poll_transmit) or [`may_go`](Self::may_go) will say something else if
    /// nothing comes before.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.is_complete() {
            Some(self.last_heard + self.linger())
        } else {
            self.sender.deadline()
        }
    }

    /// Longer than the other side waits before it repeats its last block.
    fn linger(&self) -> Duration {
        (4 * self.sender.timeout()).max(Duration::from_secs(1))
    }
}

fn write_acknowledgement(acknowledgement: &Acknowledgement, buffer: &mut Vec<u8>) {
    buffer.push(ACKNOWLEDGEMENT);
    buffer.extend_from_slice(&acknowledgement.next.to_be_bytes());
    buffer.extend_from_slice(&acknowledgement.room.to_be_bytes());
    buffer.extend_from_slice(&acknowledgement.came);
}

fn parse_acknowledgement(bytes: &[u8]) -> Option<Acknowledgement> {
    let (next, rest) = bytes.split_first_chunk()?;
    let (room, rest) = rest.split_first_chunk()?;
    let (came, _) = rest.split_first_chunk()?;
    Some(Acknowledgement {
        next: u64::from_be_bytes(*next),
        room: u16::from_be_bytes(*room),
        came: *came,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Two sides and a wire that loses, doubles and reorders, in virtual time and with a seed.
    struct Wire {
        now: Duration,
        sides: [Pipe; 2],
        flying: BTreeMap<(Duration, u64), (usize, Vec<u8>)>,
        sent: u64,
        random: u64,
        loss_percent: u64,
    }

    impl Wire {
        fn new(seed: u64, loss_percent: u64) -> Self {
            Self {
                now: Duration::ZERO,
                sides: [Pipe::new(), Pipe::new()],
                flying: BTreeMap::new(),
                sent: 0,
                random: seed,
                loss_percent,
            }
        }

        fn random(&mut self, below: u64) -> u64 {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % below
        }

        /// Sends what there is to send, then lets the next thing happen. False once nothing can happen.
        fn step(&mut self) -> bool {
            let mut buffer = Vec::new();
            for from in 0..2 {
                while self.sides[from].poll_transmit(self.now, &mut buffer) {
                    assert!(buffer.len() <= 1_200, "a frame of {} bytes", buffer.len());
                    let copies = if self.random(100) < self.loss_percent {
                        0
                    } else {
                        1 + self.random(50) / 49
                    };
                    for _ in 0..copies {
                        let late = Duration::from_micros(20_000 + self.random(5_000));
                        self.sent += 1;
                        self.flying
                            .insert((self.now + late, self.sent), (1 - from, buffer.clone()));
                    }
                }
            }
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let timer = self
                .sides
                .iter()
                .filter(|side| !side.may_go(self.now))
                .filter_map(Pipe::deadline)
                .min();
            let Some(next) = arrival.into_iter().chain(timer).min() else {
                return false;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self
                .flying
                .first_entry()
                .filter(|entry| entry.key().0 <= self.now)
            {
                let (to, datagram) = entry.remove();
                self.sides[to].handle(self.now, &datagram);
            }
            true
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * n / 7) as u8).collect()
    }

    fn transfer(seed: u64, loss_percent: u64, bytes: usize) -> Duration {
        let mut wire = Wire::new(seed, loss_percent);
        let content = content(bytes);
        let mut blocks = content.chunks(MAX_BLOCK);
        let (mut received, mut finished) = (Vec::new(), false);
        wire.sides[1].write(b"hello back");
        wire.sides[1].finish();
        let mut back = Vec::new();
        for _ in 0..1_000_000 {
            while wire.sides[0].has_room() && !finished {
                match blocks.next() {
                    Some(block) => wire.sides[0].write(block),
                    None => {
                        wire.sides[0].finish();
                        finished = true;
                    }
                }
            }
            while let Some(block) = wire.sides[1].read() {
                received.extend_from_slice(&block);
            }
            while let Some(block) = wire.sides[0].read() {
                back.extend_from_slice(&block);
            }
            if wire.sides.iter().all(|side| side.may_go(wire.now)) {
                assert_eq!(received, content);
                assert_eq!(back, b"hello back");
                return wire.now;
            }
            assert!(wire.step(), "both sides wait for nothing");
        }
        panic!("the transfer never ends");
    }

    #[test]
    fn everything_arrives_once_and_in_order_on_a_bad_wire() {
        for seed in 0..20 {
            transfer(seed, 0, 200_000);
            transfer(seed, 3, 200_000);
            transfer(seed, 30, 20_000);
        }
    }

    #[test]
    fn an_empty_stream_ends_too() {
        transfer(1, 0, 0);
        transfer(2, 50, 0);
    }

    #[test]
    fn a_clean_wire_is_filled() {
        // 2 MB need 1,680 blocks: with the whole window of 256 a round trip of 45 ms, after the slow start.
        assert!(transfer(3, 0, 2_000_000) < Duration::from_secs(2));
    }

    #[test]
    fn a_reader_that_waits_stops_the_writer_and_loses_nothing() {
        let mut wire = Wire::new(7, 2);
        let content = content(2 * WINDOW * MAX_BLOCK);
        let mut blocks = content.chunks(MAX_BLOCK);
        let mut written = 0;
        for _ in 0..20_000 {
            while wire.sides[0].has_room() {
                let Some(block) = blocks.next() else { break };
                wire.sides[0].write(block);
                written += 1;
            }
            wire.step();
        }
        assert!(
            written < 2 * WINDOW + 2,
            "nobody reads, and {written} blocks were taken"
        );
        let mut received = Vec::new();
        let mut finished = false;
        for _ in 0..100_000 {
            while let Some(block) = wire.sides[1].read() {
                received.extend_from_slice(&block);
            }
            while wire.sides[0].has_room() && !finished {
                match blocks.next() {
                    Some(block) => wire.sides[0].write(block),
                    None => finished = true,
                }
            }
            if received.len() == content.len() {
                break;
            }
            wire.step();
        }
        assert_eq!(received, content);
    }

    #[test]
    fn garbage_changes_nothing() {
        let mut pipe = Pipe::new();
        pipe.write(b"text");
        let mut buffer = Vec::new();
        assert!(pipe.poll_transmit(Duration::ZERO, &mut buffer));
        for kind in 0..=0x83 {
            for length in [0, 1, 7, 8, 9, 41, 42, 43, 1_500] {
                let mut datagram = vec![0xff; length + 1];
                datagram[0] = kind;
                pipe.handle(Duration::ZERO, &datagram);
            }
        }
        assert_eq!(pipe.read(), None);
        assert!(!pipe.is_complete() && !pipe.peer_left());
        assert!(
            pipe.deadline().is_some(),
            "the block still waits for its acknowledgement"
        );
    }

    #[test]
    fn leaving_is_heard() {
        let mut pipe = Pipe::new();
        pipe.handle(Duration::ZERO, &LEAVE_FRAME);
        assert!(pipe.peer_left());
    }
}
