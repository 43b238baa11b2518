//! The world, run.

use core::time::Duration;

use nilas_ice::{CandidateType, Event, State, Time, Transport};

use super::Seen;
use super::network::Network;
use super::oracle::{self, Existence, Present};
use super::plan::{Disturbance, Names, Plan, Servers};
use super::rules::{self, Rule};
use crate::agents::Agent;
use crate::signaling::{Disguise, Signaling};
use crate::world::World;

/// A plan's world, running.
pub(super) struct Running<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: World,
    pub(super) network: Network,
    /// Both ends of the component that is looked at; see [`each`](Self::each).
    pub(super) peers: [Agent; 2],
    pub(super) present: Present,
    /// Whether NATs of one side have forgotten what those of the other remember.
    forgotten: bool,
}

/// Longer than a session can look for a path: the peer's delay, gathering, patience, a last check.
const LIMIT: Duration = Duration::from_secs(150);
/// So much longer for each component more: RFC 8445 section 6.1.4.2 has a foundation's pairs fail one after the other, each
/// after all its retransmissions.
pub(super) const FURTHER_CHECKS: Duration = Duration::from_secs(80);
/// Longer than a session can take to notice that its path is gone, and to find another or to give up.
const AFTERMATH: Duration = Duration::from_secs(110);
/// A session in which nothing has changed for so long is at rest: a path that was left is gone back to within it, if at all.
const QUIET: Duration = Duration::from_secs(60);
/// A change of one side has come to the other after so long, unless it was lost several times.
const ON_ITS_WAY: Duration = Duration::from_secs(6);
/// So many times in a row it may have changed again.
const MOST_CHANGES: usize = 20;
/// RFC 7675 section 5.1: consent lasts for 30 s; the NATs here remember for two minutes.
const SHORT_ABSENCE: u64 = 20;

pub(super) fn run(plan: &Plan) -> Result<Seen, Rule> {
    let mut running = Running::new(plan);
    let running = &mut running;
    let mut seen = Seen::default();
    let begun = running.world.now();
    running.begin();
    running.settle(begun)?;
    let must = running.must_connect(begun);
    let up = running.all(|running| rules::at_rest(running, must))?;
    rules::pacing(running)?;
    if up {
        seen.connected += 1;
        seen.of_several += u64::from(plan.components() > 1);
        running.each(rules::best_kind)?;
        running.each(rules::data_arrives)?;
        rules::silence(running)?;
        running.note_kind(&mut seen);
    } else {
        seen.failed += 1;
    }
    for disturbance in &plan.later {
        seen.disturbed += 1;
        running.disturb(disturbance)?;
        running.note_kind(&mut seen);
    }
    rules::bounds(running)?;
    seen.packets = running.world.trace().packets().len() as u64;
    Ok(seen)
}

