//! Checks of several checklists: their order, their pacing, their bounds, and their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentError, ChecklistState, EngineConfig, Event, Parameters, Role, State,
};
use nilas_sim::{Link, Realm, Signal, Signaling, World};

use super::{Pair, USUAL, checklist_state, gather, local_parameters, nowhere, session};
use crate::common::{MINUTE, address, gaps, ip, ms, transactions, with_stun};

#[test]
fn new_transactions_of_all_components_keep_the_distance_of_one_agent() {
    for (wish, least) in [(5, ms(5)), (20, ms(20))] {
        let mut world = World::new(1);
        let server = address("198.51.100.1:3478");
        world.add_stun_server(Realm::INTERNET, server, Link::new(ms(10)));
        let [a, b] = [1, 2].map(|n: u8| {
            let addresses = [n, n + 100].map(|n| ip(&format!("192.0.2.{n}")));
            let host = world.add_host(Realm::INTERNET, &addresses, Link::new(ms(10)));
            let mut config = with_stun(Role::Controlling, server);
            config.pacing = ms(wish);
            session(&mut world, host, config, &[2, 2, 1])
        });
        let mut pair = Pair { world, a, b };
        pair.introduce(Signaling::trickled(ms(5)));
        pair.world.run_for(ms(3_900));
        for side in [a, b] {
            let times = transactions(&pair.world, side.node)
                .into_iter()
                .map(|(at, ..)| at);
            let gaps = gaps(times);
            assert!(gaps.len() > 20, "{gaps:?}");
            assert!(gaps.iter().all(|gap| *gap >= least), "{wish}: {gaps:?}");
        }
    }
}

