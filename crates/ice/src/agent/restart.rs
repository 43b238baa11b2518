//! Parameters of both sides, and restarts (RFC 8445 section 9).

use core::mem::take;

use nilas_stun::Key;

use super::Agent;
use super::generation::{CONTINUAL, Generation, LocalCredentials, RENOMINATION, RemoteCredentials};
use super::mobility::RestartDue;
use super::transaction::Purpose;
use crate::config::AddressPolicy;
use crate::error::AgentError;
use crate::event::{Event, GatheringState, Role, State};
use crate::parameters::{Parameters, ParametersError, TRICKLE};
use crate::shared::Shared;
use nilas_turn::Time;

impl Agent {
    pub(crate) fn local_parameters(&self) -> Parameters {
        // Those of the beginning, and of an own restart, were told unasked.
        let is_answer = self.current.number > 0 && !self.current.by_own_restart;
        let remote = self.current.remote.as_ref().filter(|_| is_answer);
        self.parameters_that_answer(remote.map(|remote| &*remote.ufrag))
    }

    fn parameters_that_answer(&self, theirs: Option<&str>) -> Parameters {
        let settings = &self.settings;
        let (pacing, continual) = (settings.pacing(), settings.continual);
        Parameters {
            answers: theirs.map(Into::into),
            ..self.current.parameters(pacing, self.lite, continual)
        }
    }

    /// The peer's parameters came: the first, the same again, or those of a restart.
    pub(crate) fn set_remote_parameters(
        &mut self,
        shared: &mut Shared,
        now: Time,
        parameters: &Parameters,
    ) -> Result<(), AgentError> {
        parameters.check()?;
        let digest = shared.demux.digest(parameters.pwd.as_bytes());
        let theirs = Some(parameters.ufrag.as_str());
        let is_answer = parameters
            .answers
            .as_deref()
            .map(|own| *own == *self.current.local.ufrag);
        if let Some(known) = &mut self.current.remote {
            let (ufrag, pwd) = (*known.ufrag == *parameters.ufrag, known.pwd == digest);
            if ufrag && pwd {
                known.pacing = parameters.pacing();
                known.renomination = parameters.has_option(RENOMINATION);
                known.continual = parameters.has_option(CONTINUAL);
                // RFC 8839 section 4.4.1.2.1: what was gathered since comes in another description, until a pair is nominated.
                let adds_by_descriptions = !parameters.has_option(TRICKLE);
                self.current.remote_ended &= self.current.concluded || !adds_by_descriptions;
                return Ok(());
            }
            if ufrag || pwd {
                return Err(AgentError::PartialRestart);
            }
            if is_answer == Some(false) {
                return Ok(());
            }
            shared.counters.peer_restarts += 1;
            // It has failed with what it was told, and not before that.
            let gave_up = self.current.patience_ends.is_some_and(|at| at <= now);
            let stale = self.state == State::Failed && gave_up;
            let guess = self.current.exchanged || !self.current.by_own_restart || stale;
            if is_answer.is_none() && guess {
                // The peer restarts: this side's answer is a generation of its own.
                let local = fresh_credentials(shared, self.id.0.slot);
                self.begin_generation(shared, now, local, theirs);
            } else {
                // Both restarted, or the peer twice, or what had come was the answer to an earlier restart of ours: our
                // parameters are unanswered and stand. The peer may have forgotten them, so they are told again.
                self.begin_again(shared, now, theirs);
            }
        } else if is_answer == Some(false) {
            // It was told before the peer knew of our latest restart; the answer to that follows.
            return Ok(());
        } else if is_answer.is_none()
            && let Some(before) = self
                .previous
                .as_ref()
                .and_then(|previous| previous.remote.as_ref())
            && *before.ufrag == *parameters.ufrag
        {
            // The peer does not know of our restart yet.
            return Ok(());
        }
        let key = Key::short_term(&parameters.pwd).map_err(|_| ParametersError::Pwd)?;
        self.current.remote = Some(RemoteCredentials {
            ufrag: parameters.ufrag.as_str().into(),
            pwd: digest,
            key,
            pacing: parameters.pacing(),
            renomination: parameters.has_option(RENOMINATION),
            continual: parameters.has_option(CONTINUAL),
            lite: parameters.lite,
        });
        self.current.answers_due = self.current.answers_due.saturating_sub(1);
        if is_answer == Some(true) {
            (self.current.exchanged, self.current.answers_due) = (true, 0);
        }
        if self.current.number > 0 {
            // What had ended before are the candidates of an older generation: after a restart the parameters come first.
            self.current.remote_ended = false;
        }
        // RFC 8445 section 6.1.1: beside a lite agent, which sends no checks, the full one controls. Of two lite ones
        // each keeps the role it was given.
        let controlling = match (self.lite, parameters.lite) {
            (false, true) => Role::Controlling,
            (true, false) => Role::Controlled,
            _ => self.role,
        };
        if self.role != controlling {
            self.switch_role(shared);
        }
        // RFC 8863 section 4: both sides' values are known, so checks begin.
        self.current.patience_ends = Some(now + self.settings.patience);
        let ufrag = parameters.ufrag.as_str();
        self.current.remotes.retain(|remote| {
            remote
                .candidate
                .ufrag
                .as_deref()
                .is_none_or(|theirs| theirs == ufrag)
        });
        for remote in 0..self.current.remotes.len() as u16 {
            self.pair_remote(remote, &mut shared.counters);
        }
        self.recall_checks(shared, now);
        self.take_up_owed(shared, now);
        self.update_state(shared, now);
        Ok(())
    }

