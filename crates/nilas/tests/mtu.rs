//! How long a datagram may be is found out over loopback, whose own limit is far away.

mod common;

use common::{Two, config, event, soon};
use nilas::{Event, Family, Mtu, Role};

#[tokio::test]
async fn the_longest_datagram_that_was_asked_for_is_found_and_passes() {
    let a = config(Role::Controlling).family(Family::Ipv4);
    let b = config(Role::Controlled).family(Family::Ipv4);
    let two = Two::with(a.mtu(Mtu::Discover(9_000)), b).await;
    let mut events = two.a.events();
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    assert_eq!(b.max_payload().unwrap(), 1_232);
    let longest = 9_000 - 28;
    event(
        &mut events,
        "the length",
        |event| matches!(event, Event::MaxPayloadChange { bytes } if *bytes == longest),
    )
    .await;
    assert_eq!(a.max_payload().unwrap(), longest);
    a.send(&vec![7; longest]).await.unwrap();
    let mut buffer = vec![0; 10_000];
    assert_eq!(soon("data", b.recv(&mut buffer)).await.unwrap(), longest);
}
