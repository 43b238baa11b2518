//! A session that something has happened to finds the path without a relay again.

use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentMut, CandidateType, Event, GatheringState, Role, StreamTransport,
    TcpCandidates, Time, TurnTransport,
};
use nilas_sim::{
    Agent, Dependence, Link, Nat, NodeId, Realm, Router, Signaling, TurnServer, World,
};

use crate::common::{MINUTE, Peers, address, ip, ms};
use crate::ice_tcp::transports;
use crate::mobility::ROLES;
use crate::relay::{SYMMETRIC, kinds, with_turn};

use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

const TCP: TurnTransport = TurnTransport::Stream(StreamTransport::Tcp);

/// Two peers with STUN and a relay; the first controls or not.
struct Scene {
    world: World,
    role: Role,
    transport: TurnTransport,
    hosts: Vec<NodeId>,
    /// Of the hosts' first interfaces.
    homes: Vec<Realm>,
}

fn link() -> Link {
    Link::new(ms(10))
}

impl Scene {
    fn new(role: Role, transport: TurnTransport) -> Self {
        let mut world = World::new(1);
        let server = TurnServer::new("ann", "secret").expect("good words");
        world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link(), server);
        Self {
            world,
            role,
            transport,
            hosts: Vec::new(),
            homes: Vec::new(),
        }
    }

    fn add(&mut self, home: Realm, inside: &str, link: Link) {
        let host = self.world.add_host(home, &[ip(inside)], link);
        self.hosts.push(host);
        self.homes.push(home);
    }

    fn behind(mut self, nat: Nat) -> Self {
        let number = self.hosts.len() + 1;
        let outside = ip(&format!("203.0.113.{number}"));
        let (_, home) = self.world.add_nat(Realm::INTERNET, outside, link(), nat);
        self.add(home, "10.0.0.2", Link::default());
        self
    }

    /// Another network of the latest host.
    fn and_behind(mut self, nat: Nat) -> Self {
        let (_, home) = self
            .world
            .add_nat(Realm::INTERNET, ip("203.0.113.9"), link(), nat);
        let host = *self.hosts.last().expect("a host");
        self.world
            .add_interface(host, home, &[ip("10.0.1.2")], Link::default());
        self
    }

    fn connected(
        self,
        signaling: Signaling,
        configure: impl Fn(&mut AgentConfig),
    ) -> (Peers, Vec<Realm>) {
        let (mut peers, homes) = self.introduced(signaling, configure);
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(MINUTE);
        assert_direct(&peers, "at first");
        (peers, homes)
    }

    fn introduced(
        mut self,
        signaling: Signaling,
        configure: impl Fn(&mut AgentConfig),
    ) -> (Peers, Vec<Realm>) {
        let roles = [self.role, self.role.opposite()];
        let agents: Vec<Agent> = { self.hosts.iter().zip(roles) }
            .map(|(host, role)| {
                let mut config = with_turn(role, "secret");
                config.turn_servers[0].transport = self.transport;
                config
                    .stun_servers
                    .push(address("198.51.100.1:3478").into());
                configure(&mut config);
                self.world.add_agent(*host, config).expect("room")
            })
            .collect();
        let mut peers = Peers {
            world: self.world,
            a: agents[0],
            b: agents[1],
        };
        peers.introduce(signaling);
        (peers, self.homes)
    }
}

fn assert_direct(peers: &Peers, what: &str) {
    for (local, remote) in kinds(peers) {
        let relayed = [local, remote].contains(&CandidateType::Relay);
        assert!(!relayed, "{what}: {local:?} and {remote:?}");
    }
}

fn move_to(peers: &mut Peers, host: NodeId, home: Realm, inside: &str) {
    peers
        .world
        .move_interface(host, 0, home, &[ip(inside)], Link::default())
        .expect("nobody else has it");
}

