//! Many sessions on one socket: each gets its own data, and nobody else's.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{AddressPolicy, AgentConfig, EngineConfig, Role};
use nilas_sim::{Agent, Link, NodeId, Realm, Signaling, TurnServer, World};

use crate::common::{MINUTE, address, ip, ms, with_stun};
use crate::relay::{SYMMETRIC, with_turn};

const PORT: u16 = 5_000;

fn sharing(world: &mut World, host: NodeId) {
    let mut config = EngineConfig::default();
    config.shared_port = Some(PORT);
    world.configure_engine(host, config);
}

/// Introduces a pair of agents to each other, and lets both gather.
fn meet(world: &mut World, hosts: [NodeId; 2], roles: [Role; 2]) -> [Agent; 2] {
    let stun = address("198.51.100.1:3478");
    let agents: [Agent; 2] = std::array::from_fn(|n| {
        world
            .add_agent(hosts[n], with_stun(roles[n], stun))
            .expect("room")
    });
    world
        .signal_between(agents[0], agents[1], Signaling::trickled(ms(20)))
        .expect("open");
    for agent in agents {
        world.gather(agent).expect("open");
    }
    agents
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    let stun = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, stun, Link::new(ms(5)));
    world
}

fn host(world: &mut World, address: &str) -> NodeId {
    world.add_host(Realm::INTERNET, &[ip(address)], Link::new(ms(5)))
}

fn connect(world: &mut World, sessions: &[[Agent; 2]]) {
    let up = world.run_until(MINUTE, |world| {
        sessions.iter().flatten().all(|agent| world.is_up(*agent))
    });
    assert!(up.is_some(), "{}", world.trace());
}

/// Every agent says who it is; its peer hears that, and only that.
fn each_hears_its_own(world: &mut World, sessions: &[[Agent; 2]]) {
    for (number, agents) in sessions.iter().enumerate() {
        for (side, agent) in agents.iter().enumerate() {
            let text = format!("session {number}, side {side}");
            world.send(*agent, text.as_bytes()).expect("a path");
        }
    }
    world.run_for(Duration::from_secs(1));
    for (number, agents) in sessions.iter().enumerate() {
        for (side, agent) in agents.iter().enumerate() {
            let heard: Vec<_> = world
                .received(*agent)
                .iter()
                .map(|(_, data)| String::from_utf8_lossy(data))
                .collect();
            assert_eq!(heard, [format!("session {number}, side {}", 1 - side)]);
        }
    }
}

#[test]
fn many_clients_meet_one_port_of_a_server() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        let mut world = world(1);
        let server = host(&mut world, "192.0.2.1");
        sharing(&mut world, server);
        let sessions: Vec<_> = (1..=20)
            .map(|n| {
                let client = host(&mut world, &format!("203.0.113.{n}"));
                meet(&mut world, [server, client], roles)
            })
            .collect();
        connect(&mut world, &sessions);
        let only: SocketAddr = address("192.0.2.1:5000");
        assert_eq!(world.engine_sockets(server), [only]);
        each_hears_its_own(&mut world, &sessions);
        // The socket stays open for as long as one session has it.
        let (last, others) = sessions.split_last().expect("twenty");
        for [agent, _] in others {
            world
                .with_agent(*agent, |agent, now| agent.close(now))
                .expect("open");
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.engine_sockets(server), [only]);
        assert!(world.send(last[1], b"still there?").is_ok());
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.received(last[0]).len(), 2);
        world
            .with_agent(last[0], |agent, now| agent.close(now))
            .expect("open");
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.engine_sockets(server), []);
    }
}

/// Both ends of all sessions are the same two sockets: the first has them, the others find sockets of their own.
#[test]
fn sessions_that_share_a_remote_address_are_not_confused() {
    for seed in 0..50 {
        let mut world = world(seed);
        let hosts = ["192.0.2.1", "203.0.113.1"].map(|address| {
            let host = host(&mut world, address);
            sharing(&mut world, host);
            host
        });
        let sessions: Vec<_> = (0..6)
            .map(|n| {
                // Sessions begin one after the other, and at once.
                world.run_for(ms(seed % 3 * 40));
                let roles = match n % 2 {
                    0 => [Role::Controlling, Role::Controlled],
                    _ => [Role::Controlled, Role::Controlling],
                };
                meet(&mut world, hosts, roles)
            })
            .collect();
        connect(&mut world, &sessions);
        world.run_for(Duration::from_secs(2));
        each_hears_its_own(&mut world, &sessions);
    }
}