impl<'a> Running<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut world = World::new(plan.seed);
        let network = Network::build(plan, &mut world);
        network.tell_names(plan, &mut world);
        Self {
            plan,
            peers: [0, 1].map(|peer| network.peers[peer].components[0]),
            present: [0, 1].map(|peer| vec![true; network.ports[peer].len()]),
            world,
            network,
            forgotten: false,
        }
    }

    /// Both peers begin, each in its time; what a late one has to say waits for it.
    fn begin(&mut self) {
        let signaling = if self.plan.trickle {
            Signaling::trickled(self.plan.signaling_delay)
        } else {
            Signaling::all_at_once(self.plan.signaling_delay)
        };
        let disguise = Disguise {
            plain: self.plan.plain,
            names: self.plan.names != Names::Addresses,
        };
        let [a, b] = &self.network.peers;
        a.signal(b, &mut self.world, signaling.disguised(disguise))
            .expect("both are open");
        let mut order = [0, 1];
        order.sort_by_key(|peer| self.plan.peers[*peer].late);
        for peer in order {
            self.world.hold_signals(self.peers[peer]);
        }
        for peer in order {
            let waits = self.plan.peers[peer]
                .late
                .saturating_sub(self.world.now().since(Time::ZERO));
            self.world.run_for(waits);
            self.world.release_signals(self.peers[peer]);
            let peer = &self.network.peers[peer];
            peer.gather(&mut self.world).expect("it is open");
        }
    }

    /// Looks at one component after the other.
    fn each(&mut self, rule: impl Fn(&mut Self) -> Result<(), Rule>) -> Result<(), Rule> {
        self.all(|running| rule(running).map(|()| true)).map(|_| ())
    }

    /// The same; whether what the rule asks for holds of all.
    fn all(&mut self, rule: impl Fn(&mut Self) -> Result<bool, Rule>) -> Result<bool, Rule> {
        let mut all = true;
        for component in 0..self.plan.components() {
            self.peers = [0, 1].map(|peer| self.network.peers[peer].components[component]);
            all &= rule(self).map_err(|broken| match self.plan.components() {
                1 => broken,
                _ => broken.of_component(component),
            })?;
        }
        rules::of_one_mind(self)?;
        Ok(all)
    }

    /// All components of both peers.
    fn agents(&self) -> Vec<Agent> {
        let peers = self.network.peers.iter();
        peers.flat_map(|peer| peer.components.clone()).collect()
    }

    fn limit(&self) -> Duration {
        LIMIT + FURTHER_CHECKS * (self.plan.components() - 1) as u32
    }

    /// Whether a path exists that this generation of both peers had what it takes to find.
    fn must_connect(&self, since: Time) -> bool {
        let deaf = self.agents().into_iter().any(|agent| {
            let events = self.world.events(agent).iter();
            events
                .filter(|(at, _)| *at >= since)
                .any(|(_, event)| matches!(event, Event::CandidateError(_)))
        });
        // Names lead where they lead.
        let named = self.plan.names != Names::Addresses;
        match oracle::surest(self.plan, &self.present) {
            Existence::Yes => !named,
            // A lossy wire may have taken every answer of the server.
            Existence::WithServers => self.plan.servers != Servers::None && !deaf && !named,
            Existence::Perhaps | Existence::No => false,
        }
    }

    /// Whether a server did not answer somebody in the present generation.
    fn is_deaf(&self) -> bool {
        self.agents().into_iter().any(|agent| {
            let events = self.world.events(agent).iter().rev();
            let mut present = events.map_while(|(_, event)| match event {
                Event::LocalParameters(_) => None,
                event => Some(event),
            });
            present.any(|event| matches!(event, Event::CandidateError(_)))
        })
    }

    /// Runs until all components of both peers are at rest: nominated since then, or failed; and no restart is under way.
    fn settle(&mut self, since: Time) -> Result<(), Rule> {
        let mut since = since;
        for _ in 0..MOST_RESTARTS {
            let agents = self.agents();
            let rested = self.world.run_until(self.limit(), |world| {
                agents.iter().all(|agent| {
                    world.state(*agent) == State::Failed
                        || (world.is_up(*agent) && nominated_since(world, *agent, since))
                })
            });
            if rested.is_none() {
                // The old path goes on where the restart has found none: RFC 8445 section 9.
                return if self.rest().is_ok() {
                    Ok(())
                } else {
                    Err(self.dead())
                };
            }
            // What is under way arrives, and a state that follows is told.
            let before = self.world.now();
            self.world
                .run_for(Duration::from_secs(2) + 2 * self.plan.signaling_delay);
            let restarted = agents
                .iter()
                .any(|agent| restarted_since(&self.world, *agent, before));
            if !restarted {
                self.rest()?;
                return self.quieten();
            }
            since = before;
        }
        Err(Rule::new(
            "restarts come to an end",
            format!("{MOST_RESTARTS} in a row"),
        ))
    }

    fn disturb(&mut self, disturbance: &Disturbance) -> Result<(), Rule> {
        let since = self.world.now();
        let was_up = self.are_up();
        // What a connection has not delivered comes late, and keeps consent on one side for longer than on the other.
        let lasts = |seconds: u64| was_up && seconds < SHORT_ABSENCE && !self.plan.has_tcp();
        match disturbance {
            Disturbance::Restarts(restarts) => {
                for (peer, after) in restarts {
                    self.world.run_for(Duration::from_millis(*after));
                    self.restart(*peer);
                }
                let last = self.world.now();
                self.settle(last)?;
                let must = self.must_connect(since);
                self.all(|running| rules::at_rest(running, must))?;
            }
            Disturbance::Away { peer, seconds } => {
                let must = lasts(*seconds);
                self.world.set_up(self.network.peers[*peer].host, false);
                self.world.run_for(Duration::from_secs(*seconds));
                self.world.set_up(self.network.peers[*peer].host, true);
                self.aftermath(must)?;
            }
            Disturbance::Sleep { peer, seconds } => {
                let must = lasts(*seconds);
                let host = self.network.peers[*peer].host;
                self.world.hold_signals(self.peers[1 - *peer]);
                self.world.suspend(host);
                self.world.run_for(Duration::from_secs(*seconds));
                self.world.resume(host);
                self.world.release_signals(self.peers[1 - *peer]);
                self.aftermath(must)?;
            }
            Disturbance::Reboot { peer } => {
                for nat in self.network.nats[*peer].clone() {
                    self.world.reboot(nat);
                }
                self.follow_the_nat()?;
            }
            Disturbance::Renumber { peer } => {
                self.network.renumber(&mut self.world, *peer);
                self.follow_the_nat()?;
            }
            Disturbance::Lose {
                peer,
                interface,
                seconds,
            } => {
                self.network.lose(&mut self.world, *peer, *interface);
                self.present[*peer][*interface] = false;
                if let Some(seconds) = seconds {
                    self.world.run_for(Duration::from_secs(*seconds));
                    self.plug_in(*peer, *interface, false);
                }
                let must = self.must_move(was_up, since);
                self.aftermath(must)?;
            }
            Disturbance::Move { peer, interface } => {
                self.plug_in(*peer, *interface, true);
                let must = self.must_move(was_up, since);
                self.aftermath(must)?;
            }
            Disturbance::Cost {
                peer,
                interface,
                cost,
            } => {
                if self.present[*peer][*interface] {
                    let node = self.network.peers[*peer].host;
                    self.world.set_interface_cost(node, *interface, *cost);
                }
                self.aftermath(was_up)?;
            }
            Disturbance::ServerAway { seconds } => {
                let must = lasts(*seconds);
                if let Some(server) = self.network.server {
                    self.world.set_up(server, false);
                    self.world.run_for(Duration::from_secs(*seconds));
                    self.world.set_up(server, true);
                }
                self.aftermath(must)?;
            }
            Disturbance::ServerReboot => {
                if let (Servers::Turn(_), Some(server)) = (self.plan.servers, self.network.server) {
                    self.world.reboot(server);
                }
                self.aftermath(was_up)?;
            }
        }
        if self.are_up() {
            self.each(rules::data_arrives)?;
        }
        Ok(())
    }

    /// Whether the session, whose interfaces have changed, has to find its way by itself.
    fn must_move(&self, was_up: bool, since: Time) -> bool {
        was_up && self.plan.is_calm() && !self.plan.has_tcp() && self.must_connect(since)
    }

    /// The path may be gone: the session comes back or says why not, and then a restart brings it back.
    fn aftermath(&mut self, must: bool) -> Result<(), Rule> {
        self.world.run_for(AFTERMATH);
        self.rest()?;
        self.quieten()?;
        if self.all(|running| rules::each_connected(running, must))? {
            // What a server did not say in time is told later between two that agreed on that, and by nobody else (RFC 8838
            // section 13). And a NAT that maps by destination answers a check from another port than it came to, where it
            // remembers to have sent to what is another mapping's port now.
            let told = (self.plan.is_continual() || !self.is_deaf()) && !self.forgotten;
            return self.each(|running| rules::direct_if_possible(running, told));
        }
        self.come_back()
    }

    fn come_back(&mut self) -> Result<(), Rule> {
        let since = self.world.now();
        self.restart(0);
        self.settle(since)?;
        let must = self.must_connect(since);
        // Where no path is left, a side may hold on to the path of before for longer than the other.
        self.all(|running| rules::each_connected(running, must))
            .map(|_| ())
    }

    /// Runs on until each component is up or has failed: both peers may have begun something new late.
    fn rest(&mut self) -> Result<(), Rule> {
        let agents = self.agents();
        let rested = self
            .world
            .run_until(self.limit(), |world| all_rest(world, &agents));
        match rested {
            Some(_) => Ok(()),
            None => Err(self.dead()),
        }
    }

    /// Runs on until nothing has changed for a while: who moved last, or restarted, has told the other.
    fn quieten(&mut self) -> Result<(), Rule> {
        if (0..MOST_CHANGES).any(|_| self.is_quiet_for(QUIET)) {
            return Ok(());
        }
        if self.plan.is_calm() {
            return Err(Rule::new("a session comes to rest", String::new()));
        }
        // Where every wire loses one check in three, the data goes from one to the next for ever. What the latest change was
        // arrives at the other side.
        let _ = (0..MOST_CHANGES).any(|_| self.is_quiet_for(ON_ITS_WAY));
        Ok(())
    }

    /// Runs on for so long; whether nothing has changed meanwhile, and nothing is about to: a component that had failed checks for
    /// longer than that where one relay after the other is allocated anew.
    fn is_quiet_for(&mut self, duration: Duration) -> bool {
        let before = self.world.now();
        self.world.run_for(duration);
        let agents = self.agents();
        let changed = agents.iter().any(|peer| {
            any_since(&self.world, *peer, before, |event| {
                matches!(
                    event,
                    Event::SelectedPairChange(_)
                        | Event::StateChange { .. }
                        | Event::LocalParameters(_)
                )
            })
        });
        !changed && all_rest(&self.world, &agents)
    }

    fn dead(&self) -> Rule {
        let agents = self.agents().into_iter();
        let states: Vec<_> = agents.map(|agent| self.world.state(agent)).collect();
        Rule::new(
            "no dead state",
            format!("{states:?} after {:?}", self.limit()),
        )
    }

    fn follow_the_nat(&mut self) -> Result<(), Rule> {
        self.forgotten = true;
        self.world.run_for(AFTERMATH);
        self.rest()?;
        self.quieten()?;
        self.all(|running| rules::each_connected(running, false))?;
        let since = self.world.now();
        self.restart(0);
        self.settle(since)?;
        // The other side's NAT may remember a session with what is now another mapping's port.
        let surest = oracle::surest(self.plan, &self.present);
        let must = surest == Existence::Yes && self.must_connect(since);
        self.all(|running| rules::at_rest(running, must))
            .map(|_| ())
    }

    fn plug_in(&mut self, peer: usize, interface: usize, moved: bool) {
        self.network
            .plug_in(&mut self.world, peer, interface, moved);
        self.network.tell_names(self.plan, &mut self.world);
        self.present[peer][interface] = true;
    }

    fn are_up(&self) -> bool {
        let mut agents = self.agents().into_iter();
        agents.all(|agent| self.world.is_up(agent))
    }

    fn restart(&mut self, peer: usize) {
        let restarted = self.network.peers[peer].restart(&mut self.world);
        restarted.expect("it is open");
    }

    fn note_kind(&self, seen: &mut Seen) {
        let Some(pair) = self
            .world
            .selected_pair(self.network.peers[0].components[0])
            .filter(|_| self.are_up())
        else {
            return;
        };
        let relayed = [pair.local.kind, pair.remote.kind].contains(&CandidateType::Relay);
        let tcp = matches!(pair.local.transport, Transport::Tcp(_));
        seen.relayed += u64::from(relayed);
        seen.over_tcp += u64::from(tcp);
    }
}

