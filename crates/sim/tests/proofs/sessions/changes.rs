//! What happens to a session later: restarts, changes of role, streams and components that end.

use std::time::Duration;

use nilas_ice::{
    AgentError, CandidateType, ChecklistState, Event, RecordingOptions, Role, SessionEvent, State,
    priority, replay,
};
use nilas_sim::{Agent, Link, Signal, Signaling, World};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Pair, USUAL, checklist_state, gather, local_parameters, nowhere};
use crate::common::{MINUTE, ip, ms, states};

#[test]
fn a_restart_of_one_stream_leaves_the_other_alone() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::behind_nats(1, roles, &[2, 2]);
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        let parameters = |pair: &mut Pair| {
            [0, 1].map(|stream| {
                [pair.a, pair.b].map(|side| local_parameters(&mut pair.world, side, stream))
            })
        };
        let before = parameters(&mut pair);
        let pairs = pair.components();
        let events = |world: &World, agents: &[[Agent; 2]]| {
            let count = |agent: &Agent| world.events(*agent).len();
            agents.concat().iter().map(count).sum::<usize>()
        };
        let quiet = events(&pair.world, &pairs[2..]);
        let restarted = pair
            .world
            .with_session(pair.a, |session, now| session.restart(now, 0));
        assert_eq!(restarted, Ok(Ok(())));
        // The old pairs carry the data meanwhile (RFC 8445 section 9).
        pair.assert_each_has_its_own_path();
        pair.world.run_for(Duration::from_secs(10));
        let after = parameters(&mut pair);
        for side in [0, 1] {
            assert_ne!(after[0][side].ufrag, before[0][side].ufrag);
            assert_ne!(after[0][side].pwd, before[0][side].pwd);
            assert_eq!(after[1][side], before[1][side]);
        }
        assert_eq!(after[0][0].answers, None);
        assert_eq!(after[0][1].answers.as_ref(), Some(&after[0][0].ufrag));
        for agent in pairs[..2].concat() {
            let told = pair
                .world
                .events(agent)
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::LocalParameters(parameters) => Some(parameters),
                    _ => None,
                });
            let side = usize::from(agent.node == pair.b.node);
            assert_eq!(told.collect::<Vec<_>>(), [&after[0][side]]);
        }
        assert_eq!(
            events(&pair.world, &pairs[2..]),
            quiet,
            "the other stream told something"
        );
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_component_that_restarts_takes_its_stream_with_it() {
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
    pair.introduce(Signaling::trickled(ms(20)));
    pair.run_until_completed();
    let before = local_parameters(&mut pair.world, pair.b, 0);
    let second = pair.world.component(pair.b, 0, 2);
    let restarted = pair
        .world
        .with_agent(second, |mut agent, now| agent.restart(now));
    restarted.expect("open");
    let after = local_parameters(&mut pair.world, pair.b, 0);
    assert_ne!(after.ufrag, before.ufrag);
    for component in [1, 2] {
        let agent = pair.world.component(pair.b, 0, component);
        let own = pair
            .world
            .with_agent(agent, |agent, _| agent.local_parameters());
        assert_eq!(own.as_ref(), Ok(&after));
    }
    pair.world.run_for(Duration::from_secs(10));
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
}

