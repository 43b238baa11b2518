//! All moves, layer by layer, so that what is found is found by the fewest moves.

use std::collections::BTreeSet;

use crate::meeting::Meeting;
use crate::moves::Move;
use crate::scenarios::{SCENARIOS, Scenario, Subject};

/// Tries every sequence of moves of each scenario about this.
pub(crate) fn explore(subject: Subject) {
    let about = |scenario: &&Scenario| scenario.subject == subject;
    let all = SCENARIOS.iter().filter(about).flat_map(Scenario::columns);
    for scenario in all {
        let default = scenario.default_depth();
        let depth = setting("NILAS_EXPLORE_DEPTH").map_or(default, |text| {
            text.parse().expect("NILAS_EXPLORE_DEPTH is a number")
        });
        explore_to(&scenario, depth);
    }
}

fn explore_to(scenario: &Scenario, depth: usize) {
    let beginning = Meeting::new(scenario);
    let mut seen = BTreeSet::from([beginning.fingerprint()]);
    let mut layer = vec![(Vec::new(), beginning.moves())];
    let (mut tried, mut ends) = (0_u64, Vec::new());
    for _ in 0..depth {
        let mut next = Vec::new();
        for (path, moves) in layer {
            if moves.is_empty() {
                ends.push(path);
                continue;
            }
            for step in moves {
                let longer: Vec<_> = path.iter().copied().chain([step]).collect();
                tried += 1;
                let mut meeting = follow(scenario, &longer);
                if seen.insert(meeting.fingerprint()) {
                    let moves = meeting.moves();
                    probe(&mut meeting, scenario, &longer);
                    next.push((longer, moves));
                }
            }
        }
        layer = next;
    }
    // What nothing more can happen in ends as well as what was gone no further from.
    ends.extend(layer.into_iter().map(|(path, _)| path));
    println!(
        "{scenario}: {depth} moves deep, {tried} moves, {} states, {} of them at the end",
        seen.len(),
        ends.len()
    );
    for path in &ends {
        let mut meeting = follow(scenario, path);
        let told = Told { scenario, path };
        or_panic(meeting.come_to_rest());
        drop(told);
        probe(&mut meeting, scenario, path);
    }
    // A search that finds nothing to do would prove nothing.
    assert!(seen.len() > depth, "{} states", seen.len());
}

/// Makes moves from the beginning.
fn follow(scenario: &Scenario, path: &[Move]) -> Meeting {
    let _told = Told { scenario, path };
    let mut meeting = Meeting::new(scenario);
    for step in path {
        or_panic(meeting.make(*step));
    }
    meeting
}

/// Whether data can be sent in a state that nothing else is done with.
fn probe(meeting: &mut Meeting, scenario: &Scenario, path: &[Move]) {
    let _told = Told { scenario, path };
    or_panic(meeting.carry_data());
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
        or_panic(meeting.make(step));
    }
    println!("and then all arrives");
    or_panic(meeting.come_to_rest());
    or_panic(meeting.carry_data());
}

fn or_panic(result: Result<(), String>) {
    if let Err(broken) = result {
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
                self.scenario,
                moves.join(" ")
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no other parameters")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
