//! Two agents, and all that is on its way between them.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{Command, Handled, Input, Output, SendError, Time, Via};
use siphasher::sip::SipHasher13;

use crate::moves::{Datagram, Move, Rations};
use crate::scenarios::{Beginning, Scenario};
use crate::side::{Letter, Side};

pub(crate) struct Meeting {
    now: Time,
    sides: [Side; 2],
    wire: Vec<Datagram>,
    rations: Rations,
    renomination: bool,
    orderly: bool,
    /// Whether another path than the first may be the better one later.
    may_move: bool,
    /// When both came to rest, where the moves began after that: since then there is a path.
    rested_at: Option<Time>,
    /// What must hold and did not, noticed on the way.
    broken: Option<String>,
    /// Where to tell what happens.
    pub(crate) tells: bool,
}

/// Outputs at one moment: more would be an engine that spins.
const MOST_OUTPUTS: usize = 500;
/// Datagrams and letters until both are at rest: more would be two agents that never come to an end.
const MOST_STEPS: usize = 1_000;
/// How long a good channel may take to bring both together. A pair that lost its check waits for a retransmission.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where data may move: after two moves it stays for a minute where it is.
const MOVING_PATIENCE: Duration = Duration::from_secs(90);
/// What moves later than this after both are at rest was not at rest.
const QUIET: Duration = Duration::from_secs(2);
/// What a datagram takes on a good channel.
const DELAY: Duration = Duration::from_millis(1);
/// RFC 7675 section 5.1: a path lives so long without an answer.
const CONSENT: Duration = Duration::from_secs(30);

