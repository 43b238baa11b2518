//! The client's end against the server's core, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_stun::{Class, Message, Method, TransactionId};
use nilas_turn::Time;
use nilas_turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, Failure, Families, Framing, MAX_HEAD,
    Permission, Received, Transport,
};
use nilas_turn::server::{
    AlternateServer, Handled, Input, ListenerId, Path, RelayId, ServerConfig,
};

use self::support::{Bench, address, config};

mod support;

/// A client, the way to its server, and what it told.
struct Peer {
    client: Client,
    path: Path,
    events: Vec<ClientEvent>,
    /// Requests that reached the server, by method.
    requests: Vec<Method>,
    /// What the server passed on: to which peer, and the bytes.
    relayed: Vec<(RelayId, SocketAddr, Vec<u8>)>,
    /// Whether what the client sends is lost.
    lost: bool,
}

impl Peer {
    fn new(password: &str, families: Families) -> Self {
        let credentials = Credentials {
            username: "ann".into(),
            password: password.into(),
        };
        let mut config = ClientConfig::new(credentials, Transport::Datagram);
        config.families = families;
        let path = Path::Datagram {
            listener: ListenerId(0),
            client: address("192.0.2.200:5000"),
            server: address("198.51.100.1:3478"),
        };
        Self {
            client: Client::new(config, [3; 32]),
            path,
            events: Vec::new(),
            requests: Vec::new(),
            relayed: Vec::new(),
            lost: false,
        }
    }

    /// Lets both do what there is to do now.
    fn settle(&mut self, bench: &mut Bench) {
        let mut buffer = [0; 1500];
        loop {
            let mut busy = false;
            while let Some(size) = self.client.poll(bench.now, &mut buffer) {
                busy = true;
                if self.lost {
                    continue;
                }
                let bytes = &buffer[..size];
                if let Ok(message) = Message::parse(bytes)
                    && message.class() == Class::Request
                {
                    self.requests.push(message.method());
                }
                if let Handled::ToPeer {
                    relay,
                    peer,
                    payload,
                    ..
                } = bench.datagram(self.path, bytes)
                {
                    self.relayed.push((relay, peer, bytes[payload].to_vec()));
                }
            }
            for (path, bytes) in std::mem::take(&mut bench.transmits) {
                assert_eq!(path, self.path);
                busy = true;
                let _ = self.client.handle(bench.now, &bytes);
            }
            while let Some(event) = self.client.poll_event() {
                self.events.push(event);
            }
            if !busy {
                return;
            }
        }
    }

    fn pass(&mut self, bench: &mut Bench, duration: Duration) {
        let end = bench.now + duration;
        loop {
            self.settle(bench);
            let Some(next) = self.client.deadline().filter(|next| *next <= end) else {
                break;
            };
            let step = next.since(bench.now).max(Duration::from_millis(1));
            bench.pass(step);
        }
        let rest = end.since(bench.now);
        bench.pass(rest);
        self.settle(bench);
    }

    /// Data for a peer, as a driver would send it.
    fn send(
        &self,
        bench: &mut Bench,
        peer: SocketAddr,
        data: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let mut head = [0; MAX_HEAD];
        let framing = self.client.framing(bench.now, peer);
        let id = TransactionId::new([9; 12]);
        let (front, padding) = framing
            .write(&mut head, id, data.len())
            .expect("short enough");
        let mut bytes = head[MAX_HEAD - front..].to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + padding, 0);
        match bench.datagram(self.path, &bytes) {
            Handled::ToPeer { peer, payload, .. } => Some((peer, bytes[payload].to_vec())),
            _ => None,
        }
    }

    /// Data of a peer, as the server would pass it on.
    fn receive(
        &mut self,
        bench: &mut Bench,
        peer: SocketAddr,
        data: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let relay = *bench.relays.keys().next().expect("a relay");
        let input = Input::PeerDatagram {
            relay,
            peer,
            length: data.len(),
        };
        let Handled::ToClient { head, tail, .. } = bench.handle(input) else {
            return None;
        };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + usize::from(tail), 0);
        match self.client.handle(bench.now, &bytes) {
            Received::Data { peer, range } => Some((peer, bytes[range].to_vec())),
            _ => None,
        }
    }
}

