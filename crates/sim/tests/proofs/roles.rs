//! Role conflicts heal (RFC 8445 sections 7.2.5.1 and 7.3.1.1), whatever the tie-breakers are.

use crate::common::{Check, MINUTE, Setup, ms};
use nilas_ice::{Event, Role, State};
use nilas_sim::{Link, Realm, Signaling};
use nilas_stun::{Class, ErrorCode, Message};

#[test]
fn both_controlling_or_both_controlled() {
    for roles in [[Role::Controlling; 2], [Role::Controlled; 2]] {
        for seed in 0..20 {
            for signaling in [0, 30].map(ms) {
                let mut peers = Setup {
                    seed,
                    roles,
                    ..Setup::default()
                }
                .peers();
                peers.introduce(Signaling::trickled(signaling));
                let up = peers.run_until_up(MINUTE);
                assert!(
                    up.is_some(),
                    "{roles:?}, seed {seed}:\n{}",
                    peers.world.trace()
                );
                let (a, b) = (peers.a, peers.b);
                let done = peers.world.run_until(MINUTE, |world| {
                    world.state(a) == State::Completed && world.state(b) == State::Completed
                });
                assert!(
                    done.is_some(),
                    "{roles:?}, seed {seed}:\n{}",
                    peers.world.trace()
                );
                assert_ne!(peers.role(a), peers.role(b), "{roles:?}, seed {seed}");
                // One of them switched, once, and said so.
                let switches = [a, b].map(|agent| {
                    let events = peers.world.events(agent).iter();
                    events
                        .filter(|(_, event)| matches!(event, Event::RoleChange(_)))
                        .count()
                });
                assert_eq!(
                    switches.iter().sum::<usize>(),
                    1,
                    "{roles:?}, seed {seed}: {switches:?}"
                );
                peers.assert_mirrored_and_working();
            }
        }
    }
}

#[test]
fn role_conflicts_heal_under_loss() {
    for roles in [[Role::Controlling; 2], [Role::Controlled; 2]] {
        for seed in 0..20 {
            let mut peers = Setup {
                seed,
                roles,
                loss: 0.2,
                ..Setup::default()
            }
            .introduced();
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{roles:?}, seed {seed}"
            );
            peers.world.run_for(MINUTE);
            assert_ne!(
                peers.role(peers.a),
                peers.role(peers.b),
                "{roles:?}, seed {seed}"
            );
            peers.assert_mirrored_and_working();
        }
    }
}

/// The answer of `a` to a check by someone who knows the credentials and uses a role and tie-breaker.
fn answer_to(role: Role, controlling: Option<u64>, controlled: Option<u64>) -> (Option<u16>, Role) {
    let mut peers = Setup {
        roles: [role, role.opposite()],
        ..Setup::default()
    }
    .peers();
    peers.world.gather(peers.a).expect("open");
    peers.world.run_for(ms(1));
    let (a, own) = (peers.a, peers.parameters(peers.a));
    let stranger = peers.world.add_host(
        Realm::INTERNET,
        &[crate::common::ip("192.0.2.77")],
        Link::default(),
    );
    let check = Check {
        to_ufrag: &own.ufrag,
        to_pwd: &own.pwd,
        from_ufrag: "peer",
        id: 1,
        controlling,
        controlled,
        nominate: false,
        component: 1,
    };
    let host = peers
        .world
        .events(a)
        .iter()
        .find_map(|(_, event)| match event {
            Event::Candidate(candidate) => candidate.ip_address(),
            _ => None,
        });
    let source = crate::common::address("192.0.2.77:7");
    peers.world.inject(
        stranger,
        source,
        host.expect("a host candidate"),
        &check.bytes(),
    );
    peers.world.run_for(ms(100));
    let code = crate::common::sent_by(&peers.world, a.node).find_map(|packet| {
        let message = Message::parse(&packet.payload).ok()?;
        match message.class() {
            Class::SuccessResponse => Some(None),
            Class::ErrorResponse => {
                Some(message.error_code().ok().flatten().map(|code| code.code()))
            }
            _ => None,
        }
    });
    (code.expect("an answer"), peers.role(a))
}

#[test]
fn the_tie_breaker_decides() {
    let conflict = Some(ErrorCode::ROLE_CONFLICT.code());
    // RFC 8445 section 7.3.1.1: the larger tie-breaker keeps or gets the controlling role.
    assert_eq!(
        answer_to(Role::Controlling, Some(0), None),
        (conflict, Role::Controlling)
    );
    assert_eq!(
        answer_to(Role::Controlling, Some(u64::MAX), None),
        (None, Role::Controlled)
    );
    assert_eq!(
        answer_to(Role::Controlled, None, Some(u64::MAX)),
        (conflict, Role::Controlled)
    );
    assert_eq!(
        answer_to(Role::Controlled, None, Some(0)),
        (None, Role::Controlling)
    );
    // No conflict.
    assert_eq!(
        answer_to(Role::Controlling, None, Some(u64::MAX)),
        (None, Role::Controlling)
    );
    assert_eq!(
        answer_to(Role::Controlled, Some(0), None),
        (None, Role::Controlled)
    );
}
