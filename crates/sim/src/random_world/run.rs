//! The world, built and run.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_ice::{AgentConfig, Event, State, Time};

use super::Seen;
use super::oracle::{self, Existence};
use super::plan::{Disturbance, Plan, Uplink};
use super::rules::{self, Rule};
use crate::agents::Agent;
use crate::link::Link;
use crate::signaling::Signaling;
use crate::world::{NodeId, Realm, World};

/// A plan's world, running.
pub(super) struct Running<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: World,
    pub(super) peers: [Agent; 2],
    /// The NATs of each peer.
    nats: [Vec<NodeId>; 2],
}

/// The STUN server.
pub(super) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::new(198, 51, 100, 1)), 3478);

/// Longer than a session can look for a path: the peer's delay, gathering, patience, a last check.
const LIMIT: Duration = Duration::from_secs(150);

pub(super) fn run(plan: &Plan) -> Result<Seen, Rule> {
    let mut running = Running::new(plan);
    let mut seen = Seen::default();
    let begun = running.world.now();
    running.begin();
    running.settle(begun)?;
    let must = must_connect(&running, begun);
    let up = rules::at_rest(&mut running, must)?;
    rules::pacing(&running)?;
    if up {
        seen.connected += 1;
        rules::best_kind(&mut running)?;
        rules::data_arrives(&mut running)?;
        rules::silence(&mut running)?;
    } else {
        seen.failed += 1;
    }
    if let Some(disturbance) = plan.disturbance {
        seen.disturbed += 1;
        running.disturb(disturbance)?;
    }
    rules::bounds(&mut running)?;
    seen.packets = running.world.trace().packets().len() as u64;
    Ok(seen)
}

/// Whether a path exists that this generation of both peers had what it takes to find.
fn must_connect(running: &Running<'_>, since: Time) -> bool {
    let deaf = running.peers.iter().any(|peer| {
        let events = running.world.events(*peer).iter();
        events
            .filter(|(at, _)| *at >= since)
            .any(|(_, event)| matches!(event, Event::CandidateError(_)))
    });
    match oracle::surest(running.plan) {
        Existence::Yes => true,
        // A lossy wire may have taken every answer of the server.
        Existence::WithServers => running.plan.stun && !deaf,
        Existence::Perhaps | Existence::No => false,
    }
}

