//! What packets look like on their way through a network of kernels: how they are marked, how long they may be, and how
//! a translator writes them anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nilas::signaling::Signal;
use nilas::{Agent, Config, Connection, Ecn, Error, Family, Role};
use nilas_interop::HANG_GUARD;
use nilas_interop::dns64::Dns64;
use nilas_interop::pair::{Pair, candidate_type};
use nilas_interop::scene::{Scene, start};
use nilas_interop::server::Server;
use nilas_lab::{Node, Uplink};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

#[track_caller]
fn good<T>(outcome: Result<T, String>) -> T {
    outcome.unwrap_or_else(|report| panic!("{report}"))
}

fn connected(scene: &Scene, starts: [Value; 2]) -> Pair {
    let peers = [Node::A, Node::B].map(|node| good(scene.nilas(node)));
    let mut pair = good(Pair::start(peers, starts));
    good(pair.connect());
    pair
}

/// Counts datagrams from a public address that arrive at a machine, by whether they have this mark.
fn watch(scene: &Scene, node: Node, from: Uplink, dscp: u8) {
    let from = scene.lab().public_address(from).expect("it has one");
    let of = format!("add rule inet marks arriving ip saddr {from} meta l4proto udp ip dscp");
    good(scene.nft(
        node,
        &format!(
            "add table inet marks; add counter inet marks right; add counter inet marks wrong; \
             add chain inet marks arriving {{ type filter hook input priority 0; }}; \
             {of} {dscp} counter name right; {of} != {dscp} counter name wrong"
        ),
    ));
}

/// How many had the mark, and how many had not.
fn watched(scene: &Scene, node: Node) -> [u64; 2] {
    ["right", "wrong"].map(|name| {
        let told = good(scene.nft(node, &format!("list counter inet marks {name}")));
        let mut words = told.split_whitespace();
        words.find(|word| *word == "packets");
        let count = words.next().and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("no count: {told}"))
    })
}

/// Checks, answers, consent and data alike, on the way to the peer and to the server, through two NATs.
#[test]
fn every_datagram_arrives_with_the_mark_that_its_side_asked_for() {
    let scene = good(Scene::build("plain,plain"));
    watch(&scene, Node::B, Uplink::A, 46);
    watch(&scene, Node::A, Uplink::B, 34);
    let [mut a, mut b] = [start(true), start(false)];
    (a["dscp"], b["dscp"]) = (46.into(), 34.into());
    // The server has those of both sides to tell apart: here it looks at one.
    watch(&scene, Node::Server, Uplink::A, 46);
    let mut pair = connected(&scene, [a, b]);
    good(pair.exchange(20));
    for (node, least) in [(Node::A, 20), (Node::B, 20), (Node::Server, 1)] {
        let [right, wrong] = watched(&scene, node);
        assert!(right >= least && wrong == 0, "{node}: {right} and {wrong}");
    }
    good(pair.close());
}

const MARKS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];

/// What one side has of the other and of the test.
struct Ends {
    to: Sender<Signal>,
    from: Receiver<Signal>,
    /// Passed when both sides have come there.
    both: Arc<Barrier>,
}

/// Runs the same on both machines, and gives what came of it.
fn on_both<T: Send + 'static, F: Future<Output = Result<T, Error>> + 'static>(
    scene: &Scene,
    roles: [Role; 2],
    side: fn(Role, Ends) -> F,
) -> [T; 2] {
    let both = Arc::new(Barrier::new(2));
    let ((to_b, from_a), (to_a, from_b)) = (channel(4), channel(4));
    let sides = [
        (Node::A, roles[0], to_b, from_b),
        (Node::B, roles[1], to_a, from_a),
    ];
    let sides = sides.map(|(node, role, to, from)| {
        let both = Arc::clone(&both);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let ends = Ends { to, from, both };
            runtime.block_on(async { timeout(HANG_GUARD, side(role, ends)).await })
        };
        scene.lab().spawn_in(node, run).expect("a thread")
    });
    sides.map(|side| {
        let told = side.join().expect("no panic").expect("in time");
        told.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Connects; ready when both are.
async fn connect(config: Config, ends: Ends) -> Result<(Connection, Arc<Barrier>), Error> {
    let Ends {
        mut to,
        mut from,
        both,
    } = ends;
    let agent = Arc::new(Agent::new(config).await?);
    let exchanging = Arc::clone(&agent);
    tokio::spawn(async move { exchanging.exchange(&mut to, &mut from).await });
    let connection = agent.connect().await?;
    both.wait().await;
    Ok((connection, both))
}

/// Each mark in turn is sent by the one side and then by the other. What this one was told.
async fn marks(role: Role, ends: Ends) -> Result<Vec<Option<Ecn>>, Error> {
    let config = Config::new(role).stun(&Server::stun_v4());
    let config = config.expect("an address").stun(&Server::stun_v6());
    let config = config.expect("an address").ecn(true);
    let (mut connection, both) = connect(config, ends).await?;
    let mut told = Vec::new();
    let mut buffer = [0; 100];
    for mark in MARKS {
        for sender in [Role::Controlling, Role::Controlled] {
            if role == sender {
                connection.set_ecn(mark);
                connection.send(b"marked").await?;
            } else {
                told.push(connection.recv_marked(&mut buffer).await?.ecn);
            }
            both.wait().await;
        }
    }
    Ok(told)
}

/// A router on the way from a to b is congested, and says so instead of dropping (RFC 3168).
#[test]
fn a_congested_router_s_mark_comes_out_at_the_receiver() {
    for kinds in ["plain,plain", "v6fw,v6fw"] {
        let scene = good(Scene::build(kinds));
        good(scene.nft(
            Node::Core,
            "add table inet busy; \
             add chain inet busy passing { type filter hook forward priority 0; }; \
             add rule inet busy passing iifname wa ip ecn != not-ect ip ecn set ce; \
             add rule inet busy passing iifname wa ip6 ecn != not-ect ip6 ecn set ce",
        ));
        let [at_a, at_b] = on_both(&scene, [Role::Controlling, Role::Controlled], marks);
        assert_eq!(at_a, MARKS.map(Some), "{kinds}: nothing marks the way back");
        let marked = [Ecn::NotEct, Ecn::Ce, Ecn::Ce, Ecn::Ce].map(Some);
        assert_eq!(at_b, marked, "{kinds}");
    }
}

/// Says something to the other side and hears it. The own end of the path, and the other.
async fn greet(role: Role, ends: Ends) -> Result<[IpAddr; 2], Error> {
    let config = Config::new(role).family(Family::Ipv6).link_local(true);
    let (mut connection, both) = connect(config, ends).await?;
    connection.send(b"hello").await?;
    let mut buffer = [0; 100];
    assert_eq!(connection.recv(&mut buffer).await?, 5);
    both.wait().await;
    let pair = connection.selected_pair().expect("it is connected");
    let far = pair.remote.ip_address().expect("an address");
    Ok([pair.base.ip(), far.ip()])
}

/// One link without a router for IPv6: each address means nothing but together with an interface.
#[test]
fn two_machines_of_one_link_meet_by_their_link_local_addresses() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        let scene = good(Scene::build("plain,same"));
        let [[own, far], mirrored] = on_both(&scene, roles, greet);
        assert_eq!([far, own], mirrored);
        for address in [own, far] {
            let is_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            assert!(is_local, "{address}");
        }
    }
}

