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

use self::meeting::{Beginning, Rations, Scenario};
use self::search::{explore, replay, setting};

const RATIONS: Rations = Rations {
    losses: 2,
    copies: 1,
    restarts: [0, 0],
};

const SCENARIOS: [Scenario; 13] = [
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
    Scenario {
        name: "both-sides-restart-twice",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::AtRest,
        rations: Rations {
            restarts: [2, 2],
            losses: 1,
            copies: 0,
        },
    },
    Scenario {
        name: "restarts-before-it-began",
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        beginning: Beginning::Strangers,
        rations: Rations {
            restarts: [2, 2],
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
    explore(scenario("one-side-restarts-twice"), 6, 9);
    explore(scenario("both-sides-restart-twice"), 4, 7);
    explore(scenario("restarts-before-it-began"), 4, 7);
}

/// A side restarts again before the answer to its first restart has come. In the first order it takes that answer for
/// the one to its second restart, and a check with these credentials is answered, because whoever knows the password is;
/// in the second the peer, which has answered, restarts by itself. What looks the same to the side that restarted twice
/// must not be taken for the same, or each answers the other's answer with another restart, without end.
#[test]
fn an_answer_that_a_second_restart_overtakes_is_told_from_a_restart() {
    for moves in [
        "r1 s1 r1 s0 w d0 d0 d0",
        "r1 s1 s0 w d1 d1 r0 s0 r1",
        // The check that shows whom an answer is for comes before both answers.
        "r1 s1 r1 s1 w d0 d0 s0 r0",
    ] {
        replay(scenario("one-side-restarts-twice"), moves);
    }
}

/// Makes the moves of `NILAS_EXPLORE_MOVES` again; without it, a few that show that this can be done.
#[test]
fn replay_moves() {
    let given = setting("NILAS_EXPLORE_MOVES");
    let words = given.unwrap_or_else(|| "both-controlling-strangers s0 s1 d0 w x0 w".to_owned());
    let (name, moves) = words.split_once(' ').unwrap_or((&words, ""));
    replay(scenario(name), moves);
}