impl<'a> Running<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut world = World::new(plan.seed);
        if plan.stun {
            world.add_stun_server(Realm::INTERNET, SERVER, Link::new(Duration::from_millis(5)));
        }
        let mut nats = [Vec::new(), Vec::new()];
        let peers = [0, 1].map(|peer| {
            let mut host = None;
            for (number, uplink) in plan.peers[peer].interfaces.iter().enumerate() {
                let outermost = outermost(peer, number);
                let (realm, address, link) = reach(&mut world, uplink, outermost, &mut nats[peer]);
                match host {
                    None => host = Some(world.add_host(realm, &[address], link)),
                    Some(host) => world.add_interface(host, realm, &[address], link),
                }
            }
            let mut config = AgentConfig::new(plan.peers[peer].role);
            if plan.stun {
                config.stun_servers.push(SERVER.into());
            }
            let host = host.expect("a plan's peer has an interface");
            world
                .add_agent(host, config)
                .expect("a new engine has room")
        });
        Self {
            plan,
            world,
            peers,
            nats,
        }
    }

    /// Both peers begin, each in its time; what a late one has to say waits for it.
    fn begin(&mut self) {
        let signaling = if self.plan.trickle {
            Signaling::trickled(self.plan.signaling_delay)
        } else {
            Signaling::all_at_once(self.plan.signaling_delay)
        };
        let [a, b] = self.peers;
        self.world
            .signal_between(a, b, signaling)
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
            self.world.gather(self.peers[peer]).expect("it is open");
        }
    }

    /// Runs until both peers are at rest: nominated since then, or failed.
    fn settle(&mut self, since: Time) -> Result<(), Rule> {
        let peers = self.peers;
        let rested = self.world.run_until(LIMIT, |world| {
            peers.iter().all(|peer| {
                world.state(*peer) == State::Failed
                    || (world.is_up(*peer) && nominated_since(world, *peer, since))
            })
        });
        if rested.is_none() {
            let states = peers.map(|peer| self.world.state(peer));
            return Err(Rule::new(
                "no dead state",
                format!("{states:?} after {LIMIT:?}"),
            ));
        }
        // What is under way arrives, and a state that follows is told.
        self.world.run_for(Duration::from_secs(2));
        Ok(())
    }

    fn disturb(&mut self, disturbance: Disturbance) -> Result<(), Rule> {
        let since = self.world.now();
        let was_up = self.peers.iter().all(|peer| self.world.is_up(*peer));
        match disturbance {
            Disturbance::Restart(who) => {
                self.restart(who);
                self.settle(since)?;
                let must = must_connect(self, since);
                rules::at_rest(self, must)?;
            }
            Disturbance::Away { peer, seconds } => {
                self.world.set_up(self.peers[peer].node, false);
                self.world.run_for(Duration::from_secs(seconds));
                self.world.set_up(self.peers[peer].node, true);
                // RFC 7675 section 5.1: consent lasts for 30 s; the NATs here remember for two minutes.
                let back = was_up && seconds < 20 && self.plan.is_calm();
                self.after_a_loss(back)?;
            }
            Disturbance::Reboot { peer } => {
                for nat in self.nats[peer].clone() {
                    self.world.reboot(nat);
                }
                self.world.run_for(Duration::from_secs(70));
                // The side behind the NAT is answered at its new address, while the other's checks go to the old
                // one: RFC 8445 leaves it at that until somebody restarts.
                rules::each_at_rest(self)?;
                let since = self.world.now();
                self.restart([true, false]);
                self.settle(since)?;
                // The other side's NAT may remember a session with what is now another mapping's port.
                let must = oracle::surest(self.plan) == Existence::Yes;
                rules::at_rest(self, must)?;
            }
        }
        if self.peers.iter().all(|peer| self.world.is_up(*peer)) {
            rules::data_arrives(self)?;
        }
        Ok(())
    }

    /// A path may be gone: the session comes back or says why not, and then a restart brings it back.
    fn after_a_loss(&mut self, must_stay: bool) -> Result<(), Rule> {
        self.world.run_for(Duration::from_secs(70));
        if rules::at_rest(self, must_stay)? {
            return Ok(());
        }
        let since = self.world.now();
        self.restart([true, false]);
        self.settle(since)?;
        let must = must_connect(self, since);
        rules::at_rest(self, must).map(|_| ())
    }

    /// Whether an address is one of the peer's machine itself, on the Internet.
    pub(super) fn is_own_address(&self, peer: usize, address: IpAddr) -> bool {
        let mut uplinks = self.plan.peers[peer].interfaces.iter().enumerate();
        uplinks.any(|(number, uplink)| {
            uplink.nats == [None, None] && address == outermost(peer, number)
        })
    }

    fn restart(&mut self, who: [bool; 2]) {
        for (peer, _) in self
            .peers
            .into_iter()
            .zip(who)
            .filter(|(_, restarts)| *restarts)
        {
            self.world
                .with_agent(peer, |mut agent, now| agent.restart(now))
                .expect("it is open");
        }
    }
}

fn nominated_since(world: &World, agent: Agent, since: Time) -> bool {
    let recent = world
        .events(agent)
        .iter()
        .rev()
        .take_while(|(at, _)| *at >= since);
    recent
        .into_iter()
        .any(|(_, event)| matches!(event, Event::Nominated(_)))
}

/// The address by which the Internet knows an interface, or the NAT before it.
fn outermost(peer: usize, interface: usize) -> IpAddr {
    IpAddr::from([203, 0, 113, (10 * peer + interface) as u8 + 1])
}

/// Builds what stands between an interface and the Internet; the realm, address and link of the interface.
fn reach(
    world: &mut World,
    uplink: &Uplink,
    outermost: IpAddr,
    nats: &mut Vec<NodeId>,
) -> (Realm, IpAddr, Link) {
    let mut end = (Realm::INTERNET, outermost, uplink.link);
    // The outermost first. Addresses may be the same in two realms, but not in two of one machine.
    for (depth, nat) in uplink.nats.iter().flatten().rev().enumerate() {
        let (realm, address, link) = end;
        let (node, inside) = world.add_nat(realm, address, link, *nat);
        nats.push(node);
        let last = match outermost {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        end = (
            inside,
            IpAddr::from([10, depth as u8, last, 2]),
            Link::default(),
        );
    }
    end
}
