//! URIs to servers, with a small DNS server on loopback that knows a zone by heart.
//!
//! Time is virtual: it moves when all that is left is to wait, so that an answer of this server is never late.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Metadata, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use nilas_net::dns::ServerTransport::{Dtls, Tcp, Tls, Udp};
use nilas_net::dns::{DnsError, ServerAddress, ServerResolver, ServerTransport};
use tokio::net::UdpSocket;

/// Everything that an application may support.
const ALL: &[ServerTransport] = &[Udp, Tcp, Tls, Dtls];

/// A zone, and what was asked of it.
#[derive(Default)]
struct Zone {
    records: BTreeMap<(String, RecordType), Vec<RData>>,
    /// Kinds of questions that are not answered.
    swallowed: Vec<RecordType>,
    asked: Mutex<Vec<(String, RecordType)>>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Zone {
    fn add(mut self, owner: &str, data: RData) -> Self {
        let key = (owner.to_owned(), data.record_type());
        self.records.entry(key).or_default().push(data);
        self
    }

    fn a(self, owner: &str, address: &str) -> Self {
        self.add(owner, RData::A(A(address.parse().unwrap())))
    }

    fn aaaa(self, owner: &str, address: &str) -> Self {
        self.add(owner, RData::AAAA(AAAA(address.parse().unwrap())))
    }

    fn srv(self, owner: &str, priority: u16, port: u16, target: &str) -> Self {
        self.add(owner, RData::SRV(SRV::new(priority, 0, port, name(target))))
    }

    fn naptr(self, owner: &str, order: u16, flags: &str, services: &str, to: &str) -> Self {
        let bytes = |text: &str| text.as_bytes().into();
        let naptr = NAPTR::new(
            order,
            10,
            bytes(flags),
            bytes(services),
            bytes(""),
            name(to),
        );
        self.add(owner, RData::NAPTR(naptr))
    }

    fn swallow(mut self, kinds: &[RecordType]) -> Self {
        self.swallowed = kinds.to_vec();
        self
    }

    /// Serves the zone, and resolves with it.
    async fn serve(self) -> (ServerResolver, Arc<Self>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(self);
        tokio::spawn(Arc::clone(&zone).answer(socket));
        (ServerResolver::with_servers(&[address]).unwrap(), zone)
    }

    async fn answer(self: Arc<Self>, socket: UdpSocket) {
        let mut packet = [0; 2000];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let request = Message::from_vec(&packet[..length]).unwrap();
            let query = request.queries[0].clone();
            let owner = query.name().to_ascii().to_ascii_lowercase();
            let key = (owner.trim_end_matches('.').to_owned(), query.query_type());
            self.asked.lock().unwrap().push(key.clone());
            if self.swallowed.contains(&key.1) {
                continue;
            }
            let mut response = Message::response(request.metadata.id, request.metadata.op_code);
            response.metadata = Metadata::response_from_request(&request.metadata);
            response.add_query(query.clone());
            match self.records.get(&key) {
                Some(records) => {
                    let record =
                        |data: &RData| Record::from_rdata(query.name().clone(), 60, data.clone());
                    response.add_answers(records.iter().map(record));
                }
                None if self.records.keys().any(|(owner, _)| *owner == key.0) => (),
                None => response.metadata.response_code = ResponseCode::NXDomain,
            }
            socket
                .send_to(&response.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    }

    fn questions(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().unwrap().clone()
    }
}

/// The zone of RFC 5928 section 4.1, with the DTLS of RFC 7350 appendix A.
fn example_net() -> Zone {
    Zone::default()
        .naptr(
            "example.net",
            100,
            "",
            "RELAY:turn.udp:turn.dtls",
            "datagram.example.net",
        )
        .naptr(
            "example.net",
            200,
            "",
            "RELAY:turn.tcp:turn.tls",
            "stream.example.net",
        )
        .naptr(
            "datagram.example.net",
            100,
            "S",
            "RELAY:turn.udp",
            "_turn._udp.example.net",
        )
        .naptr(
            "datagram.example.net",
            200,
            "S",
            "RELAY:turn.dtls",
            "_turns._udp.example.net",
        )
        .naptr(
            "stream.example.net",
            100,
            "S",
            "RELAY:turn.tcp",
            "_turn._tcp.example.net",
        )
        .naptr(
            "stream.example.net",
            200,
            "A",
            "RELAY:turn.tls",
            "a.example.net",
        )
        .srv("_turn._udp.example.net", 0, 3478, "a.example.net")
        .srv("_turns._udp.example.net", 0, 5349, "a.example.net")
        .srv("_turn._tcp.example.net", 0, 5000, "a.example.net")
        .a("a.example.net", "192.0.2.1")
}

async fn turn(
    resolver: &ServerResolver,
    uri: &str,
    supported: &[ServerTransport],
) -> Result<Vec<(ServerTransport, String)>, DnsError> {
    let servers = resolver.turn(&uri.parse().unwrap(), supported, 1).await?;
    Ok(servers
        .into_iter()
        .map(|server| (server.transport, server.address.to_string()))
        .collect())
}

async fn stun(
    resolver: &ServerResolver,
    uri: &str,
    supported: &[ServerTransport],
) -> Result<Vec<(ServerTransport, String)>, DnsError> {
    let servers = resolver.stun(&uri.parse().unwrap(), supported, 1).await?;
    Ok(servers
        .into_iter()
        .map(|server| (server.transport, server.address.to_string()))
        .collect())
}

fn at(servers: &[(ServerTransport, &str)]) -> Vec<(ServerTransport, String)> {
    let owned =
        |(transport, address): &(ServerTransport, &str)| (*transport, (*address).to_owned());
    servers.iter().map(owned).collect()
}

#[tokio::test(start_paused = true)]
async fn the_examples_of_rfc_5928_and_rfc_7350() {
    let (resolver, _) = example_net()
        .naptr(
            "example.com",
            100,
            "",
            "RELAY:turn.udp:turn.tcp:turn.tls",
            "example.net",
        )
        .serve()
        .await;
    let expected = at(&[
        (Udp, "192.0.2.1:3478"),
        (Tls, "192.0.2.1:5349"),
        (Tcp, "192.0.2.1:5000"),
    ]);
    let supported = [Tls, Tcp, Udp];
    assert_eq!(
        turn(&resolver, "turn:example.net", &supported)
            .await
            .unwrap(),
        expected
    );
    let expected = at(&[(Dtls, "192.0.2.1:5349"), (Tls, "192.0.2.1:5349")]);
    let supported = [Dtls, Tls, Tcp, Udp];
    assert_eq!(
        turn(&resolver, "turns:example.net", &supported)
            .await
            .unwrap(),
        expected
    );

    // Remote hosting: the certificate is for the host of the URI all the same.
    let uri = "turns:example.com".parse().unwrap();
    let servers = resolver.turn(&uri, &[Tls, Tcp, Udp], 1).await.unwrap();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].server_name.as_deref(), Some("example.com"));
    let uri = "turn:example.com?transport=udp".parse().unwrap();
    assert!(
        resolver.turn(&uri, ALL, 1).await.is_err(),
        "only NAPTR leads there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transport_skips_naptr_and_a_port_skips_srv() {
    let (resolver, zone) = example_net().a("example.net", "192.0.2.9").serve().await;
    let found = turn(&resolver, "turn:example.net?transport=tcp", ALL)
        .await
        .unwrap();
    assert_eq!(found, at(&[(Tcp, "192.0.2.1:5000")]));
    assert!(
        zone.questions()
            .iter()
            .all(|(_, kind)| *kind != RecordType::NAPTR)
    );

    let (resolver, zone) = example_net().a("example.net", "192.0.2.9").serve().await;
    let found = turn(&resolver, "turn:example.net:99", ALL).await.unwrap();
    assert_eq!(found, at(&[(Udp, "192.0.2.9:99"), (Tcp, "192.0.2.9:99")]));
    let address = |kind| matches!(kind, RecordType::A | RecordType::AAAA);
    assert!(zone.questions().iter().all(|(_, kind)| address(*kind)));
}

#[tokio::test(start_paused = true)]
async fn what_a_domain_offers_is_what_its_naptr_records_lead_to() {
    let (resolver, _) = example_net().serve().await;
    let offers = async |resolver: &ServerResolver, uri: &str, supported: &[ServerTransport]| {
        let uri = uri.parse().unwrap();
        let offers = resolver.turn_offers(&uri, supported, 1).await?;
        let told = |server: &ServerAddress| (server.transport, server.address.to_string());
        let offers = offers.map(|servers| servers.iter().map(told).collect::<Vec<_>>());
        Ok::<_, DnsError>(offers)
    };
    let all = turn(&resolver, "turn:example.net", ALL).await.unwrap();
    let offered = offers(&resolver, "turn:example.net", ALL).await.unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(offered, Some(all));
    let secure = offers(&resolver, "turns:example.net", &[Tls]).await;
    assert_eq!(secure.unwrap().unwrap(), at(&[(Tls, "192.0.2.1:5349")]));
    for uri in [
        "turn:example.net:3478",
        "turn:example.net?transport=udp",
        "turn:192.0.2.1",
    ] {
        let error = offers(&resolver, uri, ALL).await.unwrap_err();
        assert_eq!(error, DnsError::Transport, "{uri}");
    }
    // A domain that says nothing, and one whose resolver drops the question, which is not waited for.
    let silent = || Zone::default().a("example.net", "192.0.2.1");
    for zone in [silent(), silent().swallow(&[RecordType::NAPTR])] {
        let (resolver, _) = zone.serve().await;
        let asked = offers(&resolver, "turn:example.net", ALL);
        let asked = tokio::time::timeout(Duration::from_secs(4), asked).await;
        assert_eq!(asked.unwrap(), Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn without_srv_records_the_host_itself_is_the_server() {
    let (resolver, _) = Zone::default()
        .a("turn.example", "192.0.2.1")
        .aaaa("turn.example", "2001:db8::1")
        // Another service's NAPTR is no reason to stop.
        .naptr("turn.example", 1, "S", "SIP+D2U", "_sip._udp.turn.example")
        .srv("_stun._udp.turn.example", 5, 7000, "turn.example")
        .serve()
        .await;
    for uri in ["turn:turn.example", "turn:turn.example."] {
        assert_eq!(
            turn(&resolver, uri, &[Udp, Tls]).await.unwrap(),
            at(&[(Udp, "[2001:db8::1]:3478"), (Udp, "192.0.2.1:3478")])
        );
    }
    assert_eq!(
        turn(&resolver, "turns:turn.example?transport=udp", ALL)
            .await
            .unwrap(),
        at(&[(Dtls, "[2001:db8::1]:5349"), (Dtls, "192.0.2.1:5349")])
    );
    assert_eq!(
        stun(&resolver, "stun:turn.example", &[Udp, Tcp])
            .await
            .unwrap(),
        at(&[
            (Udp, "[2001:db8::1]:7000"),
            (Udp, "192.0.2.1:7000"),
            (Tcp, "[2001:db8::1]:3478"),
            (Tcp, "192.0.2.1:3478"),
        ])
    );
    assert_eq!(
        stun(&resolver, "stuns:turn.example", ALL).await.unwrap(),
        at(&[
            (Tls, "[2001:db8::1]:5349"),
            (Tls, "192.0.2.1:5349"),
            (Dtls, "[2001:db8::1]:5349"),
            (Dtls, "192.0.2.1:5349"),
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn srv_records_rule_by_priority() {
    let (resolver, _) = Zone::default()
        .srv("_turn._udp.example.net", 20, 1, "b.example.net")
        .srv("_turn._udp.example.net", 10, 2, "a.example.net")
        .srv("_turn._udp.example.net", 5, 3, "gone.example.net")
        .a("a.example.net", "192.0.2.1")
        .a("b.example.net", "192.0.2.2")
        .serve()
        .await;
    assert_eq!(
        turn(&resolver, "turn:example.net?transport=udp", ALL)
            .await
            .unwrap(),
        at(&[(Udp, "192.0.2.1:2"), (Udp, "192.0.2.2:1")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_translator_is_found_by_the_ipv6_addresses_of_the_name_that_has_none() {
    let zone = Zone::default()
        .a("ipv4only.arpa", "192.0.0.170")
        .aaaa("ipv4only.arpa", "64:ff9b::192.0.0.170")
        .aaaa("ipv4only.arpa", "64:ff9b::192.0.0.171");
    let (resolver, zone) = zone.serve().await;
    let found = resolver.translator().await.unwrap();
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]);
    let asked = (String::from("ipv4only.arpa"), RecordType::AAAA);
    assert_eq!(zone.questions(), [asked], "and nothing else is asked");

    let (resolver, _) = Zone::default()
        .a("ipv4only.arpa", "192.0.0.170")
        .serve()
        .await;
    let none = resolver.translator().await;
    assert!(matches!(none, Err(DnsError::NotFound { .. })), "{none:?}");
}

#[tokio::test(start_paused = true)]
async fn literals_ask_nobody() {
    let (resolver, zone) = Zone::default().serve().await;
    let found = turn(&resolver, "turn:192.0.2.1", ALL).await.unwrap();
    assert_eq!(
        found,
        at(&[(Udp, "192.0.2.1:3478"), (Tcp, "192.0.2.1:3478")])
    );
    let uri = "turns:[2001:db8::1]:443?transport=tcp".parse().unwrap();
    let servers = resolver.turn(&uri, ALL, 1).await.unwrap();
    assert_eq!(servers[0].address.to_string(), "[2001:db8::1]:443");
    assert_eq!(servers[0].server_name.as_deref(), Some("2001:db8::1"));
    let found = stun(&resolver, "stun:192.0.2.1:99", &[Udp]).await.unwrap();
    assert_eq!(found, at(&[(Udp, "192.0.2.1:99")]));
    assert_eq!(
        stun(&resolver, "stuns:192.0.2.1", ALL).await,
        Err(DnsError::SecureAddress)
    );
    assert!(zone.questions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_an_error_and_no_question() {
    let (resolver, zone) = Zone::default().serve().await;
    for (uri, supported) in [
        ("turn:a.example?transport=udp", &[Tcp, Tls][..]),
        ("turn:a.example?transport=tcp", &[Udp, Tls]),
        ("turns:a.example?transport=udp", &[Udp, Tcp, Tls]),
        ("turns:a.example?transport=tcp", &[Udp, Tcp, Dtls]),
        ("turns:a.example", &[Udp, Tcp]),
        ("turn:192.0.2.1", &[]),
    ] {
        assert_eq!(
            turn(&resolver, uri, supported).await,
            Err(DnsError::Transport),
            "{uri}"
        );
    }
    let error = turn(&resolver, "turn:a.example?transport=sctp", ALL)
        .await
        .unwrap_err();
    assert!(matches!(error, DnsError::UnknownTransport { .. }));
    assert!(zone.questions().is_empty());

    let error = turn(&resolver, "turn:nowhere.example", ALL)
        .await
        .unwrap_err();
    assert!(matches!(error, DnsError::NotFound { .. }), "{error}");
    let long = format!("turn:{}.example", "x".repeat(64));
    let error = turn(&resolver, &long, ALL).await.unwrap_err();
    assert!(matches!(error, DnsError::Name { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn naptr_that_goes_round_ends() {
    let mut zone = Zone::default().a("a.example", "192.0.2.1");
    for order in 0..10 {
        zone = zone.naptr(
            "a.example",
            order,
            "",
            "RELAY:turn.udp:turn.tcp",
            "a.example",
        );
    }
    let (resolver, zone) = zone.serve().await;
    let error = turn(&resolver, "turn:a.example", ALL).await.unwrap_err();
    assert!(matches!(error, DnsError::NotFound { .. }), "{error}");
    assert!(zone.questions().len() < 50);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_drops_naptr_and_srv_is_not_waited_for() {
    let (resolver, _) = Zone::default()
        .a("turn.example", "192.0.2.1")
        .swallow(&[RecordType::NAPTR, RecordType::SRV])
        .serve()
        .await;
    let start = tokio::time::Instant::now();
    let found = turn(&resolver, "turn:turn.example", &[Udp]).await.unwrap();
    assert_eq!(found, at(&[(Udp, "192.0.2.1:3478")]));
    // Virtual time.
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_drops_one_family_is_not_waited_for() {
    for (swallowed, address) in [
        (RecordType::AAAA, "192.0.2.1:3478"),
        (RecordType::A, "[2001:db8::1]:3478"),
    ] {
        let (resolver, _) = Zone::default()
            .a("turn.example", "192.0.2.1")
            .aaaa("turn.example", "2001:db8::1")
            .swallow(&[swallowed])
            .serve()
            .await;
        let start = tokio::time::Instant::now();
        let found = turn(&resolver, "turn:turn.example?transport=udp", ALL)
            .await
            .unwrap();
        assert_eq!(found, at(&[(Udp, address)]));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_ends_at_the_deadline() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = silent.local_addr().unwrap();
    let resolver = ServerResolver::with_servers(&[address]).unwrap();
    let start = tokio::time::Instant::now();
    let error = turn(&resolver, "turn:turn.example", ALL).await.unwrap_err();
    assert!(matches!(error, DnsError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() <= Duration::from_secs(6));
}
