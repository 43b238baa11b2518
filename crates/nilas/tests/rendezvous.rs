//! Two peers that name the same code at a real server, and use its STUN as well.

mod common;

use common::relay::Relay;
use common::{config, deliver, event, soon};
use nilas::signaling::{Meeting, Rendezvous, RendezvousError};
use nilas::{Error, Event, Role};
use nilas_server::{Server, ServerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_leads_to_a_connection_and_carries_restarts() {
    let server = Server::bind(ServerConfig::loopback()).await.unwrap();
    let addresses = server.local_addresses().clone();
    let handle = server.handle();
    let running = tokio::spawn(server.run(std::future::pending()));
    let url = format!("ws://{}", addresses.rendezvous[0]);
    let stun = addresses.stun_udp[0].to_string();

    let first = Rendezvous::connect(&url, Meeting::Create).await.unwrap();
    let second = Rendezvous::connect(&url, Meeting::Join(first.code().clone()))
        .await
        .unwrap();
    let a = nilas::connect(
        config(Role::Controlling).stun(&stun).unwrap(),
        first.sender(),
        first,
    );
    let b = nilas::connect(config(Role::Controlled), second.sender(), second);
    let (mut a, mut b) = soon("connecting", async { tokio::try_join!(a, b) })
        .await
        .unwrap();
    deliver(&mut a, &mut b, "met").await;

    // The rendezvous lives with the connection.
    let mut events = a.events();
    b.restart().await.unwrap();
    event(&mut events, "the answer to a restart", |event| {
        matches!(event, Event::LocalParameters(_))
    })
    .await;
    deliver(&mut b, &mut a, "met again").await;

    handle.stop();
    soon("the server", running).await.unwrap().unwrap();
    // And the connection does without it.
    deliver(&mut a, &mut b, "on our own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rendezvous_is_met_over_tls_at_the_port_that_turn_has() {
    let server = Relay::start("wss").await;
    let url = format!("wss://localhost:{}", server.addresses.tls[0].port());
    let connect = |meeting| Rendezvous::connect_trusting(&url, meeting, &server.roots);
    let first = connect(Meeting::Create).await.unwrap();
    let second = connect(Meeting::Join(first.code().clone())).await.unwrap();
    let a = nilas::connect(config(Role::Controlling), first.sender(), first);
    let b = nilas::connect(config(Role::Controlled), second.sender(), second);
    let (mut a, mut b) = soon("connecting", async { tokio::try_join!(a, b) })
        .await
        .unwrap();
    deliver(&mut a, &mut b, "met in private").await;

    let other = Relay::start("wss-other").await;
    // Another root than the one that issued the certificate.
    let refused = Rendezvous::connect_trusting(&url, Meeting::Create, &other.roots).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, RendezvousError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_rendezvous_that_fails_ends_the_attempt_with_its_reason() {
    let server = Server::bind(ServerConfig::loopback()).await.unwrap();
    let url = format!("ws://{}", server.local_addresses().rendezvous[0]);
    let handle = server.handle();
    let running = tokio::spawn(server.run(std::future::pending()));
    let alone = Rendezvous::connect(&url, Meeting::Create).await.unwrap();
    let connecting = tokio::spawn(nilas::connect(
        config(Role::Controlling),
        alone.sender(),
        alone,
    ));
    // The server goes away while the peer is waited for.
    handle.stop();
    let failed = soon("the end of the attempt", connecting).await.unwrap();
    assert!(matches!(failed, Err(Error::Rendezvous(_))), "{failed:?}");
    soon("the server", running).await.unwrap().unwrap();
}
