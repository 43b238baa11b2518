//! Many sessions between two kinds of access, summed up.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use nilas_ice::Role;
use nilas_sim::matrix::{Outcome, Scenario, Servers};
use serde::Serialize;

use super::on_all_processors;
use crate::arguments;
use crate::commands::print_line;
use crate::failure::Failure;
use crate::output::{ended, json_line};

const SCHEMA: &str = "nilas.sim/1";

/// What came of all sessions (schema nilas.sim/1).
#[derive(Debug, Serialize)]
struct Summary {
    /// Whether a session connected.
    ok: bool,
    a: String,
    b: String,
    servers: &'static str,
    controlling: String,
    rtt_ms: u32,
    loss: f64,
    seed: u64,
    runs: u32,
    connected: u32,
    /// The share of the sessions that connected, from 0 to 1.
    chance: f64,
    /// How many sessions ended on which path, the commonest first.
    paths: Vec<PathCount>,
    first_path_ms: Option<Percentiles>,
    selected_ms: Option<Percentiles>,
    packets: Option<Percentiles>,
}

#[derive(Debug, Serialize)]
struct PathCount {
    path: String,
    runs: u32,
}

/// The values that so many per cent of the sessions do not exceed.
#[derive(Debug, Serialize)]
struct Percentiles {
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Percentiles {
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        // Of the nearest rank: a value that occurred.
        let at = |per_cent: usize| values[(values.len() * per_cent).div_ceil(100).max(1) - 1];
        Some(Self {
            min: values[0],
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: values[last],
        })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            min,
            p50,
            p90,
            p99,
            max,
        } = self;
        if min == max {
            return write!(f, "{min}");
        }
        write!(
            f,
            "{p50} in the median ({min} at least, 90 %: {p90}, 99 %: {p99}, {max} at most)"
        )
    }
}

pub(super) fn run(arguments: &arguments::Sim) -> Result<(), Failure> {
    let summary = ended(arguments.json, SCHEMA, simulate(arguments))?;
    if arguments.json {
        json_line(SCHEMA, &summary)?;
    } else {
        tell(&summary)?;
    }
    if summary.ok {
        return Ok(());
    }
    let Summary { a, b, servers, .. } = summary;
    Err(Failure::no_connection(format!(
        "no session between `{a}` and `{b}` found a path with the servers `{servers}`"
    )))
}

/// The other options that make a session what it is, each after a blank.
fn besides(arguments: &arguments::Sim) -> String {
    let (rtt, loss) = (arguments.rtt_ms, arguments.loss);
    let mut text = format!(" --rtt-ms {rtt}");
    if loss > 0.0 {
        text.push_str(&format!(" --loss {loss}"));
    }
    if arguments.tcp {
        text.push_str(" --tcp");
    }
    if arguments.controlling != "a" {
        text.push_str(&format!(" --controlling {}", arguments.controlling));
    }
    text
}