    /// Restarts ICE: new credentials, all is gathered and checked anew, and the old pair carries the
    /// data until a new one is found.
    pub(crate) fn restart(&mut self, shared: &mut Shared, now: Time) {
        if self.closed {
            return;
        }
        let due = self.current.answers_due.saturating_add(1);
        let local = fresh_credentials(shared, self.id.0.slot);
        self.begin_generation(shared, now, local, None);
        self.current.by_own_restart = true;
        self.current.answers_due = due;
        self.update_state(shared, now);
    }

    /// What the peer said was not for this generation: it begins anew, with the credentials that it has told, and with
    /// the peer's checks that have come for them.
    fn begin_again(&mut self, shared: &mut Shared, now: Time, theirs: Option<&str>) {
        let (due, early) = (self.current.answers_due, take(&mut self.current.early));
        let local = self.current.local.clone();
        self.begin_generation(shared, now, local, theirs);
        self.current.by_own_restart = true;
        self.current.answers_due = due;
        self.current.early = early;
    }

    /// Other addresses of this machine are to be used from now on.
    pub(crate) fn set_addresses(
        &mut self,
        shared: &mut Shared,
        now: Time,
        addresses: AddressPolicy,
    ) -> Result<(), AgentError> {
        if self.lite && addresses == AddressPolicy::RelayOnly {
            return Err(AgentError::LiteHasHostsOnly);
        }
        if self.closed || self.settings.addresses == addresses {
            return Ok(());
        }
        self.settings.addresses = addresses;
        if self.gathering != GatheringState::New {
            self.restart(shared, now);
        }
        Ok(())
    }

    /// With credentials whose username fragment is claimed, to answer those of the peer, if any.
    pub(super) fn begin_generation(
        &mut self,
        shared: &mut Shared,
        now: Time,
        local: LocalCredentials,
        theirs: Option<&str>,
    ) {
        self.restart_due = RestartDue::No;
        self.verify_relays(now);
        self.leave_path(shared);
        let number = self.current.number + 1;
        let old = core::mem::replace(&mut self.current, Generation::new(number, local));
        if old.selected.is_some() && !old.consent_lost() {
            // It carries the data, so the one before it is done.
            if let Some(before) = self.previous.replace(Box::new(old)) {
                self.end_generation(shared, &before);
            }
        } else {
            self.drop_generation(shared, &old);
        }
        // Only what watches the old path goes on.
        let previous = self.previous.as_ref().map(|previous| previous.number);
        self.transactions.retain(|transaction| {
            matches!(transaction.purpose, Purpose::Consent { generation, .. } if Some(generation) == previous)
        });
        if let Some(previous) = &mut self.previous {
            let selected = previous.selected;
            previous.pairs.retain(|id, _| Some(id) == selected);
            previous.early = Vec::new();
            previous.jobs = Vec::new();
        }
        if self.state != State::Disconnected {
            self.verdict = None;
        }
        let told = self.parameters_that_answer(theirs);
        self.emit(shared, Event::LocalParameters(told));
        if self.gathering != GatheringState::New {
            self.gathering = GatheringState::New;
            self.gather(shared);
        }
    }

    /// The new generation has what it needs, or the old path is dead.
    pub(super) fn end_previous(&mut self, shared: &mut Shared) {
        self.leave_path(shared);
        if let Some(previous) = self.previous.take() {
            self.end_generation(shared, &previous);
        }
    }

    fn end_generation(&mut self, shared: &mut Shared, ended: &Generation) {
        let number = ended.number;
        self.transactions.retain(|transaction| {
            !matches!(
                transaction.purpose,
                Purpose::Consent { generation, .. } | Purpose::Check { generation, .. } if generation == number
            )
        });
        self.drop_generation(shared, ended);
    }

    pub(super) fn drop_generation(&self, shared: &mut Shared, generation: &Generation) {
        // A stream's are released when its last component has no use for them.
        let is_used = self.ufrags().any(|own| *own == *generation.local.ufrag);
        if !self.is_member() && (self.closed || !is_used) {
            shared.demux.release_ufrag(&generation.local.ufrag);
        }
    }
}

/// New credentials, whose username fragment leads to the agent in this slot.
///
/// RFC 8445 section 5.3: at least 24 bits of randomness for the fragment, 128 for the password.
pub(super) fn fresh_credentials(shared: &mut Shared, slot: u32) -> LocalCredentials {
    loop {
        let (ufrag, pwd) = (shared.ice_chars::<8>(), shared.secret_ice_chars::<24>());
        // Any ice-chars are text and make a key; the loop is there so that nothing need be assumed.
        if let (Ok(ufrag), Ok(pwd)) = (core::str::from_utf8(&ufrag), core::str::from_utf8(&pwd))
            && let Ok(credentials) = credentials(ufrag, pwd.into())
            && shared.demux.claim_ufrag(ufrag, slot)
        {
            return credentials;
        }
    }
}

pub(super) fn credentials(ufrag: &str, pwd: Box<str>) -> Result<LocalCredentials, AgentError> {
    let key = Key::short_term(&pwd).map_err(|_| ParametersError::Pwd)?;
    Ok(LocalCredentials::new(ufrag.into(), pwd, key))
}
