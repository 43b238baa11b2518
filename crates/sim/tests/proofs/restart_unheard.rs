//! Peers that do not hear each other: restarts before anything passed, and a path that one side has given up.

use crate::common::{MINUTE, Setup, ms};
use nilas_ice::State;

#[test]
fn a_session_that_failed_unheard_connects_after_a_restart() {
    for restarting in [&[0][..], &[1], &[0, 1]] {
        let mut peers = Setup::default().introduced();
        let (a, b) = (peers.a, peers.b);
        peers.world.set_up(a.node, false);
        let failed = peers.world.run_until(2 * MINUTE, |world| {
            [a, b]
                .iter()
                .all(|agent| world.state(*agent) == State::Failed)
        });
        assert!(failed.is_some(), "{restarting:?}");
        peers.world.set_up(a.node, true);
        for peer in restarting {
            peers
                .world
                .with_agent([a, b][*peer], |mut agent, now| agent.restart(now))
                .expect("open");
        }
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{restarting:?}: {:?}",
            peers.world.state(a)
        );
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn a_session_that_restarts_before_it_began_connects() {
    for first in [0, 1] {
        for waits in [[0, 0], [0, 20], [20, 0], [20, 60]].map(|waits| waits.map(ms)) {
            // Nothing passes while they are told of each other and restart, once or twice.
            let mut peers = Setup::default().introduced();
            let (a, both) = (peers.a, peers.both());
            peers.world.set_up(a.node, false);
            for (side, wait) in [(first, waits[0]), (1 - first, waits[1]), (first, waits[0])] {
                peers.world.run_for(wait);
                peers
                    .world
                    .with_agent(both[side], |mut agent, now| agent.restart(now))
                    .expect("open");
            }
            peers.world.set_up(a.node, true);
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{first} {waits:?}: {:?}",
                peers.world.state(a)
            );
            peers.assert_mirrored_and_working();
        }
    }
}

#[test]
fn a_path_that_one_side_has_given_up_is_given_up_by_both() {
    // Whoever's answers were taken first loses consent first, maybe just before the wire is mended.
    let mut given_up = 0;
    for seed in 1..=20 {
        let mut peers = Setup {
            seed,
            ..Setup::default()
        }
        .completed();
        let b = peers.b;
        peers.world.run_for(MINUTE);
        peers.world.set_up(b.node, false);
        peers.world.run_for(ms(26_000));
        peers.world.set_up(b.node, true);
        peers.world.run_for(MINUTE + MINUTE);
        let [at_a, at_b] = peers.both().map(|agent| peers.world.state(agent));
        assert_eq!(
            at_a.is_up(),
            at_b.is_up(),
            "seed {seed}: {at_a:?}, {at_b:?}"
        );
        given_up += usize::from(at_b == State::Failed);
    }
    assert!(
        (1..20).contains(&given_up),
        "{given_up} of 20: too little to prove anything"
    );
}