/// The peer's new address sends a check to the relay before signaling brings it, in a session that has nominated long ago. It
/// is checked from all networks all the same.
#[test]
fn where_a_check_to_the_relay_has_overtaken_the_candidate() {
    for role in ROLES {
        let scene = Scene::new(role, TCP)
            .behind(Nat::new(EndpointIndependent, AddressDependent))
            .behind(Nat::new(AddressDependent, AddressAndPortDependent));
        let (mut peers, homes) = scene.connected(Signaling::trickled(ms(300)), |_| {});
        let host = peers.a.node;
        move_to(&mut peers, host, homes[0], "10.0.0.3");
        peers.world.run_for(2 * MINUTE);
        assert_direct(&peers, &format!("{role:?}"));
        peers.assert_mirrored_and_working();
    }
}

/// A server answers after the session has come back by a relay. The peer knows the address already, but of the relay's checks
/// alone: it is told, and checked without the relay.
#[test]
fn where_the_server_answers_after_the_peer_has_learned_the_address() {
    for role in ROLES {
        let scene = Scene::new(role, TCP)
            .behind(SYMMETRIC)
            .behind(Nat::new(EndpointIndependent, AddressDependent));
        let (mut peers, _) = scene.connected(Signaling::all_at_once(ms(60)), |_| {});
        let host = peers.b.node;
        peers.world.set_up(host, false);
        peers.world.run_for(Duration::from_secs(37));
        peers.world.set_up(host, true);
        peers.world.run_for(3 * MINUTE);
        assert_direct(&peers, &format!("{role:?}"));
        peers.assert_mirrored_and_working();
    }
}

/// A server that is asked over the network that is gone keeps the restart gathering after a pair was nominated. What comes back
/// meanwhile takes another restart, for one side does not take candidates at any time.
#[test]
fn where_a_network_comes_back_while_a_restart_still_gathers() {
    for role in ROLES {
        let mut scene =
            Scene::new(role, TCP).behind(Nat::new(AddressDependent, AddressAndPortDependent));
        scene.add(Realm::INTERNET, "203.0.113.8", Link::new(ms(57)));
        let scene = scene.and_behind(Nat::new(EndpointIndependent, AddressAndPortDependent));
        let configure = |config: &mut AgentConfig| config.continual = false;
        let (mut peers, _) = scene.connected(Signaling::trickled(ms(0)), configure);
        let host = peers.b.node;
        peers.world.remove_interface(host, 0);
        let restarted = |mut agent: AgentMut<'_>, now| agent.restart(now);
        peers.world.with_agent(peers.b, restarted).expect("open");
        peers.world.run_for(Duration::from_secs(23));
        let gathering = |(_, event): &(Time, Event)| match event {
            Event::GatheringStateChange(state) => Some(*state),
            _ => None,
        };
        let last = peers.world.events(peers.b).iter().rev().find_map(gathering);
        assert_eq!(last, Some(GatheringState::Gathering), "{role:?}");
        peers
            .world
            .move_interface(
                host,
                0,
                Realm::INTERNET,
                &[ip("203.0.113.8")],
                Link::new(ms(57)),
            )
            .expect("nobody else has it");
        peers.world.run_for(2 * MINUTE);
        assert_direct(&peers, &format!("{role:?}"));
        peers.assert_mirrored_and_working();
    }
}

/// Both NATs map by destination, and one lets strangers in: a check has to come in there before one goes out. To the address
/// that the peer's NAT had for the path of before, none goes out from the new one.
#[test]
fn where_a_check_of_ours_would_be_too_early() {
    for role in ROLES {
        let scene = Scene::new(role, TCP)
            .behind(Nat::new(AddressDependent, AddressAndPortDependent))
            .behind(Nat::new(AddressDependent, EndpointIndependent));
        let (mut peers, homes) = scene.connected(Signaling::trickled(ms(0)), |_| {});
        let host = peers.b.node;
        peers.world.remove_interface(host, 0);
        peers.world.run_for(Duration::from_secs(3));
        move_to(&mut peers, host, homes[1], "10.0.0.2");
        peers.world.run_for(2 * MINUTE);
        assert_direct(&peers, &format!("{role:?}"));
        peers.assert_mirrored_and_working();
    }
}

