//! Every order of events between two agents, to a stated depth: nomination, role conflicts, restarts and renomination.
//!
//! Two agents of the real engine meet on a channel that may lose, double and reorder. From the beginning of a
//! [`Scenario`] every sequence of [`Move`](moves::Move)s is tried: a datagram on its way arrives, is lost, or arrives and
//! stays on its way; signaling brings a letter; time passes until somebody has something to do; somebody restarts; a
//! network becomes dear, is unplugged, or appears. States that are the same in everything, down to the last field of both
//! engines, are gone on from once. What must hold:
//!
//! - In every state at most one pair of a generation is nominated; with renomination at most one at a time, and the value
//!   of each nomination is greater than those of all before it.
//! - Once a path was found, in every state each side has one, and what it sends is handed over at the other side, unless the
//!   end that it sends to was unplugged: a path is made before the one before it breaks.
//! - From every state of the last layer a channel that is good from then on leads both to one pair of one generation,
//!   mirrored, in opposite roles, by the cheapest networks; and there they stay. There is no dead state.
//!
//! The depth is the number of moves; `scenarios` has a table of all scenarios with their depths. `cargo test` goes less
//! deep than `cargo test --release`, and `NILAS_EXPLORE_DEPTH=N` goes `N` moves deep. Losses, copies, restarts and what happens
//! to networks are rationed by the scenario. Where a side may restart, all is tried twice: with parameters that do not say what they
//! answer, as beside a plain peer, and one move less deep with those that do (`NAME+answers`). A failure prints its moves;
//! `NILAS_EXPLORE_MOVES="strangers s0 w d0" cargo test -p nilas-sim --test explore replay -- --nocapture` makes
//! them again and tells what each brings.
//!
//! | file | what lives there |
//! |---|---|
//! | `scenarios` | the scenarios, as a table |
//! | `moves` | what may happen |
//! | `side` | one agent, and its networks |
//! | `meeting` | two of them, and what must hold |
//! | `search` | all sequences of moves |

mod meeting;
mod moves;
mod scenarios;
mod search;
mod side;

use self::scenarios::{Scenario, Subject};
use self::search::{explore, replay, setting};

fn scenario(name: &str) -> Scenario {
    Scenario::named(name).unwrap_or_else(|| panic!("there is no scenario {name}"))
}

#[test]
fn every_order_of_events_leads_to_one_nominated_pair() {
    explore(Subject::Nomination);
}

#[test]
fn every_order_of_events_heals_two_that_control() {
    explore(Subject::TwoThatControl);
}

#[test]
fn every_order_of_events_heals_two_that_are_controlled() {
    explore(Subject::TwoThatAreControlled);
}

#[test]
fn every_order_of_events_carries_a_restart_of_one_side_through() {
    explore(Subject::RestartOfOneSide);
}

#[test]
fn every_order_of_events_carries_restarts_of_both_sides_through() {
    explore(Subject::RestartsOfBothSides);
}

/// Where parameters do not say what they answer, a restart that crosses an answer could be answered by one that crosses the next,
/// and so on without end.
#[test]
fn every_order_of_letters_carries_restarts_that_cross_through() {
    explore(Subject::CrossedRestarts);
}

#[test]
fn every_order_of_events_leads_renominations_to_one_pair() {
    explore(Subject::Renomination);
}

#[test]
fn every_order_of_events_leads_a_restart_beside_a_renomination_to_one_pair() {
    explore(Subject::RenominationAndRestart);
}

#[test]
fn every_order_of_events_makes_a_path_before_another_breaks() {
    explore(Subject::MakeBeforeBreak);
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
        replay(&scenario("one-side-restarts-twice"), moves);
    }
}

/// Makes the moves of `NILAS_EXPLORE_MOVES` again; without it, a few that show that this can be done.
#[test]
fn replay_moves() {
    let given = setting("NILAS_EXPLORE_MOVES");
    let words = given.unwrap_or_else(|| "both-controlling-strangers s0 s1 d0 w x0 w".to_owned());
    let (name, moves) = words.split_once(' ').unwrap_or((&words, ""));
    replay(&scenario(name), moves);
}