#[test]
fn both_sides_restart_at_once_and_each_stream_comes_back() {
    for seed in 0..10 {
        let mut pair = Pair::behind_nats(seed, USUAL, &[2, 2]);
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        // Each by another component, so that the two sides are not told in the same order.
        for (side, component) in [(pair.a, 1), (pair.b, 2)] {
            let agent = pair.world.component(side, 0, component);
            let restarted = pair
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now));
            restarted.expect("open");
        }
        pair.world.run_for(Duration::from_secs(10));
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_role_conflict_changes_all_components() {
    for roles in [[Role::Controlling; 2], [Role::Controlled; 2]] {
        for seed in 0..20 {
            let mut pair = Pair::behind_nats(seed, roles, &[2, 2]);
            pair.introduce(Signaling::trickled(ms(20)));
            pair.run_until_completed();
            let (a, b) = (pair.a, pair.b);
            let (of_a, of_b) = (pair.roles(a), pair.roles(b));
            assert_eq!((of_a.len(), of_b.len()), (1, 1), "{roles:?}, seed {seed}");
            assert_ne!(of_a, of_b, "{roles:?}, seed {seed}");
            // One side switched, once, and each of its components said so.
            let switches = pair.components().concat().into_iter().map(|agent| {
                let told = pair.world.events(agent).iter();
                told.filter(|(_, event)| matches!(event, Event::RoleChange(_)))
                    .count()
            });
            let switches: Vec<_> = switches.collect();
            assert_eq!(
                switches.iter().sum::<usize>(),
                4,
                "{roles:?}, seed {seed}: {switches:?}"
            );
            assert!(switches.iter().all(|times| *times <= 1), "{switches:?}");
            pair.assert_each_has_its_own_path();
        }
    }
}