fn allocated(config: ServerConfig) -> (Bench, Peer) {
    let mut bench = Bench::new(config);
    let mut peer = Peer::new("secret of ann", Families::V4);
    peer.settle(&mut bench);
    assert!(
        matches!(peer.events[..], [ClientEvent::Allocated { .. }]),
        "{:?}",
        peer.events
    );
    (bench, peer)
}

#[test]
fn an_allocation_takes_two_requests() {
    let (bench, peer) = allocated(config());
    assert_eq!(peer.requests, [Method::ALLOCATE, Method::ALLOCATE]);
    let ClientEvent::Allocated { relayed, mapped } = &peer.events[0] else {
        unreachable!()
    };
    assert_eq!(*mapped, address("192.0.2.200:5000"));
    assert_eq!(
        relayed[..],
        [bench.relays.values().next().expect("a relay").0]
    );
    assert!(peer.client.reaches(address("192.0.2.7:7")));
    assert!(!peer.client.reaches(address("[2001:db8::7]:7")));
}

#[test]
fn both_families_come_in_one_allocation() {
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("secret of ann", Families::Both);
    peer.settle(&mut bench);
    assert_eq!(peer.client.relayed().len(), 2, "{:?}", peer.events);
    // Where the server has one family only, that one will do.
    let mut single = config();
    single.families.ipv6 = false;
    let mut bench = Bench::new(single);
    let mut peer = Peer::new("secret of ann", Families::Both);
    peer.settle(&mut bench);
    assert_eq!(peer.client.relayed().len(), 1, "{:?}", peer.events);
}

#[test]
fn a_wrong_password_is_refused_and_not_tried_for_ever() {
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("a guess", Families::V4);
    peer.pass(&mut bench, Duration::from_secs(60));
    assert_eq!(peer.events, [ClientEvent::Failed(Failure::Unauthorized)]);
    assert_eq!(peer.requests.len(), 2);
    assert_eq!(peer.client.deadline(), None);
}

/// RFC 8656 section 7.4: a quota (486) or a full server (508) ends the transaction, and the client does not press it.
#[test]
fn a_refusal_is_told_with_its_code_and_nothing_is_asked_again() {
    let mut no_quota = config();
    no_quota.max_allocations_per_user = 0;
    let mut full = config();
    full.max_allocations = 0;
    for (server, wanted) in [(no_quota, 486), (full, 508)] {
        let mut bench = Bench::new(server);
        let mut peer = Peer::new("secret of ann", Families::V4);
        peer.pass(&mut bench, Duration::from_secs(600));
        let [ClientEvent::Failed(Failure::Refused { code, .. })] = peer.events[..] else {
            panic!("{:?}", peer.events);
        };
        assert_eq!(code, wanted);
        assert_eq!(peer.requests.len(), 2, "after the challenge one more");
        assert_eq!(peer.client.deadline(), None);
    }
}

#[test]
fn data_goes_by_indications_first_and_by_a_channel_then() {
    let (mut bench, mut peer) = allocated(config());
    let other = address("192.0.2.7:700");
    assert!(peer.client.permit(bench.now, other));
    peer.settle(&mut bench);
    assert_eq!(
        peer.client.framing(bench.now, other),
        Framing::Send { peer: other }
    );
    let sent = peer.send(&mut bench, other, b"by indication");
    assert_eq!(sent, Some((other, b"by indication".to_vec())));
    assert_eq!(
        peer.receive(&mut bench, other, b"back"),
        Some((other, b"back".to_vec()))
    );
    peer.client.bind(bench.now, other);
    peer.settle(&mut bench);
    assert!(
        peer.events
            .contains(&ClientEvent::ChannelBound { peer: other }),
        "{:?}",
        peer.events
    );
    assert!(matches!(
        peer.client.framing(bench.now, other),
        Framing::Channel { padded: false, .. }
    ));
    let sent = peer.send(&mut bench, other, b"by channel");
    assert_eq!(sent, Some((other, b"by channel".to_vec())));
    assert_eq!(
        peer.receive(&mut bench, other, b"again"),
        Some((other, b"again".to_vec()))
    );
    // Nobody else gets through.
    assert_eq!(
        peer.receive(&mut bench, address("192.0.2.8:700"), b"stranger"),
        None
    );
}