fn simulate(arguments: &arguments::Sim) -> Result<Summary, Failure> {
    let (Some(a), Some(b)) = (arguments.nat_a, arguments.nat_b) else {
        return Err(Failure::usage("--nat-a and --nat-b are needed"));
    };
    let mut first = Scenario::new(a, b);
    first.servers = arguments.servers.unwrap_or(Servers::Stun);
    first.rtt = Duration::from_millis(arguments.rtt_ms.into());
    first.loss = arguments.loss / 100.0;
    first.role = if arguments.controlling == "a" {
        Role::Controlling
    } else {
        Role::Controlled
    };
    first.seed = arguments.seed;
    first.tcp = arguments.tcp;
    first.check().map_err(Failure::usage)?;
    if let Some(file) = &arguments.html {
        let session = first.run().map_err(Failure::usage)?;
        let title = format!(
            "{a} beside {b}, servers: {}, seed {}{}",
            first.servers,
            first.seed,
            besides(arguments)
        );
        std::fs::write(file, session.diagram(&title)).map_err(|error| {
            Failure::usage(format!("{} cannot be written: {error}", file.display()))
        })?;
    }
    if arguments.recording.record.is_some() {
        let note = format!(
            "sim --nat-a {a} --nat-b {b} --servers {} --seed {}{}",
            first.servers,
            first.seed,
            besides(arguments)
        );
        let session = first.run_recorded(arguments.recording.options(&note));
        let mut session = session.map_err(Failure::usage)?;
        let mut end = |agent: nilas_sim::Agent| session.world.end_recording(agent.node);
        let (of_a, of_b) = (end(session.a), end(session.b));
        arguments.recording.write(&of_a)?;
        arguments.recording.of_second().write(&of_b)?;
    }
    let seeds: Vec<u64> = (0..u64::from(arguments.runs))
        .map(|run| arguments.seed.wrapping_add(run))
        .collect();
    let outcomes = on_all_processors(&seeds, |seed| {
        let scenario = Scenario {
            seed: *seed,
            ..first
        };
        scenario.run().map(|session| session.outcome)
    });
    let outcomes = outcomes
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::usage)?;
    Ok(sum_up(arguments, &first, &outcomes))
}

fn sum_up(arguments: &arguments::Sim, scenario: &Scenario, outcomes: &[Outcome]) -> Summary {
    let mut counts = BTreeMap::<_, u32>::new();
    for path in outcomes.iter().filter_map(|outcome| outcome.path) {
        *counts.entry(path).or_default() += 1;
    }
    let mut paths: Vec<_> = counts
        .into_iter()
        .map(|(path, runs)| PathCount {
            path: path.to_string(),
            runs,
        })
        .collect();
    paths.sort_by_key(|count| std::cmp::Reverse(count.runs));
    let connected = paths.iter().map(|count| count.runs).sum();
    let values = |of: fn(&Outcome) -> Option<u64>| {
        Percentiles::of(
            outcomes
                .iter()
                .filter(|outcome| outcome.path.is_some())
                .filter_map(of)
                .collect(),
        )
    };
    Summary {
        ok: connected > 0,
        a: scenario.a.to_string(),
        b: scenario.b.to_string(),
        servers: scenario.servers.as_str(),
        controlling: arguments.controlling.clone(),
        rtt_ms: arguments.rtt_ms,
        loss: arguments.loss,
        seed: arguments.seed,
        runs: arguments.runs,
        connected,
        chance: f64::from(connected) / f64::from(arguments.runs),
        paths,
        first_path_ms: values(|outcome| outcome.first_path.map(milliseconds)),
        selected_ms: values(|outcome| outcome.selected.map(milliseconds)),
        packets: values(|outcome| Some(outcome.packets)),
    }
}

fn tell(summary: &Summary) -> Result<(), Failure> {
    print_line(&format!(
        "{} of {} sessions connected ({:.1} %)",
        summary.connected,
        summary.runs,
        100.0 * summary.chance
    ))?;
    for PathCount { path, runs } in &summary.paths {
        print_line(&format!("  {runs:>7}  {}", path.replace('>', " ↔ ")))?;
    }
    for (what, values) in [
        ("first path, ms", &summary.first_path_ms),
        ("selected, ms", &summary.selected_ms),
        ("packets until then", &summary.packets),
    ] {
        if let Some(values) = values {
            print_line(&format!("{what}: {values}"))?;
        }
    }
    Ok(())
}

/// Whole milliseconds of virtual time, which is exact to the nanosecond: a part of one counts as one.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert!(Percentiles::of(Vec::new()).is_none());
        let hundred = Percentiles::of((1..=100).rev().collect()).expect("values");
        let Percentiles {
            min,
            p50,
            p90,
            p99,
            max,
        } = hundred;
        assert_eq!([min, p50, p90, p99, max], [1, 50, 90, 99, 100]);
        let two = Percentiles::of(vec![7, 3]).expect("values");
        assert_eq!([two.p50, two.p90], [3, 7]);
    }
}
