//! How datagrams are marked, from one application to the other.

mod common;

use common::{Two, config, soon};
use nilas::{Batch, Config, Connection, Dscp, Ecn, Family, Role};

const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];

fn marking(role: Role, family: Family) -> Config {
    config(role).family(family).dscp(Dscp::AF41).ecn(true)
}

async fn receive(connection: &mut Connection) -> (usize, Option<Ecn>) {
    let mut buffer = [0; 2000];
    let marked = soon("data", connection.recv_marked(&mut buffer))
        .await
        .unwrap();
    (marked.length, marked.ecn)
}

#[tokio::test]
async fn marks_arrive_with_the_datagrams_over_both_families() {
    let there = std::net::UdpSocket::bind("[::1]:0");
    there.expect("the loopback interface needs IPv6");
    for family in [Family::Ipv4, Family::Ipv6] {
        let sides = [Role::Controlling, Role::Controlled].map(|role| marking(role, family));
        let [a, b] = sides;
        let two = Two::with(a, b).await;
        two.exchange();
        let (mut a, mut b) = two.connect().await;
        for ecn in ALL {
            a.set_ecn(ecn);
            a.send(b"one").await.unwrap();
            assert_eq!(receive(&mut b).await, (3, Some(ecn)));
            a.send_batch(&[7; 2500], 1000).await.unwrap();
            let (mut batch, mut came) = (Batch::new(), Vec::new());
            while came.len() < 3 {
                soon("data", b.recv_batch(&mut batch)).await.unwrap();
                came.extend(batch.iter_marked().map(|(data, ecn)| (data.len(), ecn)));
            }
            assert_eq!(came, [1000, 1000, 500].map(|length| (length, Some(ecn))));
        }
        // Each handle marks for itself, a copy at first like the one it was made of.
        let mut sender = a.sender();
        sender.set_ecn(Ecn::Ect1);
        sender.clone().send(b"copy").await.unwrap();
        assert_eq!(receive(&mut b).await, (4, Some(Ecn::Ect1)));
        b.send(b"back").await.unwrap();
        assert_eq!(receive(&mut a).await, (4, Some(Ecn::NotEct)));
    }
}

#[tokio::test]
async fn nobody_is_told_a_mark_who_did_not_ask() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    a.set_ecn(Ecn::Ce);
    a.send(b"one").await.unwrap();
    assert_eq!(receive(&mut b).await, (3, None));
}