#[test]
fn a_peer_that_the_server_refuses_is_told() {
    let (mut bench, mut peer) = allocated(config());
    let inside = address("127.0.0.1:22");
    assert!(peer.client.permit(bench.now, inside));
    peer.settle(&mut bench);
    assert!(
        peer.events.contains(&ClientEvent::PeerRefused {
            peer: inside,
            code: 403
        }),
        "{:?}",
        peer.events
    );
    assert!(
        !peer.client.permit(bench.now, inside),
        "it is not asked for again"
    );
}

/// RFC 8656 sections 8, 9 and 12: everything is renewed before it ends, past several nonces.
#[test]
fn an_idle_hour_keeps_the_allocation_the_permission_and_the_channel() {
    let mut short = config();
    short.nonce_lifetime = Duration::from_secs(300);
    let (mut bench, mut peer) = allocated(short);
    let other = address("192.0.2.7:700");
    peer.client.bind(bench.now, other);
    for _ in 0..60 {
        peer.pass(&mut bench, Duration::from_secs(60));
        assert_eq!(bench.relays.len(), 1);
        let sent = peer.send(&mut bench, other, b"still here");
        assert_eq!(sent, Some((other, b"still here".to_vec())));
        assert_eq!(
            peer.receive(&mut bench, other, b"too"),
            Some((other, b"too".to_vec()))
        );
    }
    let told = |event: &ClientEvent| matches!(event, ClientEvent::Lost | ClientEvent::Failed(_));
    assert!(!peer.events.iter().any(told), "{:?}", peer.events);
}

#[test]
fn an_allocation_that_the_server_forgot_is_made_anew() {
    let (mut bench, mut peer) = allocated(config());
    let other = address("192.0.2.7:700");
    peer.client.bind(bench.now, other);
    peer.settle(&mut bench);
    // A server that was started again knows nothing.
    let now = bench.now;
    bench = Bench::new(config());
    bench.now = now;
    peer.pass(&mut bench, Duration::from_secs(600));
    let lost = peer
        .events
        .iter()
        .position(|event| *event == ClientEvent::Lost)
        .expect("lost");
    let again = peer
        .events
        .iter()
        .rposition(|event| matches!(event, ClientEvent::Allocated { .. }));
    assert!(again > Some(lost), "{:?}", peer.events);
    assert_eq!(
        peer.send(&mut bench, other, b"as before"),
        Some((other, b"as before".to_vec()))
    );
}

/// RFC 8656 section 5: 437 says that the server does not know the allocation, whatever was asked of it.
#[test]
fn whichever_request_finds_the_allocation_gone_another_is_made_at_once() {
    let other = address("192.0.2.7:700");
    for method in [
        Method::REFRESH,
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
    ] {
        let (mut bench, mut peer) = allocated(config());
        peer.client.permit(bench.now, other);
        peer.settle(&mut bench);
        let now = bench.now;
        bench = Bench::new(config());
        bench.now = now;
        peer.events.clear();
        peer.requests.clear();
        match method {
            Method::REFRESH => peer.client.refresh(now),
            Method::CREATE_PERMISSION => {
                peer.client.permit(now, address("192.0.2.8:800"));
            }
            _ => {
                peer.client.bind(now, other);
            }
        }
        peer.settle(&mut bench);
        // Then come the peers that mattered.
        assert_eq!(
            peer.requests[..2],
            [method, Method::ALLOCATE],
            "{:?}",
            peer.requests
        );
        assert!(
            matches!(
                peer.events[..2],
                [ClientEvent::Lost, ClientEvent::Allocated { .. }]
            ),
            "{method:?}: {:?}",
            peer.events
        );
        assert_eq!(
            peer.send(&mut bench, other, b"as before"),
            Some((other, b"as before".to_vec())),
            "{method:?}"
        );
        assert_eq!(bench.now, now, "no time has passed");
    }
}

#[test]
fn a_silent_server_is_given_up_after_five_seconds() {
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("secret of ann", Families::V4);
    peer.lost = true;
    let begun = bench.now;
    peer.pass(&mut bench, Duration::from_millis(4_999));
    assert_eq!(peer.events, []);
    peer.pass(&mut bench, Duration::from_millis(10));
    assert_eq!(
        peer.events,
        [ClientEvent::Failed(Failure::Timeout)],
        "{:?}",
        bench.now.since(begun)
    );
}

