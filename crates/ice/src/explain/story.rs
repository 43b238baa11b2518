//! From a recording to stories: what each call, answer and decision says of an agent.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use nilas_turn::Time;

use super::pairs::Pairs;
use super::{
    AgentStory, CandidateSource, CandidateStory, Explanation, Outcome, PathStory, ServerEnd,
    ServerStory, Slow, Told, advice,
};
use crate::candidate::{Candidate, CandidateType};
use crate::config::AgentConfig;
use crate::event::{CandidateError, Event, GatheringState, Role, State};
use crate::ids::{AgentId, RequestId, SocketId};
use crate::io::{Command, Handled, SelectedPair};
use crate::recording::{
    Answer, Call, Decision, LocalView, RecordingEnd, RecordingError, Step, Steps,
};

/// From here on something is slow: it is the RTO of STUN (RFC 8445 section 14.3), so a datagram was lost, or somebody
/// took a time that is felt.
const SLOW: Duration = Duration::from_millis(500);
/// Signaling takes people's time.
const SLOW_SIGNALING: Duration = Duration::from_secs(1);
/// CandidateError's code for a server that was not reached.
const UNREACHABLE: u16 = 701;

pub(super) fn read(recording: &[u8]) -> Result<Explanation, RecordingError> {
    let mut steps = Steps::open(recording)?;
    let mut reading = Reading::default();
    while let Some(step) = steps.next()? {
        reading.take(&step);
    }
    let agents = reading.agents.iter().map(Tracker::story).collect();
    Ok(Explanation {
        recorded_by: steps.header.version.clone(),
        note: steps.header.note.clone(),
        until_ms: milliseconds(steps.last().since(Time::ZERO)),
        complete: steps.end() == RecordingEnd::Whole,
        agents,
    })
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

#[derive(Debug, Default)]
struct Reading {
    /// All agents that were ever made, in that order.
    agents: Vec<Tracker>,
    /// Where in that list the agents are that live now, by their slots.
    by_slot: BTreeMap<u32, usize>,
    /// Sockets of the system, and the slots of the agents that they were bound for.
    sockets: BTreeMap<SocketId, (SocketAddr, u32)>,
    /// Addresses from which a gateway forwards.
    forwarded: BTreeSet<SocketAddr>,
    /// What was asked for, and when.
    asked: BTreeMap<RequestId, (String, Time)>,
}

/// What is known of an agent so far.
#[derive(Debug)]
pub(super) struct Tracker {
    id: AgentId,
    pub(super) config: AgentConfig,
    began: Time,
    role: Role,
    pub(super) gathered: bool,
    states: Vec<(Time, Told)>,
    first_path: Option<(Time, SelectedPair)>,
    nominated: Option<Time>,
    selected: Option<SelectedPair>,
    pub(super) servers: Vec<ServerStory>,
    pub(super) locals: Vec<LocalView>,
    local_candidates: Vec<CandidateStory>,
    pub(super) remotes: Vec<(Time, Candidate)>,
    remote_candidates: Vec<CandidateStory>,
    pub(super) remote_parameters: Option<Time>,
    pub(super) pairs: Pairs,
    slow: Vec<Slow>,
    /// Datagrams that came for it from anywhere.
    pub(super) heard: u64,
}

/// Whose a candidate is.
#[derive(Clone, Copy, Debug)]
enum Side {
    Local,
    Remote,
}

impl Reading {
    fn take(&mut self, step: &Step) {
        let now = step.now;
        self.take_call(now, step);
        match &step.answer {
            Answer::Event(id, event) => {
                if let Some(agent) = self.agent(*id) {
                    agent.take_event(now, event);
                }
            }
            Answer::Command(Command::Resolve { request, name, .. }) => {
                self.asked.insert(*request, (name.clone(), now));
            }
            Answer::Command(Command::OpenStream { request, host, .. }) => {
                self.asked.insert(*request, (host.clone(), now));
            }
            _ => {}
        }
        for decision in &step.decisions {
            match decision {
                Decision::Local(local) => {
                    let is_forwarded = self.forwarded.contains(&local.address);
                    if let Some(agent) = self.agent(local.agent) {
                        agent.take_local(now, local, is_forwarded);
                    }
                }
                Decision::Pair(pair) => {
                    if let Some(agent) = self.agent(pair.name.agent) {
                        agent.take_remote_of_pair(now, pair.remote, pair.remote_kind);
                        agent.pairs.see(now, *pair);
                    }
                }
                // Its last view says how it stood.
                Decision::PairGone(_) => {}
            }
        }
    }

    fn take_call(&mut self, now: Time, step: &Step) {
        match &step.call {
            Call::Add(config) => {
                if let Answer::Added(Ok(id)) = step.answer {
                    self.by_slot.insert(id.0.slot, self.agents.len());
                    self.agents.push(Tracker::new(id, now, config));
                }
            }
            Call::AddStream(_, config, _) => {
                if let Answer::AddedStream(Ok((_, agents))) = &step.answer {
                    for id in agents {
                        self.by_slot.insert(id.0.slot, self.agents.len());
                        self.agents.push(Tracker::new(*id, now, config));
                    }
                }
            }
            Call::Gather(id) => {
                if let Some(agent) = self.agent(*id) {
                    agent.began = now;
                }
            }
            Call::RemoteParameters(id, _) => {
                if let (Some(agent), Answer::Accepted(Ok(()))) = (self.agent(*id), &step.answer) {
                    agent.remote_parameters.get_or_insert(now);
                }
            }
            Call::RemoteCandidate(id, candidate) => {
                if let (Some(agent), Answer::Accepted(result)) = (self.agent(*id), &step.answer) {
                    let source = match result {
                        Ok(()) => CandidateSource::Signaling,
                        Err(error) => CandidateSource::Refused {
                            reason: error.to_string(),
                        },
                    };
                    agent.take_remote(now, candidate, source);
                }
            }
            Call::RemoveRemoteCandidate(id, candidate) => {
                if let (Some(agent), Answer::Accepted(Ok(()))) = (self.agent(*id), &step.answer) {
                    agent.take_back(now, Side::Remote, candidate);
                }
            }
            Call::Addresses(id, addresses) => {
                if let (Some(agent), Answer::Accepted(Ok(()))) = (self.agent(*id), &step.answer) {
                    agent.config.addresses = *addresses;
                }
            }
            Call::Datagram { socket, .. } => {
                let ours = step.answer != Answer::Handled(Handled::NotOurs);
                if let (true, Some((_, slot))) = (ours, self.sockets.get(socket).copied())
                    && let Some(agent) = self.in_slot(slot)
                {
                    agent.heard += 1;
                }
            }
            Call::Bound {
                request,
                result: Ok((socket, address)),
            } => {
                self.sockets.insert(*socket, (*address, request.slot()));
            }
            Call::PortMapped {
                result: Ok(address),
                ..
            } => {
                self.forwarded.insert(*address);
            }
            Call::Resolved { request, .. } => {
                if let Some((name, took)) = self.answered(*request, now)
                    && let Some(agent) = self.in_slot(request.slot())
                {
                    let took_ms = milliseconds(took);
                    agent.slow.push(Slow::Name { name, took_ms });
                }
            }
            Call::StreamOpened { request, .. } => {
                if let Some((host, took)) = self.answered(*request, now)
                    && let Some(agent) = self.in_slot(request.slot())
                {
                    let took_ms = milliseconds(took);
                    agent.slow.push(Slow::Connection { host, took_ms });
                }
            }
            Call::SendError {
                socket,
                remote,
                error,
            } => {
                if let Some((local, slot)) = self.sockets.get(socket).copied()
                    && let Some(agent) = self.in_slot(slot)
                {
                    agent.pairs.refuse(local, *remote, *error);
                }
            }
            _ => {}
        }
    }

    /// What was asked for, and how long it took, if that was slow.
    fn answered(&mut self, request: RequestId, now: Time) -> Option<(String, Duration)> {
        let (what, at) = self.asked.remove(&request)?;
        let took = now.since(at);
        (took >= SLOW).then_some((what, took))
    }

    fn agent(&mut self, id: AgentId) -> Option<&mut Tracker> {
        self.in_slot(id.0.slot).filter(|agent| agent.id == id)
    }

    fn in_slot(&mut self, slot: u32) -> Option<&mut Tracker> {
        self.agents.get_mut(*self.by_slot.get(&slot)?)
    }
}

impl Tracker {
    fn new(id: AgentId, now: Time, config: &AgentConfig) -> Self {
        let stun = config.stun_servers.iter().map(|server| server.url());
        let turn = config.turn_servers.iter().map(|server| server.url());
        let mut servers: Vec<ServerStory> = Vec::new();
        for url in stun.chain(turn) {
            if servers.iter().all(|known| known.url != url) {
                let end = ServerEnd::Open;
                servers.push(ServerStory { url, end });
            }
        }
        Self {
            id,
            config: config.clone(),
            began: now,
            role: config.role,
            gathered: false,
            states: Vec::new(),
            first_path: None,
            nominated: None,
            selected: None,
            servers,
            locals: Vec::new(),
            local_candidates: Vec::new(),
            remotes: Vec::new(),
            remote_candidates: Vec::new(),
            remote_parameters: None,
            pairs: Pairs::default(),
            slow: Vec::new(),
            heard: 0,
        }
    }

    fn since_began(&self, at: Time) -> f64 {
        milliseconds(at.since(self.began))
    }

    fn take_event(&mut self, now: Time, event: &Event) {
        match event {
            Event::StateChange { state, verdict } => {
                let told = Told {
                    at_ms: self.since_began(now),
                    state: *state,
                    verdict: *verdict,
                };
                self.states.push((now, told));
            }
            Event::SelectedPairChange(pair) => {
                self.first_path.get_or_insert_with(|| (now, pair.clone()));
                self.selected = Some(pair.clone());
            }
            Event::Nominated(pair) => {
                self.nominated.get_or_insert(now);
                self.selected = Some(pair.clone());
            }
            Event::RoleChange(role) => self.role = *role,
            Event::GatheringStateChange(GatheringState::Complete) => self.gathered = true,
            Event::CandidateError(error) => self.take_error(error),
            Event::CandidateRemoved(candidate) => self.take_back(now, Side::Local, candidate),
            _ => {}
        }
    }

    fn take_error(&mut self, error: &CandidateError) {
        let text = error.error_text.clone();
        if let Some(server) = self.server(&error.url)
            && !matches!(server.end, ServerEnd::Answered { .. })
        {
            server.end = match error.error_code {
                UNREACHABLE => ServerEnd::Unreachable { text },
                code => ServerEnd::Refused { code, text },
            };
        }
    }

    fn take_local(&mut self, now: Time, local: &LocalView, is_forwarded: bool) {
        let at_ms = self.since_began(now);
        let known = |seen: &LocalView| {
            (seen.kind, seen.address, seen.base) == (local.kind, local.address, local.base)
        };
        if let Some(url) = &local.url
            && let Some(server) = self.server(url)
            && !matches!(server.end, ServerEnd::Answered { .. })
        {
            server.end = ServerEnd::Answered { at_ms };
            if at_ms >= milliseconds(SLOW) {
                let (url, took_ms) = (url.clone(), at_ms);
                self.slow.push(Slow::Server { url, took_ms });
            }
        }
        // A restart finds the same again.
        if !self.locals.iter().any(known) {
            self.local_candidates.push(CandidateStory {
                kind: local.kind,
                address: local.address.to_string(),
                source: match (&local.url, local.kind) {
                    (Some(url), _) => CandidateSource::Server { url: url.clone() },
                    (None, CandidateType::Prflx) => CandidateSource::PeerAnswer,
                    (None, CandidateType::Srflx) if is_forwarded => CandidateSource::Gateway,
                    (None, _) => CandidateSource::Machine,
                },
                at_ms,
                removed_ms: None,
            });
            self.locals.push(local.clone());
        }
    }

    fn take_remote(&mut self, now: Time, candidate: &Candidate, source: CandidateSource) {
        if source == CandidateSource::Signaling {
            self.remotes.push((now, candidate.clone()));
        }
        let story = CandidateStory {
            kind: candidate.kind,
            address: candidate.address.to_string(),
            source,
            at_ms: self.since_began(now),
            removed_ms: None,
        };
        let same = |known: &CandidateStory| {
            (&known.address, &known.source) == (&story.address, &story.source)
        };
        match self.remote_candidates.iter_mut().find(|known| same(known)) {
            Some(known) => known.removed_ms = None,
            None => self.remote_candidates.push(story),
        }
    }

    /// A candidate was taken back, by this side or the peer.
    fn take_back(&mut self, now: Time, whose: Side, candidate: &Candidate) {
        let at = self.since_began(now);
        let (address, kind) = (candidate.address.to_string(), candidate.kind);
        let known = match whose {
            Side::Local => &mut self.local_candidates,
            Side::Remote => &mut self.remote_candidates,
        };
        let is_meant = |known: &&mut CandidateStory| known.address == address && known.kind == kind;
        if let Some(known) = known.iter_mut().find(is_meant) {
            known.removed_ms = Some(at);
        }
    }

    /// A pair shows a candidate that signaling did not bring.
    fn take_remote_of_pair(&mut self, now: Time, address: SocketAddr, kind: CandidateType) {
        let text = address.to_string();
        let known = |known: &CandidateStory| known.address == text;
        if kind == CandidateType::Prflx && !self.remote_candidates.iter().any(known) {
            self.remote_candidates.push(CandidateStory {
                kind,
                address: text,
                source: CandidateSource::Check,
                at_ms: self.since_began(now),
                removed_ms: None,
            });
        }
    }

    fn server(&mut self, url: &str) -> Option<&mut ServerStory> {
        self.servers.iter_mut().find(|server| server.url == url)
    }

    /// The state before it was closed, if it was, and why.
    fn last_state(&self) -> Option<Told> {
        let mut states = self.states.iter().rev().map(|(_, told)| *told);
        states.find(|told| told.state != State::Closed)
    }

    fn outcome(&self) -> Outcome {
        let relayed = self.selected.as_ref().is_some_and(|pair| {
            [pair.local.kind, pair.remote.kind].contains(&CandidateType::Relay)
        });
        match self.last_state() {
            Some(told) if told.state.is_up() => Outcome::Connected { relayed },
            Some(_) if self.first_path.is_some() => Outcome::Lost { relayed },
            Some(Told {
                state: State::Failed,
                verdict: Some(verdict),
                ..
            }) => Outcome::Failed { verdict },
            _ if self.remote_parameters.is_none() => Outcome::OnlyGathered,
            _ => Outcome::Undecided,
        }
    }

    fn path(&self) -> Option<PathStory> {
        let pair = self.selected.as_ref()?;
        Some(PathStory {
            local_type: pair.local.kind,
            local: pair.local.ip_address()?,
            remote_type: pair.remote.kind,
            remote: pair.remote.ip_address()?,
            first_path_ms: self.since_began(self.first_path.as_ref()?.0),
            nominated_ms: self.nominated.map(|at| self.since_began(at)),
            round_trip_ms: self.pairs.round_trip().map(milliseconds),
        })
    }

    fn story(&self) -> AgentStory {
        let outcome = self.outcome();
        let mut servers = self.servers.clone();
        for server in &mut servers {
            if self.gathered && server.end == ServerEnd::Open {
                server.end = ServerEnd::NothingNew;
            }
        }
        AgentStory {
            role: Some(self.role),
            outcome,
            states: self.states.iter().map(|(_, told)| *told).collect(),
            path: self.path(),
            servers,
            local_candidates: self.local_candidates.clone(),
            remote_candidates: self.remote_candidates.clone(),
            remote_parameters_ms: self.remote_parameters.map(|at| self.since_began(at)),
            restarts: self.pairs.restarts(),
            pairs: self
                .pairs
                .stories(self.began, matches!(outcome, Outcome::Lost { .. })),
            slow: self.slow(),
            for_direct: advice::advise(self, outcome),
        }
    }

    fn slow(&self) -> Vec<Slow> {
        let mut slow = self.slow.clone();
        if let Some(at) = self.remote_parameters
            && at.since(self.began) >= SLOW_SIGNALING
        {
            let took_ms = self.since_began(at);
            slow.push(Slow::Signaling { took_ms });
        }
        if let Some((_, pair)) = &self.first_path
            && let Some(address) = pair.remote.ip_address()
        {
            let told = self
                .remotes
                .iter()
                .find(|(_, candidate)| candidate.ip_address() == Some(address));
            if let (Some(parameters), Some((at, _))) = (self.remote_parameters, told)
                && at.since(parameters) >= SLOW_SIGNALING
            {
                let took_ms = milliseconds(at.since(parameters));
                slow.push(Slow::Candidate { address, took_ms });
            }
            if let Some(checking) = self.pairs.checking(pair.base, address)
                && checking.worked.since(checking.checked) >= SLOW
            {
                slow.push(Slow::Checks {
                    checks: checking.checks,
                    took_ms: milliseconds(checking.worked.since(checking.checked)),
                });
            }
        }
        self.outages(&mut slow);
        if let (None, Some(told)) = (&self.first_path, self.last_state())
            && told.state == State::Failed
        {
            let began = self.remote_parameters.unwrap_or(self.began);
            let took_ms = told.at_ms - self.since_began(began);
            slow.push(Slow::GivingUp { took_ms });
        }
        slow
    }

    /// The times without a path, after there had been one.
    fn outages(&self, slow: &mut Vec<Slow>) {
        let mut down: Option<Time> = None;
        for (at, told) in &self.states {
            match told.state {
                State::Disconnected | State::Failed if self.first_path.is_some() => {
                    down.get_or_insert(*at);
                }
                State::Connected | State::Completed => {
                    if let Some(began) = down.take() {
                        slow.push(Slow::Outage {
                            at_ms: self.since_began(began),
                            took_ms: milliseconds(at.since(began)),
                        });
                    }
                }
                _ => {}
            }
        }
    }
}
