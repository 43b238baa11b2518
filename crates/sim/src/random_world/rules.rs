//! What must hold.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use nilas_ice::{
    Candidate, CandidateAddress, CandidateType, Event, PairState, Role, SelectedPair, State, Stats,
    Time, Transport,
};
use nilas_stun::{Class, Message, Method};

use super::network::{SERVER, untranslated};
use super::oracle::{self, Existence};
use super::plan::{Names, Net, Servers};
use super::run::{FURTHER_CHECKS, Running};
use crate::trace::{Fate, TracedPacket};

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    detail: String,
}

impl Rule {
    pub(super) const fn new(name: &'static str, detail: String) -> Self {
        Self { name, detail }
    }

    /// The same, of a component of several.
    pub(super) fn of_component(mut self, number: usize) -> Self {
        self.detail = format!("component {number}: {}", self.detail);
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

fn hold(holds: bool, name: &'static str, detail: impl FnOnce() -> String) -> Result<(), Rule> {
    if holds {
        Ok(())
    } else {
        Err(Rule::new(name, detail()))
    }
}

/// Each peer for itself is up, or has failed and says why.
fn each_at_rest(running: &mut Running<'_>) -> Result<(), Rule> {
    for peer in running.peers {
        let state = running.world.state(peer);
        let verdict = running.world.with_agent(peer, |agent, _| agent.verdict());
        let told = state == State::Failed && matches!(verdict, Ok(Some(_)));
        hold(
            state.is_up() || told,
            "a session is up or says why not",
            || format!("{state:?}, {verdict:?}"),
        )?;
    }
    Ok(())
}

/// Both peers are up on one pair in opposite roles, or one at least has failed and says why; whether they are up.
pub(super) fn each_connected(running: &mut Running<'_>, must: bool) -> Result<bool, Rule> {
    // One side may have given up first: a restart brings the other to know it.
    if !must {
        each_at_rest(running)?;
        if running.peers.iter().any(|peer| !running.world.is_up(*peer)) {
            return Ok(false);
        }
    }
    at_rest(running, must)
}

/// Both peers are up on one pair in opposite roles, or both have failed and say why; whether they are up.
pub(super) fn at_rest(running: &mut Running<'_>, must_connect: bool) -> Result<bool, Rule> {
    if !both_up(running, must_connect)? {
        return Ok(false);
    }
    one_pair(running)?;
    Ok(true)
}

/// Both sides send by one pair, mirrored, in opposite roles.
fn one_pair(running: &mut Running<'_>) -> Result<(), Rule> {
    let pairs = running
        .peers
        .map(|peer| running.world.selected_pair(peer).cloned());
    let [Some(at_a), Some(at_b)] = pairs else {
        return Err(Rule::new(
            "a session that is up has a pair",
            format!("{pairs:?}"),
        ));
    };
    let [(local, remote), at_b] = [&at_a, &at_b].map(|pair| ends(running, pair));
    hold(
        (remote, local) == at_b,
        "both sides end on one pair",
        || format!("{:?} and {at_b:?}", (local, remote)),
    )?;
    roles_differ(running)?;
    one_nomination(running)
}

fn both_up(running: &mut Running<'_>, must_connect: bool) -> Result<bool, Rule> {
    let states = running.peers.map(|peer| running.world.state(peer));
    if states == [State::Failed; 2] {
        for peer in running.peers {
            let verdict = running.world.with_agent(peer, |agent, _| agent.verdict());
            hold(
                matches!(verdict, Ok(Some(_))),
                "a failure has a reason",
                || format!("{peer:?}"),
            )?;
        }
        hold(!must_connect, "what can connect does", || {
            format!("{states:?}")
        })?;
        return Ok(false);
    }
    hold(
        states.iter().all(|state| state.is_up()),
        "both sides are up or neither is",
        || format!("{states:?}"),
    )?;
    Ok(true)
}

fn roles_differ(running: &mut Running<'_>) -> Result<(), Rule> {
    let roles = running
        .peers
        .map(|peer| running.world.with_agent(peer, |agent, _| agent.role()));
    hold(
        roles[0].is_ok() && roles[0] != roles[1],
        "the roles differ",
        || format!("{roles:?}"),
    )
}

/// What RFC 8445 has once: all components of a peer have one role, and those of a stream one username fragment and password.
pub(super) fn of_one_mind(running: &mut Running<'_>) -> Result<(), Rule> {
    for peer in [0, 1] {
        let components = running.network.peers[peer].components.clone();
        let minds = components.into_iter().map(|agent| {
            let told = running
                .world
                .with_agent(agent, |agent, _| (agent.role(), agent.local_parameters()));
            told.expect("it is open")
        });
        let minds: Vec<_> = minds.collect();
        let mut one = minds.iter().all(|(role, _)| *role == minds[0].0);
        let mut rest = &minds[..];
        for count in &running.plan.streams {
            let (stream, others) = rest.split_at(usize::from(*count));
            one &= stream.iter().all(|mind| *mind == stream[0]);
            rest = others;
        }
        hold(one, "components are of one mind", || format!("{minds:?}"))?;
    }
    Ok(())
}

/// Both ends of a pair, as the Internet knows them: a machine behind a translator may have another address for them.
fn ends(running: &Running<'_>, pair: &SelectedPair) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let address = |candidate: &Candidate| {
        let (ip, port) = match &candidate.address {
            CandidateAddress::Ip(address) => (address.ip(), address.port()),
            CandidateAddress::Name { name, port } => (running.network.address_of(name)?, *port),
        };
        Some(SocketAddr::new(untranslated(ip), port))
    };
    (address(&pair.local), address(&pair.remote))
}

fn one_nomination(running: &mut Running<'_>) -> Result<(), Rule> {
    for peer in running.peers {
        let stats = running
            .world
            .with_agent(peer, |agent, now| agent.stats(now))
            .unwrap_or_default();
        let nominated = stats
            .iter()
            .filter(|stats| matches!(stats, Stats::CandidatePair(pair) if pair.nominated));
        let count = nominated.count();
        hold(count <= 1, "at most one nomination stands", || {
            format!("{count} at {peer:?}")
        })?;
    }
    Ok(())
}

/// Nothing worse than the best existing kind stays selected. A lossy wire may have taken the better one's checks,
/// and neither one that takes more than twice as long nor one that signaling brings late is waited for.
pub(super) fn best_kind(running: &mut Running<'_>) -> Result<(), Rule> {
    let plan = running.plan;
    let delays = || plan.uplinks().map(|uplink| uplink.link.up.delay);
    let alike = delays().max() <= delays().min().map(|least| 2 * least);
    if !plan.is_calm() || !alike || !plan.is_told_soon() || plan.names != Names::Addresses {
        return Ok(());
    }
    direct_if_possible(running, true)?;
    for (number, peer) in running.peers.into_iter().enumerate() {
        let role = running.world.with_agent(peer, |agent, _| agent.role());
        let [own, other] = [&plan.peers[number], &plan.peers[1 - number]];
        // What a network costs goes before the type, and so does IPv6. After half a minute a path that is faster by a quarter
        // and 10 ms is taken, whatever its type.
        let round_trip = |of: fn([Duration; 2]) -> Duration| {
            let peers = plan.peers.iter().map(|peer| {
                let delays = peer.interfaces.iter().map(|uplink| uplink.link.up.delay);
                delays
                    .reduce(|one, other| of([one, other]))
                    .unwrap_or_default()
            });
            2 * peers.sum::<Duration>()
        };
        let fastest = round_trip(|[one, other]| one.min(other));
        let slowest = round_trip(|[one, other]| one.max(other));
        let is_as_fast = slowest < fastest + fastest / 3 + Duration::from_millis(10);
        let simple = is_as_fast
            && plan
                .uplinks()
                .all(|uplink| uplink.cost == 0 && uplink.net == Net::V4);
        // The controlling side prefers the remote of the best type: the other's host candidates.
        let host_to_host = other
            .interfaces
            .iter()
            .filter(|uplink| uplink.is_open())
            .any(|theirs| {
                own.interfaces
                    .iter()
                    .any(|ours| oracle::path(ours, theirs) == Existence::Yes)
            });
        if role != Ok(Role::Controlling) || !host_to_host || !simple {
            continue;
        }
        // By the address: a check that overtook signaling makes a host candidate peer-reflexive.
        let remote = running
            .world
            .selected_pair(peer)
            .and_then(|pair| pair.remote.ip_address());
        let is_host =
            remote.is_some_and(|remote| running.network.is_own_address(1 - number, remote.ip()));
        hold(is_host, "the best kind is selected", || {
            format!("{remote:?}")
        })?;
    }
    Ok(())
}

/// Neither a relay nor a connection stays selected where datagrams can go directly, as far as what servers see was told.
pub(super) fn direct_if_possible(running: &Running<'_>, told: bool) -> Result<(), Rule> {
    let plan = running.plan;
    let possible = match oracle::direct(plan, &running.present) {
        Existence::Yes => true,
        Existence::WithServers => plan.servers != Servers::None && told,
        Existence::Perhaps | Existence::No => false,
    };
    // What is told when a pair is nominated makes none any more (RFC 8445 section 8.1.2), but between two that take candidates
    // at any time. Before it is told, what a check from a relay has taught cannot be known to be one.
    let in_time = plan.is_told_soon() || plan.is_continual();
    // Where host candidates are told by their names, a translator has no way to them.
    let named = plan.names != Names::Addresses;
    if !possible || !plan.is_calm() || !in_time || named || plan.has_costs() {
        return Ok(());
    }
    for peer in running.peers {
        let pair = running.world.selected_pair(peer);
        let is_direct = pair.is_none_or(|pair| {
            ![pair.local.kind, pair.remote.kind].contains(&CandidateType::Relay)
                && matches!(pair.local.transport, Transport::Udp)
        });
        hold(is_direct, "a direct path is preferred", || {
            format!("{pair:?}")
        })?;
    }
    Ok(())
}

/// Data on the selected pair arrives, unless a wire loses it.
pub(super) fn data_arrives(running: &mut Running<'_>) -> Result<(), Rule> {
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (running.peers[from], running.peers[to]);
        let (sent_before, came_before) = (
            running.world.trace().packets().len(),
            running.world.received(to).len(),
        );
        for number in 0..SENT {
            let payload = [b'd', b'a', b't', b'a', number];
            let sent = running.world.send(from, &payload);
            if sent.is_err() && !running.plan.is_calm() && !running.world.is_up(from) {
                // The wire has broken the connection meanwhile, and the state says so.
                return Ok(());
            }
            hold(sent.is_ok(), "what is up can send", || format!("{sent:?}"))?;
        }
        running.world.run_for(Duration::from_secs(2));
        let came = running.world.received(to).len() - came_before;
        // By way of a relay or a connection it is hidden in something else.
        let data = |packet: &&TracedPacket| packet.payload.starts_with(b"data");
        let sent = running.world.trace().packets()[sent_before..]
            .iter()
            .filter(data);
        let (mut seen, mut arrived) = (false, 0);
        for packet in sent.filter(|packet| packet.sender == from.node) {
            match packet.fate {
                // To the relay's own end of the path.
                Fate::Delivered { .. } if packet.place != Some(to.node) => continue,
                Fate::Delivered { .. } => (seen, arrived) = (true, arrived + 1),
                Fate::Lost => {}
                fate => {
                    let detail = format!("{} > {} {fate}", packet.source, packet.destination);
                    return Err(Rule::new("data arrives unless a wire loses it", detail));
                }
            }
        }
        if seen {
            hold(came == arrived, "data that arrives is handed over", || {
                format!("{came} of {arrived}")
            })?;
        } else if running.plan.is_calm() {
            hold(came == SENT.into(), "data that is relayed arrives", || {
                format!("{came} of {SENT}")
            })?;
        }
    }
    Ok(())
}

