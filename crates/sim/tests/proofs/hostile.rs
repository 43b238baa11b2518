//! What strangers send changes nothing: the session goes on as if it had never arrived.

use crate::common::{Check, MINUTE, Peers, Setup, address, ends, ip, message, ms};
use nilas_ice::{Event, Parameters, Role, State, Time};
use nilas_sim::{Agent, Fate, Link, NodeId, Realm, Signaling, World};
use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId};

/// Runs a session twice: alone, and with a stranger who sends what `attack` says each 10 ms, from an
/// address of its own and under the name of b. Both runs must tell the same events at the same times,
/// and the peers must send each other the same requests and successes. (What is not STUN and comes under
/// the name of b is data; only a session layer can tell that it is forged.)
fn changes_nothing(setup: &Setup, attack: impl Fn(&Scene<'_>) -> Vec<u8>) {
    let run = |attacked: bool| {
        let mut peers = setup.peers();
        let stranger =
            peers
                .world
                .add_host(Realm::INTERNET, &[ip("198.51.100.66")], Link::default());
        peers.introduce(Signaling::trickled(ms(10)));
        let mut parameters = [peers.parameters(peers.a), peers.parameters(peers.b)];
        // The stranger saw the user names, which travel in the clear, and no password.
        parameters
            .iter_mut()
            .for_each(|p| p.pwd = "0123456789012345678901".into());
        let mut arrived = 0;
        for round in 0..800 {
            peers.world.run_for(ms(10));
            let targets = attacked.then(|| target(&peers)).flatten();
            let Some((to, from)) = targets else { continue };
            let scene = Scene {
                world: &peers.world,
                a: peers.a,
                b: peers.b,
                parameters: &parameters,
                round,
            };
            let datagram = attack(&scene);
            for source in [address("198.51.100.66:4444"), from] {
                peers.world.inject(stranger, source, to, &datagram);
                arrived += 1;
            }
        }
        assert!(
            !attacked || arrived > 1_000,
            "the attack must take place to prove anything"
        );
        peers.world.run_for(MINUTE);
        peers.assert_mirrored_and_working();
        let events = peers.both().map(|agent| peers.world.events(agent).to_vec());
        let roles = peers.both().map(|agent| peers.role(agent));
        (events, roles, traffic(&peers, stranger))
    };
    let (alone, attacked) = (run(false), run(true));
    assert_eq!(alone.0, attacked.0);
    assert_eq!(alone.1, attacked.1);
    assert_eq!(alone.2, attacked.2);
}

struct Scene<'a> {
    world: &'a World,
    a: Agent,
    b: Agent,
    /// Of a and b, with a wrong password.
    parameters: &'a [Parameters; 2],
    round: u32,
}

/// Where a listens, and what b's address is.
fn target(peers: &Peers) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
    let of = |agent| {
        peers
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            })
    };
    Some((of(peers.a)?, of(peers.b)?))
}

/// All requests and successes among the peers, without what the stranger sent or was sent.
fn traffic(peers: &Peers, stranger: NodeId) -> Vec<(Time, NodeId, Vec<u8>)> {
    let packets = peers.world.trace().packets().iter();
    let own = packets.filter(|packet| {
        packet.sender != stranger
            && packet.destination.ip() != ip("198.51.100.66")
            && message(packet, Class::ErrorResponse).is_none()
    });
    own.map(|packet| (packet.sent, packet.sender, packet.payload.to_vec()))
        .collect()
}

/// Bytes that look random and are the same each time.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn garbage() {
    changes_nothing(&Setup::default(), |scene| {
        let mut bytes = noise(
            scene.round,
            [0, 1, 19, 20, 100, 1_200, 9_000][scene.round as usize % 7],
        );
        // The cookie in half of them, so that they get further.
        if scene.round % 2 == 0 && bytes.len() >= 20 {
            bytes[0] &= 0x3f;
            bytes[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
            let length = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        }
        bytes
    });
}

#[test]
fn truncated_and_bent_copies_of_what_was_sent() {
    changes_nothing(&Setup::default(), |scene| {
        let real = scene
            .world
            .trace()
            .packets()
            .iter()
            .rev()
            .find(|packet| packet.sender == scene.b.node);
        let mut bytes = real
            .map(|packet| packet.payload.to_vec())
            .unwrap_or_default();
        if bytes.is_empty() {
            return noise(scene.round, 0);
        }
        let at = scene.round as usize % bytes.len();
        if scene.round % 2 == 0 {
            bytes.truncate(at);
            // In half of them with a length that fits, so that they get further.
            if let Some(length) = at.checked_sub(20).filter(|_| scene.round % 4 == 0) {
                let length = (length & !3) as u16;
                bytes.truncate(20 + usize::from(length));
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
            }
        } else {
            bytes[at] ^= 1 << (scene.round % 8);
        }
        bytes
    });
}

#[test]
fn checks_with_a_wrong_password() {
    // Every one claims a role that conflicts, with the largest tie-breaker, and nominates.
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        changes_nothing(
            &Setup {
                roles,
                ..Setup::default()
            },
            |scene| {
                let [a, b] = scene.parameters;
                Check {
                    to_ufrag: &a.ufrag,
                    to_pwd: &a.pwd,
                    from_ufrag: &b.ufrag,
                    id: scene.round as u8,
                    controlling: Some(u64::MAX),
                    controlled: None,
                    nominate: true,
                    component: 1,
                }
                .bytes()
            },
        );
    }
}