/// Longer packets vanish without a word. What is found out passes, and a byte more does not.
#[test]
fn the_length_that_a_path_takes_is_found_out_and_used() {
    for (kinds, length) in [
        ("plain+mtu=1280,plain", 1_280),
        ("plain+mtu=1400,plain", 1_400),
    ] {
        let scene = good(Scene::build(kinds));
        let starts = [true, false].map(|controlling| {
            let mut start = start(controlling);
            start["mtu"] = 1_500.into();
            start
        });
        let mut pair = connected(&scene, starts);
        // Without the headers of IPv4 and UDP.
        let payload = length - 28;
        for from in [0, 1] {
            await_payload(&mut pair, from, payload);
        }
        for from in [0, 1] {
            let before = pair.seen(1 - from).data.len();
            let texts = [payload, payload + 1, 1].map(|length| "x".repeat(length));
            for text in &texts {
                pair.send(from, &json!({"cmd": "send", "data": text}));
            }
            // The last overtakes nothing, so that whatever was to arrive has arrived before it.
            good(pair.relay_until("the short one has arrived", |seen| {
                seen[1 - from].data[before..].contains(&texts[2])
            }));
            let arrived = &pair.seen(1 - from).data[before..];
            assert_eq!(arrived, [texts[0].clone(), texts[2].clone()], "{kinds}");
        }
        good(pair.close());
    }
}

/// Asks a side until it says that so much data fits into a datagram.
fn await_payload(pair: &mut Pair, side: usize, payload: usize) {
    let goal = format!("side {side} finds out that {payload} bytes of data fit");
    let mut last = Value::Null;
    for _ in 0..HANG_GUARD.as_millis() / 100 {
        let before = pair.seen(side).stats.len();
        pair.send(side, &json!({"cmd": "stats"}));
        good(pair.relay_until(&goal, |seen| seen[side].stats.len() > before));
        let told = pair.seen(side).stats.last().and_then(Value::as_array);
        let transport = told.into_iter().flatten();
        let mut transport = transport.filter(|entry| entry["type"] == "transport");
        last = transport.next().expect("a transport")["maxPayload"].clone();
        if last == payload {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{goal}: it says {last}");
}

/// An IPv6-only host whose network translates, a server given by its IPv4 address, and a peer with IPv4 only: what a relay
/// was needed for, where the DNS does not tell the prefix (RFC 8445 section 5.1.1.2, RFC 7050).
#[test]
fn a_translator_leads_an_ipv6_only_host_to_an_ipv4_only_one_without_a_relay() {
    for controlling in [true, false] {
        let scene = good(Scene::build("nat64,plain"));
        let _dns = good(Dns64::start(scene.lab()));
        let asking = scene.nilas_asking(Node::A, Dns64::ADDRESS.into());
        let peers = [good(asking), good(scene.nilas(Node::B))];
        let starts = [start(controlling), start(!controlling)];
        let mut pair = good(Pair::start(peers, starts));
        good(pair.connect());
        good(pair.relay_until("all candidates", |seen| {
            seen.iter().all(|side| side.end_of_candidates)
        }));
        let outside = scene.lab().public_address(Uplink::A).expect("one");
        let own = &pair.seen(0).candidates;
        let is_outside = |line: &&String| line.contains(&format!(" {outside} "));
        let mapped = own.iter().find(is_outside).map(|line| candidate_type(line));
        assert_eq!(mapped, Some(Some("srflx")), "{own:?}");
        good(pair.exchange(20));
        for side in 0..2 {
            let types = pair.seen(side).selected_types().expect("a pair");
            assert!(types.0 != "relay" && types.1 != "relay", "{types:?}");
        }
        good(pair.close());
    }
}
