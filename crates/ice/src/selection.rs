//! Which of several paths carries the data: one pure function of what is known about them.
//!
//! Before a pair is nominated the best one is taken at once, whatever it costs to change. Afterwards a path is left
//! for another only for a reason that outweighs the change:
//!
//! | the other path | is taken | where the peer has no renomination |
//! |---|---|---|
//! | is there, and the present one is dead | at once | the same: it moves, and restarts |
//! | was nominated by the peer | at once | the same |
//! | is direct, and the present one is relayed | at once | by a restart |
//! | costs less ([`network_cost`](Contender::network_cost)) | at once | by a restart |
//! | is of datagrams, and the present one is a connection ([`tcp`](Contender::tcp)) | at once | by a restart |
//! | is a connection, and all that are of datagrams lose 20 points of a hundred more | after 30 s of both | not |
//! | loses 20 points of a hundred less | after 30 s of both | not |
//! | has a round trip shorter by a quarter and 10 ms | after 30 s of both | not |
//! | has a higher priority, loses no more, and is no slower or within 10 ms of the fastest | after 30 s of both | not |
//!
//! After two changes within a minute only death and the peer move the data: a jittery link does not make it flap.
//!
//! `tests/selection_vectors.json` says the same in examples, for whoever writes another policy.

use core::cmp::Reverse;
use core::time::Duration;

use serde::Deserialize;

use crate::candidate::CandidateType;

/// A policy: which of the contenders is to carry the data. See [`select`] for one.
///
/// It is asked whenever something about a path has changed, and has to be quick. It is not asked where the protocol
/// leaves no choice: the controlled agent follows a nomination while its path lives.
pub type SelectionPolicy = fn(&Situation, &[Contender]) -> Option<Choice>;

/// A path that can carry data: a valid candidate pair, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Contender {
    /// The type of the local candidate, as the pair's mapped address names it; what goes by way of an own relay is relayed,
    /// whatever address the peer sees.
    pub local: CandidateType,
    /// The type of the remote candidate.
    pub remote: CandidateType,
    /// The priority of the pair (RFC 8445 section 6.1.2.3).
    pub priority: u64,
    /// What the networks of both ends cost together, each from 0 to 999 as `network-cost` in candidate lines says it: 0 for
    /// wired, 10 for wireless, 900 for cellular.
    #[serde(default)]
    pub network_cost: u16,
    /// The round trip, smoothed over the latest answers; `None` before the first.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// How many of a hundred checks were not answered lately.
    #[serde(default)]
    pub loss: u8,
    /// How long the path is known to work.
    #[serde(default)]
    pub age: Duration,
    /// Whether it still does.
    #[serde(default)]
    pub liveness: Liveness,
    /// Whether it is the nominated pair.
    #[serde(default)]
    pub nominated: bool,
    /// Whether it is a connection between the peers (RFC 6544), which keeps later data waiting for what was lost.
    #[serde(default)]
    pub tcp: bool,
}

impl Contender {
    /// A path of which only this is known.
    pub const fn new(local: CandidateType, remote: CandidateType, priority: u64) -> Self {
        Self {
            local,
            remote,
            priority,
            network_cost: 0,
            round_trip: None,
            loss: 0,
            age: Duration::ZERO,
            liveness: Liveness::Alive,
            nominated: false,
            tcp: false,
        }
    }

    const fn is_relayed(&self) -> bool {
        matches!(self.local, CandidateType::Relay) || matches!(self.remote, CandidateType::Relay)
    }
}

/// Whether a path works, as consent (RFC 7675) and checks tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// It was left because nothing came by it any more, and has not answered for long enough since.
    Dead,
    /// An answer is overdue.
    Suspected,
    /// It answers.
    #[default]
    Alive,
}

/// What is known beside the paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Situation {
    /// The path that carries the data, by its place among the contenders.
    #[serde(default)]
    pub current: Option<usize>,
    /// Whether a pair was nominated, so that a change costs something.
    #[serde(default)]
    pub settled: bool,
    /// How often the data has moved in the last minute since then, up to 2.
    #[serde(default)]
    pub recent_moves: u8,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Choice {
    /// The place of the path among the contenders.
    pub index: usize,
    /// Why.
    pub reason: SelectionReason,
}

impl Choice {
    /// This path, for this reason.
    pub const fn new(index: usize, reason: SelectionReason) -> Self {
        Self { index, reason }
    }
}

/// Why a path was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SelectionReason {
    /// Nothing is better than what there is.
    Unchanged,
    /// It is the best, and nothing is nominated yet.
    Best,
    /// The path before does not answer.
    Dead,
    /// It is the nominated one.
    Nominated,
    /// It needs no relay.
    Direct,
    /// Its networks cost less.
    Cost,
    /// It is of datagrams, and no connection.
    Datagrams,
    /// It loses less.
    Loss,
    /// It is faster.
    RoundTrip,
    /// It has a higher priority.
    Priority,
}

impl SelectionReason {
    /// Whether it is worth a restart, where the peer understands no other nomination.
    pub(crate) const fn is_worth_a_restart(self) -> bool {
        matches!(self, Self::Direct | Self::Cost | Self::Datagrams)
    }
}

/// So long must two paths be known before one is preferred for what was measured.
const MEASURED: Duration = Duration::from_secs(30);
/// What a shorter round trip must be shorter by, beside a quarter.
const MARGIN: Duration = Duration::from_millis(10);
/// How much less must be lost, in points of a hundred.
const LESS_LOSS: u8 = 20;
/// Datagrams may lose so much more than a connection and be preferred, for which nothing is lost but time.
const TOLERATED_LOSS: u8 = 10;
/// After so many changes within a minute only what must be changed is.
const MOST_MOVES: u8 = 2;

