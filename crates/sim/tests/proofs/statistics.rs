//! Figures with the W3C's names: that all are there which ICE can know, and that both sides' agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nilas_ice::{
    CandidatePairStats, CandidateType, Role, State, Stats, StunServer, TcpCandidates,
    TransportStats,
};
use nilas_sim::{Agent, Link, Nat, TurnServer};
use serde_json::Value;

use crate::common::{MINUTE, Peers, Setup, address, ms};
use crate::mobility::{ROLES, Scene};
use crate::relay::peers_of;

const OF_ALL: &[&str] = &["timestamp", "type", "id"];

/// RTCIceCandidatePairStats, but for `availableOutgoingBitrate` and `availableIncomingBitrate`, which congestion control
/// knows.
const PAIR: &[&str] = &[
    "transportId",
    "localCandidateId",
    "remoteCandidateId",
    "state",
    "nominated",
    "packetsSent",
    "packetsReceived",
    "bytesSent",
    "bytesReceived",
    "lastPacketSentTimestamp",
    "lastPacketReceivedTimestamp",
    "totalRoundTripTime",
    "currentRoundTripTime",
    "requestsReceived",
    "requestsSent",
    "responsesReceived",
    "responsesSent",
    "consentRequestsSent",
    "packetsDiscardedOnSend",
    "bytesDiscardedOnSend",
];

/// RTCIceCandidateStats.
const CANDIDATE: &[&str] = &[
    "transportId",
    "address",
    "port",
    "protocol",
    "candidateType",
    "priority",
    "url",
    "relayProtocol",
    "foundation",
    "relatedAddress",
    "relatedPort",
    "usernameFragment",
    "tcpType",
];

/// What only this side of a candidate's journey knows.
const LOCAL_ONLY: &[&str] = &["url", "relayProtocol"];

/// RTCTransportStats without what DTLS and SRTP know; and one of ours.
const TRANSPORT: &[&str] = &[
    "packetsSent",
    "packetsReceived",
    "bytesSent",
    "bytesReceived",
    "iceRole",
    "iceLocalUsernameFragment",
    "iceState",
    "selectedCandidatePairId",
    "selectedCandidatePairChanges",
    "maxPayload",
];

fn report(peers: &mut Peers, agent: Agent) -> Vec<Value> {
    let stats = peers.stats(agent);
    let values = stats.iter().map(serde_json::to_value);
    values.collect::<Result<_, _>>().expect("it is JSON")
}

fn transport(peers: &mut Peers, agent: Agent) -> TransportStats {
    let stats = peers.stats(agent).into_iter();
    let mut transports = stats.filter_map(|stats| match stats {
        Stats::Transport(transport) => Some(transport),
        _ => None,
    });
    transports.next().expect("there is one")
}

/// Sends so many datagrams of this length.
fn send(peers: &mut Peers, from: Agent, count: usize, length: usize) {
    for _ in 0..count {
        peers.world.send(from, &vec![7; length]).expect("a path");
        peers.world.run_for(ms(1));
    }
}