#[test]
fn a_release_leaves_nothing() {
    let (mut bench, mut peer) = allocated(config());
    peer.client.release();
    peer.settle(&mut bench);
    assert_eq!(peer.events.last(), Some(&ClientEvent::Released));
    assert!(bench.relays.is_empty());
    assert_eq!(peer.client.deadline(), None);
}

/// RFC 8489 section 10.
#[test]
fn a_redirection_is_told_to_whoever_guards_against_loops() {
    let mut elsewhere = config();
    elsewhere.redirect = true;
    let server = address("198.51.100.9:3478");
    elsewhere.alternate_servers = vec![AlternateServer {
        address: server,
        domain: None,
    }];
    let mut bench = Bench::new(elsewhere);
    let mut peer = Peer::new("secret of ann", Families::V4);
    peer.settle(&mut bench);
    assert_eq!(
        peer.events,
        [ClientEvent::Redirected {
            server,
            domain: None
        }]
    );
}

/// RFC 8489 section 9.2.5: what the nonce cookie promises cannot be taken away on the way.
#[test]
fn a_challenge_that_somebody_weakened_is_not_answered() {
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("secret of ann", Families::V4);
    let mut buffer = [0; 1500];
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = bench.datagram(peer.path, &buffer[..size]);
    let (_, challenge) = bench.transmits.pop().expect("a challenge");
    let message = Message::parse(&challenge).expect("a message");
    // The same without PASSWORD-ALGORITHMS.
    let mut out = [0; 1500];
    let mut weak = nilas_stun::MessageBuilder::new(
        &mut out,
        Class::ErrorResponse,
        message.method(),
        message.transaction_id(),
    )
    .expect("room");
    weak.error_code(401, "").expect("room");
    weak.realm(message.realm().expect("a realm").expect("a realm"))
        .expect("room");
    weak.nonce(message.nonce().expect("a nonce").expect("a nonce"))
        .expect("room");
    let size = weak.finish();
    let _ = peer.client.handle(bench.now, &out[..size]);
    assert_eq!(
        peer.client.poll_event(),
        Some(ClientEvent::Failed(Failure::Tampered))
    );
    assert_eq!(peer.client.poll(bench.now, &mut buffer), None);
}

#[test]
fn garbage_and_forgeries_change_nothing() {
    let (mut bench, mut peer) = allocated(config());
    let before = format!("{:?}", peer.client);
    let mut inputs: Vec<Vec<u8>> = vec![
        vec![],
        vec![0x40],
        vec![0x40, 0, 0xff, 0xff],
        vec![0; 20],
        vec![0xff; 1500],
    ];
    // A forged answer to a request that was never made, and a Data indication of a peer nobody permitted.
    for (class, method) in [
        (Class::SuccessResponse, Method::ALLOCATE),
        (Class::Indication, Method::DATA),
    ] {
        let mut out = [0; 200];
        let mut message =
            nilas_stun::MessageBuilder::new(&mut out, class, method, TransactionId::new([1; 12]))
                .expect("room");
        message
            .xor_peer_address(address("192.0.2.66:6"))
            .expect("room");
        message.data(b"forged").expect("room");
        let size = message.finish();
        inputs.extend((0..=size).map(|end| out[..end].to_vec()));
    }
    for bytes in inputs {
        assert_eq!(
            peer.client.handle(bench.now, &bytes),
            Received::NotOurs,
            "{bytes:02x?}"
        );
    }
    assert_eq!(format!("{:?}", peer.client), before);
    bench.now = bench.now + Duration::from_millis(1);
    assert_eq!(peer.client.poll(Time::ZERO, &mut [0; 1500]), None);
}

