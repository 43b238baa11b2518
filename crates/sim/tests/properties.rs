//! What must hold in every world: sessions in random ones.

use nilas_sim::random_world::{Seen, check};

/// Without optimisation a part of them; `cargo test --release -p nilas-sim --test properties` runs all.
const WORLDS: u64 = if cfg!(debug_assertions) { 100 } else { 10_000 };

#[test]
fn what_must_hold_holds_in_random_worlds() {
    let mut seen = Seen::default();
    for seed in 0..WORLDS {
        match check(seed) {
            Ok(world) => seen += world,
            Err(broken) => panic!("{broken}"),
        }
    }
    // Worlds in which nothing happens would prove nothing.
    assert!(
        seen.connected > WORLDS / 2 && seen.failed > WORLDS / 50,
        "{seen:?}"
    );
    assert!(seen.disturbed > WORLDS / 4, "{seen:?}");
}

#[test]
fn worlds_that_broke_a_rule_once_do_not_break_it_again() {
    // A restart that nobody answered; a path given up by one side; a check sent again with the tie-breaker of
    // another role, after which both sides controlled, and both nominated.
    for seed in [11, 309, 590, 940] {
        if let Err(broken) = check(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_seed_is_a_world() {
    assert_eq!(check(3), check(3));
}
