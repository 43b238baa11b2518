//! A peer that is gone for good is missed, whatever was under way when it went.

use std::time::Duration;

use nilas_ice::{AgentConfig, Mode, Role, State};
use nilas_sim::{Link, Realm, Signaling, World};

use crate::common::{MINUTE, Peers, ip, ms, quarter};

const SEEDS: core::ops::Range<u64> = 1..300;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        choices[(self.0 >> 20) as usize % choices.len()]
    }
}

/// Two agents of some kind, the second one perhaps lite, with consent long under way.
fn connected(seed: u64, dice: &mut Dice, story: &mut Vec<String>) -> Peers {
    let mut world = World::new(seed);
    let [a, b] = [Role::Controlling, Role::Controlled].map(|role| {
        let mut config = AgentConfig::new(role);
        config.restarts_alone = dice.of(&[true, true, false]);
        config.continual = dice.of(&[true, false]);
        if role == Role::Controlled {
            config.mode = dice.of(&[Mode::Full, Mode::Full, Mode::Lite]);
        }
        story.push(format!(
            "{role:?} {:?}: restarts alone {}, continual {}",
            config.mode, config.restarts_alone, config.continual
        ));
        let address = [ip("192.0.2.1"), ip("192.0.3.1")][usize::from(role == Role::Controlled)];
        let host = world.add_host(Realm::INTERNET, &[address], quarter(ms(50)));
        world.add_agent(host, config).expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(dice.of(&[0, 20, 300].map(ms))));
    assert!(peers.run_until_up(MINUTE).is_some(), "seed {seed}");
    // A lite agent must have seen that its peer asks for consent.
    peers.world.run_for(Duration::from_secs(30));
    peers
}

#[test]
fn after_restarts_and_new_addresses_in_any_order() {
    for seed in SEEDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut story = Vec::new();
        let mut peers = connected(seed, &mut dice, &mut story);
        // The interface that each has now.
        let mut numbers = [0; 2];
        for step in 0..dice.of(&[1_u8, 2, 3, 4]) {
            let side = dice.of(&[0_u8, 1]);
            let agent = peers.both()[usize::from(side)];
            match dice.of(&["restarts", "moves", "waits"]) {
                "restarts" => {
                    story.push(format!("{side} restarts"));
                    peers
                        .world
                        .with_agent(agent, |mut agent, now| agent.restart(now))
                        .expect("open");
                }
                "moves" => {
                    let away = dice.of(&[0, 20, 1_000, 35_000].map(ms));
                    story.push(format!("{side} moves, and is away for {away:?}"));
                    let number = &mut numbers[usize::from(side)];
                    peers.world.remove_interface(agent.node, *number);
                    *number += 1;
                    peers.world.run_for(away);
                    let address = [203, 0, 114 + side, step].into();
                    peers.world.add_interface(
                        agent.node,
                        Realm::INTERNET,
                        &[address],
                        Link::default(),
                    );
                }
                _ => {}
            }
            let wait = dice.of(&[0, 10, 50, 300, 3_000, 40_000].map(ms));
            story.push(format!("{wait:?} pass"));
            peers.world.run_for(wait);
        }
        let side = dice.of(&[0, 1]);
        story.push(format!("{side} vanishes"));
        let gone = peers.both()[side];
        peers.world.remove_interface(gone.node, numbers[side]);
        peers.world.run_for(MINUTE * 3);
        for agent in peers.both() {
            assert_eq!(
                peers.world.state(agent),
                State::Failed,
                "seed {seed}: {story:#?}"
            );
        }
    }
}
