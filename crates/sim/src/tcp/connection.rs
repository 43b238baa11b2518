//! One end of a TCP connection: bytes in order, again if they were lost.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use nilas_ice::Time;

use super::{End, Owner};
use crate::packet::Segment;

/// The most bytes of a segment's payload: what is left of 1,280 with the longest headers, so that it passes
/// wherever IPv6 does.
const MAX_PAYLOAD: usize = 1_220;
/// How much may wait to be sent or acknowledged.
const SEND_BUFFER: usize = 256 * 1_024;
/// RFC 6928: ten segments at the start.
const INITIAL_WINDOW: usize = 10 * MAX_PAYLOAD;
/// No receiver here takes longer, and no sender sends further ahead.
const MAX_WINDOW: usize = 256 * 1_024;
/// RFC 6298: before a round trip was measured.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// As on common systems; RFC 6298 would have it a second.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// RFC 6298: at least a minute.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a segment is sent again before its connection is given up: a SYN after 63 s.
const MAX_RETRIES: u32 = 5;

/// The bytes of the handshake of a connection like TLS, first the client's: about as many as TLS 1.3 has with a
/// short certificate chain. They are not encrypted, and neither is what follows.
const CLIENT_HELLO: usize = 300;
const SERVER_HELLO: usize = 2_200;
/// The first byte of a TLS handshake record (RFC 8446).
const HANDSHAKE_RECORD: u8 = 0x16;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    SynReceived,
    Open,
}

/// How far the handshake on top is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// The client is to send its bytes, and waits for so many.
    Client(usize),
    /// The server waits for so many and sends its own then.
    Server(usize),
    /// There is none, or it is over.
    Over,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Bytes can be sent.
    Ready,
    /// Bytes came.
    Bytes,
    /// It is over.
    Ended(End),
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) opened_here: bool,
    pub(crate) timer: Option<Time>,
    state: State,
    handshake: Handshake,
    /// What is not acknowledged yet, from `acknowledged` on.
    outgoing: VecDeque<u8>,
    acknowledged: u64,
    next: u64,
    /// The number after the last byte that was written, which a FIN has.
    written: u64,
    /// Whether nothing more will be written.
    fin: bool,
    expected: u64,
    early: BTreeMap<u64, Vec<u8>>,
    /// The number of the other side's FIN.
    their_fin: Option<u64>,
    incoming: Vec<u8>,
    window: usize,
    threshold: usize,
    timeout: Duration,
    round_trip: Option<Duration>,
    /// A segment whose round trip is measured: the number after it, and when it left.
    timed: Option<(u64, Time)>,
    retries: u32,
    duplicates: u32,
}

impl Connection {
    /// One that is opened from here; `secure` puts a handshake on top.
    pub(crate) const fn connect(
        local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
        secure: bool,
    ) -> Self {
        let handshake = if secure {
            Handshake::Client(SERVER_HELLO)
        } else {
            Handshake::Over
        };
        Self::new(local, remote, owner, State::SynSent, handshake)
    }

    /// One that the other side opened with a SYN.
    pub(crate) const fn accept(
        local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
        secure: bool,
    ) -> Self {
        let handshake = if secure {
            Handshake::Server(CLIENT_HELLO)
        } else {
            Handshake::Over
        };
        Self::new(local, remote, owner, State::SynReceived, handshake)
    }

    const fn new(
        local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
        state: State,
        handshake: Handshake,
    ) -> Self {
        Self {
            local,
            remote,
            owner,
            opened_here: matches!(state, State::SynSent),
            timer: None,
            state,
            handshake,
            outgoing: VecDeque::new(),
            acknowledged: 0,
            next: 0,
            written: 1,
            fin: false,
            expected: 1,
            early: BTreeMap::new(),
            their_fin: None,
            incoming: Vec::new(),
            window: INITIAL_WINDOW,
            threshold: MAX_WINDOW,
            timeout: INITIAL_TIMEOUT,
            round_trip: None,
            timed: None,
            retries: 0,
            duplicates: 0,
        }
    }

    /// The SYN of an end that opens, or the answer to one.
    pub(crate) fn open(&mut self, now: Time, out: &mut Vec<(Segment, Vec<u8>)>) {
        let acknowledgement = (self.state == State::SynReceived).then_some(self.expected);
        let syn = Segment {
            syn: true,
            acknowledgement,
            ..Segment::default()
        };
        out.push((syn, Vec::new()));
        self.next = self.next.max(1);
        if self.retries == 0 {
            self.timed = Some((1, now));
        }
        self.arm(now);
    }