/// Datagrams of data that are sent each way.
const SENT: u8 = 5;

/// RFC 8445 section 14.2: two new transactions are at least 5 ms apart. Consent checks, which are spread in time
/// instead (RFC 7675 section 5.1), begin four seconds after the first pair is there.
pub(super) fn pacing(running: &Running<'_>) -> Result<(), Rule> {
    for peer in &running.network.peers {
        let selected = peer.components.iter().filter_map(|agent| {
            let mut events = running.world.events(*agent).iter();
            events.find(|(_, event)| matches!(event, Event::SelectedPairChange(_)))
        });
        let first = selected.map(|(at, _)| *at).min();
        let end = first.map_or(Time::from_millis(u64::MAX), |at| {
            at + Duration::from_millis(3_900)
        });
        let (mut known, mut last) = (BTreeSet::new(), None::<Time>);
        for packet in running.world.trace().packets() {
            if packet.sender != peer.host || packet.copy_of.is_some() || packet.sent >= end {
                continue;
            }
            let Some(request) = request(packet) else {
                continue;
            };
            if !known.insert(request.transaction_id()) {
                continue;
            }
            let gap = last.map(|last| packet.sent.since(last));
            hold(
                gap.is_none_or(|gap| gap >= Duration::from_millis(5)),
                "new transactions are paced",
                || format!("{gap:?} at {:?}", packet.sent),
            )?;
            last = Some(packet.sent);
        }
    }
    Ok(())
}

