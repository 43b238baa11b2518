//! The TURN client's core, between a real server and somebody who forges, changes, repeats and holds back answers.
//!
//! Whatever comes, the client never believes in a relayed address that no server gave it, takes data only of peers
//! that it let through, and has nothing to do when it says so.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nilas_stun::{Class, ErrorCode, Message, MessageBuilder, PasswordAlgorithm};
use nilas_turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, Families, Received, Transport, message_length,
};
use nilas_turn::server::{Input, Path, StreamId};

use crate::choices::Choices;
use crate::relay::{PASSWORD, REALM, Relay, USER, User, address, datagram_path};

/// More messages on their way are lost.
const MAX_WAITING: usize = 16;
/// What a client may have to do at one time: a request for each peer, and its own.
const MAX_REQUESTS: usize = 600;
const PEERS: [&str; 4] = [
    "192.0.2.1:7",
    "192.0.2.1:8",
    "192.0.2.2:7",
    "[2001:db8::1]:7",
];

struct World {
    client: Client,
    relay: Relay,
    path: Path,
    /// Requests on their way to the server, and what is on its way back.
    outgoing: Vec<Vec<u8>>,
    incoming: Vec<Vec<u8>>,
    last_request: Vec<u8>,
    /// The relayed addresses that the server has given.
    given: BTreeSet<SocketAddr>,
    permitted: BTreeSet<IpAddr>,
    allocated: bool,
}

/// A client, its server, and what happens between them. Says whether there was an allocation.
pub fn check(data: &[u8]) -> bool {
    let mut choices = Choices::new(data);
    let credentials = Credentials {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let stream = choices.flag();
    let transport = if stream {
        Transport::Stream
    } else {
        Transport::Datagram
    };
    let mut config = ClientConfig::new(credentials, transport);
    config.families = choices.of(&[Families::V4, Families::Both, Families::V6]);
    let mut relay = Relay::default();
    let path = match stream {
        true => User::new(Path::Stream(StreamId(0)), 0).open(&mut relay),
        false => datagram_path(address("203.0.113.1:40000")),
    };
    let mut world = World {
        client: Client::new(config, [5; 32]),
        relay,
        path,
        outgoing: Vec::new(),
        incoming: Vec::new(),
        last_request: Vec::new(),
        given: BTreeSet::new(),
        permitted: BTreeSet::new(),
        allocated: false,
    };
    world.poll();
    for _ in 0..300 {
        if choices.is_done() {
            break;
        }
        world.step(&mut choices);
        world.poll();
    }
    world.allocated
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            // The server takes a request, and the client the answer: what happens when nobody interferes.
            0..=3 => {
                self.serve();
                if !self.incoming.is_empty() {
                    let bytes = self.incoming.remove(0);
                    self.receive(&bytes);
                }
            }
            4 => self.serve(),
            5 => drop((!self.outgoing.is_empty()).then(|| self.outgoing.remove(0))),
            6 => {
                if !self.incoming.is_empty() {
                    let index = choices.below(self.incoming.len());
                    let bytes = self.incoming[index].clone();
                    if choices.flag() {
                        self.incoming.remove(index);
                    }
                    self.receive(&bytes);
                }
            }
            7 => {
                if !self.incoming.is_empty() {
                    let mut bytes = self.incoming[choices.below(self.incoming.len())].clone();
                    let bit = usize::from(choices.number()) % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    self.receive(&bytes);
                }
            }
            8 => {
                let bytes = choices.bytes().to_vec();
                self.receive(&bytes);
            }
            9 => {
                if let Some(bytes) = forged(choices, &self.last_request) {
                    self.receive(&bytes);
                }
            }
            10 => {
                let peer = address(choices.of(&PEERS));
                self.permitted.insert(peer.ip());
                if choices.flag() {
                    self.client.bind(self.relay.now, peer);
                } else {
                    self.client.permit(self.relay.now, peer);
                }
            }
            11 => {
                let peer = address(choices.of(&PEERS));
                if choices.flag() {
                    self.client.forget(peer);
                } else {
                    self.client.retain_peers(|known| known == peer);
                }
            }
            12 => {
                let (peer, relays) = (
                    address(choices.of(&PEERS)),
                    self.relay.relays.keys().copied(),
                );
                let relays: Vec<_> = relays.collect();
                if !relays.is_empty() {
                    let bytes = [7; 32];
                    let relay = relays[choices.below(relays.len())];
                    let _ = self.relay.handle(
                        Input::PeerDatagram {
                            relay,
                            peer,
                            length: 32,
                        },
                        &bytes,
                    );
                    self.collect();
                }
            }
            13 => match choices.below(6) {
                0 => {
                    self.relay.close(self.path);
                    if matches!(self.path, Path::Stream(_)) {
                        self.path = User::new(self.path, 0).open(&mut self.relay);
                        self.client.reconnected();
                    }
                }
                1 => self.client.release(),
                2 => self.relay.binds = !self.relay.binds,
                3 => self.client.reconnected(),
                _ => {
                    let _ = self
                        .client
                        .framing(self.relay.now, address(choices.of(&PEERS)));
                }
            },
            14 => {
                let deadline = self.client.deadline();
                let wait = deadline.map_or(Duration::from_secs(1), |at| at.since(self.relay.now));
                self.pass(wait.min(Duration::from_secs(3_600)));
            }
            _ => self.pass(Duration::from_millis(u64::from(choices.number()) * 10)),
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.relay.pass(duration);
        self.collect();
    }

    /// The server takes the first request that is on its way.
    fn serve(&mut self) {
        if !self.outgoing.is_empty() {
            let request = self.outgoing.remove(0);
            // What the client asks for is rightly signed, or refused.
            self.relay.asked.extend(self.permitted.iter());
            self.relay.receive(self.path, &request);
            self.collect();
        }
    }

    fn collect(&mut self) {
        for (path, bytes) in self.relay.sent.drain(..) {
            if path == self.path && self.incoming.len() < MAX_WAITING {
                self.incoming.push(bytes);
            }
        }
        self.given
            .extend(self.relay.relays.values().map(|(address, _)| *address));
    }

    fn receive(&mut self, bytes: &[u8]) {
        // A driver cuts messages out of a stream.
        if matches!(self.path, Path::Stream(_)) && message_length(bytes) != Ok(Some(bytes.len())) {
            return;
        }
        if let Received::Data { peer, range } = self.client.handle(self.relay.now, bytes) {
            assert!(bytes.get(range).is_some(), "data beyond the message");
            assert!(
                self.permitted.contains(&peer.ip()),
                "data of {peer}, which was never let through"
            );
        }
    }

    fn poll(&mut self) {
        let mut buffer = [0; 2_048];
        let mut requests = 0;
        while let Some(size) = self.client.poll(self.relay.now, &mut buffer) {
            requests += 1;
            assert!(
                requests < MAX_REQUESTS,
                "the client has always more to send"
            );
            let bytes = &buffer[..size];
            assert!(Message::parse(bytes).is_ok(), "what is sent is a message");
            if self.outgoing.len() < MAX_WAITING {
                self.outgoing.push(bytes.to_vec());
            }
            self.last_request = bytes.to_vec();
        }
        let due = self.client.deadline();
        assert!(
            due.is_none_or(|at| at > self.relay.now),
            "nothing to do, and due at once"
        );
        let mut events = 0;
        while let Some(event) = self.client.poll_event() {
            events += 1;
            assert!(events < MAX_REQUESTS, "events without end");
            if let ClientEvent::Allocated { relayed, .. } = event {
                self.allocated = true;
                assert!((1..=2).contains(&relayed.len()), "{relayed:?}");
            }
        }
        for relayed in self.client.relayed() {
            assert!(self.given.contains(relayed), "{relayed} was never given");
        }
    }
}

