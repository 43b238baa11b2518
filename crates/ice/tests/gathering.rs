//! What an agent tells of its candidates: what sets each apart from the others, and which belong together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{AgentConfig, Candidate, CandidateType, Event, ExternalAddress, Role, StunServer};
use nilas_stun::{Class, Message, MessageBuilder, Method};

use self::support::{Packet, Pair, Side, give};

mod support;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What a server says that sees a request come from this address.
fn seen(request: &Packet, from: SocketAddr) -> Vec<u8> {
    let parsed = Message::parse(&request.bytes).expect("a message");
    let (class, id) = (Class::SuccessResponse, parsed.transaction_id());
    let mut buffer = [0; 128];
    let mut message = MessageBuilder::new(&mut buffer, class, Method::BINDING, id).expect("room");
    message.xor_mapped_address(from).expect("room");
    let size = message.finish();
    buffer[..size].to_vec()
}

/// The candidates of an agent behind a NAT that maps it anew for each of its servers, and that is outside at another
/// address besides.
fn told(servers: &[&str]) -> Vec<Candidate> {
    let mut config = AgentConfig::new(Role::Controlling);
    let host_and_port = servers.iter().map(|server| address(server));
    config.stun_servers = host_and_port
        .map(|server| StunServer {
            host: server.ip().to_string(),
            port: server.port(),
        })
        .collect();
    config.external_addresses = vec![ExternalAddress {
        external: address("203.0.113.9:1").ip(),
        local: None,
        replaces: false,
    }];
    let agent = Side::with(config, 1, &["10.0.0.1"]);
    let mut pair = Pair::new(agent, Side::new(Role::Controlled, 2, &["192.0.2.2"]));
    pair.run(pair.now + Duration::from_millis(200), |_| false);
    for (server, port) in servers.iter().zip(4_000..) {
        let sent = pair.sent.iter();
        let mut asked = sent.filter(|(side, packet)| *side == 0 && packet.to == address(server));
        let (_, request) = asked.next().expect("each is asked");
        let mapped = SocketAddr::new(address("203.0.113.1:1").ip(), port);
        let answer = seen(request, mapped);
        let _ = give(&mut pair.sides[0], pair.now, server, &answer);
    }
    pair.run(pair.now + Duration::from_millis(200), |_| false);
    let events = pair.sides[0].events.iter();
    let candidates = events.filter_map(|(_, event)| match event {
        Event::Candidate(candidate) => Some(candidate.clone()),
        _ => None,
    });
    candidates.collect()
}

/// RFC 8445 section 5.1.2.
#[test]
fn each_candidate_has_a_priority_of_its_own_however_many_servers_see_one_base() {
    let told = told(&[
        "198.51.100.1:3478",
        "198.51.100.2:3478",
        "198.51.100.3:3478",
    ]);
    assert_eq!(told.len(), 5, "{told:?}");
    let priorities: BTreeSet<_> = told.iter().map(|own| own.priority).collect();
    assert_eq!(priorities.len(), told.len(), "{told:?}");
    for candidate in &told {
        assert_eq!(candidate.priority >> 24, candidate.kind.preference());
        assert_eq!(candidate.priority & 0xff, 255);
    }
    // The first is as it would be alone.
    let alone = |kind| told.iter().find(|own| own.kind == kind).expect("one");
    let [host, reflexive] = [CandidateType::Host, CandidateType::Srflx].map(alone);
    assert_eq!(
        host.priority & 0x00ff_ffff,
        reflexive.priority & 0x00ff_ffff
    );
}

/// RFC 8445 section 5.1.1.3.
#[test]
fn servers_at_one_address_make_one_foundation() {
    let told = told(&[
        "198.51.100.1:3478",
        "198.51.100.2:3478",
        "198.51.100.1:3479",
    ]);
    let of = |port: u16| {
        let mut seen = told.iter();
        let found = seen.find(|own| own.ip_address().is_some_and(|own| own.port() == port));
        &found.expect("each server told one").foundation
    };
    assert_eq!(of(4_000), of(4_002));
    assert_ne!(of(4_000), of(4_001));
    let foundations: BTreeSet<_> = told.iter().map(|own| own.foundation.to_string()).collect();
    assert_eq!(
        foundations.len(),
        4,
        "host, outside, and two servers: {told:?}"
    );
}
