//! All moves, layer by layer, so that what is found is found by the fewest moves.

use std::collections::BTreeSet;

use crate::meeting::{Meeting, Move, Scenario};

/// Tries every sequence of so many moves.
pub(crate) fn explore(scenario: &Scenario, debug_depth: usize, release_depth: usize) {
    let default = if cfg!(debug_assertions) {
        debug_depth
    } else {
        release_depth
    };
    let depth = match setting("NILAS_EXPLORE_DEPTH") {
        Some(text) => text.parse().expect("NILAS_EXPLORE_DEPTH is a number"),
        None => default,
    };
    let mut seen = BTreeSet::from([Meeting::new(scenario).fingerprint()]);
    let mut layer: Vec<Vec<Move>> = vec![Vec::new()];
    let mut tried = 0_u64;
    for _ in 0..depth {
        let mut next = Vec::new();
        for path in layer {
            let moves = follow(scenario, &path).moves();
            for step in moves {
                let longer: Vec<_> = path.iter().copied().chain([step]).collect();
                tried += 1;
                let state = follow(scenario, &longer).fingerprint();
                if seen.insert(state) {
                    next.push(longer);
                }
            }
        }
        layer = next;
    }
    println!(
        "{}: {depth} moves deep, {tried} moves, {} states, {} of them in the last layer",
        scenario.name,
        seen.len(),
        layer.len()
    );
    for path in &layer {
        let mut meeting = follow(scenario, path);
        let _told = Told { scenario, path };
        if let Err(broken) = meeting.come_to_rest() {
            panic!("{broken}");
        }
    }
    // A search that finds nothing to do would prove nothing.
    assert!(layer.len() > depth, "{} states", layer.len());
}

/// Makes moves from the beginning.
fn follow(scenario: &Scenario, path: &[Move]) -> Meeting {
    let _told = Told { scenario, path };
    let mut meeting = Meeting::new(scenario);
    for step in path {
        if let Err(broken) = meeting.make(*step) {
            panic!("{broken}");
        }
    }
    meeting
}

/// Makes moves again, and tells what each of them brings.
pub(crate) fn replay(scenario: &Scenario, moves: &str) {
    let mut meeting = Meeting::new(scenario);
    meeting.tells = true;
    for word in moves.split_whitespace() {
        let step: Move = word.parse().unwrap_or_else(|error| panic!("{error}"));
        let possible = meeting.moves();
        assert!(possible.contains(&step), "{word} is not possible now");
        println!("{word}");
        if let Err(broken) = meeting.make(step) {
            panic!("{broken}");
        }
    }
    println!("and then all arrives");
    if let Err(broken) = meeting.come_to_rest() {
        panic!("{broken}");
    }
}

/// Tells the moves if anything panics on the way.
struct Told<'a> {
    scenario: &'a Scenario,
    path: &'a [Move],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let moves: Vec<_> = self.path.iter().map(ToString::to_string).collect();
            eprintln!(
                "after these moves; again: NILAS_EXPLORE_MOVES=\"{} {}\" cargo test -p nilas-sim --test explore replay -- --nocapture",
                self.scenario.name,
                moves.join(" ")
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no other parameters")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