impl Meeting {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut meeting = Self {
            now: Time::ZERO,
            sides: [0, 1].map(|number| Side::new(scenario, number)),
            wire: Vec::new(),
            rations: scenario.rations,
            renomination: scenario.renomination,
            orderly: scenario.orderly,
            may_move: scenario.renomination || scenario.rations.touch_networks(),
            rested_at: None,
            broken: None,
            tells: false,
        };
        for side in 0..2 {
            let now = meeting.now;
            meeting.sides[side].agent().gather(now);
            meeting.settle(side);
            meeting.sides[side].sign_first_letter();
        }
        meeting.begin(scenario.beginning);
        meeting.rations = scenario.rations;
        meeting
    }

    fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Strangers => {}
            Beginning::Acquainted => {
                self.bring_letter(0);
                self.bring_letter(1);
            }
            Beginning::Nominating => self.run_until_nomination(),
            Beginning::AtRest => self.run_until_rest(),
            Beginning::Renominating => {
                self.run_until_rest();
                self.sides[0].tax(self.now);
                self.settle(0);
                self.run_until_nomination();
            }
        }
    }

    fn run_until_nomination(&mut self) {
        while !self.wire.iter().any(Datagram::nominates) {
            if !self.step_in_order() {
                self.wait();
            }
        }
    }

    fn run_until_rest(&mut self) {
        self.come_to_rest().expect("nothing disturbs them");
        self.rested_at = Some(self.now);
    }

    /// What can happen now.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut seen = BTreeSet::new();
        let next = if self.orderly { 1 } else { usize::MAX };
        for (index, datagram) in self.wire.iter().enumerate().take(next) {
            // The same datagram twice is one possibility.
            if !seen.insert(datagram) {
                continue;
            }
            let index = index as u8;
            moves.push(Move::Deliver(index));
            if self.rations.losses > 0 {
                moves.push(Move::Lose(index));
            }
            if self.rations.copies > 0 {
                moves.push(Move::Copy(index));
            }
        }
        for (side, number) in self.sides.iter().zip(0_u8..) {
            let left = |rations: [u8; 2]| rations[usize::from(number)] > 0;
            let mut push =
                |may: bool, what: fn(u8) -> Move| moves.extend(may.then(|| what(number)));
            push(!side.letters.is_empty(), Move::Signal);
            push(left(self.rations.restarts), Move::Restart);
            push(left(self.rations.taxes) && side.has_choice(), Move::Tax);
            push(
                left(self.rations.unplugs) && side.has_choice(),
                Move::Unplug,
            );
            push(left(self.rations.plugs) && side.misses_one(), Move::Plug);
        }
        if self.deadline().is_some() && !self.orderly {
            moves.push(Move::Wait);
        }
        moves
    }

    /// # Errors
    /// What must hold and does not.
    pub(crate) fn make(&mut self, step: Move) -> Result<(), String> {
        let now = self.now;
        match step {
            Move::Deliver(index) => {
                let datagram = self.wire.remove(usize::from(index));
                self.arrive(&datagram);
            }
            Move::Lose(index) => {
                self.rations.losses -= 1;
                let datagram = self.wire.remove(usize::from(index));
                self.tell(|| format!("lost: {datagram}"));
            }
            Move::Copy(index) => {
                self.rations.copies -= 1;
                let datagram = self.wire[usize::from(index)].clone();
                self.arrive(&datagram);
            }
            Move::Signal(side) => self.bring_letter(usize::from(side)),
            Move::Wait => self.wait(),
            Move::Restart(side) => {
                self.rations.restarts[usize::from(side)] -= 1;
                self.disturb(side, |side| side.agent().restart(now));
            }
            Move::Tax(side) => {
                self.rations.taxes[usize::from(side)] -= 1;
                self.disturb(side, |side| side.tax(now));
            }
            Move::Unplug(side) => {
                self.rations.unplugs[usize::from(side)] -= 1;
                self.disturb(side, |side| side.unplug(now));
            }
            Move::Plug(side) => {
                self.rations.plugs[usize::from(side)] -= 1;
                self.disturb(side, |side| side.plug(now));
            }
        }
        self.check()
    }

    fn disturb(&mut self, side: u8, change: impl FnOnce(&mut Side)) {
        change(&mut self.sides[usize::from(side)]);
        self.settle(side.into());
    }

    /// Everything that decides what can happen from here on.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        self.now.as_nanos().hash(&mut hasher);
        self.rations.hash(&mut hasher);
        let mut wire = self.wire.clone();
        if !self.orderly {
            wire.sort();
        }
        wire.hash(&mut hasher);
        self.sides.hash(&mut hasher);
        hasher.finish()
    }

    /// From now on nothing is lost, and everything arrives soon and in its order: what comes of it.
    ///
    /// # Errors
    /// What must hold in the end and does not.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        self.run_until(|meeting| {
            meeting.is_over() && (!meeting.may_move || meeting.is_as_it_should_be())
        })?;
        if self.may_move {
            let end = self.now + QUIET;
            self.run_until(|meeting| meeting.deadline().is_none_or(|at| at > end))?;
        }
        let [a, b] = &self.sides;
        let told = |what: &str| Err(format!("{what}: {a} and {b}"));
        if !self.is_over() {
            return told("they do not stay at rest");
        }
        if !self.is_mirrored() {
            return told("the pairs are not mirrored");
        }
        if a.role == b.role {
            return told("the roles are the same");
        }
        if !a.goes_by_the_cheapest() || !b.goes_by_the_cheapest() {
            return told("the path is dearer than another one");
        }
        for side in 0..2 {
            let own = self.sides[side].agent().local_parameters();
            if !self.sides[1 - side].is_paired_with(&own.ufrag) {
                let [a, b] = &self.sides;
                return Err(format!("the generations are not the same: {a} and {b}"));
            }
        }
        Ok(())
    }

    /// On a good channel, and within some time.
    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let patience = match self.may_move {
            true => MOVING_PATIENCE,
            false => PATIENCE,
        };
        let (end, mut steps) = (self.now + patience, 0);
        loop {
            while self.step_in_order() {
                self.check()?;
                steps += 1;
                if steps > MOST_STEPS {
                    let [a, b] = &self.sides;
                    return Err(format!(
                        "they keep each other busy without end: {a} and {b}"
                    ));
                }
            }
            if is_done(self) {
                return Ok(());
            }
            match self.deadline() {
                Some(at) if at <= end => self.wait(),
                _ => {
                    let [a, b] = &self.sides;
                    return Err(format!(
                        "a dead state: {patience:?} on a good channel end in {a} and {b}"
                    ));
                }
            }
            self.check()?;
        }
    }

    /// Data that each side sends by its path is handed over at the other. Nothing else can be done after it.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn carry_data(&mut self) -> Result<(), String> {
        let Some(rested_at) = self.rested_at else {
            return Ok(());
        };
        // Whose end of the path is gone is not known at once.
        let gone = |side: &Side, at: SocketAddr| !side.has_address(at.ip());
        let now = self.now;
        for number in 0..2 {
            let path = match self.sides[number].agent().path().load() {
                Ok(path) => path,
                Err(_) if now.since(rested_at) >= CONSENT => continue,
                Err(error) => {
                    let [a, b] = &self.sides;
                    return Err(format!("{number} has no path, {error}: {a} and {b}"));
                }
            };
            let Via::Socket {
                socket,
                destination,
            } = path.via
            else {
                return Err(format!("{number} sends by a stream"));
            };
            let remote = self.sides[number].sockets[&socket];
            let other = &mut self.sides[1 - number];
            if gone(other, destination) {
                continue;
            }
            let socket_at = other.sockets.iter().find(|(_, at)| **at == destination);
            let handled = socket_at.map(|(socket, _)| *socket).map(|socket| {
                let payload = b"data";
                other.engine.handle(
                    now,
                    Input::Datagram {
                        socket,
                        remote,
                        payload,
                    },
                )
            });
            if !matches!(handled, Some(Handled::Application(_))) {
                return Err(format!(
                    "data from {remote} to {destination} is not handed over: {handled:?}"
                ));
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.sides.iter().all(Side::is_over)
    }

    fn is_as_it_should_be(&self) -> bool {
        self.is_mirrored() && self.sides.iter().all(Side::goes_by_the_cheapest)
    }

    fn is_mirrored(&self) -> bool {
        let [at_a, at_b] = self.sides.each_ref().map(Side::ends);
        at_a.map(|(local, remote)| (remote, local)) == at_b
    }

    fn check(&mut self) -> Result<(), String> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let now = self.now;
        for side in &mut self.sides {
            if self.renomination {
                let count = side.standing_nominations(now);
                if count > 1 {
                    return Err(format!("{count} nominations stand at once: {side}"));
                }
                continue;
            }
            // RFC 8445 section 8.1.1: without renomination there is one.
            if let Some((generation, pairs)) =
                side.nominated.iter().find(|(_, pairs)| pairs.len() > 1)
            {
                return Err(format!(
                    "generation {generation} has more than one nominated pair: {pairs:?}"
                ));
            }
        }
        Ok(())
    }

    fn step_in_order(&mut self) -> bool {
        if let Some(side) = (0..2).find(|side| !self.sides[*side].letters.is_empty()) {
            self.bring_letter(side);
            return true;
        }
        if self.wire.is_empty() {
            return false;
        }
        // At once would be before any pair's time is up, and no round trip could be measured.
        self.now = self.now + DELAY;
        let datagram = self.wire.remove(0);
        self.arrive(&datagram);
        true
    }

    fn deadline(&self) -> Option<Time> {
        self.sides.iter().filter_map(|side| side.deadline).min()
    }

    fn wait(&mut self) {
        let Some(at) = self.deadline() else { return };
        self.now = self.now.max(at);
        self.tell(|| format!("it is {:?}", at));
        for side in 0..2 {
            if self.sides[side].deadline.is_some_and(|at| at <= self.now) {
                self.settle(side);
            }
        }
    }

    fn arrive(&mut self, datagram: &Datagram) {
        self.tell(|| format!("arrives: {datagram}"));
        let now = self.now;
        let side = &mut self.sides[datagram.to_side];
        let mut sockets = side.sockets.iter();
        let Some((&socket, _)) = sockets.find(|(_, address)| **address == datagram.to) else {
            return;
        };
        if !side.has_address(datagram.to.ip()) {
            return;
        }
        let _ = side.engine.handle(
            now,
            Input::Datagram {
                socket,
                remote: datagram.from,
                payload: &datagram.bytes,
            },
        );
        self.settle(datagram.to_side);
    }

    fn bring_letter(&mut self, from: usize) {
        let Some(letter) = self.sides[from].letters.pop_front() else {
            return;
        };
        self.tell(|| format!("a letter of {from}: {letter:?}"));
        let now = self.now;
        let mut agent = self.sides[1 - from].agent();
        if let Some(parameters) = &letter.parameters {
            agent
                .set_remote_parameters(now, parameters)
                .expect("parameters of an agent are good");
        }
        // A candidate of another generation is refused, as it ought to be.
        for candidate in &letter.removed {
            let _ = agent.remove_remote_candidate(now, candidate);
        }
        for candidate in letter.candidates {
            let _ = agent.add_remote_candidate(now, candidate);
        }
        if letter.end {
            agent.end_of_remote_candidates(now);
        }
        self.settle(1 - from);
    }

    /// Lets a side do what there is to do now.
    fn settle(&mut self, index: usize) {
        let (now, tells) = (self.now, self.tells);
        let mut letter = Letter::default();
        let mut buffer = [0; 1280];
        for _ in 0..MOST_OUTPUTS {
            let side = &mut self.sides[index];
            match side.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let (socket, remote) = (transmit.socket, transmit.destination);
                    let datagram = Datagram {
                        to_side: 1 - index,
                        from: side.sockets[&socket],
                        to: remote,
                        bytes: buffer[..transmit.size].into(),
                    };
                    if !side.has_address(datagram.from.ip()) {
                        let error = SendError::Unreachable;
                        let refused = Input::SendError {
                            socket,
                            remote,
                            error,
                        };
                        let _ = side.engine.handle(now, refused);
                        continue;
                    }
                    let noted = side.note_nomination(&datagram);
                    self.broken = self.broken.take().or_else(|| noted.err());
                    self.wire.push(datagram);
                }
                Output::Event(_, event) => {
                    if tells {
                        println!("    {index} tells {event:?}");
                    }
                    side.note(event, &mut letter);
                }
                Output::Command(Command::Bind { request, address }) => {
                    let result = Ok(side.bind(address));
                    let _ = side.engine.handle(now, Input::Bound { request, result });
                }
                Output::Command(Command::CloseSocket(socket)) => drop(side.sockets.remove(&socket)),
                Output::Idle(deadline) => {
                    side.deadline = deadline;
                    if letter.says_something() {
                        side.letters.push_back(letter);
                    }
                    return;
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        panic!("side {index} does not come to an end at {now:?}");
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("    {}", what());
        }
    }
}