/// The policy of nilas, in the order of the table [above](self).
///
/// ```
/// use nilas_ice::{CandidateType, Contender, Situation, selection};
/// let direct = Contender::new(CandidateType::Host, CandidateType::Srflx, 10);
/// let relayed = Contender::new(CandidateType::Relay, CandidateType::Host, 5);
/// let choice = selection::select(&Situation::default(), &[relayed, direct]).unwrap();
/// assert_eq!(choice.index, 1);
/// ```
pub fn select(situation: &Situation, contenders: &[Contender]) -> Option<Choice> {
    let order = |(_, own): &(usize, &Contender)| {
        // RFC 8445 section 8.1.1: of several nominated pairs both sides take the one of the highest priority.
        let cost = if own.nominated { 0 } else { own.network_cost };
        (own.liveness, own.nominated, Reverse(cost), own.priority)
    };
    // Of equals the last would win; the first is to.
    let ranked = contenders.iter().enumerate().rev();
    let (best, _) = ranked.max_by_key(order)?;
    let present = situation
        .current
        .and_then(|index| Some((index, contenders.get(index)?)));
    let Some((index, present)) = present else {
        return Some(Choice::new(best, SelectionReason::Best));
    };
    if present.liveness == Liveness::Dead {
        return Some(Choice::new(best, SelectionReason::Dead));
    }
    if !situation.settled {
        return Some(Choice::new(best, SelectionReason::Best));
    }
    let nominated = contenders
        .iter()
        .enumerate()
        .filter(|(_, own)| own.nominated && own.liveness != Liveness::Dead);
    if let Some((index, _)) = nominated.max_by_key(|(_, own)| own.priority)
        && contenders[index] != *present
        && (!present.nominated || contenders[index].priority > present.priority)
    {
        return Some(Choice::new(index, SelectionReason::Nominated));
    }
    let stay = Choice::new(index, SelectionReason::Unchanged);
    if situation.recent_moves >= MOST_MOVES {
        return Some(stay);
    }
    let measured = Measured::of(contenders, present);
    let better = contenders
        .iter()
        .enumerate()
        .filter_map(|(index, own)| Some((index, own, advantage(own, present, measured)?)))
        .max_by_key(|(_, own, reason)| (weight(*reason), Reverse(own.network_cost), own.priority));
    Some(better.map_or(stay, |(index, _, reason)| Choice::new(index, reason)))
}

/// The least of what was measured on the paths that are of the kind of the present one and cost what it does.
///
/// A path is compared with the present one for a reason to move, and with the least for a reason to stay where that leads. Were it
/// compared with the present one alone, the data would take one after the other of many that are each a little worse than
/// the next in one respect, up to one that is left for the first, and so on for ever.
#[derive(Clone, Copy, Debug)]
struct Measured {
    loss: u8,
    round_trip: Option<Duration>,
}

impl Measured {
    fn of(contenders: &[Contender], present: &Contender) -> Self {
        let alike = |own: &&Contender| {
            let costs_the_same = own.network_cost == present.network_cost;
            let is_as_direct = own.is_relayed() == present.is_relayed() && own.tcp == present.tcp;
            costs_the_same && is_as_direct && own.liveness == Liveness::Alive && own.age >= MEASURED
        };
        let alike = || contenders.iter().filter(alike);
        let loss = alike().map(|own| own.loss).min().unwrap_or(0);
        let sound = alike().filter(|own| own.loss < loss.saturating_add(LESS_LOSS));
        Self {
            loss,
            round_trip: sound.filter_map(|own| own.round_trip).min(),
        }
    }
}

/// Why the data would rather go there, if it would.
fn advantage(other: &Contender, present: &Contender, least: Measured) -> Option<SelectionReason> {
    if other.liveness != Liveness::Alive || other == present {
        return None;
    }
    if other.network_cost != present.network_cost {
        return (other.network_cost < present.network_cost).then_some(SelectionReason::Cost);
    }
    if other.is_relayed() != present.is_relayed() {
        return present.is_relayed().then_some(SelectionReason::Direct);
    }
    if present.tcp && !other.tcp {
        let tolerated = least.loss.saturating_add(TOLERATED_LOSS);
        return (other.loss < tolerated).then_some(SelectionReason::Datagrams);
    }
    if other.age < MEASURED || present.age < MEASURED {
        return None;
    }
    if other.tcp != present.tcp {
        let loses_less = other.loss.saturating_add(LESS_LOSS) <= least.loss;
        return loses_less.then_some(SelectionReason::Loss);
    }
    let (there, here) = (other.round_trip?, present.round_trip?);
    if other.loss.abs_diff(present.loss) >= LESS_LOSS {
        return (other.loss < present.loss).then_some(SelectionReason::Loss);
    }
    if other.loss >= least.loss.saturating_add(LESS_LOSS) {
        return None;
    }
    if there + there / 3 + MARGIN <= here {
        return Some(SelectionReason::RoundTrip);
    }
    let is_fast = there <= here || there <= least.round_trip? + MARGIN;
    let as_good = is_fast && other.loss <= present.loss;
    (as_good && other.priority > present.priority).then_some(SelectionReason::Priority)
}

const fn weight(reason: SelectionReason) -> u8 {
    match reason {
        SelectionReason::Cost => 6,
        SelectionReason::Direct => 5,
        SelectionReason::Datagrams => 4,
        SelectionReason::Loss => 3,
        SelectionReason::RoundTrip => 2,
        _ => 1,
    }
}
