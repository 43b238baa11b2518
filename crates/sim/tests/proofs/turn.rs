//! TURN servers: clients of nilas's own over the wires, NATs and relays of a world.

use std::time::Duration;

use crate::common::{address, ip, ms};
use nilas_ice::Time;
use nilas_sim::{Firewall, Link, Nat, NodeId, Ports, Realm, Router, TurnServer, UdpSocket, World};
use nilas_turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, Failure, MAX_HEAD, Received, Transport,
};

const SERVER: &str = "198.51.100.1:3478";

/// A client on a socket of a node.
struct Relayed {
    socket: UdpSocket,
    client: Client,
    server: std::net::SocketAddr,
    events: Vec<ClientEvent>,
    data: Vec<(std::net::SocketAddr, Vec<u8>)>,
}

impl Relayed {
    fn new(world: &mut World, node: NodeId, local: &str, password: &str) -> Self {
        let credentials = Credentials {
            username: "ann".into(),
            password: password.into(),
        };
        let socket = world.bind_udp(node, address(local)).expect("a socket");
        Self {
            socket,
            client: Client::new(
                ClientConfig::new(credentials, Transport::Datagram),
                [socket.address.port() as u8; 32],
            ),
            server: address(SERVER),
            events: Vec::new(),
            data: Vec::new(),
        }
    }

    fn drive(&mut self, world: &mut World) {
        let now = world.now();
        for datagram in world.take_udp(self.socket) {
            if let Received::Data { peer, range } = self.client.handle(now, &datagram.payload) {
                self.data.push((peer, datagram.payload[range].to_vec()));
            }
        }
        let mut buffer = [0; 1_280];
        while let Some(size) = self.client.poll(now, &mut buffer) {
            world.send_udp(self.socket, self.server, &buffer[..size]);
        }
        self.events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
    }

    fn send(&self, world: &mut World, peer: std::net::SocketAddr, data: &[u8]) {
        let now = world.now();
        let mut head = [0; MAX_HEAD];
        let framing = self.client.framing(now, peer);
        let id = nilas_stun::TransactionId::new([7; 12]);
        let (length, zeros) = framing.write(&mut head, id, data.len()).expect("short");
        let message = [&head[MAX_HEAD - length..], data, &[0; 3][..zeros]].concat();
        world.send_udp(self.socket, self.server, &message);
    }

    fn relayed(&self) -> std::net::SocketAddr {
        self.client.relayed()[0]
    }
}

fn run(world: &mut World, clients: &mut [&mut Relayed], duration: Duration) {
    let end = world.now() + duration;
    while world.now() < end {
        for client in &mut *clients {
            client.drive(world);
        }
        world.run_for(ms(1));
    }
}

fn world(seed: u64) -> (World, NodeId) {
    let mut world = World::new(seed);
    let turn = TurnServer::new("ann", "secret").expect("good words");
    let addresses = [ip("198.51.100.1"), ip("2001:db8:5::1")];
    let server = world.add_turn_server(Realm::INTERNET, &addresses, Link::new(ms(5)), turn);
    (world, server)
}

/// A host behind a router of its own.
fn at_home(world: &mut World, outside: &str) -> NodeId {
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip(outside),
        Link::new(ms(10)),
        Nat::default(),
    );
    world.add_host(home, &[ip("192.168.1.2")], Link::default())
}

#[test]
fn two_clients_behind_nats_talk_through_their_relays_for_an_hour() {
    let (mut world, server) = world(1);
    let (a, b) = (
        at_home(&mut world, "203.0.113.1"),
        at_home(&mut world, "203.0.113.2"),
    );
    let mut a = Relayed::new(&mut world, a, "192.168.1.2:5000", "secret");
    let mut b = Relayed::new(&mut world, b, "192.168.1.2:5000", "secret");
    run(&mut world, &mut [&mut a, &mut b], ms(500));
    assert_eq!(world.turn_counters(server).allocations, 2);
    let (at_a, at_b) = (a.relayed(), b.relayed());
    assert_eq!(at_a.ip(), ip("198.51.100.1"));
    a.client.permit(world.now(), at_b);
    b.client.permit(world.now(), at_a);
    run(&mut world, &mut [&mut a, &mut b], ms(500));
    a.send(&mut world, at_b, b"to b");
    b.send(&mut world, at_a, b"to a");
    run(&mut world, &mut [&mut a, &mut b], ms(500));
    assert_eq!(a.data, [(at_b, b"to a".to_vec())]);
    assert_eq!(b.data, [(at_a, b"to b".to_vec())]);
    // Longer than an allocation, a permission and a nonce live without being refreshed.
    for _ in 0..360 {
        a.drive(&mut world);
        b.drive(&mut world);
        a.send(&mut world, at_b, b"still there?");
        b.send(&mut world, at_a, b"still here");
        world.run_for(Duration::from_secs(10));
    }
    a.drive(&mut world);
    b.drive(&mut world);
    assert_eq!([a.data.len(), b.data.len()], [361, 361]);
}

