//! What allocations cost and what is left of them: memory, ports, quotas.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nilas_stun::{Class, Method};
use nilas_turn::server::{Handled, Input, MIN_BUFFER, Output, ServerConfig};
use support::*;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting the calls and the bytes of each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; counting touches
// constant-initialized thread-local cells and allocates nothing itself.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size().cast_signed());
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Many users with credentials of their own, as a shared secret makes them.
fn guests() -> ServerConfig {
    let mut config = config();
    config.add_secret(b"secret").unwrap();
    config
}

fn guest(number: u32) -> Client {
    use hmac::{Hmac, KeyInit, Mac};
    let username = format!("{}:guest{number}", UNIX + 100_000);
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"secret").unwrap();
    mac.update(username.as_bytes());
    let password = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
    let client =
        std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0B00_0000 + number), 5_000));
    Client::new(path(&client.to_string()), &username, &password)
}

/// Bytes that the heap holds now, without what the bench keeps for the tests.
fn held(bench: &mut Bench) -> isize {
    bench.transmits = Vec::new();
    bench.commands = Vec::new();
    bench.events = Vec::new();
    BYTES.get()
}

#[test]
fn an_idle_allocation_costs_at_most_two_kilobytes() {
    // Just beyond a power of two, where growing tables have the most room to spare.
    const COUNT: u32 = 4_200;
    let mut bench = Bench::new(guests());
    let before = held(&mut bench);
    for number in 0..COUNT {
        let mut client = guest(number);
        client.algorithm = Algorithm::Sha256;
        client.allocate(&mut bench);
        assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 0);
        bench.transmits.clear();
        bench.commands.clear();
        bench.events.clear();
    }
    let each = (held(&mut bench) - before) / COUNT as isize;
    println!(
        "an idle allocation with a user, a permission and a channel of its own: {each} bytes of heap"
    );
    assert!(each <= 2_048, "{each}");
    assert_eq!(bench.server.counters().allocations, u64::from(COUNT));
}

#[test]
fn relaying_allocates_nothing() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    client.permit(&mut bench, "192.0.2.8:8");
    let relay = *bench.relays.keys().next().unwrap();
    let channel = channel_data(0x4000, &[7; 1_200]);
    let send = send_indication(address("192.0.2.8:8"), &[7; 1_200], false);
    let (path, now) = (client.path, bench.now);
    let before = CALLS.get();
    for _ in 0..1_000 {
        for bytes in [&channel, &send] {
            let handled = bench
                .server
                .handle(now, Input::ClientDatagram { path, bytes });
            assert!(matches!(handled, Handled::ToPeer { .. }));
        }
        for peer in ["192.0.2.9:9", "192.0.2.8:8"] {
            let handled = bench.server.handle(
                now,
                Input::PeerDatagram {
                    relay,
                    peer: address(peer),
                    length: 1_200,
                },
            );
            assert!(matches!(handled, Handled::ToClient { .. }));
        }
    }
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn an_unauthenticated_flood_leaves_the_heap_as_it_is() {
    let mut bench = Bench::new(config());
    let requests = [Method::ALLOCATE, Method::BINDING, Method::REFRESH]
        .map(|method| message(Class::Request, method, |_| {}));
    let mut buffer = [0; MIN_BUFFER];
    let mut flood = |bench: &mut Bench, count: u32| {
        for number in 0..count {
            let client =
                std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0B00_0000 + number), 5_000));
            let path = nilas_turn::server::Path::Datagram {
                listener: nilas_turn::server::ListenerId(0),
                client,
                server: address("198.51.100.1:3478"),
            };
            for bytes in &requests {
                let _ = bench
                    .server
                    .handle(bench.now, Input::ClientDatagram { path, bytes });
                while !matches!(bench.server.poll(bench.now, &mut buffer), Output::Idle(_)) {}
            }
        }
    };
    flood(&mut bench, 10);
    let (calls, bytes) = (CALLS.get(), BYTES.get());
    flood(&mut bench, 20_000);
    assert_eq!((CALLS.get() - calls, BYTES.get() - bytes), (0, 0));
}

#[test]
fn a_thousand_allocations_come_and_go_and_nothing_is_left() {
    let mut config = guests();
    config.nonce_lifetime = 100 * SECOND;
    let mut bench = Bench::new(config);
    // Once round, so that tables have the size that they keep.
    let mut before = 0;
    for round in 0..3 {
        let mut clients: Vec<Client> = (0..1_000).map(guest).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.allocate_with(&mut bench, |b| {
                match number % 4 {
                    0 => b.even_port(true).unwrap(),
                    1 => b
                        .additional_address_family(nilas_stun::AddressFamily::Ipv6)
                        .unwrap(),
                    2 => b.mobility_ticket(&[]).unwrap(),
                    _ => b.lifetime(700).unwrap(),
                };
            });
            assert_eq!(answer.code(), 0);
            assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 0);
            assert_ne!(client.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
            bench.transmits.clear();
            bench.events.clear();
        }
        assert_eq!(bench.common.users(), 1_000);
        for step in 0..4 {
            bench.pass(500 * SECOND);
            for (number, client) in clients.iter_mut().enumerate() {
                // A tenth is killed at each step, and never heard of again.
                if number % 10 > step {
                    assert_eq!(
                        client.refresh(&mut bench, 600).code(),
                        0,
                        "{number} at {step}"
                    );
                }
            }
            held(&mut bench);
        }
        assert!(bench.server.counters().stale_nonces > 1_000);
        for client in &mut clients[..300] {
            let _ = client.refresh(&mut bench, 0);
        }
        bench.pass(700 * SECOND);
        assert!(bench.is_empty());
        assert_eq!(bench.server.counters().timers, 0);
        drop(clients);
        let after = held(&mut bench);
        if round == 0 {
            before = after;
        } else {
            assert_eq!(after, before, "round {round}");
        }
    }
}