#[test]
fn the_checklists_take_turns() {
    let mut pair = Pair::open(1, USUAL, &[1, 2, 1]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    let mut streams = BTreeMap::new();
    for (stream, component) in [(0, 1), (1, 1), (1, 2), (2, 1)] {
        let agent = pair.world.component(pair.a, stream, component);
        let own = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        streams.insert(own.expect("a host candidate"), stream);
        let foundation = |n: u8| 10 * stream as u32 + u32::from(n);
        let mut signals: Vec<_> = (100..104)
            .map(|n| Signal::Candidate(nowhere(n, component, foundation(n))))
            .collect();
        let ufrag = format!("ufrag{stream}");
        signals.push(Signal::Parameters(Parameters {
            pacing: Some(5),
            ..Parameters::new(ufrag, "a+password+that+is+long+enough")
        }));
        for signal in signals {
            pair.world.deliver(agent, signal).expect("accepted");
        }
    }
    pair.world.run_for(ms(90));
    let order: Vec<_> = transactions(&pair.world, pair.a.node)
        .iter()
        .map(|(_, from, _)| streams[from])
        .collect();
    // Of the four foundations of each stream one pair waits (RFC 8445 section 6.1.2.6), and each checklist has its turn.
    assert_eq!(order, [0, 1, 2].repeat(4));
}

#[test]
fn the_first_success_thaws_its_foundation_for_all_components() {
    let mut pair = Pair::open(1, USUAL, &[2, 2]);
    pair.introduce(Signaling::all_at_once(ms(0)));
    let tried = |world: &World| {
        let all = transactions(world, pair.a.node);
        all.into_iter()
            .map(|(_, _, to)| to)
            .collect::<BTreeSet<_>>()
    };
    // A round trip is 40 ms.
    pair.world.run_for(ms(39));
    assert_eq!(tried(&pair.world).len(), 1, "{:?}", tried(&pair.world));
    pair.world.run_for(ms(20));
    assert_eq!(tried(&pair.world).len(), 4, "{:?}", tried(&pair.world));
}

#[test]
fn a_foundation_that_leads_nowhere_is_tried_by_one_component_until_it_fails() {
    let mut pair = Pair::open(1, USUAL, &[2, 2]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    for (stream, component) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let agent = pair.world.component(pair.a, stream, component);
        // All of one foundation.
        let candidate = nowhere(100 + stream as u8, component, 7);
        let parameters =
            Parameters::new(format!("ufrag{stream}"), "a+password+that+is+long+enough");
        for signal in [Signal::Candidate(candidate), Signal::Parameters(parameters)] {
            pair.world.deliver(agent, signal).expect("accepted");
        }
    }
    let tried = |world: &World| {
        let all = transactions(world, pair.a.node);
        all.into_iter()
            .map(|(_, _, to)| to)
            .collect::<BTreeSet<_>>()
    };
    pair.world.run_for(Duration::from_secs(39));
    assert_eq!(tried(&pair.world).len(), 1, "{:?}", tried(&pair.world));
    // Each has its turn when the one before has failed (section 6.1.4.2, step 2).
    pair.world.run_for(4 * MINUTE);
    assert_eq!(tried(&pair.world).len(), 4, "{:?}", tried(&pair.world));
    let states = pair
        .world
        .with_session(pair.a, |session, _| (session.ice_state(), session.state()));
    assert_eq!(states, Ok((ChecklistState::Failed, State::Failed)));
}

#[test]
fn one_stream_fails_while_another_connects() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::open(1, roles, &[2, 2]);
        for side in [pair.a, pair.b] {
            gather(&mut pair.world, side);
        }
        for component in [1, 2] {
            let [a, b] = [pair.a, pair.b].map(|side| pair.world.component(side, 0, component));
            let signaling = Signaling::all_at_once(ms(0));
            pair.world.signal_between(a, b, signaling).expect("open");
        }
        // The second stream is told of a component that is nowhere, and nothing of the other.
        for (side, other) in [(pair.a, pair.b), (pair.b, pair.a)] {
            let parameters = local_parameters(&mut pair.world, other, 1);
            let told = pair.world.with_session(side, |session, now| {
                session.set_remote_parameters(now, 1, &parameters)?;
                session.add_remote_candidate(now, 1, nowhere(100, 2, 9))?;
                session.end_of_remote_candidates(now, 1)
            });
            assert_eq!(told, Ok(Ok(())));
        }
        pair.world.run_for(2 * MINUTE);
        for side in [pair.a, pair.b] {
            let state = |world: &mut World, stream| checklist_state(world, side, stream);
            assert_eq!(state(&mut pair.world, 0), ChecklistState::Completed);
            assert_eq!(state(&mut pair.world, 1), ChecklistState::Failed);
            let both = pair
                .world
                .with_session(side, |session, _| (session.ice_state(), session.state()));
            assert_eq!(both, Ok((ChecklistState::Running, State::Failed)));
            // RFC 8445 section 8.1.2: the session goes on without the stream.
            let rest = pair.world.with_session(side, |session, now| {
                session.close_stream(now, 1)?;
                assert_eq!(session.component(1, 1), None);
                assert_eq!(session.checklist_state(1), Err(AgentError::UnknownStream));
                Ok::<_, AgentError>((session.ice_state(), session.state(), session.streams()))
            });
            let expected = (ChecklistState::Completed, State::Completed, 2);
            assert_eq!(rest, Ok(Ok(expected)));
        }
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn the_bound_of_pairs_is_for_all_checklists_together() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let mut config = AgentConfig::new(Role::Controlling);
    config.max_pairs = 12;
    let side = session(&mut world, host, config, &[2, 1, 1]);
    gather(&mut world, side);
    world.run_for(ms(1));
    for (stream, component) in [(0, 1), (0, 2), (1, 1), (2, 1)] {
        let agent = world.component(side, stream, component);
        let parameters =
            Parameters::new(format!("ufrag{stream}"), "a+password+that+is+long+enough");
        let signal = Signal::Parameters(parameters);
        world.deliver(agent, signal).expect("accepted");
        for n in 100..120 {
            let candidate = nowhere(n, component, n.into());
            world
                .deliver(agent, Signal::Candidate(candidate))
                .expect("accepted");
        }
    }
    let pairs = |world: &mut World| {
        let agents = world.components(side).into_iter();
        let pairs = agents.map(|agent| {
            let stats = world.with_agent(agent, |agent, now| agent.stats(now));
            let stats = stats.expect("open");
            let is_pair =
                |stats: &&nilas_ice::Stats| matches!(stats, nilas_ice::Stats::CandidatePair(_));
            stats.iter().filter(is_pair).count()
        });
        pairs.collect::<Vec<_>>()
    };
    assert_eq!(pairs(&mut world), [3, 3, 3, 3]);
    // Two more components have their part of it at once.
    let config = AgentConfig::new(Role::Controlling);
    let added = world.with_session(side, |session, now| session.add_stream(now, config, 2));
    assert!(matches!(added, Ok(Ok(_))));
    assert_eq!(pairs(&mut world), [2, 2, 2, 2, 0, 0]);
}

#[test]
fn a_session_is_bounded_and_what_does_not_fit_changes_nothing() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let config = AgentConfig::new(Role::Controlling);
    for components in [0, 5] {
        let refused = world.add_session(host, config.clone(), components);
        assert_eq!(refused, Err(AgentError::SessionTooLarge));
    }
    let side = session(&mut world, host, config.clone(), &[1; 16]);
    let refused = world.with_session(side, |session, now| {
        let added = session.add_stream(now, config.clone(), 1);
        (added, session.streams(), session.restart(now, 16))
    });
    let unknown = Err(AgentError::UnknownStream);
    let expected = (Err(AgentError::SessionTooLarge), 16, unknown);
    assert_eq!(refused, Ok(expected));
    // The same credentials twice.
    let mut given = config;
    given.credentials = Some(Parameters::new("given", "a+password+that+is+long+enough"));
    let first = world.add_session(host, given.clone(), 2).expect("room");
    let again = world.add_session(host, given.clone(), 2);
    assert_eq!(again, Err(AgentError::UfragInUse));
    world
        .with_session(first, |_, _| ())
        .expect("it is still there");
    let mut few = World::new(1);
    let host = few.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let mut engine = EngineConfig::default();
    engine.max_agents = 3;
    few.configure_engine(host, engine);
    let side = few.add_session(host, given.clone(), 2).expect("room");
    let refused = few.with_session(side, |session, now| session.add_stream(now, given, 2));
    assert_eq!(refused, Ok(Err(AgentError::TooManyAgents)));
}
