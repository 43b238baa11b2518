//! What else is kept beside the path that carries the data: at what rate, and what happens when that is doubted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nilas_ice::{Event, Time};
use nilas_sim::{Agent, Link, World};

use crate::common::{MINUTE, gaps, ip, ms, transactions};
use crate::mobility::{ROLES, Scene};

/// When an agent's checks left since then, by the way they took.
fn checks(world: &World, agent: Agent, since: Time) -> BTreeMap<(IpAddr, IpAddr), Vec<Time>> {
    let mut ways: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, from, to) in transactions(world, agent.node) {
        if at >= since {
            ways.entry((from.ip(), to.ip())).or_default().push(at);
        }
    }
    ways
}

/// Two uplinks, and nobody says anything: consent on the one, and one exchange each 15 s on the other.
#[test]
fn an_idle_standby_is_asked_every_fifteen_seconds_and_lives() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 2);
        scene.world.run_for(MINUTE);
        let since = scene.world.now();
        scene.world.run_for(10 * MINUTE);
        let selected = scene.world.selected_pair(scene.phone).expect("a pair");
        let (selected, phone) = (selected.base.ip(), scene.phone);
        let asked = checks(&scene.world, phone, since);
        let bases: BTreeSet<_> = asked.keys().map(|(from, _)| *from).collect();
        assert_eq!(bases.len(), 2, "{role:?}: {:?}", asked.keys());
        for ((from, to), times) in &asked {
            let (least, most) = match *from == selected {
                // RFC 7675 section 5.1.
                true => (ms(4_000), ms(6_000)),
                false => (ms(14_900), ms(15_100)),
            };
            assert!(
                gaps(times.clone())
                    .iter()
                    .all(|gap| (least..=most).contains(gap)),
                "{role:?}: from {from} to {to} at {times:?}"
            );
        }
        // The NAT on its way has not forgotten it.
        scene
            .world
            .set_interface_link(phone.node, 0, Link::default().with_loss(1.0));
        let gaps = scene.talk(Duration::from_secs(10));
        scene.assert_within(gaps, ms(1_000));
        scene.assert_unbroken();
    }
}

/// Data that came all the time is missing: both ways are asked, at the pace of checks, before the next consent check.
#[test]
fn a_suspicion_asks_every_way_at_once_and_keeps_the_pace() {
    for role in ROLES {
        for seed in 1..6 {
            let mut scene = Scene::connected(seed, role, 2);
            let (phone, begun) = (scene.phone, scene.world.now());
            let way = |scene: &Scene| scene.world.selected_pair(phone).map(|pair| pair.base.ip());
            let before = way(&scene);
            let dead = Link::default().with_loss(1.0);
            scene.world.set_interface_link(phone.node, 0, dead);
            scene.talk(ms(1_000));
            assert_ne!(way(&scene), before, "seed {seed} {role:?}");
            let moved = |(at, event): &(Time, Event)| {
                (*at > begun && matches!(event, Event::SelectedPairChange(_))).then_some(*at)
            };
            let moved = scene.world.events(phone).iter().find_map(moved);
            let moved = moved.expect("it moved");
            let asked = checks(&scene.world, phone, begun);
            let bases: BTreeSet<_> = asked
                .iter()
                .filter(|(_, times)| times.iter().any(|at| *at <= moved))
                .map(|((from, _), _)| *from)
                .collect();
            assert_eq!(bases.len(), 2, "seed {seed} {role:?}: {asked:?}");
            let mut times: Vec<_> = asked.into_values().flatten().collect();
            times.sort_unstable();
            assert!(
                gaps(times.clone()).iter().all(|gap| *gap >= ms(5)),
                "seed {seed} {role:?}: {times:?}"
            );
        }
    }
}

/// Of three ways two die at once. The better of the standbys was alive when it was asked last, and does not answer now: the
/// data never takes it, and what takes no answer renews no consent.
#[test]
fn data_moves_only_to_a_way_that_answers() {
    for role in ROLES {
        for seed in 1..6 {
            let mut scene = Scene::connected(seed, role, 3);
            let (phone, begun) = (scene.phone, scene.world.now());
            let dead = Link::default().with_loss(1.0);
            for uplink in 0..2 {
                scene.world.set_interface_link(phone.node, uplink, dead);
            }
            let gaps = scene.talk(Duration::from_secs(20));
            scene.assert_within(gaps, ms(1_000));
            let events = scene.world.events(phone).iter();
            let moves: Vec<IpAddr> = events
                .filter(|(at, _)| *at > begun)
                .filter_map(|(_, event)| match event {
                    Event::SelectedPairChange(pair) => Some(pair.base.ip()),
                    _ => None,
                })
                .collect();
            let alive = ip("10.0.4.2");
            assert!(
                !moves.is_empty() && moves.iter().all(|way| *way == alive),
                "seed {seed} {role:?}: {moves:?}"
            );
            scene.assert_unbroken();
        }
    }
}
