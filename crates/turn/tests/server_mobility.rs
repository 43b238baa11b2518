//! Clients that go on from another address (RFC 8016).

mod support;

use std::sync::Arc;
use std::time::Duration;

use nilas_stun::Method;
use nilas_turn::server::{Command, Common, Event, Handled, Input, Path, WorkerId};
use support::*;

/// A client with an allocation that may move, a channel, and its ticket.
fn mobile(bench: &mut Bench, client: &str) -> (Client, Vec<u8>) {
    let mut client = Client::ann(client);
    let answer = client.allocate_with(bench, |b| {
        b.mobility_ticket(&[]).unwrap();
    });
    assert_eq!(answer.code(), 0);
    assert_eq!(client.bind(bench, 0x4000, "192.0.2.9:9"), 0);
    let ticket = client.verified(&answer).mobility_ticket().unwrap().to_vec();
    (client, ticket)
}

fn moved(client: &Client, to: Path) -> Client {
    let mut moved = client.clone();
    moved.path = to;
    moved
}

fn refresh(client: &mut Client, bench: &mut Bench, ticket: &[u8]) -> Answer {
    client.request(bench, Method::REFRESH, |b| {
        b.mobility_ticket(ticket).unwrap();
    })
}

/// Where the server sends what a peer sends.
fn data_goes_to(bench: &mut Bench) -> Option<Path> {
    let relay = *bench.relays.keys().next()?;
    match bench.handle(Input::PeerDatagram {
        relay,
        peer: address("192.0.2.9:9"),
        length: 1,
    }) {
        Handled::ToClient { path, .. } => Some(path),
        _ => None,
    }
}

