//! What sessions in the simulated network cost a real processor:
//! `cargo run --release -p nilas-sim --example session_cost`.

#![expect(
    clippy::disallowed_types,
    reason = "this program measures time; the library does not"
)]

use std::time::{Duration, Instant};

use nilas_ice::{AgentConfig, Role, State};
use nilas_sim::{Access, Agent, Link, Realm, Side, Signaling, World};

const SESSIONS: u32 = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (a, b) in [("open", "open"), ("plain", "plain"), ("dual", "dual")] {
        let started = Instant::now();
        for seed in 0..u64::from(SESSIONS) {
            let (mut world, agents) = session(seed, a.parse()?, b.parse()?)?;
            run(&mut world, agents);
        }
        let each = started.elapsed() / SESSIONS;
        println!("{a} to {b}, from an empty world to completed at both: {each:?}");
    }
    let (mut world, agents) = session(1, "open".parse()?, "open".parse()?)?;
    run(&mut world, agents);
    let before = world.trace().packets().len();
    let started = Instant::now();
    world.run_for(Duration::from_secs(3_600));
    let (elapsed, packets) = (started.elapsed(), world.trace().packets().len() - before);
    println!("an idle hour of open to open: {elapsed:?}, {packets} packets");
    Ok(())
}

fn session(
    seed: u64,
    a: Access,
    b: Access,
) -> Result<(World, [Agent; 2]), Box<dyn std::error::Error>> {
    let mut world = World::new(seed);
    let link = Link::new(Duration::from_millis(10));
    let stun = "198.51.100.1:3478".parse()?;
    world.add_stun_server(Realm::INTERNET, stun, link);
    let first = world.add_peer(Side::A, a, link, None)?;
    let second = world.add_peer(Side::B, b, link, Some(&first))?;
    let mut agent = |host, role| {
        let mut config = AgentConfig::new(role);
        config.stun_servers.push(stun.into());
        world.add_agent(host, config)
    };
    let agents = [
        agent(first.host, Role::Controlling)?,
        agent(second.host, Role::Controlled)?,
    ];
    for agent in agents {
        world.gather(agent)?;
    }
    let signaling = Signaling::trickled(Duration::from_millis(20));
    world.signal_between(agents[0], agents[1], signaling)?;
    Ok((world, agents))
}

fn run(world: &mut World, agents: [Agent; 2]) {
    let done = world.run_until(Duration::from_secs(60), |world| {
        let completed = |agent: &Agent| world.state(*agent) == State::Completed;
        agents.iter().all(completed)
    });
    assert!(done.is_some(), "{}", world.trace());
}
