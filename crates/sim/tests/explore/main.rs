//! Every order of events between two agents, to a stated depth: nomination, role conflicts and restarts.
//!
//! Two agents of the real engine meet on a channel that may lose, double and reorder. From the beginning of a
//! [`Scenario`] every sequence of [`Move`]s is tried: a datagram on its way arrives, is lost, or arrives and stays on
//! its way; signaling brings a letter; time passes until somebody has something to do; somebody restarts. States that
//! are the same in everything, down to the last field of both engines, are gone on from once. In every state at most
//! one pair of a generation is nominated; and from every state of the last layer a channel that is good from then on
//! leads both to one pair, mirrored, in opposite roles: there is no dead state.
//!
//! The depth is the number of moves. Losses, copies and restarts are rationed by the scenario. `cargo test` goes less
//! deep than `cargo test --release`, and `NILAS_EXPLORE_DEPTH=N` goes `N` moves deep. A failure prints its moves;
//! `NILAS_EXPLORE_MOVES="strangers s0 w d0" cargo test -p nilas-sim --test explore replay -- --nocapture` makes
//! them again and tells what each brings.

mod meeting;
mod search;

use nilas_ice::Role;

use self::meeting::{Beginning, Meeting, Rations, Scenario};
use self::search::{explore, replay, setting};

const RATIONS: Rations = Rations {
    losses: 2,
    copies: 1,
    restarts: [0, 0],
};

const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "strangers",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::Strangers,
        rations: RATIONS,
    },
    Scenario {
        name: "nomination",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::Nominating,
        rations: RATIONS,
    },
    Scenario {
        name: "both-controlling-strangers",
        roles: [Role::Controlling, Role::Controlling],
        seeds: [1, 2],
        beginning: Beginning::Strangers,
        rations: RATIONS,
    },
    Scenario {
        name: "both-controlling",
        roles: [Role::Controlling, Role::Controlling],
        seeds: [1, 2],
        beginning: Beginning::Acquainted,
        rations: RATIONS,
    },
    // The same with the tie-breakers the other way round.
    Scenario {
        name: "both-controlling-reversed",
        roles: [Role::Controlling, Role::Controlling],
        seeds: [2, 1],
        beginning: Beginning::Acquainted,
        rations: RATIONS,
    },
    Scenario {
        name: "both-controlled",
        roles: [Role::Controlled, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::Acquainted,
        rations: RATIONS,
    },
    Scenario {
        name: "both-controlled-reversed",
        roles: [Role::Controlled, Role::Controlled],
        seeds: [2, 1],
        beginning: Beginning::Acquainted,
        rations: RATIONS,
    },
    Scenario {
        name: "the-controlling-side-restarts",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::AtRest,
        rations: Rations {
            restarts: [1, 0],
            ..RATIONS
        },
    },
    Scenario {
        name: "the-controlled-side-restarts",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::AtRest,
        rations: Rations {
            restarts: [0, 1],
            ..RATIONS
        },
    },
    Scenario {
        name: "both-sides-restart",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::AtRest,
        rations: Rations {
            restarts: [1, 1],
            ..RATIONS
        },
    },
    Scenario {
        name: "one-side-restarts-twice",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::AtRest,
        rations: Rations {
            restarts: [1, 2],
            losses: 0,
            copies: 0,
        },
    },
];

fn scenario(name: &str) -> &'static Scenario {
    let mut scenarios = SCENARIOS.iter();
    scenarios
        .find(|scenario| scenario.name == name)
        .unwrap_or_else(|| panic!("there is no scenario {name}"))
}

#[test]
fn every_order_of_events_leads_to_one_nominated_pair() {
    explore(scenario("strangers"), 4, 7);
    explore(scenario("nomination"), 3, 6);
}

#[test]
fn every_order_of_events_heals_two_that_control() {
    explore(scenario("both-controlling-strangers"), 4, 6);
    explore(scenario("both-controlling"), 3, 6);
    explore(scenario("both-controlling-reversed"), 3, 6);
}

#[test]
fn every_order_of_events_heals_two_that_are_controlled() {
    explore(scenario("both-controlled"), 3, 6);
    explore(scenario("both-controlled-reversed"), 3, 6);
}

#[test]
fn every_order_of_events_carries_a_restart_of_one_side_through() {
    explore(scenario("the-controlling-side-restarts"), 5, 8);
    explore(scenario("the-controlled-side-restarts"), 5, 8);
}

#[test]
fn every_order_of_events_carries_restarts_of_both_sides_through() {
    explore(scenario("both-sides-restart"), 5, 8);
    explore(scenario("one-side-restarts-twice"), 6, 6);
}

/// An order of eight moves that is known to find no rest. A side restarts twice, and the answer to its first restart
/// comes when it has restarted again. It takes it for the answer to the second, and a check with these credentials is answered,
/// because whoever knows the password is. The answer to the second then looks like another restart, on both sides in
/// turn, without end: what each side knows of the other's credentials does not tell the two apart.
///
/// Once it comes to rest this fails, and the search above can go as deep as the others again.
#[test]
fn an_answer_that_a_second_restart_overtakes_is_not_told_apart_yet() {
    let mut meeting = Meeting::new(scenario("one-side-restarts-twice"));
    for word in "r1 s1 r1 s0 w d0 d0 d0".split_whitespace() {
        let step = word.parse().unwrap_or_else(|error| panic!("{error}"));
        meeting
            .make(step)
            .unwrap_or_else(|broken| panic!("{word}: {broken}"));
    }
    assert!(meeting.come_to_rest().is_err(), "it comes to rest");
}

/// Makes the moves of `NILAS_EXPLORE_MOVES` again; without it, a few that show that this can be done.
#[test]
fn replay_moves() {
    let given = setting("NILAS_EXPLORE_MOVES");
    let words = given.unwrap_or_else(|| "both-controlling-strangers s0 s1 d0 w x0 w".to_owned());
    let (name, moves) = words.split_once(' ').unwrap_or((&words, ""));
    replay(scenario(name), moves);
}