/// Behind a translator the peer sees the own relay at an address that no candidate has. It is a relay all the same, and is left
/// when a network comes back.
#[test]
fn where_a_translator_hides_that_the_path_is_relayed() {
    for role in ROLES {
        let mut scene = Scene::new(role, TurnTransport::Udp)
            .behind(Nat::new(AddressAndPortDependent, AddressDependent));
        let router = Router::new()
            .with_nat(&[ip("203.0.113.7")], SYMMETRIC)
            .with_nat64("2001:db8:64::/96".parse().expect("a prefix"));
        let (_, home) = scene.world.add_router(Realm::INTERNET, link(), router);
        scene.add(Realm::INTERNET, "203.0.113.8", Link::new(ms(53)));
        let host = scene.hosts[1];
        scene
            .world
            .add_interface(host, home, &[ip("2001:db8:a1::10")], Link::default());
        let (mut peers, _) = scene.connected(Signaling::trickled(ms(0)), |_| {});
        peers.world.remove_interface(host, 0);
        peers.world.run_for(Duration::from_secs(4));
        peers
            .world
            .move_interface(
                host,
                0,
                Realm::INTERNET,
                &[ip("203.0.113.8")],
                Link::new(ms(53)),
            )
            .expect("nobody else has it");
        peers.world.run_for(3 * MINUTE);
        assert_direct(&peers, &format!("{role:?}"));
        peers.assert_mirrored_and_working();
    }
}

/// Datagrams are gone over to from a connection (RFC 6544) as soon as they pass again, also where they take longer.
#[test]
fn where_datagrams_pass_again_beside_a_connection() {
    for (role, renominates) in ROLES
        .into_iter()
        .flat_map(|role| [true, false].map(|it| (role, it)))
    {
        let mut scene = Scene::new(role, TurnTransport::Udp);
        let far = Link::new(ms(30));
        scene.add(Realm::INTERNET, "203.0.113.1", link());
        scene.add(Realm::INTERNET, "203.0.113.2", far);
        let host = scene.hosts[1];
        let router = Router::new()
            .with_prefix("192.0.2.0/24".parse().expect("a network"))
            .with_firewall(crate::ice_tcp::no_udp(nilas_sim::Firewall::open()));
        let (_, office) = scene.world.add_router(Realm::INTERNET, link(), router);
        scene
            .world
            .add_interface(host, office, &[ip("192.0.2.2")], Link::default());
        let configure = |config: &mut AgentConfig| {
            config.tcp = TcpCandidates::All;
            config.continual = renominates;
        };
        let (mut peers, _) = scene.connected(Signaling::trickled(ms(5)), configure);
        peers.world.remove_interface(host, 0);
        peers.world.run_for(MINUTE);
        for agent in peers.both() {
            assert!(transports(&peers, agent)[0].is_some(), "{role:?}");
        }
        peers
            .world
            .move_interface(host, 0, Realm::INTERNET, &[ip("203.0.113.2")], far)
            .expect("nobody else has it");
        peers.world.run_for(2 * MINUTE);
        for agent in peers.both() {
            assert_eq!(transports(&peers, agent), [None; 2], "{role:?}");
        }
        peers.assert_mirrored_and_working();
    }
}

/// The second network leads to no server, and goes while the relay is still waited for that it was to be asked for: then nothing
/// more is.
#[test]
fn where_the_address_goes_that_gathering_waits_for_it_ends() {
    for role in ROLES {
        let mut scene = Scene::new(role, TurnTransport::Udp)
            .behind(Nat::default())
            .and_behind(Nat::default())
            .behind(Nat::default());
        let host = scene.hosts[0];
        let deaf = Link::default().with_loss(1.0);
        scene.world.set_interface_link(host, 1, deaf);
        let (mut peers, _) = scene.introduced(Signaling::trickled(ms(25)), |config| {
            config.continual = false;
            config.stun_servers.clear();
        });
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(Duration::from_secs(2));
        let has_ended = |peers: &Peers| {
            let complete = Event::GatheringStateChange(GatheringState::Complete);
            let mut events = peers.world.events(peers.a).iter();
            events.any(|(_, event)| *event == complete)
        };
        assert!(!has_ended(&peers), "it waits");
        peers.world.remove_interface(host, 1);
        peers.world.run_for(Duration::from_secs(2));
        assert!(
            has_ended(&peers),
            "{role:?}: {:#?}",
            peers.world.events(peers.a)
        );
        peers.assert_mirrored_and_working();
    }
}