#[test]
fn a_stream_goes_on_without_one_of_its_components() {
    // RTP and RTCP on one port after all (RFC 5761 section 5.1.3); and the first may go, too.
    for gone in [2, 1] {
        let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
        for side in [pair.a, pair.b] {
            gather(&mut pair.world, side);
            let agent = pair.world.component(side, 0, gone);
            let closed = pair.world.with_agent(agent, |agent, now| agent.close(now));
            closed.expect("open");
        }
        let signaling = Signaling::trickled(ms(5));
        let (a, b) = (pair.a, pair.b);
        pair.world
            .signal_between_sessions(a, b, signaling)
            .expect("open");
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
        assert_eq!(
            checklist_state(&mut pair.world, a, 0),
            ChecklistState::Completed
        );
        let refused = pair.world.with_session(a, |session, now| {
            session.add_remote_candidate(now, 0, nowhere(100, gone, 9))
        });
        assert_eq!(refused, Ok(Err(AgentError::UnusableCandidate)));
        // Its ufrag is still called, and after a restart another one is.
        let restarted = pair
            .world
            .with_session(a, |session, now| session.restart(now, 0));
        assert_eq!(restarted, Ok(Ok(())));
        pair.world.run_for(Duration::from_secs(10));
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_check_that_comes_to_another_component_makes_no_path() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::open(1, roles, &[2]);
        let [a, b] = [pair.a, pair.b];
        for side in [a, b] {
            gather(&mut pair.world, side);
        }
        pair.world.run_for(ms(1));
        // As where a NAT has given the second component the port by which it knew the first.
        let [own, second] = [(a, 1), (b, 2)].map(|(side, n)| pair.world.component(side, 0, n));
        let mut events = pair.world.events(second).iter();
        let told = events.find_map(|(_, event)| match event {
            Event::Candidate(candidate) => Some(candidate.clone()),
            _ => None,
        });
        let mut wrong = told.expect("b has told a candidate");
        wrong.component = 1;
        wrong.priority = priority(CandidateType::Host, u16::MAX, 1);
        let parameters = local_parameters(&mut pair.world, b, 0);
        for signal in [Signal::Parameters(parameters), Signal::Candidate(wrong)] {
            pair.world.deliver(own, signal).expect("it may be used");
        }
        pair.introduce(Signaling::trickled(ms(5)));
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_session_ends_with_its_last_component() {
    let mut pair = Pair::open(1, USUAL, &[2, 1]);
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    let (a, agents) = (pair.a, pair.world.components(pair.a));
    for agent in &agents {
        let closed = pair.world.with_agent(*agent, |agent, now| agent.close(now));
        closed.expect("open");
    }
    let gone = pair.world.with_session(a, |_, _| ());
    assert_eq!(gone, Err(AgentError::UnknownSession));
    let told = pair.world.session_events(a);
    let last = told.last().map(|(_, event)| *event);
    assert_eq!(last, Some(SessionEvent::StateChange(State::Closed)));
    assert!(states(&pair.world, agents[0]).contains(&State::Closed));
}

/// Without a network all checks of a restart come to their end before it is back. What it brings are pairs of components that
/// have failed.
#[test]
fn components_that_failed_without_a_network_connect_when_it_is_back() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut world = World::new(1);
        let homes = Pair::fill_homes(&mut world, roles, &[2, 1]);
        let [(a, home), (b, _)] = homes;
        let mut pair = Pair { world, a, b };
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        pair.world.remove_interface(a.node, 0);
        pair.world.run_for(Duration::from_secs(53));
        for agent in pair.world.components(a) {
            assert_eq!(pair.world.state(agent), State::Failed, "{roles:?}");
        }
        let back = [ip("192.168.1.2")];
        pair.world
            .move_interface(a.node, 0, home, &back, Link::default())
            .expect("nobody else has it");
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn whatever_happens_the_components_stay_of_one_mind() {
    for seed in 0..15 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = move |end: u32| random.next_u32() % end;
        let roles = [below(2), below(2)].map(|n| USUAL[n as usize]);
        let components: Vec<u16> = (0..=below(3)).map(|_| 1 + below(3) as u16).collect();
        let mut world = World::new(seed);
        world.record_hosts(RecordingOptions::default());
        let homes = Pair::fill_homes(&mut world, roles, &components);
        let [a, b] = homes.map(|(side, _)| side);
        let mut pair = Pair { world, a, b };
        let loss = f64::from(below(6)) / 100.0;
        for side in [a, b] {
            pair.world
                .set_link(side.node, Link::new(ms(2)).with_loss(loss));
        }
        pair.introduce(Signaling::trickled(ms(u64::from(below(100)))));
        for _ in 0..12 {
            pair.world.run_for(ms(u64::from(below(3_000))));
            let (side, home) = homes[below(2) as usize];
            let agents = pair.world.components(side);
            let agent = agents[below(agents.len() as u32) as usize];
            match below(4) {
                0 => {
                    let told = pair
                        .world
                        .with_agent(agent, |mut agent, now| agent.restart(now));
                    told.expect("open");
                }
                1 => {
                    // Each network has nobody else in it.
                    let addresses = [ip(&format!("192.168.9.{}", 1 + below(200)))];
                    let link = Link::new(ms(2)).with_loss(loss);
                    let moved = pair
                        .world
                        .move_interface(side.node, 0, home, &addresses, link);
                    moved.expect("an address that is free");
                }
                2 => {
                    let stream = below(components.len() as u32) as usize;
                    let told = pair
                        .world
                        .with_session(side, |session, now| session.restart(now, stream));
                    assert_eq!(told, Ok(Ok(())), "seed {seed}");
                }
                _ => {}
            }
            for side in [a, b] {
                assert_eq!(pair.roles(side).len(), 1, "seed {seed}");
                for (stream, count) in components.iter().enumerate() {
                    let own = local_parameters(&mut pair.world, side, stream);
                    for component in 1..=*count {
                        let agent = pair.world.component(side, stream, component);
                        let told = pair
                            .world
                            .with_agent(agent, |agent, _| agent.local_parameters());
                        assert_eq!(told.as_ref(), Ok(&own), "seed {seed}");
                    }
                }
            }
        }
        for side in [a, b] {
            pair.world.set_link(side.node, Link::new(ms(2)));
        }
        pair.world.run_for(2 * MINUTE);
        let mut unsettled = pair.components().concat();
        unsettled.retain(|agent| pair.world.state(*agent) != State::Completed);
        assert_eq!(unsettled, [], "seed {seed}");
        pair.assert_each_has_its_own_path();
        for side in [a, b] {
            let recording = pair.world.end_recording(side.node);
            let played = replay(&recording).expect("a recording");
            assert_eq!(played.difference, None, "seed {seed}");
        }
    }
}
