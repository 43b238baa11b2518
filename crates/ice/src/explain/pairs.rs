//! How each pair of an agent lived and ended.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use nilas_turn::Time;

use super::{PairEnd, PairStory};
use crate::candidate::CandidateType;
use crate::io::SendError;
use crate::recording::{PairName, PairView};
use crate::stats::PairState;

/// The pairs of an agent, as decisions show them.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    known: BTreeMap<PairName, Life>,
    /// The one that the data went to last.
    last: Option<PairName>,
    refused: BTreeMap<(SocketAddr, SocketAddr), SendError>,
}

#[derive(Debug)]
struct Life {
    view: PairView,
    formed: Time,
    checked: Option<Time>,
    worked: Option<Time>,
    carried: bool,
}

/// How the checks of a pair went, for whoever asks what was slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checking {
    pub(super) checked: Time,
    pub(super) worked: Time,
    pub(super) checks: u32,
}

impl Pairs {
    pub(super) fn see(&mut self, now: Time, view: PairView) {
        let life = self.known.entry(view.name).or_insert(Life {
            view,
            formed: now,
            checked: None,
            worked: None,
            carried: false,
        });
        if view.requests_sent > 0 {
            life.checked.get_or_insert(now);
        }
        if view.local.is_some() {
            life.worked.get_or_insert(now);
        }
        if view.selected && !(life.view.selected && life.carried) {
            life.carried = true;
            self.last = Some(view.name);
        }
        life.view = view;
    }

    pub(super) fn refuse(&mut self, local: SocketAddr, remote: SocketAddr, error: SendError) {
        self.refused.insert((local, remote), error);
    }

    /// Of the pair with these ends that worked first.
    pub(super) fn checking(&self, base: SocketAddr, remote: SocketAddr) -> Option<Checking> {
        let of_both = |life: &&Life| life.view.base == base && life.view.remote == remote;
        self.known.values().find(of_both).and_then(|life| {
            Some(Checking {
                checked: life.checked?,
                worked: life.worked?,
                checks: life.view.requests_sent,
            })
        })
    }

    /// How often a new generation began.
    pub(super) fn restarts(&self) -> u32 {
        let generations = self.known.keys().map(|name| name.generation);
        generations.max().unwrap_or_default()
    }

    /// The last measured round trip of the pair that carried the data last.
    pub(super) fn round_trip(&self) -> Option<core::time::Duration> {
        self.known.get(&self.last?)?.view.round_trip
    }

    /// Remote addresses that the peer's checks have shown.
    pub(super) fn seen_from(&self) -> impl Iterator<Item = SocketAddr> {
        let lives = self.known.values();
        lives
            .filter(|life| life.view.remote_kind == CandidateType::Prflx)
            .map(|life| life.view.remote)
    }

    /// The stories, the pair that carries the data first. `lost`: there is no path any more.
    pub(super) fn stories(&self, began: Time, lost: bool) -> Vec<PairStory> {
        let since = |at: Time| super::story::milliseconds(at.since(began));
        let mut stories: Vec<_> = self
            .known
            .iter()
            .map(|(name, life)| PairStory {
                generation: name.generation,
                local: life.view.base,
                local_relayed: life.view.base_kind == CandidateType::Relay,
                remote: life.view.remote,
                remote_type: life.view.remote_kind,
                tcp: life.view.tcp,
                formed_ms: since(life.formed),
                checked_ms: life.checked.map(since),
                worked_ms: life.worked.map(since),
                checks: life.view.requests_sent,
                end: self.end(*name, life, lost),
            })
            .collect();
        stories.sort_by_key(|story| story.end != PairEnd::Selected && story.end != PairEnd::Died);
        stories
    }

    fn end(&self, name: PairName, life: &Life, lost: bool) -> PairEnd {
        let view = &life.view;
        let refused = self.refused.get(&(view.base, view.remote));
        if self.last == Some(name) {
            return match lost {
                true => PairEnd::Died,
                false => PairEnd::Selected,
            };
        }
        if life.carried {
            return match view.died {
                true => PairEnd::Died,
                false => PairEnd::Replaced,
            };
        }
        if life.worked.is_some() {
            return PairEnd::NotNeeded;
        }
        match (view.state, view.requests_sent) {
            (_, 0) => PairEnd::NotChecked,
            (PairState::Failed, _) if view.refused => PairEnd::RelayRefused,
            (PairState::Failed, _) if view.responses_received > 0 => PairEnd::Rejected,
            (PairState::Failed, _) if view.requests_received > 0 => PairEnd::OneWay,
            (_, _) if let Some(error) = refused => PairEnd::SendRefused { error: *error },
            (PairState::Failed, _) => PairEnd::NoAnswer,
            _ => PairEnd::Unfinished,
        }
    }
}