/// A restart finds the same socket again.
#[test]
fn a_restart_keeps_the_shared_socket() {
    let mut world = world(7);
    let server = host(&mut world, "192.0.2.1");
    sharing(&mut world, server);
    let sessions: Vec<_> = (1..=3)
        .map(|n| {
            let client = host(&mut world, &format!("203.0.113.{n}"));
            meet(
                &mut world,
                [server, client],
                [Role::Controlling, Role::Controlled],
            )
        })
        .collect();
    connect(&mut world, &sessions);
    for side in [0, 1] {
        world
            .with_agent(sessions[1][side], |mut agent, now| agent.restart(now))
            .expect("open");
        world.run_for(Duration::from_secs(2));
        connect(&mut world, &sessions);
    }
    each_hears_its_own(&mut world, &sessions);
    assert_eq!(world.engine_sockets(server), [address("192.0.2.1:5000")]);
}

/// The port is another's: each agent says so, and the sessions fail for that reason.
#[test]
fn a_port_that_is_taken_is_told() {
    let mut world = world(1);
    let server = host(&mut world, "192.0.2.1");
    world
        .bind_udp(server, address("192.0.2.1:5000"))
        .expect("free");
    sharing(&mut world, server);
    let agents = [0; 2].map(|_| {
        let agent = world
            .add_agent(server, AgentConfig::new(Role::Controlling))
            .expect("room");
        world.gather(agent).expect("open");
        agent
    });
    world.run_for(ms(10));
    for agent in agents {
        let told = world.events(agent).iter().any(|(_, event)| {
            matches!(event, nilas_ice::Event::CandidateError(error) if error.error_text.contains("in use"))
        });
        assert!(told, "{:?}", world.events(agent));
    }
}

/// A TURN server knows its clients by their addresses: the second agent asks it from a socket of its own.
#[test]
fn agents_that_share_a_socket_have_a_relay_each() {
    let mut world = World::new(3);
    let relay = TurnServer::new("ann", "secret").expect("good words");
    let relay = world.add_turn_server(
        Realm::INTERNET,
        &[ip("198.51.100.1")],
        Link::new(ms(5)),
        relay,
    );
    let server = host(&mut world, "192.0.2.1");
    sharing(&mut world, server);
    let sessions: Vec<[Agent; 2]> = (1..=3)
        .map(|n| {
            let outside = ip(&format!("203.0.113.{n}"));
            let (_, home) = world.add_nat(Realm::INTERNET, outside, Link::new(ms(5)), SYMMETRIC);
            let client = world.add_host(home, &[ip("10.0.0.2")], Link::default());
            let agents = [
                (server, Role::Controlling, true),
                (client, Role::Controlled, false),
            ]
            .map(|(host, role, relayed)| {
                let mut config = with_turn(role, "secret");
                if relayed {
                    config.addresses = AddressPolicy::RelayOnly;
                }
                world.add_agent(host, config).expect("room")
            });
            world
                .signal_between(agents[0], agents[1], Signaling::trickled(ms(20)))
                .expect("open");
            for agent in agents {
                world.gather(agent).expect("open");
            }
            agents
        })
        .collect();
    connect(&mut world, &sessions);
    each_hears_its_own(&mut world, &sessions);
    assert_eq!(world.engine_sockets(server).len(), 3);
    // What they have serves the next generation, too.
    let made = world.turn_counters(relay).allocations_made;
    for [own, _] in &sessions {
        let restarted = world.with_agent(*own, |mut agent, now| agent.restart(now));
        restarted.expect("open");
    }
    world.run_for(MINUTE);
    assert!(sessions.iter().flatten().all(|agent| world.is_up(*agent)));
    assert_eq!(world.turn_counters(relay).allocations_made, made);
}