/// A session that has candidates of all types and both transports.
#[test]
fn every_field_of_the_w3c_that_ice_can_know_is_told() {
    for role in [Role::Controlling, Role::Controlled] {
        let server = TurnServer::new("ann", "secret").expect("good words");
        let roles = [role, role.opposite()];
        let (mut peers, _) = peers_of(server, 1, [Nat::default(); 2], |n, config| {
            config.role = roles[n];
            config.tcp = TcpCandidates::All;
            config.stun_servers = vec![StunServer::from(address("198.51.100.1:3478"))];
        });
        assert!(peers.run_until_up(MINUTE).is_some());
        let [a, b] = peers.both();
        peers.world.run_for(Duration::from_secs(1));
        let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut types = BTreeSet::new();
        for second in 0..2 {
            send(&mut peers, a, 10, 100);
            send(&mut peers, b, 5, 50);
            peers.world.run_for(Duration::from_secs(10 * second + 1));
            for object in report(&mut peers, a) {
                let kind = object["type"].as_str().expect("a type").to_owned();
                let fields = object.as_object().expect("an object").keys().cloned();
                told.entry(kind).or_default().extend(fields);
            }
            types.extend(peers.stats(a).into_iter().filter_map(|stats| match stats {
                Stats::LocalCandidate(own) => Some(own.candidate_type),
                _ => None,
            }));
        }
        use CandidateType::{Host, Relay, Srflx};
        assert_eq!(types, BTreeSet::from([Host, Srflx, Relay]), "{role:?}");
        let of = |names: &[&str], without: &[&str]| {
            let names = OF_ALL.iter().chain(names);
            let names = names.filter(|name| !without.contains(*name));
            names
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let expected = BTreeMap::from([
            ("candidate-pair".to_owned(), of(PAIR, &[])),
            ("local-candidate".to_owned(), of(CANDIDATE, &[])),
            ("remote-candidate".to_owned(), of(CANDIDATE, LOCAL_ONLY)),
            ("transport".to_owned(), of(TRANSPORT, &[])),
        ]);
        assert_eq!(told, expected, "{role:?}");
    }
}

#[test]
fn what_one_side_sent_the_other_received() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        let mut peers = Setup {
            roles,
            ..Setup::default()
        }
        .completed();
        let [a, b] = peers.both();
        send(&mut peers, a, 10, 100);
        send(&mut peers, b, 5, 50);
        peers.world.run_for(ms(500));
        let early = [a, b].map(|agent| peers.pair_stats(agent).remove(0));
        // A quiet moment, between two consent checks or not: nothing is under way for long.
        peers.world.run_for(MINUTE + ms(500));
        let [at_a, at_b] = [a, b].map(|agent| transport(&mut peers, agent));
        let sent = |stats: &TransportStats| (stats.packets_sent, stats.bytes_sent);
        let received = |stats: &TransportStats| (stats.packets_received, stats.bytes_received);
        assert_eq!((sent(&at_a), received(&at_a)), ((10, 1_000), (5, 250)));
        assert_eq!((sent(&at_b), received(&at_b)), ((5, 250), (10, 1_000)));
        for (agent, stats, role) in [(a, &at_a, roles[0]), (b, &at_b, roles[1])] {
            assert_eq!((stats.ice_role, stats.ice_state), (role, State::Completed));
            let own = peers.parameters(agent).ufrag;
            assert_eq!(stats.ice_local_username_fragment, own);
            assert!(stats.selected_candidate_pair_changes >= 1);
        }
        // One pair on each side, which all ids lead to.
        let pairs = [a, b].map(|agent| peers.pair_stats(agent));
        let [of_a, of_b] = pairs.each_ref().map(|pairs| match &pairs[..] {
            [pair] => pair,
            more => panic!("{more:#?}"),
        });
        for (agent, pair, all) in [(a, of_a, &at_a), (b, of_b, &at_b)] {
            assert_eq!(all.selected_candidate_pair_id.as_ref(), Some(&pair.id));
            assert_eq!(pair.transport_id, all.id);
            let ids: BTreeSet<_> = report(&mut peers, agent)
                .iter()
                .map(|object| (object["type"].to_string(), object["id"].to_string()))
                .collect();
            for (kind, id) in [
                ("local-candidate", &pair.local_candidate_id),
                ("remote-candidate", &pair.remote_candidate_id),
            ] {
                assert!(ids.contains(&(format!("\"{kind}\""), format!("\"{id}\""))));
            }
            assert_eq!((pair.packets_sent, pair.bytes_sent), sent(all));
            assert_eq!((pair.packets_received, pair.bytes_received), received(all));
            // A round trip is 50 ms, and so is each that was summed up.
            assert_eq!(pair.current_round_trip_time, Some(0.05));
            let round_trips = pair.total_round_trip_time / 0.05;
            assert!((round_trips - pair.responses_received as f64).abs() < 1e-6);
            assert!(pair.nominated && pair.consent_requests_sent > 10);
        }
        // An answer that nobody waits for any more, to one of the first checks, is not counted by who gets it.
        for (one, other, before) in [(of_a, of_b, &early[0]), (of_b, of_a, &early[1])] {
            let requests = one.requests_sent + one.consent_requests_sent;
            assert_eq!(requests, other.requests_received);
            assert_eq!(other.responses_sent, other.requests_received);
            let answered = one.responses_received - before.responses_received;
            let asked = one.consent_requests_sent - before.consent_requests_sent;
            assert_eq!((answered, one.requests_sent), (asked, before.requests_sent));
        }
    }
}

