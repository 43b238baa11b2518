//! The ICE agent's whole input: two agents or two sessions of several, the network and the TURN server between them, signaling, and somebody who
//! forges, changes, repeats, delays and drops whatever is on its way.
//!
//! What is not authentic changes nothing that an agent tells and makes it send nothing; everything is bounded; an
//! engine that is idle has nothing due; and an agent that is closed gives back all it has.

mod attack;
mod world;

use std::time::Duration;

use nilas_ice::{
    BindError, Candidate, Input, Interface, Parameters, ResolveError, SendError, StreamError,
};

use self::world::{Signal, World};
use crate::choices::Choices;
use crate::relay::address;

/// The first two bytes are the configuration, the others what happens. Says whether data could flow both ways.
pub fn check(data: &[u8]) -> bool {
    let mut choices = Choices::new(data);
    let mut world = World::new(choices.byte(), choices.byte());
    for _ in 0..200 {
        if choices.is_done() {
            break;
        }
        step(&mut choices, &mut world);
        world.check();
    }
    let connected = world.connected;
    world.end();
    connected
}

fn step(choices: &mut Choices<'_>, world: &mut World) {
    let action = choices.below(22);
    let side = usize::from(choices.flag());
    if world.components() > 1 {
        world.look_at(choices.below(world.components()));
    }
    match action {
        0..=3 => {
            let rounds = choices.below(64);
            world.signal_all();
            world.run(rounds);
        }
        4 => {
            let rounds = choices.below(64);
            world.run(rounds);
        }
        5 => {
            if let Some(packet) = world.take(choices.byte(), true) {
                world.deliver(packet);
            }
        }
        6 => drop(world.take(choices.byte(), true)),
        7 => {
            if let Some(packet) = world.take(choices.byte(), false) {
                world.deliver(packet);
            }
        }
        8 | 9 => attack::change(choices, world),
        10 => {
            // Caught, and sent again from elsewhere.
            if let Some(mut packet) = world.take(choices.byte(), false) {
                packet.from =
                    address(choices.of(&["192.0.2.66:66", "192.0.2.1:5001", "[2001:db8::66]:66"]));
                world.deliver(packet);
            }
        }
        11 => attack::raw(choices, world, side),
        12 => attack::request(choices, world, side),
        13 => attack::answer(choices, world),
        14 => attack::insider(choices, world, side),
        15 => {
            let _ = world.signal(side, choices.flag());
        }
        16 => told(choices, world, side),
        17 => interfaces(choices, world, side),
        18 => answers(choices, world, side),
        19 => world.pass(Duration::from_millis(u64::from(choices.number()))),
        20 => world.send_data(side),
        _ => match choices.below(8) {
            0 => world.close(side, choices.flag()),
            1 => world.pass(Duration::from_secs(u64::from(choices.byte()))),
            _ => {
                let now = world.now;
                if let Some(mut agent) = world.sides[side].agent() {
                    agent.restart(now);
                }
            }
        },
    }
}

/// What an application is told by a peer that may be hostile.
fn told(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let now = world.now;
    let what = choices.below(5);
    let number = choices.byte();
    let text = if what == 0 {
        String::from_utf8_lossy(choices.bytes()).into_owned()
    } else {
        String::new()
    };
    let Some(mut agent) = world.sides[side].agent() else {
        return;
    };
    match what {
        0 => {
            if let Ok(candidate) = text.parse::<Candidate>() {
                let _ = agent.add_remote_candidate(now, candidate);
            }
        }
        1 => {
            let line = format!(
                "candidate:{number} 1 udp {} 192.0.2.{} 7 typ host",
                u32::from(number) << 16 | 1,
                number.max(1)
            );
            let _ = agent.add_remote_candidate(now, line.parse().expect("a candidate"));
        }
        2 => {
            let mut parameters = Parameters::new(
                format!("ufrag{number}"),
                format!("a-password-of-22-chars{number}").replace('-', "+"),
            );
            parameters.lite = number & 1 == 1;
            parameters.pacing = Some(u32::from(number) * 10);
            let _ = agent.set_remote_parameters(now, &parameters);
        }
        3 => agent.end_of_remote_candidates(now),
        _ => agent.gather(now),
    }
}

fn interfaces(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let all = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8::1",
        "2001:db8::2",
        "fe80::1",
        "127.0.0.1",
        "::1",
    ];
    let addresses = (0..choices.below(5))
        .map(|_| choices.of(&all).parse().expect("an address"))
        .collect();
    let interface = Interface {
        name: "eth0".into(),
        index: 2,
        addresses,
        ..Interface::default()
    };
    let _ = world.sides[side]
        .engine
        .handle(world.now, Input::Interfaces(&[interface]));
}

/// The system answers in another way than usual, or says something unasked.
fn answers(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let now = world.now;
    let side = &mut world.sides[side];
    let what = choices.below(6);
    let input = match what {
        0 => side.binds.pop().map(|(request, _)| {
            let error = choices.of(&[
                BindError::AddressInUse,
                BindError::AddressNotAvailable,
                BindError::Other,
            ]);
            Input::Bound {
                request,
                result: Err(error),
            }
        }),
        1 => side.resolves.pop().map(|request| Input::Resolved {
            request,
            result: Err(ResolveError::TimedOut),
        }),
        2 => side.opens.pop().map(|request| Input::StreamOpened {
            request,
            result: Err(StreamError::Refused),
        }),
        3 => {
            let stream = side.streams.keys().next().copied();
            stream.map(|stream| {
                side.streams.remove(&stream);
                Input::StreamClosed { stream }
            })
        }
        4 => side
            .sockets
            .iter()
            .next()
            .map(|(socket, _)| Input::SendError {
                socket: *socket,
                remote: address("192.0.2.2:5000"),
                error: SendError::Unreachable,
            }),
        _ => None,
    };
    if let Some(input) = input {
        let _ = side.engine.handle(now, input);
    } else if let Some(stream) = side.streams.keys().next().copied() {
        // Bytes that no server sent.
        let bytes = choices.bytes();
        world.stream_bytes(stream, bytes);
    }
}

impl Signal {
    /// Gives it to the other side.
    fn tell(&self, agent: &mut nilas_ice::AgentMut<'_>, now: nilas_ice::Time) {
        // A candidate of a generation that has passed is refused, which is right.
        match self {
            Self::Parameters(parameters) => drop(agent.set_remote_parameters(now, parameters)),
            Self::Candidate(candidate) => drop(agent.add_remote_candidate(now, candidate.clone())),
            Self::End => agent.end_of_remote_candidates(now),
        }
    }
}
