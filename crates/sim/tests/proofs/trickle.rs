//! Trickle (RFC 8838): whatever the order and the pace in which signals come.

use std::time::Duration;

use crate::common::{MINUTE, Peers, Setup, address, ip, ms, quarter, with_stun};
use nilas_ice::{AgentConfig, AgentError, Candidate, Role, State};
use nilas_sim::{Agent, Link, Nat, Realm, Signal, World};

/// Two peers behind NATs, with host and server-reflexive candidates.
fn behind_nats(seed: u64) -> Peers {
    behind_nats_as(seed, Role::Controlling)
}

/// The same, where `a` has this role.
fn behind_nats_as(seed: u64, a: Role) -> Peers {
    let mut world = World::new(seed);
    let server = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, server, Link::new(ms(10)));
    let [a, b] = [1, 2].map(|n| {
        let outside = ip(&format!("203.0.113.{n}"));
        let (_, home) = world.add_nat(Realm::INTERNET, outside, quarter(ms(50)), Nat::default());
        let host = world.add_host(home, &[ip(&format!("192.168.{n}.2"))], Link::default());
        let role = if n == 1 { a } else { a.opposite() };
        world
            .add_agent(host, with_stun(role, server))
            .expect("room")
    });
    Peers { world, a, b }
}

/// Gathers everything, and says what each side has to tell the other.
fn gathered(peers: &mut Peers) -> [Vec<Signal>; 2] {
    peers.gather();
    peers.world.run_for(Duration::from_secs(1));
    let signals = peers.both().map(|agent| peers.told(agent));
    for signals in &signals {
        assert_eq!(
            signals.len(),
            4,
            "parameters, a host and a server-reflexive candidate, the end"
        );
    }
    signals
}

fn deliver(peers: &mut Peers, to: Agent, signal: &Signal) {
    peers
        .world
        .deliver(to, signal.clone())
        .unwrap_or_else(|error| panic!("{signal:?}: {error}"));
}

#[test]
fn any_interleaving_connects() {
    // Each bit says which side's next signal comes; parameters first, as RFC 8838 wants, and every pace.
    for interleaving in 0_u32..256 {
        for pace in [0, 3, 40, 700].map(ms) {
            let mut peers = behind_nats(interleaving.into());
            let signals = gathered(&mut peers);
            let mut queues = signals.map(Vec::into_iter);
            for bit in 0..16 {
                let side = (interleaving >> (bit % 8)) as usize & 1;
                let next = queues[side].next().map(|signal| (side, signal));
                let next =
                    next.or_else(|| queues[1 - side].next().map(|signal| (1 - side, signal)));
                if let Some((side, signal)) = next {
                    let to = peers.both()[1 - side];
                    deliver(&mut peers, to, &signal);
                    peers.world.run_for(pace);
                }
            }
            let up = peers.run_until_up(MINUTE);
            assert!(
                up.is_some(),
                "{interleaving:08b} at {pace:?}:\n{}",
                peers.world.trace()
            );
            peers.world.run_for(Duration::from_secs(5));
            peers.assert_data_both_ways();
        }
    }
}

#[test]
fn candidates_in_reverse_order() {
    let mut peers = behind_nats(1);
    let signals = gathered(&mut peers);
    for side in [0, 1] {
        let to = peers.both()[1 - side];
        let [parameters, host, srflx, end] = &signals[side][..] else {
            panic!("{:?}", signals[side])
        };
        for signal in [parameters, srflx, host, end] {
            deliver(&mut peers, to, signal);
        }
    }
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.assert_data_both_ways();
}

#[test]
fn a_candidate_told_twice_is_one() {
    let mut peers = behind_nats(1);
    let signals = gathered(&mut peers);
    for side in [0, 1] {
        let to = peers.both()[1 - side];
        for signal in &signals[side] {
            deliver(&mut peers, to, signal);
            if matches!(signal, Signal::Candidate(_)) {
                deliver(&mut peers, to, signal);
            }
        }
    }
    let a = peers.a;
    // A pair per remote candidate: the server-reflexive local candidate is pruned to its base
    // (RFC 8445 section 6.1.2.4).
    assert_eq!(peers.pair_stats(a).len(), 2);
    assert!(peers.run_until_up(MINUTE).is_some());
}

#[test]
fn nothing_comes_after_the_end_of_candidates() {
    let mut peers = behind_nats(1);
    let signals = gathered(&mut peers);
    let to = peers.b;
    let [Signal::Parameters(parameters), host, srflx, end] = &signals[0][..] else {
        panic!("{:?}", signals[0])
    };
    // A peer that does not offer to go on; beside one that does, it is taken.
    let mut parameters = parameters.clone();
    parameters.options.retain(|option| option != "continual");
    for signal in [&Signal::Parameters(parameters), host, end] {
        deliver(&mut peers, to, signal);
    }
    assert_eq!(
        peers.world.deliver(to, srflx.clone()),
        Err(AgentError::AfterEndOfCandidates)
    );
}

#[test]
fn candidates_that_cannot_be_used_are_refused_and_harm_nothing() {
    let mut peers = Setup::default().introduced();
    peers.world.run_for(ms(1));
    let b = peers.parameters(peers.b);
    for line in [
        "candidate:1 1 tcp 2105458943 192.0.2.7 9 typ host tcptype active",
        "candidate:1 2 udp 2122260223 192.0.2.7 9 typ host",
        "candidate:1 1 udp 2122260223 host.local 9 typ host",
        "candidate:1 1 udp 2122260223 0.0.0.0 9 typ host",
        "candidate:1 1 udp 2122260223 192.0.2.7 0 typ host",
        "candidate:1 1 udp 2122260223 224.0.0.1 9 typ host",
    ] {
        let candidate: Candidate = line.parse().expect("the grammar allows it");
        let refused = peers.world.deliver(peers.a, Signal::Candidate(candidate));
        assert!(refused.is_err(), "{line}");
    }
    let other: Candidate = "candidate:1 1 udp 2122260223 192.0.2.7 9 typ host ufrag someoneelse"
        .parse()
        .expect("grammar");
    assert_ne!(other.ufrag.as_deref(), Some(b.ufrag.as_str()));
    assert!(
        peers
            .world
            .deliver(peers.a, Signal::Candidate(other))
            .is_err()
    );
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.assert_mirrored_and_working();
}

