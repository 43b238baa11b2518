//! What must hold in every world: sessions in random ones.

use nilas_sim::random_world::{Seen, check};

/// Without optimisation a part of them; `cargo test --release -p nilas-sim --test properties` runs all.
const WORLDS: u64 = if cfg!(debug_assertions) { 100 } else { 10_000 };

fn hold_in(worlds: std::ops::Range<u64>) {
    let count = worlds.end - worlds.start;
    let mut seen = Seen::default();
    for seed in worlds {
        match check(seed) {
            Ok(world) => seen += world,
            Err(broken) => panic!("{broken}"),
        }
    }
    // Worlds in which nothing happens would prove nothing.
    assert!(seen.connected > count / 2, "{seen:?}");
    assert!(seen.of_several > count / 20, "{seen:?}");
    assert!(seen.failed > count / 50, "{seen:?}");
    assert!(seen.disturbed > count / 4, "{seen:?}");
    assert!(seen.relayed > count / 40, "{seen:?}");
    assert!(seen.over_tcp > count / 100, "{seen:?}");
}

// Two halves, for two processors.

#[test]
fn what_must_hold_holds_in_random_worlds() {
    hold_in(0..WORLDS / 2);
}

#[test]
fn what_must_hold_holds_in_as_many_other_worlds() {
    hold_in(WORLDS / 2..WORLDS);
}

#[test]
fn worlds_that_broke_a_rule_once_do_not_break_it_again() {
    // A check sent again with the tie-breaker of another role, after which both sides had one role, or both nominated.
    // Nominations with values that came before the description, of which two stood; a NAT that gave one component the port
    // by which a peer knew another; and a restart of one component before another was told that an address is gone.
    // And components that had failed and check anew with one relay after the other, which takes longer than a session is watched for;
    // a relay of which nobody had told yet that it is one; and checks of datagrams that were on their way when a connection was nominated.
    for seed in [
        2446, 3464, 3863, 2532, 1809, 8923, 246_035, 281_597, 250_136, 331_449, 269_061, 346_688,
        264_869,
    ] {
        if let Err(broken) = check(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_seed_is_a_world() {
    assert_eq!(check(3), check(3));
}