/// RFC 8489 section 9.2.5: an answer to an authenticated request is believed when it is authentic, whatever it says.
#[test]
fn an_answer_without_integrity_allocates_refreshes_and_permits_nothing() {
    let forge = |request: &[u8]| {
        let request = Message::parse(request).expect("a message");
        let mut out = [0; 300];
        let mut answer = nilas_stun::MessageBuilder::new(
            &mut out,
            Class::SuccessResponse,
            request.method(),
            request.transaction_id(),
        )
        .expect("room");
        answer
            .xor_relayed_address(address("203.0.113.66:6666"))
            .expect("room");
        answer
            .xor_mapped_address(address("203.0.113.66:66"))
            .expect("room");
        answer.lifetime(3600).expect("room");
        let size = answer.finish();
        out[..size].to_vec()
    };
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("secret of ann", Families::V4);
    let mut buffer = [0; 1500];
    // The first request brings the challenge, the second has credentials.
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = bench.datagram(peer.path, &buffer[..size]);
    let (_, challenge) = bench.transmits.pop().expect("a challenge");
    let _ = peer.client.handle(bench.now, &challenge);
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = peer.client.handle(bench.now, &forge(&buffer[..size]));
    assert_eq!(peer.client.poll_event(), None);
    // The true answer still counts.
    let _ = bench.datagram(peer.path, &buffer[..size]);
    peer.settle(&mut bench);
    let [ClientEvent::Allocated { relayed, .. }] = &peer.events[..] else {
        panic!("{:?}", peer.events);
    };
    assert_eq!(relayed[0].ip(), address("198.51.100.1:1").ip());

    let other = address("192.0.2.7:700");
    assert!(peer.client.permit(bench.now, other));
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = peer.client.handle(bench.now, &forge(&buffer[..size]));
    assert_eq!(
        peer.client.permission(bench.now, other),
        Permission::Asked,
        "not granted"
    );
    let _ = bench.datagram(peer.path, &buffer[..size]);
    peer.settle(&mut bench);
    assert_eq!(
        peer.client.permission(bench.now, other),
        Permission::Granted
    );
}

/// RFC 8656 section 7.3: it is deleted, so that the server does not keep it for its lifetime.
#[test]
fn an_allocation_without_addresses_is_given_back_before_its_failure_is_told() {
    let mut bench = Bench::new(config());
    let mut peer = Peer::new("secret of ann", Families::V4);
    let mut buffer = [0; 1500];
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = bench.datagram(peer.path, &buffer[..size]);
    let (_, challenge) = bench.transmits.pop().expect("a challenge");
    let _ = peer.client.handle(bench.now, &challenge);
    let size = peer.client.poll(bench.now, &mut buffer).expect("a request");
    let _ = bench.datagram(peer.path, &buffer[..size]);
    let _ = bench.transmits.pop().expect("an answer");
    assert_eq!(bench.relays.len(), 1);
    // The server says yes, and not where.
    let request = Message::parse(&buffer[..size]).expect("a message");
    let mut out = [0; 300];
    let mut answer = nilas_stun::MessageBuilder::new(
        &mut out,
        Class::SuccessResponse,
        Method::ALLOCATE,
        request.transaction_id(),
    )
    .expect("room");
    answer.lifetime(600).expect("room");
    let (_, key) = peer
        .client
        .key_and_stand_in(Clone::clone)
        .expect("it was challenged");
    answer.message_integrity_sha256(&key, 32).expect("room");
    let size = answer.finish();
    let _ = peer.client.handle(bench.now, &out[..size]);
    assert_eq!(peer.client.poll_event(), None, "not yet");
    peer.settle(&mut bench);
    assert_eq!(peer.requests, [Method::REFRESH]);
    assert!(bench.relays.is_empty());
    let reason = "an allocation without addresses".into();
    let failed = ClientEvent::Failed(Failure::Refused { code: 0, reason });
    assert_eq!(peer.events, [failed]);
    assert_eq!(peer.client.deadline(), None);
}

/// RFC 8656 section 9: a permission lasts for five minutes, and a peer without a channel has nothing else to renew it.
#[test]
fn a_permission_is_renewed_where_there_is_no_channel() {
    let (mut bench, mut peer) = allocated(config());
    let other = address("192.0.2.7:700");
    assert!(peer.client.permit(bench.now, other));
    peer.settle(&mut bench);
    for _ in 0..20 {
        peer.pass(&mut bench, Duration::from_secs(60));
        assert_eq!(
            peer.receive(&mut bench, other, b"too"),
            Some((other, b"too".to_vec()))
        );
    }
    assert!(!peer.requests.contains(&Method::CHANNEL_BIND));
}