#[test]
fn candidates_that_trickle_for_long_are_awaited() {
    // Only the last of them works, and it comes after every check of the others was sent.
    for seconds in [2, 10, 25] {
        let mut peers = behind_nats(1);
        let signals = gathered(&mut peers);
        for side in [0, 1] {
            let to = peers.both()[1 - side];
            deliver(&mut peers, to, &signals[side][0]);
            deliver(&mut peers, to, &signals[side][1]);
        }
        peers.world.run_for(Duration::from_secs(seconds));
        for agent in peers.both() {
            assert_ne!(peers.world.state(agent), State::Failed, "{seconds} s");
        }
        for side in [0, 1] {
            let to = peers.both()[1 - side];
            deliver(&mut peers, to, &signals[side][2]);
            deliver(&mut peers, to, &signals[side][3]);
        }
        let before = peers.world.now();
        let up = peers
            .run_until_up(MINUTE)
            .unwrap_or_else(|| panic!("{}", peers.world.trace()));
        assert!(
            up.since(before) <= ms(100),
            "two round trips: {:?}",
            up.since(before)
        );
    }
}

#[test]
fn a_candidate_of_another_generation_that_came_before_the_parameters_is_dropped() {
    let mut peers = Setup::default().peers();
    peers.gather();
    let early: Candidate = "candidate:1 1 udp 2122260223 203.0.113.9 9 typ host ufrag someoneelse"
        .parse()
        .expect("grammar");
    // Whether it is refused now or dropped later, no check may go there.
    let _ = peers.world.deliver(peers.a, Signal::Candidate(early));
    peers.tell(peers.a);
    peers.tell(peers.b);
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(Duration::from_secs(5));
    assert!(
        peers
            .world
            .trace()
            .packets()
            .iter()
            .all(|packet| packet.destination.ip() != ip("203.0.113.9"))
    );
    assert_eq!(peers.world.state(peers.a), State::Completed);
}

/// RFC 8838 section 16: who offers does not know yet whether the peer trickles, and tells all at once. A peer that never
/// does answers in the same way.
#[test]
fn half_trickle_and_none_at_all_connect_in_both_roles() {
    for role in [Role::Controlling, Role::Controlled] {
        for answers_by_trickle in [true, false] {
            for pace in [0, 20, 300].map(ms) {
                let mut peers = behind_nats_as(1, role);
                let [a, b] = peers.both();
                peers.world.gather(a).expect("open");
                peers.world.run_for(Duration::from_secs(1));
                let mut offer = peers.told(a);
                assert_eq!(offer.last(), Some(&Signal::EndOfCandidates));
                // What an agent says that was written before RFC 8838.
                for signal in &mut offer {
                    if let Signal::Parameters(parameters) = signal {
                        parameters.options.clear();
                    }
                }
                peers.world.gather(b).expect("open");
                for signal in &offer {
                    deliver(&mut peers, b, signal);
                }
                if !answers_by_trickle {
                    peers.world.run_for(Duration::from_secs(1));
                }
                let mut told = 0;
                while told < 4 {
                    for signal in peers.told(b).into_iter().skip(told) {
                        peers.world.run_for(pace);
                        deliver(&mut peers, a, &signal);
                        told += 1;
                    }
                    peers.world.run_for(ms(1));
                }
                assert!(
                    peers.run_until_up(MINUTE).is_some(),
                    "{role:?} {pace:?}:\n{}",
                    peers.world.trace()
                );
                peers.world.run_for(Duration::from_secs(10));
                for agent in peers.both() {
                    assert_eq!(peers.world.state(agent), State::Completed);
                    assert_eq!(peers.world.refused(agent), []);
                }
                peers.assert_mirrored_and_working();
            }
        }
    }
}

/// A check that overtakes signaling makes a peer-reflexive candidate, which is paired with the network that the check came
/// by alone (RFC 8445 section 7.3.1.3). The candidate that signaling brings later is paired with all.
#[test]
fn a_candidate_that_a_check_overtook_is_paired_with_all_networks() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut world = World::new(1);
        let link = Link::new(ms(10));
        let (_, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), link, Nat::default());
        let a = world.add_host(Realm::INTERNET, &[ip("203.0.113.2")], link);
        // Checks of the peer do not come in here, and it costs less.
        world.add_interface(a, home, &[ip("192.168.1.2")], link);
        world.set_interface_cost(a, 0, 900);
        let b = world.add_host(Realm::INTERNET, &[ip("198.51.100.1")], link);
        let [a, b] = [(a, role), (b, role.opposite())]
            .map(|(host, role)| world.add_agent(host, AgentConfig::new(role)).expect("room"));
        let mut peers = Peers { world, a, b };
        peers.gather();
        peers.tell(b);
        peers.world.run_for(ms(100));
        peers.tell(a);
        peers.world.run_for(Duration::from_secs(20));
        peers.assert_mirrored_and_working();
        let base = peers.world.selected_pair(a).expect("a pair").base;
        assert_eq!(base.ip(), ip("192.168.1.2"), "{}", peers.world.trace());
    }
}
