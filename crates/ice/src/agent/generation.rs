//! One generation of a session: everything that a restart replaces (RFC 8445 section 9).

use core::net::SocketAddr;
use core::time::Duration;
use nilas_stun::Key;
use smallvec::SmallVec;
use std::borrow::Cow;

use super::consent::Consent;
use super::pair::{Pair, PairId};
use super::reflexive::Job;
use super::standby::Watch;
use super::ufrag::Ufrag;
use crate::arena::Arena;
use crate::candidate::{Candidate, CandidateAddress, CandidateType};
use crate::parameters::{Parameters, TRICKLE};
use nilas_turn::Time;

/// The ice-option of draft-thatcher-ice-renomination-01.
pub(super) const RENOMINATION: &str = "renomination";
/// Candidates are told and taken back at any time, without a restart. An ice-option of nilas.
pub(super) const CONTINUAL: &str = "continual";

/// In the order of [`Agent`](super::Agent): first what watching a path needs.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Generation {
    pub(super) number: u32,
    /// The pair that carries the data.
    pub(super) selected: Option<PairId>,
    /// Whether a pair was nominated, which concludes the checks (RFC 8445 section 8.1.2).
    pub(super) concluded: bool,
    /// All local candidates were told.
    pub(super) local_ended: bool,
    /// The peer told all of its candidates (RFC 8838 section 14).
    pub(super) remote_ended: bool,
    /// Whether the peer has shown that these credentials of both sides are one generation to it as well.
    pub(super) exchanged: bool,
    /// The path before it was lost while the peer had not answered the restart.
    pub(super) abandoned: bool,
    /// Whether this side restarted, rather than answered the peer's restart or began the session.
    pub(super) by_own_restart: bool,
    /// So many times this side told its parameters, this generation's among them, and the peer has not answered yet. What
    /// comes first is then the answer to an older generation, unless the peer never heard of that one.
    pub(super) answers_due: u8,
    /// The highest value of a nomination, sent or seen (renomination).
    pub(super) nominations: u32,
    /// When the PAC timer ends (RFC 8863 section 4).
    pub(super) patience_ends: Option<Time>,
    pub(super) jobs: Vec<Job>,
    pub(super) consent: Option<Consent>,
    pub(super) watch: Watch,
    pub(super) remote: Option<RemoteCredentials>,
    pub(super) local: LocalCredentials,
    pub(super) pairs: Arena<Pair>,
    pub(super) remotes: SmallVec<[RemoteCandidate; 1]>,
    pub(super) locals: SmallVec<[LocalCandidate; 1]>,
    /// The next number in the triggered-check queue, which the pairs hold (RFC 8445 section 6.1.4.1).
    pub(super) next_turn: u32,
    /// Checks that came before the peer's description.
    pub(super) early: Vec<EarlyCheck>,
    /// The code of the last error response.
    pub(super) rejected: Option<u16>,
}

#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct LocalCredentials {
    pub(super) key: Key,
    pub(super) ufrag: Ufrag,
    pub(super) pwd: Box<str>,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct RemoteCredentials {
    /// A keyed digest of the password: enough to tell whether it changed.
    pub(super) pwd: u64,
    pub(super) pacing: Duration,
    /// Whether the peer offers renomination, too.
    pub(super) renomination: bool,
    /// Whether the peer tells and takes candidates at any time, too.
    pub(super) continual: bool,
    pub(super) lite: bool,
    pub(super) key: Key,
    pub(super) ufrag: Ufrag,
}

/// A local candidate, small: what is the same for all is added when it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalCandidate {
    pub(super) address: SocketAddr,
    /// Index of the base's socket.
    pub(super) socket: u16,
    pub(super) kind: CandidateType,
    /// Its address is gone, and the peer was told so.
    pub(super) removed: bool,
    /// Who told it.
    pub(super) origin: Origin,
    pub(super) priority: u32,
    pub(super) foundation: u32,
}

/// Who told a local candidate; servers by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This machine, or a check of the peer.
    Local,
    Stun(u16),
    Turn(u16),
    /// What the network's gateway forwards.
    Gateway,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct RemoteCandidate {
    pub(super) address: SocketAddr,
    /// Index of the first remote candidate of the same foundation; its own if there was none.
    pub(super) foundation: u16,
    /// The peer took it back.
    pub(super) removed: bool,
    /// Whether it is one of TCP. The candidate says so, too, but lies elsewhere, and every check of the peer asks: with
    /// thousands of idle agents that one look at it cost a tenth of all.
    pub(super) is_tcp: bool,
    /// As it was told. Watching a path does not need it.
    pub(super) candidate: Box<Candidate>,
}

/// A check that was answered before the peer's description was known (RFC 8445 section 7.3).
#[derive(Debug)]
pub(super) struct EarlyCheck {
    pub(super) socket: u16,
    pub(super) remote: SocketAddr,
    /// The username fragment that the peer called its own.
    pub(super) ufrag: Box<str>,
    pub(super) priority: u32,
    pub(super) nominating: Nominating,
}

/// What a check says of nominating its pair. What that means depends on whether the peer renominates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nominating {
    /// USE-CANDIDATE.
    pub(super) by_flag: bool,
    /// NOMINATION.
    pub(super) by_value: Option<u32>,
}

impl Generation {
    pub(super) fn new(number: u32, local: LocalCredentials) -> Self {
        Self {
            number,
            local,
            remote: None,
            locals: SmallVec::new(),
            remotes: SmallVec::new(),
            pairs: Arena::new(),
            next_turn: 1,
            early: Vec::new(),
            jobs: Vec::new(),
            local_ended: false,
            remote_ended: false,
            selected: None,
            concluded: false,
            consent: None,
            abandoned: false,
            watch: Watch::default(),
            nominations: 0,
            patience_ends: None,
            exchanged: false,
            by_own_restart: false,
            answers_due: 0,
            rejected: None,
        }
    }

    /// Without what they answer.
    pub(super) fn parameters(&self, pacing: Duration, lite: bool, continual: bool) -> Parameters {
        // RFC 8445 section 10 and RFC 8838 section 3.
        let mut options = Vec::with_capacity(4);
        options.extend(["ice2", TRICKLE, RENOMINATION].map(Cow::Borrowed));
        options.extend(continual.then_some(Cow::Borrowed(CONTINUAL)));
        Parameters {
            ufrag: (*self.local.ufrag).into(),
            pwd: self.local.pwd.as_ref().into(),
            options,
            // RFC 8839 section 4.3.1: a lite agent sends no checks to be paced.
            pacing: (!lite).then_some(pacing.as_millis() as u32),
            lite,
            answers: None,
        }
    }

    pub(super) fn remote_address(&self, pair: &Pair) -> SocketAddr {
        self.remotes[usize::from(pair.remote)].address
    }

    /// The remote candidate of an address; a port of TCP is not that of UDP.
    pub(super) fn remote_at(&self, address: SocketAddr, tcp: bool) -> Option<u16> {
        self.remotes
            .iter()
            .position(|remote| remote.address == address && remote.is_tcp == tcp)
            .map(|index| index as u16)
    }

    /// The remote candidate of a name and port.
    pub(super) fn remote_of_name(&self, name: &CandidateAddress, tcp: bool) -> Option<u16> {
        self.remotes
            .iter()
            .position(|remote| remote.candidate.address == *name && remote.is_tcp == tcp)
            .map(|index| index as u16)
    }

    pub(super) fn pair_of(&self, socket: u16, remote: u16) -> Option<PairId> {
        self.pairs
            .iter()
            .find(|(_, pair)| pair.socket == socket && pair.remote == remote)
            .map(|(id, _)| id)
    }
}
