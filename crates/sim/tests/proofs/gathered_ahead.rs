//! Candidates that were gathered before there was a peer: what the pool of RFC 8829 section 3.5.4 rests on.

use std::time::Duration;

use nilas_ice::{CandidateType, GatheringState, Role, State};
use nilas_sim::{Link, Nat, Realm, Signaling, World};
use nilas_stun::Class;

use crate::common::{MINUTE, Peers, address, ip, message, ms, quarter, sent_by, with_stun};

const SERVER: &str = "198.51.100.1:3478";

/// Two peers behind NATs that forget a flow after 30 seconds. `a` has this role.
fn peers(seed: u64, role: Role) -> Peers {
    let mut world = World::new(seed);
    world.add_stun_server(Realm::INTERNET, address(SERVER), Link::new(ms(10)));
    let mut nat = Nat::default();
    nat.lifetime = Duration::from_secs(30);
    let [a, b] = [(1, role), (2, role.opposite())].map(|(n, role)| {
        let outside = ip(&format!("203.0.113.{n}"));
        let (_, home) = world.add_nat(Realm::INTERNET, outside, quarter(ms(50)), nat);
        let host = world.add_host(home, &[ip(&format!("192.168.{n}.2"))], Link::default());
        world
            .add_agent(host, with_stun(role, address(SERVER)))
            .expect("room")
    });
    Peers { world, a, b }
}

/// The candidates of `a` have waited for an hour when the call comes, and the NAT still knows the port that the server
/// saw (RFC 8445 section 5.1.1.4).
#[test]
fn candidates_that_waited_for_an_hour_are_as_good_as_new() {
    for role in [Role::Controlling, Role::Controlled] {
        for seed in 1..6 {
            let mut peers = peers(seed, role);
            let a = peers.a;
            peers.world.gather(a).expect("open");
            peers.world.run_for(60 * MINUTE);
            let ahead = peers
                .world
                .with_agent(a, |agent, _| (agent.gathering_state(), agent.state()));
            assert_eq!(ahead, Ok((GatheringState::Complete, State::New)));
            let told = peers.told(a);
            // Whoever waits asks the server no more often than its NAT has to be reminded.
            let asked = sent_by(&peers.world, a.node).count();
            assert!(asked <= 60 * 4 + 10, "{asked} packets in an hour");

            let called = peers.world.now();
            peers.introduce(Signaling::trickled(ms(25)));
            let up = peers.run_until_up(MINUTE).expect("a path");
            // Both are up when signaling and two round trips have passed: nothing is gathered anew.
            assert!(
                up <= called + ms(25 + 2 * 50 + 50),
                "seed {seed} {role:?}: {:?}",
                up.since(called)
            );
            assert_eq!(peers.told(a), told, "seed {seed} {role:?}");
            peers.world.run_for(Duration::from_secs(5));
            peers.assert_data_both_ways();
            let remote = peers.world.selected_pair(peers.b).expect("a pair");
            assert_ne!(remote.remote.kind, CandidateType::Host);
            let kept = sent_by(&peers.world, a.node)
                .filter(|packet| packet.sent < called)
                .filter(|packet| packet.destination == address(SERVER));
            let kinds = kept.filter_map(|packet| message(packet, Class::Request));
            assert!(kinds.count() >= 1);
        }
    }
}
