//! A peer that comes late, and checks that arrive before the peer's description does.

use std::time::Duration;

use crate::common::{MINUTE, Setup, first_selected, message, ms, sent_by};
use nilas_ice::{Role, Time};
use nilas_sim::{Fate, Signal, Signaling};
use nilas_stun::Class;

#[test]
fn a_description_that_comes_late() {
    for seconds in [7, 30] {
        for (late, roles) in [
            (0, [Role::Controlling, Role::Controlled]),
            (0, [Role::Controlled, Role::Controlling]),
            (1, [Role::Controlling, Role::Controlled]),
        ] {
            // One side is told nothing of the other, which checks all the while.
            let mut peers = Setup {
                roles,
                ..Setup::default()
            }
            .peers();
            peers.gather();
            let [early, silent] = if late == 0 {
                peers.both()
            } else {
                [peers.b, peers.a]
            };
            peers.tell(early);
            peers.world.run_for(Duration::from_secs(seconds));
            peers.tell(silent);
            let up = peers.run_until_up(MINUTE);
            assert!(
                up.is_some(),
                "{seconds} s, {late}, {roles:?}:\n{}",
                peers.world.trace()
            );
            peers.assert_mirrored_and_working();
        }
    }
}

#[test]
fn a_peer_whose_network_comes_late() {
    for seconds in [7, 30] {
        for late in [0, 1] {
            // Both know each other, and one of them is not reachable yet: checks of the other time out.
            let mut peers = Setup::default().peers();
            let node = peers.both()[late].node;
            peers.introduce(Signaling::all_at_once(ms(10)));
            peers.world.set_up(node, false);
            peers.world.run_for(Duration::from_secs(seconds));
            peers.world.set_up(node, true);
            let up = peers.run_until_up(MINUTE);
            assert!(
                up.is_some(),
                "{seconds} s, {late}:\n{}",
                peers.world.trace()
            );
            peers.assert_mirrored_and_working();
        }
    }
}

#[test]
fn checks_before_the_description_are_answered_at_once_and_remembered() {
    let roles = [Role::Controlling, Role::Controlled];
    for (seconds, roles) in [(7, roles), (30, roles), (30, [roles[1], roles[0]])] {
        let round_trip = ms(50);
        let mut peers = Setup {
            round_trip,
            roles,
            ..Setup::default()
        }
        .peers();
        let (a, b) = (peers.a, peers.b);
        peers.gather();
        peers.tell(a);
        peers.world.run_for(Duration::from_secs(seconds));

        // RFC 8445 section 7.3: a's check was answered in the moment it arrived.
        let check = sent_by(&peers.world, a.node)
            .find(|packet| message(packet, Class::Request).is_some())
            .expect("a checks")
            .clone();
        let Fate::Delivered { at: arrived, .. } = check.fate else {
            panic!("{check}")
        };
        let answer = sent_by(&peers.world, b.node)
            .find(|packet| message(packet, Class::SuccessResponse).is_some())
            .expect("b answers");
        assert_eq!(answer.sent, arrived);
        assert!(
            sent_by(&peers.world, b.node).all(|packet| message(packet, Class::Request).is_none())
        );
        assert!(peers.world.is_up(a), "a has a valid pair");

        // Only the parameters of a come, no candidate: what was remembered is checked at once.
        let parameters = peers.parameters(a);
        let now = peers.world.now();
        peers
            .world
            .deliver(b, Signal::Parameters(parameters))
            .expect("accepted");
        let triggered = sent_by(&peers.world, b.node)
            .find(|packet| message(packet, Class::Request).is_some())
            .expect("a triggered check");
        assert_eq!((triggered.sent, triggered.destination), (now, check.source));
        assert!(peers.run_until_up(MINUTE).is_some());
        assert_eq!(first_selected(&peers.world, b), Some(now + round_trip));
        peers.assert_data_both_ways();
    }
}

#[test]
fn nobody_comes() {
    // The peer's description never comes, or its candidates do not: bounded, with the reason.
    for parameters in [false, true] {
        let mut peers = Setup::default().peers();
        let (a, b) = (peers.a, peers.b);
        peers.world.gather(a).expect("open");
        if parameters {
            let parameters = peers.parameters(b);
            peers
                .world
                .deliver(a, Signal::Parameters(parameters))
                .expect("accepted");
            peers
                .world
                .deliver(a, Signal::EndOfCandidates)
                .expect("accepted");
        }
        peers.world.run_for(2 * MINUTE);
        let failed = peers.world.state_at(a, nilas_ice::State::Failed);
        if parameters {
            // RFC 8863 section 4: patience first; a peer may still show itself by a check.
            let failed = failed.expect("it gives up");
            assert!(failed >= Time::from_millis(39_500), "{failed:?}");
            assert!(failed <= Time::from_millis(45_000), "{failed:?}");
            let verdict = peers
                .world
                .with_agent(a, |agent, _| agent.verdict())
                .expect("open");
            assert_eq!(verdict, Some(nilas_ice::Verdict::NoRemoteCandidates));
        } else {
            // Without a description there is nothing to fail at: the application decides how long.
            assert_eq!(failed, None);
        }
    }
}