/// The data leaves a path that has died, and later leaves all pairs of a generation.
#[test]
fn what_a_pair_has_carried_stays_its_own_when_the_data_moves() {
    fn figures(scene: &mut Scene, agent: Agent) -> (TransportStats, Vec<CandidatePairStats>) {
        let (mut transport, mut pairs) = (None, Vec::new());
        let stats = scene.world.with_agent(agent, |agent, now| agent.stats(now));
        for stats in stats.expect("it is open") {
            match stats {
                Stats::Transport(own) => transport = Some(own),
                Stats::CandidatePair(pair) => pairs.push(pair),
                _ => {}
            }
        }
        (transport.expect("there is one"), pairs)
    }
    let counts = |pair: &CandidatePairStats| {
        let sent = (pair.packets_sent, pair.bytes_sent);
        (sent, (pair.packets_received, pair.bytes_received))
    };
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 2);
        let agents = [scene.phone, scene.peer];
        scene.world.run_for(ms(500));
        let before = agents.map(|agent| figures(&mut scene, agent));
        let selected = |(transport, pairs): &(TransportStats, Vec<CandidatePairStats>)| {
            let id = transport.selected_candidate_pair_id.clone();
            let pair = pairs.iter().find(|pair| Some(&pair.id) == id.as_ref());
            pair.expect("a selected pair").clone()
        };
        let dead = Link::default().with_loss(1.0);
        scene.world.set_interface_link(scene.phone.node, 0, dead);
        scene.talk(Duration::from_secs(20));
        for (agent, before) in agents.into_iter().zip(&before) {
            let (old, after) = (selected(before), figures(&mut scene, agent));
            let new = selected(&after);
            assert_ne!(new.id, old.id, "{role:?}");
            let left = after.1.iter().find(|pair| pair.id == old.id);
            let left = left.expect("a pair that has died is still told of");
            // What was sent until the death was noticed, or the other side nominated, is the old pair's, too.
            let late = left.packets_sent - old.packets_sent;
            assert!((1..1_000).contains(&late), "{role:?}: {late}");
            assert_eq!(left.bytes_sent, 4 * left.packets_sent);
            assert_eq!(new.bytes_sent, 4 * new.packets_sent);
            assert!(new.packets_sent > 3_000 && new.packets_received > 3_000);
            let times = |pair: &CandidatePairStats| {
                let sent = pair.last_packet_sent_timestamp;
                [sent, pair.last_packet_received_timestamp].map(|at| at.expect("there was one"))
            };
            assert!(times(left)[0] < times(&new)[0] && times(left)[1] < times(&new)[1]);
            let sum = after
                .1
                .iter()
                .map(counts)
                .fold(((0, 0), (0, 0)), |sum, own| {
                    let add = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
                    (add(sum.0, own.0), add(sum.1, own.1))
                });
            let all = &after.0;
            assert_eq!(sum.0, (all.packets_sent, all.bytes_sent), "{role:?}");
            assert_eq!(
                sum.1,
                (all.packets_received, all.bytes_received),
                "{role:?}"
            );
        }
        // After a restart the new pairs begin with nothing.
        let before = agents.map(|agent| figures(&mut scene, agent).0);
        scene
            .world
            .with_agent(scene.phone, |mut agent, now| agent.restart(now))
            .expect("open");
        scene.world.run_for(Duration::from_secs(5));
        scene.talk(Duration::from_secs(2));
        for (agent, before) in agents.into_iter().zip(before) {
            let after = figures(&mut scene, agent);
            let new = selected(&after);
            assert_eq!(new.packets_sent, after.0.packets_sent - before.packets_sent);
            let received = after.0.packets_received - before.packets_received;
            assert!(new.packets_received <= received && new.packets_received > 300);
        }
    }
}