#[test]
fn what_was_not_permitted_does_not_pass() {
    let (mut world, server) = world(1);
    let home = at_home(&mut world, "203.0.113.1");
    let stranger = world.add_host(Realm::INTERNET, &[ip("192.0.2.9")], Link::default());
    let stranger = world
        .bind_udp(stranger, address("192.0.2.9:9"))
        .expect("a socket");
    let mut a = Relayed::new(&mut world, home, "192.168.1.2:5000", "secret");
    run(&mut world, &mut [&mut a], ms(500));
    world.send_udp(stranger, a.relayed(), b"let me in");
    run(&mut world, &mut [&mut a], ms(500));
    assert_eq!(a.data, []);
    a.client.permit(world.now(), stranger.address);
    run(&mut world, &mut [&mut a], ms(500));
    world.send_udp(stranger, a.relayed(), b"let me in");
    run(&mut world, &mut [&mut a], ms(500));
    assert_eq!(a.data, [(stranger.address, b"let me in".to_vec())]);
    // A private address is refused, as a server on the real Internet would.
    a.client.permit(world.now(), address("10.0.0.1:1"));
    run(&mut world, &mut [&mut a], ms(500));
    assert!(
        a.events
            .iter()
            .any(|event| matches!(event, ClientEvent::PeerRefused { code: 403, .. })),
        "{:?}",
        a.events
    );
    assert_eq!(world.turn_counters(server).allocations, 1);
}

#[test]
fn a_wrong_password_gets_nothing() {
    let (mut world, server) = world(1);
    let home = at_home(&mut world, "203.0.113.1");
    let mut a = Relayed::new(&mut world, home, "192.168.1.2:5000", "wrong");
    run(&mut world, &mut [&mut a], ms(500));
    assert_eq!(a.events, [ClientEvent::Failed(Failure::Unauthorized)]);
    assert_eq!(world.turn_counters(server).allocations, 0);
}

#[test]
fn an_allocation_that_nobody_refreshes_ends() {
    let (mut world, server) = world(1);
    let home = at_home(&mut world, "203.0.113.1");
    let mut a = Relayed::new(&mut world, home, "192.168.1.2:5000", "secret");
    run(&mut world, &mut [&mut a], ms(500));
    let made_at = world.now();
    let ended = world.run_until(Duration::from_secs(601), |world| {
        world.turn_counters(server).allocations == 0
    });
    // RFC 8656 section 7.2: ten minutes.
    let ended = ended.expect("it ended").since(Time::ZERO);
    assert!(ended > made_at.since(Time::ZERO) + Duration::from_secs(590));
}

/// Takes the messages out of what came on a stream; what is incomplete stays.
fn messages(pending: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(start) = pending.first_chunk::<4>() {
        let body = usize::from(u16::from_be_bytes([start[2], start[3]]));
        // RFC 8656 section 12.5: ChannelData is padded on a stream.
        let length = match start[0] {
            0x40.. => 4 + body.next_multiple_of(4),
            _ => 20 + body,
        };
        if pending.len() < length {
            break;
        }
        messages.push(pending.drain(..length).collect());
    }
    messages
}

#[test]
fn streams_lead_to_the_relay_where_udp_is_blocked() {
    for (port, secure) in [(3478, false), (443, true)] {
        let mut world = World::new(1);
        let turn = TurnServer::new("ann", "secret").expect("good words");
        let turn = turn.on_tls(&[443]);
        let node = world.add_turn_server(
            Realm::INTERNET,
            &[ip("198.51.100.1")],
            Link::new(ms(5)).with_loss(0.02),
            turn,
        );
        let mut firewall = Firewall::stateful();
        firewall.udp = Ports::None;
        firewall.tcp = Ports::Only(vec![port]);
        let router = Router::new()
            .with_nat(&[ip("203.0.113.7")], Nat::default())
            .with_firewall(firewall);
        let (_, office) = world.add_router(Realm::INTERNET, Link::new(ms(10)), router);
        let inside = world.add_host(office, &[ip("10.0.0.2")], Link::default());
        let peer = world.add_host(Realm::INTERNET, &[ip("192.0.2.9")], Link::default());
        let peer = world
            .bind_udp(peer, address("192.0.2.9:9"))
            .expect("a socket");
        let stream = world
            .connect_tcp(
                inside,
                address("10.0.0.2:0"),
                (ip("198.51.100.1"), port).into(),
                secure,
            )
            .expect("a free port");
        world.run_for(Duration::from_secs(5));
        assert!(world.tcp_ready_at(stream).is_some());
        let credentials = Credentials {
            username: "ann".into(),
            password: "secret".into(),
        };
        let config = ClientConfig::new(credentials, Transport::Stream);
        let mut client = Client::new(config, [1; 32]);
        let mut pending = Vec::new();
        let mut data = Vec::new();
        for step in 0..3_000 {
            let now = world.now();
            pending.extend(world.take_tcp(stream));
            for message in messages(&mut pending) {
                if let Received::Data { range, .. } = client.handle(now, &message) {
                    data.push(message[range].to_vec());
                }
            }
            if step == 1_000 {
                client.bind(now, peer.address);
            }
            if step == 2_000 {
                world.send_udp(peer, client.relayed()[0], b"from outside");
            }
            let mut buffer = [0; 1_280];
            while let Some(size) = client.poll(now, &mut buffer) {
                assert!(world.send_tcp(stream, &buffer[..size]));
            }
            world.run_for(ms(1));
        }
        assert_eq!(data, [b"from outside".to_vec()], "port {port}");
        // With its stream, an allocation goes.
        assert_eq!(world.turn_counters(node).allocations, 1);
        world.close_tcp(stream);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.turn_counters(node).allocations, 0);
        assert_eq!(world.turn_counters(node).streams, 0);
    }
}