fn request(packet: &TracedPacket) -> Option<Message<'_>> {
    let datagram = Some(packet).filter(|packet| !packet.flow.is_tcp())?;
    Message::parse(&datagram.payload)
        .ok()
        .filter(|message| message.class() == Class::Request)
}

/// How long idle peers are watched.
const IDLE: Duration = Duration::from_secs(40);
/// Requests by which an allocation is kept in so long, its permissions and channels with it.
const UPKEEP: usize = 12;

/// Idle peers send nothing but consent checks on their pair, answers, keepalives to their server, and what keeps a relay.
pub(super) fn silence(running: &mut Running<'_>) -> Result<(), Rule> {
    // RFC 8445 section 8.1.2: checks of better pairs that are under way may go on until they end.
    let further = FURTHER_CHECKS * (running.plan.components() - 1) as u32;
    running.world.run_for(Duration::from_secs(45) + further);
    let from = running.world.trace().packets().len();
    running.world.run_for(IDLE);
    for peer in [0, 1] {
        // The selected pairs, and what is kept warm to take their place.
        let stats = stats_of(running, peer).concat();
        let kept = stats.iter().filter(|stats| {
            matches!(stats, Stats::CandidatePair(pair) if pair.state == PairState::Succeeded)
        });
        let paths = kept.count();
        let (mut checks, mut keepalives) = (BTreeSet::new(), BTreeSet::new());
        let (mut upkeep, mut segments) = (BTreeSet::new(), 0);
        for packet in &running.world.trace().packets()[from..] {
            if packet.sender != running.network.peers[peer].host || packet.copy_of.is_some() {
                continue;
            }
            if packet.flow.is_tcp() {
                segments += 1;
                continue;
            }
            // What goes by way of the relay is the server's to send on, where it is counted as the peer's answers are.
            let Ok(message) = Message::parse(&packet.payload) else {
                hold(
                    packet.destination.port() == SERVER.port(),
                    "idle peers are silent",
                    || format!("{packet}"),
                )?;
                segments += 1;
                continue;
            };
            let id = message.transaction_id();
            match (message.class(), message.method() == Method::BINDING) {
                (Class::Request, true) if packet.destination == SERVER => keepalives.insert(id),
                (Class::Request, true) => checks.insert(id),
                (Class::Request, false) => upkeep.insert(id),
                _ => continue,
            };
        }
        // RFC 7675 section 5.1: a consent check every four to six seconds; one that was lost is not waited for.
        let most = if running.plan.is_calm() { 11 } else { 33 };
        // Beside a plain peer a restart takes the data to a cheaper network, and begins with checks.
        let restarts = running.plan.plain && running.plan.uplinks().any(|uplink| uplink.cost > 0);
        hold(
            checks.len() <= most * paths || restarts,
            "consent is checked at its pace",
            || format!("{} checks on {paths} paths", checks.len()),
        )?;
        // RFC 8445 section 11: every 15 s at the most often, for each socket.
        let sockets = running.plan.uplinks().count() * running.plan.components();
        hold(
            keepalives.len() <= 4 * sockets,
            "keepalives keep their pace",
            || format!("{} sent", keepalives.len()),
        )?;
        hold(
            upkeep.len() <= UPKEEP * sockets,
            "an allocation is kept with few requests",
            || format!("{} sent", upkeep.len()),
        )?;
        // A check, an answer and an acknowledgement of each, and what keeps the allocation.
        hold(
            segments <= 4 * most * paths + 4 * UPKEEP * sockets,
            "connections and relays carry what idle peers send",
            || format!("{segments} segments and datagrams on {paths} paths"),
        )?;
    }
    Ok(())
}