/// An answer to the latest request, by somebody who does not know the password.
fn forged(choices: &mut Choices<'_>, request: &[u8]) -> Option<Vec<u8>> {
    let request = Message::parse(request).ok()?;
    let class = choices.of(&[Class::ErrorResponse, Class::SuccessResponse]);
    let mut buffer = vec![0; 4_096];
    let mut builder = MessageBuilder::new(
        &mut buffer,
        class,
        request.method(),
        request.transaction_id(),
    )
    .ok()?;
    for _ in 0..choices.below(7) {
        let _ = match choices.below(10) {
            0 => builder.error_code(
                choices.of(&[300, 400, 401, 403, 420, 437, 438, 440, 441, 486, 508]),
                "because",
            ),
            1 => builder.error(ErrorCode::UNAUTHENTICATED),
            2 => builder.realm(choices.of(&[REALM, "another realm"])),
            3 => builder.nonce(choices.of(&[
                "obMatJos2gAAAnonce",
                "obMatJos2AAAAnonce",
                "nonce",
                "",
            ])),
            4 => builder.password_algorithms(&[PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5]),
            5 => builder.xor_relayed_address(address("192.0.2.66:66")),
            6 => builder.xor_mapped_address(address("192.0.2.67:67")),
            7 => builder.lifetime(choices.of(&[0, 1, 600, u32::MAX])),
            8 => builder.alternate_server(address("192.0.2.68:68")),
            _ => builder.alternate_domain("turn.example.net"),
        };
    }
    let length = builder.finish();
    buffer.truncate(length);
    Some(buffer)
}
