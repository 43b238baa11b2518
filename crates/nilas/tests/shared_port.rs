//! All sessions of an endpoint on one UDP port.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Two, config, soon};
use nilas::ice::{CandidateAddress, EngineConfig};
use nilas::{Agent, Endpoint, Role};

#[tokio::test]
async fn sessions_of_an_endpoint_share_one_port() {
    let mut engine = EngineConfig::default();
    engine.shared_port = Some(0);
    let endpoint = Endpoint::with_config(engine).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..8 {
        let pair = Two {
            a: Arc::new(endpoint.agent(config(Role::Controlling)).await.unwrap()),
            b: Arc::new(Agent::new(config(Role::Controlled)).await.unwrap()),
        };
        pair.exchange();
        let connections = soon("connecting", pair.connect()).await;
        sessions.push((pair, connections));
    }
    let mut ports = BTreeSet::new();
    for (number, (_, (a, b))) in sessions.iter_mut().enumerate() {
        let pair = a.selected_pair().expect("it is connected");
        let CandidateAddress::Ip(address) = pair.local.address else {
            panic!("a host candidate has an address: {pair:?}");
        };
        ports.insert((address.is_ipv6(), address.port()));
        let text = format!("session {number}");
        b.send(text.as_bytes()).await.unwrap();
        a.send(text.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        for side in [a, b] {
            let size = soon("data", side.recv(&mut buffer)).await.unwrap();
            assert_eq!(buffer[..size], *text.as_bytes());
        }
    }
    for family in [false, true] {
        let of_family = ports.iter().filter(|(v6, _)| *v6 == family).count();
        assert!(of_family <= 1, "{ports:?}");
    }
}