/// RFC 8445 section 6.1.2.5, and the bound on what checks may teach.
pub(super) fn bounds(running: &mut Running<'_>) -> Result<(), Rule> {
    for peer in [0, 1] {
        let components = stats_of(running, peer);
        let count = |of: &[Stats], is: fn(&Stats) -> bool| of.iter().filter(|of| is(of)).count();
        // Those of all components together. Two generations can be there at a time.
        let is_pair = |stats: &Stats| matches!(stats, Stats::CandidatePair(_));
        let pairs = count(&components.concat(), is_pair);
        hold(pairs <= 200, "pairs are bounded", || {
            format!("{pairs} pairs")
        })?;
        for stats in components {
            let remotes = count(&stats, |stats| matches!(stats, Stats::RemoteCandidate(_)));
            hold(remotes <= 200, "remote candidates are bounded", || {
                format!("{remotes} candidates")
            })?;
        }
    }
    Ok(())
}

/// The statistics of each component of a peer.
fn stats_of(running: &mut Running<'_>, peer: usize) -> Vec<Vec<Stats>> {
    let components = running.network.peers[peer].components.clone();
    let stats = components.into_iter().map(|agent| {
        let stats = running
            .world
            .with_agent(agent, |agent, now| agent.stats(now));
        stats.unwrap_or_default()
    });
    stats.collect()
}