    /// Takes bytes to send: all of them, or none if there is no room.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        let fits = self.is_ready() && !self.fin && self.outgoing.len() + bytes.len() <= SEND_BUFFER;
        if fits {
            self.put(bytes);
        }
        fits
    }

    /// Nothing more will be written: what was, is still sent.
    pub(crate) const fn finish(&mut self) {
        self.fin = true;
    }

    /// What came and was not taken yet.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.incoming)
    }

    /// Whether bytes can be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == State::Open && self.handshake == Handshake::Over
    }

    /// Whether both sides have finished and know it.
    pub(crate) fn is_over(&self) -> bool {
        self.fin
            && self.acknowledged > self.written
            && self.their_fin.is_some_and(|fin| fin < self.expected)
    }

    /// A RST for this connection.
    pub(crate) const fn reset(&self) -> Segment {
        let mut segment = self.header();
        segment.rst = true;
        segment
    }

    /// Takes a segment in.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        segment: Segment,
        payload: &[u8],
        out: &mut Vec<(Segment, Vec<u8>)>,
    ) -> Vec<Happened> {
        let mut happened = Vec::new();
        if segment.rst {
            let end = match self.state {
                State::SynSent | State::SynReceived => End::Refused,
                // What was said has arrived: only the last acknowledgement was lost.
                State::Open if self.fin && self.their_fin.is_some() => End::Finished,
                State::Open => End::Reset,
            };
            return vec![Happened::Ended(end)];
        }
        let was_ready = self.is_ready();
        // As systems do (RFC 9293): the other side still has an older connection of these ends, and is told that it is over.
        if self.state == State::SynSent
            && let Some(wrong) = segment.acknowledgement.filter(|number| *number != 1)
        {
            let mut reset = self.reset();
            reset.sequence = wrong;
            out.push((reset, Vec::new()));
            return happened;
        }
        if segment.syn {
            match (self.state, segment.acknowledgement) {
                (State::SynSent, Some(_)) => self.opened(now),
                // Both have opened at the same time (RFC 9293).
                (State::SynSent, None) => {
                    self.state = State::SynReceived;
                    self.open(now, out);
                }
                // The other side has not heard the answer.
                (State::SynReceived, None) => self.open(now, out),
                (State::SynReceived, Some(_)) => self.opened(now),
                (State::Open, _) => {}
            }
        } else if self.state == State::SynReceived && segment.acknowledgement == Some(1) {
            self.opened(now);
        }
        if self.state != State::Open {
            return happened;
        }
        if let Some(acknowledgement) = segment.acknowledgement {
            self.acknowledge(
                now,
                acknowledgement,
                payload.is_empty() && !segment.fin,
                out,
            );
        }
        let before = (self.expected, self.their_fin);
        let had_finished = self.has_their_fin();
        if segment.fin {
            self.their_fin = Some(segment.sequence + payload.len() as u64);
        }
        self.receive(segment.sequence, payload);
        if self.handshake_failed() {
            out.push((self.reset(), Vec::new()));
            return vec![Happened::Ended(End::Handshake)];
        }
        if !was_ready && self.is_ready() {
            happened.push(Happened::Ready);
        }
        if !self.incoming.is_empty() && self.expected != before.0 && self.is_ready() {
            happened.push(Happened::Bytes);
        }
        if self.has_their_fin() && !had_finished {
            happened.push(Happened::Ended(End::Finished));
            self.fin = true;
        }
        // Data, a FIN and an answered SYN are acknowledged at once.
        if !payload.is_empty() || segment.fin || segment.syn {
            out.push((self.header(), Vec::new()));
        }
        self.send(now, out);
        happened
    }

    /// Its timer has run out; whether it is given up.
    pub(crate) fn fire(&mut self, now: Time, out: &mut Vec<(Segment, Vec<u8>)>) -> bool {
        self.retries += 1;
        if self.retries > MAX_RETRIES {
            return false;
        }
        self.timeout = (self.timeout * 2).min(MAX_TIMEOUT);
        // RFC 6298: what is sent again is not measured.
        self.timed = None;
        if self.state == State::Open {
            self.threshold = (self.window / 2).max(2 * MAX_PAYLOAD);
            self.window = MAX_PAYLOAD;
            self.next = self.acknowledged.max(1);
            self.arm(now);
            self.send(now, out);
        } else {
            self.open(now, out);
        }
        true
    }

    /// Sends what may be sent.
    pub(crate) fn send(&mut self, now: Time, out: &mut Vec<(Segment, Vec<u8>)>) {
        if self.state != State::Open {
            return;
        }
        while self.next < self.written {
            let offset = (self.next - self.acknowledged) as usize;
            let room = self.window.min(MAX_WINDOW).saturating_sub(offset);
            let length = (self.outgoing.len() - offset).min(MAX_PAYLOAD).min(room);
            if length == 0 {
                break;
            }
            let payload = self.bytes(offset, length);
            out.push((self.header(), payload));
            self.next += length as u64;
            if self.timed.is_none() && self.retries == 0 {
                self.timed = Some((self.next, now));
            }
        }
        if self.fin && self.next == self.written {
            let mut segment = self.header();
            segment.fin = true;
            out.push((segment, Vec::new()));
            self.next += 1;
        }
        if self.next > self.acknowledged && self.timer.is_none() {
            self.arm(now);
        }
    }

    fn opened(&mut self, now: Time) {
        self.state = State::Open;
        self.acknowledge_measured(now, 1);
        self.acknowledged = 1;
        self.next = self.next.max(1);
        self.retries = 0;
        self.timer = None;
        if self.handshake == Handshake::Client(SERVER_HELLO) {
            self.put(&[HANDSHAKE_RECORD; CLIENT_HELLO]);
        }
    }

    fn acknowledge(
        &mut self,
        now: Time,
        acknowledgement: u64,
        bare: bool,
        out: &mut Vec<(Segment, Vec<u8>)>,
    ) {
        if acknowledgement > self.written + 1 {
            return;
        }
        if acknowledgement <= self.acknowledged {
            if acknowledgement == self.acknowledged && bare && self.next > self.acknowledged {
                self.duplicates += 1;
                // RFC 5681: three duplicates tell of a loss.
                if self.duplicates == 3 {
                    self.threshold = (self.window / 2).max(2 * MAX_PAYLOAD);
                    self.window = self.threshold;
                    self.timed = None;
                    let length = self.outgoing.len().min(MAX_PAYLOAD);
                    if length > 0 {
                        let mut segment = self.header();
                        segment.sequence = self.acknowledged;
                        out.push((segment, self.bytes(0, length)));
                    }
                }
            }
            return;
        }
        self.acknowledge_measured(now, acknowledgement);
        let fresh = (acknowledgement - self.acknowledged) as usize;
        self.outgoing.drain(..fresh.min(self.outgoing.len()));
        self.acknowledged = acknowledgement;
        self.next = self.next.max(acknowledgement);
        self.retries = 0;
        self.duplicates = 0;
        // RFC 5681: slow start, then congestion avoidance.
        self.window += if self.window < self.threshold {
            fresh
        } else {
            (MAX_PAYLOAD * MAX_PAYLOAD / self.window).max(1)
        };
        self.window = self.window.min(MAX_WINDOW);
        self.timer = None;
        if self.next > self.acknowledged {
            self.arm(now);
        }
    }

    /// RFC 6298, with the variation taken as half the round trip.
    fn acknowledge_measured(&mut self, now: Time, acknowledgement: u64) {
        if let Some((number, left)) = self.timed
            && acknowledgement >= number
        {
            let measured = now.since(left);
            let smoothed = self
                .round_trip
                .map_or(measured, |known| (known * 7 + measured) / 8);
            self.round_trip = Some(smoothed);
            self.timed = None;
        }
        if let Some(smoothed) = self.round_trip {
            self.timeout = (smoothed * 3).clamp(MIN_TIMEOUT, MAX_TIMEOUT);
        }
    }

    fn receive(&mut self, sequence: u64, payload: &[u8]) {
        if !payload.is_empty() && sequence + payload.len() as u64 > self.expected {
            self.early.insert(sequence, payload.to_vec());
        }
        while let Some((first, bytes)) = self.early.first_key_value() {
            if *first > self.expected {
                break;
            }
            let known = (self.expected - first) as usize;
            if known < bytes.len() {
                self.incoming.extend_from_slice(&bytes[known..]);
                self.expected += (bytes.len() - known) as u64;
            }
            self.early.pop_first();
        }
        if self.their_fin == Some(self.expected) {
            self.expected += 1;
        }
        self.shake_hands();
    }

    /// Takes the bytes of the handshake away from those of the application.
    fn shake_hands(&mut self) {
        let (Handshake::Client(wanted) | Handshake::Server(wanted)) = self.handshake else {
            return;
        };
        if self.incoming.len() < wanted || self.handshake_failed() {
            return;
        }
        self.incoming.drain(..wanted);
        if matches!(self.handshake, Handshake::Server(_)) {
            self.put(&[HANDSHAKE_RECORD; SERVER_HELLO]);
        }
        self.handshake = Handshake::Over;
    }

    fn handshake_failed(&self) -> bool {
        self.handshake != Handshake::Over
            && self
                .incoming
                .first()
                .is_some_and(|byte| *byte != HANDSHAKE_RECORD)
    }

    fn has_their_fin(&self) -> bool {
        self.their_fin.is_some_and(|fin| fin < self.expected)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.written += bytes.len() as u64;
    }

    fn bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        let bytes = self.outgoing.iter().skip(offset).take(length);
        bytes.copied().collect()
    }

    const fn header(&self) -> Segment {
        Segment {
            sequence: self.next,
            acknowledgement: Some(self.expected),
            syn: false,
            fin: false,
            rst: false,
        }
    }

    fn arm(&mut self, now: Time) {
        self.timer = Some(now + self.timeout);
    }
}