/// Restarts after which two peers ought to have come to an end.
const MOST_RESTARTS: usize = 12;

/// Whether each is up or has failed.
fn all_rest(world: &World, agents: &[Agent]) -> bool {
    let mut states = agents.iter().map(|agent| world.state(*agent));
    states.all(|state| state.is_up() || state == State::Failed)
}

fn nominated_since(world: &World, agent: Agent, since: Time) -> bool {
    any_since(world, agent, since, |event| {
        matches!(event, Event::Nominated(_))
    })
}

/// Whether there are new parameters: what is told again is no restart.
fn restarted_since(world: &World, agent: Agent, since: Time) -> bool {
    let told = |(at, event): &(Time, Event)| match event {
        Event::LocalParameters(parameters) => Some((*at, parameters.ufrag.clone())),
        _ => None,
    };
    let all: Vec<_> = world.events(agent).iter().filter_map(told).collect();
    let first = |ufrag: &str| all.iter().find(|(_, known)| known == ufrag);
    all.iter()
        .any(|(_, ufrag)| first(ufrag).is_some_and(|(at, _)| *at >= since))
}

fn any_since(world: &World, agent: Agent, since: Time, is: impl Fn(&Event) -> bool) -> bool {
    let recent = world.events(agent).iter().rev();
    recent
        .take_while(|(at, _)| *at >= since)
        .any(|(_, event)| is(event))
}
