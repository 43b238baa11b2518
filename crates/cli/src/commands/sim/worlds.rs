//! Sessions in random worlds, each from a seed, and what must hold in every one.

use nilas_sim::random_world::{Seen, check};
use serde::Serialize;

use super::on_all_processors;
use crate::arguments;
use crate::commands::print_line;
use crate::failure::Failure;
use crate::output::json_line;

const SCHEMA: &str = "nilas.sim-worlds/1";

/// What was seen (schema nilas.sim-worlds/1).
#[derive(Debug, Serialize)]
struct Summary {
    /// Whether no rule was broken.
    ok: bool,
    worlds: u32,
    seed: u64,
    /// Worlds in which a rule was broken, with the rule and the smallest such world.
    broken: Vec<String>,
    connected: u64,
    failed: u64,
    disturbed: u64,
    packets: u64,
}

pub(super) fn run(arguments: &arguments::Sim, count: u32) -> Result<(), Failure> {
    let seeds: Vec<u64> = (0..u64::from(count))
        .map(|world| arguments.seed.wrapping_add(world))
        .collect();
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    for result in on_all_processors(&seeds, |seed| check(*seed)) {
        match result {
            Ok(world) => seen += world,
            Err(rule) => broken.push(rule.to_string()),
        }
    }
    let summary = Summary {
        ok: broken.is_empty(),
        worlds: count,
        seed: arguments.seed,
        broken,
        connected: seen.connected,
        failed: seen.failed,
        disturbed: seen.disturbed,
        packets: seen.packets,
    };
    if arguments.json {
        json_line(SCHEMA, &summary)?;
    } else {
        summary
            .broken
            .iter()
            .try_for_each(|broken| print_line(broken))?;
        print_line(&format!(
            "{count} worlds: {} sessions connected, {} had no path and said why, {} were disturbed later, {} packets",
            summary.connected, summary.failed, summary.disturbed, summary.packets
        ))?;
    }
    if summary.ok {
        Ok(())
    } else {
        Err(Failure::no_connection(format!(
            "in {} of {count} worlds something that must hold did not",
            summary.broken.len()
        )))
    }
}