/// An answer to the latest request of a, without its password.
fn forged_answer(scene: &Scene<'_>, class: Class, sign: bool) -> Vec<u8> {
    let requests = scene.world.trace().packets().iter().rev();
    let id = requests
        .filter(|packet| packet.sender == scene.a.node)
        .find_map(|packet| message(packet, Class::Request).map(|message| message.transaction_id()))
        .unwrap_or(TransactionId::new([0; 12]));
    let mut buffer = vec![0; 128];
    let mut builder = MessageBuilder::new(&mut buffer, class, Method::BINDING, id).expect("room");
    match class {
        Class::ErrorResponse => {
            let code = [487, 403, 400, 401][scene.round as usize % 4];
            builder.error_code(code, "forged").expect("room");
        }
        _ => {
            builder
                .xor_mapped_address(address("203.0.113.99:99"))
                .expect("room");
        }
    }
    if sign {
        builder
            .message_integrity(&Key::short_term("0123456789012345678901").expect("a key"))
            .expect("room");
    }
    builder.fingerprint().expect("room");
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

#[test]
fn forged_successes_with_the_right_transaction_id() {
    for sign in [false, true] {
        changes_nothing(&Setup::default(), |scene| {
            forged_answer(scene, Class::SuccessResponse, sign)
        });
    }
}

#[test]
fn forged_errors_with_the_right_transaction_id() {
    for sign in [false, true] {
        changes_nothing(&Setup::default(), |scene| {
            forged_answer(scene, Class::ErrorResponse, sign)
        });
    }
}

#[test]
fn indications_and_other_methods() {
    changes_nothing(&Setup::default(), |scene| {
        let class =
            [Class::Indication, Class::Request, Class::SuccessResponse][scene.round as usize % 3];
        let method = Method::new(1 + (scene.round % 16) as u16).expect("12 bits");
        // A Binding request without integrity is answered with an error, and no more.
        let mut buffer = vec![0; 64];
        let id = TransactionId::new([9; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, class, method, id).expect("room");
        builder.fingerprint().expect("room");
        let length = builder.finish();
        buffer.truncate(length);
        buffer
    });
}

#[test]
fn replayed_answers() {
    // True answers of b that have arrived, again and again: their transactions are over.
    changes_nothing(&Setup::default(), |scene| {
        let packets = scene.world.trace().packets().iter();
        let answers: Vec<_> = packets
            .filter(|packet| {
                packet.sender == scene.b.node && message(packet, Class::SuccessResponse).is_some()
            })
            .filter(|packet| matches!(packet.fate, Fate::Delivered { .. }))
            .collect();
        let replayed = answers.get(scene.round as usize % answers.len().max(1));
        replayed
            .map(|packet| packet.payload.to_vec())
            .unwrap_or_default()
    });
}

#[test]
fn replayed_checks_change_no_state() {
    // A true check of b again, from b's address: answered again, and nothing else.
    let mut peers = Setup::default().completed();
    let stranger = peers
        .world
        .add_host(Realm::INTERNET, &[ip("198.51.100.66")], Link::default());
    let (a, b) = (peers.a, peers.b);
    let checks: Vec<_> = crate::common::sent_by(&peers.world, b.node)
        .filter(|packet| message(packet, Class::Request).is_some())
        .cloned()
        .collect();
    let before = peers.world.events(a).len();
    for _ in 0..100 {
        for check in &checks {
            peers
                .world
                .inject(stranger, check.source, check.destination, &check.payload);
        }
        peers.world.run_for(ms(100));
    }
    assert_eq!(
        peers.world.events(a).len(),
        before,
        "{:#?}",
        &peers.world.events(a)[before..]
    );
    assert_eq!(peers.world.state(a), State::Completed);
    peers.assert_mirrored_and_working();
}

#[test]
fn data_of_strangers_is_not_delivered() {
    let mut peers = Setup::default().completed();
    let stranger = peers
        .world
        .add_host(Realm::INTERNET, &[ip("198.51.100.66")], Link::default());
    let a = peers.a;
    let (local, _) = ends(peers.world.selected_pair(a).expect("a pair"));
    let not_ours = peers.world.not_ours(a.node);
    for first_byte in 0..=255 {
        let datagram = [first_byte, 1, 2, 3];
        peers.world.inject(
            stranger,
            address("198.51.100.66:4444"),
            local.expect("an address"),
            &datagram,
        );
        peers.world.run_for(ms(1));
    }
    peers.world.run_for(ms(100));
    assert_eq!(peers.world.received(a), []);
    assert_eq!(peers.world.not_ours(a.node), not_ours + 256);
}

#[test]
fn data_of_the_peer_is_delivered_whatever_its_first_byte() {
    let mut peers = Setup::default().completed();
    let (a, b) = (peers.a, peers.b);
    let mut sent = Vec::new();
    for first_byte in 0..=255 {
        for length in [1, 20, 100] {
            let mut datagram = vec![7; length];
            datagram[0] = first_byte;
            peers.world.send(b, &datagram).expect("a path");
            sent.push(datagram);
        }
    }
    // Even what has the cookie and is no message by its length or fingerprint.
    let mut looks_like_stun = vec![0; 64];
    looks_like_stun[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
    looks_like_stun[3] = 44;
    assert!(Message::parse(&looks_like_stun).is_ok());
    peers.world.send(b, &looks_like_stun).expect("a path");
    sent.push(looks_like_stun);
    peers.world.run_for(ms(1_000));
    let received: Vec<_> = peers
        .world
        .received(a)
        .iter()
        .map(|(_, data)| data.clone())
        .collect();
    assert_eq!(received, sent);
}
