//! What somebody sends who is not the peer, or is a hostile one.

use std::net::SocketAddr;

use nilas_ice::{Handled, Input, Output, SocketId};
use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId};

use super::world::{Packet, SERVER, World};
use crate::choices::Choices;
use crate::relay::address;

const SOURCES: [&str; 6] = [
    "192.0.2.66:66",
    "192.0.2.1:5001",
    "192.0.2.2:5003",
    "[2001:db8::66]:66",
    "127.0.0.1:66",
    "198.51.100.1:50000",
];

/// It reaches an agent, and must not change anything.
fn must_be_ignored(world: &mut World, packet: &Packet) {
    if packet.from == address(SERVER) {
        // A server's answers to a question for the own address are not authenticated by anything.
        world.deliver(packet.clone());
        return;
    }
    let Some((side, socket)) = world.socket_at(packet.to) else {
        return;
    };
    world.poll();
    let before = world.told(side);
    let input = Input::Datagram {
        socket,
        remote: packet.from,
        payload: &packet.bytes,
    };
    let handled = world.sides[side].engine.handle(world.now, input);
    if let Handled::Application(data) = handled {
        assert!(
            packet.bytes.get(data.range).is_some(),
            "data beyond the datagram"
        );
    }
    assert_eq!(
        world.told(side),
        before,
        "{:02x?} from {} has changed something",
        packet.bytes,
        packet.from
    );
    let mut buffer = [0; 1_280];
    let output = world.sides[side].engine.poll(world.now, &mut buffer);
    assert!(
        matches!(output, Output::Idle(_)),
        "{output:?} because of {:02x?}",
        packet.bytes
    );
}

/// A datagram is changed on its way; its FINGERPRINT, which everybody can compute, fits again.
pub(super) fn change(choices: &mut Choices<'_>, world: &mut World) {
    let Some(mut packet) = world.take(choices.byte(), choices.flag()) else {
        return;
    };
    let bit = usize::from(choices.number()) % (packet.bytes.len() * 8).max(1);
    let Some(byte) = packet.bytes.get_mut(bit / 8) else {
        return;
    };
    *byte ^= 1 << (bit % 8);
    let fingerprint = packet.bytes.len().saturating_sub(8);
    if bit / 8 >= fingerprint {
        // MESSAGE-INTEGRITY does not cover what comes after it: this is still the peer's, or nothing that is read.
        return world.deliver(packet);
    }
    if Message::parse(&packet.bytes).is_ok()
        && packet.bytes[fingerprint..].starts_with(&[0x80, 0x28, 0, 4])
    {
        // RFC 8489 section 14.7.
        let crc = crc32fast::hash(&packet.bytes[..fingerprint]) ^ 0x5354_554E;
        packet.bytes[fingerprint + 4..].copy_from_slice(&crc.to_be_bytes());
    }
    must_be_ignored(world, &packet);
}

/// Any bytes from anywhere.
pub(super) fn raw(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let Some(to) = target(choices, world, side) else {
        return;
    };
    let from = source(choices, world, side);
    let bytes = choices.bytes().to_vec();
    must_be_ignored(world, &Packet { from, to, bytes });
}

/// A check by somebody who has seen the fragments and does not know the password.
pub(super) fn request(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let bytes = check(choices, world, side, false);
    let (Some(to), Some(bytes)) = (target(choices, world, side), bytes) else {
        return;
    };
    let from = source(choices, world, side);
    must_be_ignored(world, &Packet { from, to, bytes });
}

/// A check by the peer itself, or somebody who has its password, with whatever in it.
pub(super) fn insider(choices: &mut Choices<'_>, world: &mut World, side: usize) {
    let bytes = check(choices, world, side, true);
    let (Some(to), Some(bytes)) = (target(choices, world, side), bytes) else {
        return;
    };
    let from = source(choices, world, side);
    world.deliver(Packet { from, to, bytes });
}

/// An answer to a check, by somebody who has seen it.
pub(super) fn answer(choices: &mut Choices<'_>, world: &mut World) {
    let index = choices.below(world.requests.len().max(1));
    let Some(request) = world.requests.get(index).cloned() else {
        return;
    };
    let Ok(message) = Message::parse(&request.bytes) else {
        return;
    };
    if message.method() != Method::BINDING {
        return;
    }
    let class = choices.of(&[Class::SuccessResponse, Class::ErrorResponse]);
    let bytes = build(class, message.transaction_id(), |builder| {
        let mapped = address(choices.of(&SOURCES));
        let code = choices.of(&[487, 400, 401, 403, 420, 500]);
        match class {
            Class::SuccessResponse => drop(builder.xor_mapped_address(mapped)),
            _ => drop(builder.error_code(code, "because")),
        }
        match choices.below(3) {
            0 => {}
            _ => drop(builder.message_integrity(&Key::from_hmac_key(b"not the password"))),
        }
    });
    let from = if choices.flag() {
        request.to
    } else {
        address(choices.of(&SOURCES))
    };
    must_be_ignored(
        world,
        &Packet {
            from,
            to: request.from,
            bytes,
        },
    );
}

fn check(
    choices: &mut Choices<'_>,
    world: &mut World,
    side: usize,
    insider: bool,
) -> Option<Vec<u8>> {
    let ours = world.sides[side].agent()?.local_parameters();
    let theirs = match world.sides[1 - side].agent() {
        Some(agent) if choices.flag() => agent.local_parameters().ufrag,
        _ => "another".to_owned(),
    };
    let mut id = *b"of an attack";
    id[..2].copy_from_slice(&choices.number().to_be_bytes());
    let key = if insider {
        Key::from_hmac_key(ours.pwd.as_bytes())
    } else {
        Key::from_hmac_key(b"not the password")
    };
    let bytes = build(Class::Request, TransactionId::new(id), |builder| {
        let _ = builder.username_pair(&ours.ufrag, &theirs);
        for _ in 0..choices.below(6) {
            let _ = match choices.below(8) {
                0 | 1 => builder.priority(choices.of(&[0, 1, 0x6E00_01FF, 0x7FFF_FFFF, u32::MAX])),
                2 => builder.ice_controlling(choices.of(&[0, u64::MAX])),
                3 => builder.ice_controlled(choices.of(&[0, u64::MAX])),
                4 => builder.use_candidate(),
                5 => builder.software("somebody"),
                _ => builder.raw(choices.number(), b"odd"),
            };
        }
        if insider || choices.flag() {
            let _ = builder.message_integrity(&key);
        }
    });
    Some(bytes)
}

fn build(class: Class, id: TransactionId, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let mut builder =
        MessageBuilder::new(&mut buffer, class, Method::BINDING, id).expect("there is room");
    write(&mut builder);
    builder.fingerprint().expect("there is room");
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

/// A socket of this side.
fn target(choices: &mut Choices<'_>, world: &World, side: usize) -> Option<SocketAddr> {
    let sockets: Vec<(&SocketId, &SocketAddr)> = world.sides[side].sockets.iter().collect();
    let index = choices.below(sockets.len().max(1));
    sockets.get(index).map(|(_, address)| **address)
}

/// A source: the other side, or anybody.
fn source(choices: &mut Choices<'_>, world: &World, side: usize) -> SocketAddr {
    match choices.below(3) {
        0 => world.sides[1 - side]
            .sockets
            .values()
            .next()
            .copied()
            .unwrap_or_else(|| address(SOURCES[0])),
        _ => address(choices.of(&SOURCES)),
    }
}