#[test]
fn a_client_moves_and_its_data_follows() {
    let mut bench = Bench::new(config());
    let (client, ticket) = mobile(&mut bench, "192.0.2.1:50000");
    let mut away = moved(&client, path("203.0.113.7:1"));
    let answer = refresh(&mut away, &mut bench, &ticket);
    assert_eq!(answer.code(), 0);
    let new_ticket = away.verified(&answer).mobility_ticket().unwrap().to_vec();
    assert_ne!(new_ticket, ticket);
    assert!(bench.commands.contains(&Command::Route(away.path)));
    // Until there is data on the new 5-tuple, the old one is used both ways.
    assert_eq!(data_goes_to(&mut bench), Some(client.path));
    assert_ne!(client.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
    assert_eq!(data_goes_to(&mut bench), Some(client.path));
    assert_ne!(away.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
    assert_eq!(data_goes_to(&mut bench), Some(away.path));
    assert_eq!(client.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
    assert!(
        matches!(bench.events.last(), Some(Event::AllocationMoved { client, .. }) if *client == address("203.0.113.7:1"))
    );
    assert_eq!(away.refresh(&mut bench, 600).code(), 0);
    assert_eq!(away.refresh(&mut bench, 0).code(), 0);
    assert_eq!(bench.commands.last(), Some(&Command::Unroute(away.path)));
    assert!(bench.is_empty());
}

#[test]
fn tickets_400_405_437_441() {
    let mut without = config();
    without.mobility = false;
    let mut bench = Bench::new(without.clone());
    let mut client = Client::ann("192.0.2.1:50000");
    assert_eq!(
        client
            .allocate_with(&mut bench, |b| {
                b.mobility_ticket(&[]).unwrap();
            })
            .code(),
        405
    );

    let mut bench = Bench::new(config());
    assert_eq!(
        client
            .allocate_with(&mut bench, |b| {
                b.mobility_ticket(&[1]).unwrap();
            })
            .code(),
        400
    );
    let (mut client, ticket) = mobile(&mut bench, "192.0.2.1:50000");
    assert_eq!(
        refresh(&mut client, &mut bench, &ticket).code(),
        400,
        "from the same address"
    );
    let mut away = moved(&client, path("203.0.113.7:1"));
    for wrong in [&[][..], b"ticket", &ticket[1..], &[0; 41]] {
        assert_eq!(
            refresh(&mut away, &mut bench, wrong).code(),
            400,
            "{wrong:?}"
        );
    }
    let mut thief = Client::new(path("203.0.113.8:1"), "bob", "secret of bob");
    assert_eq!(refresh(&mut thief, &mut bench, &ticket).code(), 441);
    let mut forger = moved(&away, path("203.0.113.8:2"));
    forger.password = "a guess".into();
    assert_eq!(refresh(&mut forger, &mut bench, &ticket).code(), 401);
    // To a 5-tuple that has an allocation of its own.
    let mut busy = moved(&away, path("203.0.113.8:3"));
    busy.allocate(&mut bench);
    assert_eq!(refresh(&mut busy, &mut bench, &ticket).code(), 437);
    client.refresh(&mut bench, 0);
    assert_eq!(refresh(&mut away, &mut bench, &ticket).code(), 437);
    // Forbidden meanwhile.
    let (client, ticket) = mobile(&mut bench, "192.0.2.1:50001");
    let _ = bench.handle(Input::ConfigChanged(Arc::new(without)));
    let mut away = moved(&client, path("203.0.113.7:1"));
    assert_eq!(refresh(&mut away, &mut bench, &ticket).code(), 405);
}

#[test]
fn an_allocation_without_a_ticket_does_not_move() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.allocate_with(&mut bench, |_| {});
    assert_eq!(answer.message().mobility_ticket(), None);
    assert_eq!(
        client.refresh(&mut bench, 600).message().mobility_ticket(),
        None
    );
}

#[test]
fn the_old_ticket_is_good_for_a_retransmission_only() {
    let mut bench = Bench::new(config());
    let (client, ticket) = mobile(&mut bench, "192.0.2.1:50000");
    let mut away = moved(&client, path("203.0.113.7:1"));
    assert_eq!(refresh(&mut away, &mut bench, &ticket).code(), 0);
    bench.pass(29 * SECOND);
    let again = refresh(&mut away, &mut bench, &ticket);
    assert_eq!(again.code(), 0);
    let new_ticket = again.message().mobility_ticket().unwrap().to_vec();
    let mut third = moved(&client, path("203.0.113.7:2"));
    assert_eq!(refresh(&mut third, &mut bench, &ticket).code(), 400);
    bench.pass(SECOND);
    assert_eq!(refresh(&mut away, &mut bench, &ticket).code(), 400);
    assert_eq!(refresh(&mut third, &mut bench, &new_ticket).code(), 0);
}

#[test]
fn the_end_of_the_old_stream_completes_the_move() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.path = bench.open_stream(1);
    let answer = client.allocate_with(&mut bench, |b| {
        b.mobility_ticket(&[]).unwrap();
    });
    let ticket = answer.message().mobility_ticket().unwrap().to_vec();
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    // Break before make: the allocation waits.
    let _ = bench.handle(Input::PathClosed(client.path));
    assert_eq!(bench.server.counters().allocations, 1);
    assert_eq!(data_goes_to(&mut bench), None);
    let mut away = moved(&client, bench.open_stream(2));
    away.nonce.clear();
    let answer = refresh(&mut away, &mut bench, &ticket);
    assert_eq!(answer.code(), 0);
    let ticket = answer.message().mobility_ticket().unwrap().to_vec();
    assert_eq!(data_goes_to(&mut bench), Some(away.path));
    // Make before break.
    let mut third = moved(&client, path("203.0.113.7:3"));
    assert_eq!(refresh(&mut third, &mut bench, &ticket).code(), 0);
    assert_eq!(data_goes_to(&mut bench), Some(away.path));
    let _ = bench.handle(Input::PathClosed(away.path));
    assert_eq!(data_goes_to(&mut bench), Some(third.path));
    // Nobody comes back.
    bench.pass(600 * SECOND);
    assert!(bench.is_empty());
}

#[test]
fn a_waiting_allocation_expires() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.path = bench.open_stream(1);
    client.allocate_with(&mut bench, |b| {
        b.mobility_ticket(&[]).unwrap();
    });
    let _ = bench.handle(Input::PathClosed(client.path));
    bench.pass(600 * SECOND);
    assert!(bench.is_empty());
    assert_eq!(bench.server.counters().timers, 0);
}

#[test]
fn a_ticket_of_another_core_is_sent_there() {
    let common = Common::new([3; 32], Duration::from_secs(UNIX), 4);
    let mut first = Bench::with_common(config(), Arc::clone(&common), WorkerId(0));
    let mut second = Bench::with_common(config(), common, WorkerId(1));
    let (client, ticket) = mobile(&mut first, "192.0.2.1:50000");
    let away = moved(&client, path("203.0.113.7:1"));
    let id = second.transaction();
    let bytes = away.sign(id, Method::REFRESH, |b| {
        b.mobility_ticket(&ticket).unwrap();
    });
    assert_eq!(
        second.datagram(away.path, &bytes),
        Handled::Elsewhere(WorkerId(0))
    );
    assert_eq!(second.transmits, []);
}
