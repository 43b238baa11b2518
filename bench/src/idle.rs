//! Connected agents that do nothing: heap, CPU time, and how both scale with their number.

use std::time::{Duration, Instant};

use crate::allocator::bytes_in_use;
use crate::clock::{cpu_time, median, nanoseconds_each};
use crate::pair::Pair;
use crate::peer_is::IsPair;
use crate::report::{Bar, Figure, Report};

const FEW: usize = 100;
const MANY: usize = 10_000;

/// Makes an engine with this many agents, each connected with another one of them; also the bytes of heap
/// of one agent.
fn connected(agents: usize, addresses: u8) -> (Pair, f64) {
    let before = bytes_in_use();
    let mut pair = Pair::in_one(agents, addresses, 1);
    pair.run_until_nominated();
    // What establishing needed and idling does not is given back by now.
    pair.run_for(Duration::from_secs(60));
    let bytes = (bytes_in_use() - before) as f64 / agents as f64;
    (pair, bytes)
}

/// Nanoseconds of CPU time of one agent in one second of doing nothing.
fn agent_second(pair: &mut Pair, agents: usize, seconds: u64) -> f64 {
    let start = cpu_time();
    pair.run_for(Duration::from_secs(seconds));
    (cpu_time() - start).as_nanos() as f64 / agents as f64 / seconds as f64
}

/// The heap of connected agents of `is`, in bytes each, and their CPU time per second.
fn is_idle(addresses: u8) -> (f64, f64) {
    const PAIRS: usize = 200;
    let start = Instant::now();
    let before = bytes_in_use();
    let mut pairs: Vec<_> = (0..PAIRS)
        .map(|_| IsPair::start(addresses, start))
        .collect();
    for pair in &mut pairs {
        pair.run_until_nominated();
        pair.run_for(Duration::from_secs(60));
    }
    let bytes = (bytes_in_use() - before) as f64 / (2 * PAIRS) as f64;
    let cpu = cpu_time();
    for pair in &mut pairs {
        pair.run_for(Duration::from_secs(60));
    }
    let nanoseconds = (cpu_time() - cpu).as_nanos() as f64 / (2 * PAIRS) as f64 / 60.0;
    (bytes, nanoseconds)
}

pub(crate) fn measure(report: &mut Report) {
    let (is_bytes, is_second) = is_idle(1);
    let (mut few, _) = connected(FEW, 1);
    let (mut many, bytes) = connected(MANY, 1);
    report.add(
        Figure::new("idle 1x1: heap of an agent", "B", bytes)
            .beside("is", is_bytes)
            .bar(Bar::AtMost(2_048.0)),
    );
    let (five, five_bytes) = connected(FEW, 5);
    drop(five);
    report
        .add(Figure::new("idle 5x5: heap of an agent", "B", five_bytes).beside("is", is_idle(5).0));

    // Each agent has its turn forty times a round: an engine that idles has the machine for itself, and what it costs the
    // caches to go over from one to the other is no part of that.
    let mut rounds = Vec::new();
    for _ in 0..9 {
        rounds.push([
            agent_second(&mut few, FEW, 10_000),
            agent_second(&mut many, MANY, 100),
        ]);
    }
    scaling(
        report,
        "an agent's second of idling",
        &rounds,
        Some(is_second),
    );

    let payload = [0x80; 1_200];
    let mut rounds = Vec::new();
    for _ in 0..9 {
        let few = nanoseconds_each(1, || few.receive_data(100_000, &payload)) / 100_000.0;
        let many = nanoseconds_each(1, || many.receive_data(100_000, &payload)) / 100_000.0;
        rounds.push([few, many]);
    }
    scaling(report, "a packet of data", &rounds, None);

    let mut rounds = Vec::new();
    for round in 0..9 {
        let each = [&mut few, &mut many].map(|pair| {
            let checks = pair.checks(40_000, round);
            nanoseconds_each(1, || pair.receive_checks(&checks)) / checks.len() as f64
        });
        rounds.push(each);
    }
    scaling(report, "a check and its answer", &rounds, None);
}

/// The cost with many agents, as a ratio to that with few.
fn scaling(report: &mut Report, what: &str, rounds: &[[f64; 2]], is: Option<f64>) {
    let of = |column: usize| median(rounds.iter().map(|round| round[column]).collect());
    let ratio = median(rounds.iter().map(|round| round[1] / round[0]).collect());
    let mut figure = Figure::new(format!("{what}, {MANY} agents in an engine"), "ns", of(1))
        .beside("100 agents", of(0));
    if let Some(is) = is {
        figure = figure.beside("is", is);
    }
    report.add(figure.ratio(ratio).bar(Bar::AtMost(1.5)));
}
