//! Credentials of a TURN server that end while a session lasts.

use std::time::Duration;

use nilas_ice::{
    AddressPolicy, AgentConfig, AgentError, Credentials, RecordingOptions, Role, State,
    StreamTransport, TurnServer as Server, TurnTransport, replay,
};
use nilas_sim::{Link, NodeId, Realm, TurnServer, World};
use nilas_turn::server::ServerConfig;

use crate::common::{MINUTE, Peers, ip, ms};
use crate::relay::SYMMETRIC;

const HOUR: Duration = Duration::from_secs(3_600);
const TRANSPORTS: [(u16, TurnTransport); 3] = [
    (3478, TurnTransport::Udp),
    (3478, TurnTransport::Stream(StreamTransport::Tcp)),
    (443, TurnTransport::Stream(StreamTransport::Tls)),
];

/// Made with the secret `north`, with `openssl dgst -sha1 -hmac`. They end ten minutes after a world begins.
fn brief() -> Credentials {
    Credentials {
        username: "1700000600:ann".into(),
        password: "7frJsC9X1ENSUqDpiZimUxlaSY8=".into(),
    }
}

/// The same, and they end after a day.
fn fresh() -> Credentials {
    Credentials {
        username: "1700086400:ann".into(),
        password: "7FWQB06tq8mR4TsnapfLHms2f5Y=".into(),
    }
}

/// Two peers that only a relay connects, with credentials that end soon.
fn peers(strict: bool, (port, transport): (u16, TurnTransport)) -> (Peers, NodeId) {
    let mut world = World::new(1);
    world.record_hosts(RecordingOptions::default());
    let mut config = ServerConfig::new("sim.example").expect("good words");
    config.add_secret(b"north").expect("it is not empty");
    config.strict_expiry = strict;
    config.peer_rule.allow = vec!["198.51.100.0/24".parse().expect("a network")];
    let server = TurnServer::with_config(config).on_tls(&[443]);
    let link = Link::new(ms(12));
    let server = world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link, server);
    let hosts = [1, 2].map(|n| {
        let outside = ip(&format!("203.0.113.{n}"));
        let (_, home) = world.add_nat(Realm::INTERNET, outside, link, SYMMETRIC);
        world.add_host(home, &[ip(&format!("10.0.{n}.2"))], Link::default())
    });
    let configs = [Role::Controlling, Role::Controlled].map(|role| {
        let mut config = AgentConfig::new(role);
        config.addresses = AddressPolicy::RelayOnly;
        let relay = Server::new("198.51.100.1", port, transport, brief());
        config.turn_servers.push(relay);
        config
    });
    let mut peers = Peers::meet(world, hosts, configs, ms(25));
    assert!(peers.run_until_up(MINUTE).is_some());
    (peers, server)
}

fn renew(peers: &mut Peers) {
    for agent in peers.both() {
        let given = peers.world.with_agent(agent, |mut agent, now| {
            agent.set_turn_credentials(now, 0, &fresh())
        });
        assert_eq!(given, Ok(Ok(())));
    }
}

fn assert_up(peers: &mut Peers, what: &str) {
    let up = peers.both().map(|agent| peers.world.state(agent));
    assert!(up.iter().all(|state| state.is_up()), "{what}: {up:?}");
    peers.assert_data_both_ways();
}

/// What was recorded holds neither the secrets nor anything but what the engine did.
fn assert_replays(peers: &mut Peers) {
    for agent in peers.both() {
        let recording = peers.world.end_recording(agent.node);
        for secret in [brief().password, fresh().password] {
            let secret = secret.as_bytes();
            assert!(!recording.windows(secret.len()).any(|part| part == secret));
        }
        let played = replay(&recording).expect("a recording");
        assert_eq!(played.difference, None);
    }
}

#[test]
fn an_allocation_outlives_the_credentials_that_it_was_made_with() {
    for transport in TRANSPORTS {
        let (mut peers, server) = peers(false, transport);
        peers.world.run_for(2 * HOUR);
        assert_up(&mut peers, &format!("{transport:?}"));
        let counters = peers.world.turn_counters(server);
        assert_eq!(counters.allocations_made, 2, "{transport:?}");
    }
}

#[test]
fn what_is_lost_after_they_ended_is_allocated_with_fresh_ones() {
    for transport in TRANSPORTS {
        for renewed in [true, false] {
            let (mut peers, server) = peers(false, transport);
            if renewed {
                renew(&mut peers);
            }
            peers.world.run_for(20 * MINUTE);
            peers.world.reboot(server);
            peers.world.run_for(5 * MINUTE);
            if renewed {
                assert_up(&mut peers, &format!("{transport:?}"));
            } else {
                assert_eq!(peers.world.state(peers.a), State::Failed, "{transport:?}");
            }
            assert_replays(&mut peers);
        }
    }
}

#[test]
fn where_the_server_ends_allocations_with_their_credentials_others_are_made_with_fresh_ones() {
    for transport in TRANSPORTS {
        let (mut peers, server) = peers(true, transport);
        renew(&mut peers);
        peers.world.run_for(HOUR);
        assert_up(&mut peers, &format!("{transport:?}"));
        let counters = peers.world.turn_counters(server);
        assert_eq!(counters.allocations_made, 4, "{transport:?}");
        assert_replays(&mut peers);
    }
}

#[test]
fn a_server_that_an_agent_does_not_have_gets_no_credentials() {
    let (mut peers, _) = peers(false, TRANSPORTS[0]);
    let given = peers.world.with_agent(peers.a, |mut agent, now| {
        agent.set_turn_credentials(now, 1, &fresh())
    });
    assert_eq!(given, Ok(Err(AgentError::UnknownServer)));
}
