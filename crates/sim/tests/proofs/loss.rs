//! Loss, duplicates, other orders, and paths that work in one direction only.

use std::time::Duration;

use crate::common::{MINUTE, Peers, Setup, lossy, ms};
use nilas_ice::{AgentConfig, Role, State, Verdict};
use nilas_sim::{Link, Realm, Signaling, Wire, World};

#[test]
fn both_connect_under_loss() {
    for loss in [0.0, 0.05, 0.2] {
        let mut times: Vec<Duration> = (0..200)
            .map(|seed| {
                let mut peers = Setup {
                    seed,
                    loss,
                    ..Setup::default()
                }
                .introduced();
                let up = peers.run_until_up(MINUTE);
                let up = up.unwrap_or_else(|| {
                    panic!("loss {loss}, seed {seed}:\n{}", peers.world.trace())
                });
                if seed % 20 == 0 {
                    peers.world.run_for(Duration::from_secs(20));
                    peers.assert_mirrored_and_working();
                }
                up.since(nilas_ice::Time::ZERO)
            })
            .collect();
        times.sort_unstable();
        let [median, late, last] = [times[100], times[190], times[199]];
        println!("loss {loss}: both connected, median {median:?}, 95 % {late:?}, last {last:?}");
        // design: a check without an answer after about 1.5 round trips gets a new transaction, so
        // that loss costs round trips and not the seconds of retransmission timers.
        let bound = if loss == 0.0 {
            [50, 50, 50]
        } else {
            [150, 1_000, 5_000]
        };
        assert!(median <= ms(bound[0]), "loss {loss}: median {median:?}");
        assert!(late <= ms(bound[1]), "loss {loss}: 95 % {late:?}");
        assert!(last <= ms(bound[2]), "loss {loss}: last {last:?}");
    }
}

fn peers_over(seed: u64, a: Link, b: Link) -> Peers {
    let mut world = World::new(seed);
    let hosts = [("192.0.2.1", a), ("192.0.2.2", b)].map(|(address, link)| {
        world.add_host(Realm::INTERNET, &[crate::common::ip(address)], link)
    });
    let a = world
        .add_agent(hosts[0], AgentConfig::new(Role::Controlling))
        .expect("room");
    let b = world
        .add_agent(hosts[1], AgentConfig::new(Role::Controlled))
        .expect("room");
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    peers
}

#[test]
fn duplicates_and_other_orders_are_harmless() {
    for seed in 0..50 {
        let link = Link::new(ms(5)).with_jitter(ms(60)).with_duplication(0.5);
        let mut peers = peers_over(seed, link, link);
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "seed {seed}:\n{}",
            peers.world.trace()
        );
        peers.world.run_for(MINUTE);
        peers.assert_mirrored_and_working();
        for agent in peers.both() {
            let states = crate::common::states(&peers.world, agent);
            assert!(
                !states.contains(&State::Disconnected) && !states.contains(&State::Failed),
                "{states:?}"
            );
        }
    }
}

#[test]
fn much_loss_in_one_direction_only() {
    for seed in 0..50 {
        let heavy = Link::asymmetric(lossy(Wire::new(ms(12)), 0.5), Wire::new(ms(12)));
        let mut peers = peers_over(seed, heavy, Link::new(ms(12)));
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "seed {seed}:\n{}",
            peers.world.trace()
        );
        peers.world.run_for(Duration::from_secs(20));
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn a_path_in_one_direction_only_is_none() {
    let mute = Link::asymmetric(lossy(Wire::new(ms(12)), 1.0), Wire::new(ms(12)));
    let mut peers = peers_over(1, mute, Link::new(ms(12)));
    peers.world.run_for(2 * MINUTE);
    let (a, b) = (peers.a, peers.b);
    // A transaction takes 39.5 s with the defaults of RFC 8489 section 6.2.1. b's checks reach a, and
    // each of them gives a reason for one more (RFC 8445 section 7.3.1.4), the last after 31.5 s.
    for (agent, expected, seconds) in [
        (a, Verdict::OneWay { pairs: 1 }, 75),
        (b, Verdict::RelayNeeded { pairs: 1 }, 45),
    ] {
        assert_eq!(
            peers.world.state(agent),
            State::Failed,
            "{:#?}",
            peers.world.events(agent)
        );
        let verdict = peers
            .world
            .with_agent(agent, |agent, _| agent.verdict())
            .expect("open");
        assert_eq!(verdict, Some(expected));
        let failed = peers
            .world
            .state_at(agent, State::Failed)
            .expect("it failed");
        assert!(
            failed <= nilas_ice::Time::from_millis(seconds * 1_000),
            "{failed:?}"
        );
        assert_eq!(crate::common::first_selected(&peers.world, agent), None);
    }
}

#[test]
fn a_path_that_was_dead_for_seconds_is_found_when_it_works() {
    for seconds in [1, 5, 15, 30] {
        let mute = Link::asymmetric(lossy(Wire::new(ms(12)), 1.0), Wire::new(ms(12)));
        let mut peers = peers_over(seconds, mute, Link::new(ms(12)));
        peers.world.run_for(Duration::from_secs(seconds));
        let node = peers.a.node;
        peers.world.set_link(node, Link::new(ms(12)));
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{seconds} s:\n{}",
            peers.world.trace()
        );
        peers.assert_mirrored_and_working();
    }
}
