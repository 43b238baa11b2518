//! The matrix: every kind of access beside every other, each cell run in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use nilas_ice::Role;
use nilas_sim::Access;
use nilas_sim::matrix::{Cell, LOSSES, Scenario, Servers, Table, cells};

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Judges the cells that belong; without optimisation only those without loss and of one role, because the rest
/// takes minutes: `cargo xtask test --only matrix` runs all.
fn judge(belongs: impl Fn(&Cell) -> bool) {
    let all = !cfg!(debug_assertions);
    let wrong: Vec<_> = cells()
        .iter()
        .filter(|cell| belongs(cell))
        .filter(|cell| all || cell.loss == 0.0 && cell.role == Role::Controlling)
        .map(|cell| cell.run(ROUND_TRIP))
        .filter(|judged| !judged.is_ok())
        .map(|judged| format!("{judged}\n"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cells:\n{}",
        wrong.len(),
        wrong.concat()
    );
}

#[test]
fn every_pair_of_endpoints_comes_to_what_is_expected() {
    judge(|cell| cell.table == Table::Endpoints && !cell.servers.relay());
}

#[test]
fn every_pair_of_endpoints_with_a_relay_comes_to_what_is_expected() {
    judge(|cell| cell.table == Table::Endpoints && cell.servers.relay());
}

#[test]
fn every_pair_of_nats_comes_to_what_is_expected() {
    judge(|cell| cell.table == Table::Nats);
}

#[test]
fn every_other_pair_comes_to_what_is_expected() {
    judge(|cell| cell.table == Table::Others);
}

#[test]
fn every_cell_that_differs_from_libwebrtc_s_says_why() {
    let endpoints = cells();
    let endpoints = endpoints.iter().filter(|cell| {
        cell.table == Table::Endpoints
            && cell.servers == Servers::TurnTls
            && cell.role == Role::Controlling
            && cell.loss == 0.0
    });
    let (mut silent, mut same) = (0, 0);
    for cell in endpoints {
        match cell.why {
            "" => same += 1,
            why if why.contains("asserts nothing") => silent += 1,
            why => assert!(cell.expected.is_relayed(), "{} {}: {why}", cell.a, cell.b),
        }
    }
    assert_eq!((same, silent), (54, 44));
}

#[test]
fn every_pair_is_run_with_every_loss_and_in_both_roles() {
    let cells = cells();
    let pairs: BTreeSet<_> = cells
        .iter()
        .map(|cell| (cell.table, cell.a, cell.b, cell.servers))
        .collect();
    for (table, a, b, servers) in pairs {
        let of_pair = cells
            .iter()
            .filter(|cell| (cell.table, cell.a, cell.b, cell.servers) == (table, a, b, servers));
        let mut variants: Vec<_> = of_pair.map(|cell| (cell.role, cell.loss)).collect();
        for loss in LOSSES {
            for role in [Role::Controlling, Role::Controlled] {
                let at = variants.iter().position(|variant| *variant == (role, loss));
                variants
                    .remove(at.unwrap_or_else(|| panic!("{a} {b} {servers}: no {role:?} {loss}")));
            }
        }
        assert_eq!(variants, [], "{a} {b} {servers}");
    }
}

#[test]
fn the_table_of_nats_follows_from_the_rules_of_rfc_4787() {
    // The same reasoning as in the tables' own words, but computed: mapping and filtering by their words.
    let direct = |(a_mapping, a_filter): (&str, &str), (b_mapping, b_filter): (&str, &str)| {
        match (a_mapping == "eim", b_mapping == "eim") {
            (true, true) => Some("srflx>srflx"),
            (true, false) => (a_filter != "apdf").then_some("srflx>prflx"),
            (false, true) => (b_filter != "apdf").then_some("prflx>srflx"),
            // The controlling side prefers the peer-reflexive remote, which its own open filter lets in.
            (false, false) if a_filter == "eif" => Some("srflx>prflx"),
            (false, false) => (b_filter == "eif").then_some("prflx>srflx"),
        }
    };
    for cell in cells()
        .iter()
        .filter(|cell| cell.table == Table::Nats && cell.role == Role::Controlling)
    {
        let halves = |kind: &'static str| kind.split_once('-').expect("a mapping and a filtering");
        let (a, b) = (halves(cell.a), halves(cell.b));
        let relayed = if a.0 == "apdm" {
            "prflx>relay"
        } else {
            "srflx>relay"
        };
        let without = if cell.servers.relay() {
            relayed
        } else {
            "none"
        };
        let expected = direct(a, b).unwrap_or(without);
        assert_eq!(cell.expected.to_string(), expected, "{} {}", cell.a, cell.b);
    }
}

#[test]
fn one_seed_is_one_session() {
    let access = |word: &str| word.parse::<Access>().expect(word);
    let mut scenario = Scenario::new(access("plain"), access("cgn:eim-eif:sym"));
    scenario.loss = 0.2;
    let trace = |scenario: &Scenario| scenario.run().expect("a world").world.trace().to_string();
    let first = trace(&scenario);
    assert_eq!(trace(&scenario), first);
    scenario.seed += 1;
    assert_ne!(trace(&scenario), first);
}

#[test]
fn worlds_that_make_no_sense_are_refused_with_the_reason() {
    for (a, b, reason) in [
        ("same", "open", "the first peer cannot be `same`"),
        ("samecgn", "open", "the first peer cannot be `samecgn`"),
        (
            "open",
            "same",
            "`same` needs a first peer with a home network",
        ),
        (
            "plain",
            "samecgn",
            "`samecgn` needs a first peer behind a carrier's NAT",
        ),
    ] {
        let [first, second] = [a, b].map(|word| word.parse().expect(word));
        let error = Scenario::new(first, second)
            .run()
            .expect_err(reason)
            .to_string();
        assert!(error.starts_with(reason), "{a} {b}: {error}");
    }
}
