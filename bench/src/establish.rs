//! Two agents from start to the nominated pair, 25 ms one way: CPU time, allocations, packets.
//!
//! Everything counts: making both agents (and, for nilas, their engines), their candidates, and all until
//! both have told that the pair was nominated. Only what the wire and the lists of the bench itself need is
//! left out of the allocations.

use std::time::Instant;

use nilas_ice::Time;

use crate::allocator::allocations;
use crate::clock::{cpu_time, median};
use crate::pair::Pair;
use crate::peer_is::IsPair;
use crate::report::{Bar, Figure, Report};

/// What one session takes.
#[derive(Clone, Copy)]
struct Cost {
    microseconds: f64,
    allocations: f64,
    packets: f64,
    milliseconds: f64,
}

fn nilas(sessions: u32, start: impl Fn(u64) -> Pair) -> Cost {
    let (cpu, allocated) = (cpu_time(), allocations());
    let (mut packets, mut took) = (0, Time::ZERO);
    for seed in 0..sessions {
        let mut pair = start(seed.into());
        took = pair.run_until_nominated();
        packets += pair.packets();
    }
    cost(
        cpu,
        allocated,
        sessions,
        packets,
        took.as_nanos() as f64 / 1e6,
    )
}

fn is(addresses: u8, sessions: u32, start: Instant) -> Cost {
    let (cpu, allocated) = (cpu_time(), allocations());
    let (mut packets, mut took) = (0, 0.0);
    for _ in 0..sessions {
        let mut pair = IsPair::start(addresses, start);
        took = pair.run_until_nominated().as_secs_f64() * 1e3;
        packets += pair.packets();
    }
    cost(cpu, allocated, sessions, packets, took)
}

fn cost(
    cpu: std::time::Duration,
    allocated: u64,
    sessions: u32,
    packets: u64,
    milliseconds: f64,
) -> Cost {
    let each = 1.0 / f64::from(sessions);
    Cost {
        microseconds: (cpu_time() - cpu).as_nanos() as f64 / 1e3 * each,
        allocations: (allocations() - allocated) as f64 * each,
        packets: packets as f64 * each,
        milliseconds,
    }
}

pub(crate) fn measure(report: &mut Report) {
    let start = Instant::now();
    for (addresses, sessions, bars) in [
        (1, 2_000, Some((25.0, Some(40.0)))),
        (5, 300, None),
        (20, 40, Some((1_300.0, None))),
    ] {
        // The first round warms up and is dropped.
        let mut rounds: Vec<[Cost; 2]> = (0..8)
            .map(|_| {
                let one = |seed| Pair::start(1, addresses, 512, seed);
                [nilas(sessions, one), is(addresses, sessions, start)]
            })
            .collect();
        rounds.remove(0);
        let of = |who: usize, what: fn(&Cost) -> f64| {
            median(rounds.iter().map(|round| what(&round[who])).collect())
        };
        let figure = |name: &str, unit, what: fn(&Cost) -> f64| {
            let name = format!("establish {addresses}x{addresses}: {name}");
            Figure::new(name, unit, of(0, what)).beside("is", of(1, what))
        };
        let mut cpu = figure("CPU of both", "us", |cost| cost.microseconds);
        let mut count = figure("allocations of both", "", |cost| cost.allocations);
        if let Some((microseconds, allocations)) = bars {
            cpu = cpu.bar(Bar::AtMost(microseconds));
            if let Some(allocations) = allocations {
                count = count.bar(Bar::AtMost(allocations));
            }
        }
        cpu = cpu.ratio_to_first();
        report.add(cpu);
        report.add(count);
        report.add(figure("packets", "", |cost| cost.packets));
        report.add(figure("until both nominated", "ms", |cost| {
            cost.milliseconds
        }));
    }
    streams(report);
}

/// Two streams of two components each, as of audio and video without BUNDLE and with RTCP on ports of its own: four agents
/// a side, that share what a session has once. The other one has no such thing.
fn streams(report: &mut Report) {
    let rounds: Vec<Cost> = (0..8)
        .map(|_| nilas(500, |seed| Pair::sessions(2, 2, seed)))
        .skip(1)
        .collect();
    let mut figure = |name: &str, unit, what: fn(&Cost) -> f64| {
        let name = format!("establish two streams of two components: {name}");
        report.add(Figure::new(
            name,
            unit,
            median(rounds.iter().map(what).collect()),
        ));
    };
    figure("CPU of both", "us", |cost| cost.microseconds);
    figure("allocations of both", "", |cost| cost.allocations);
    figure("packets", "", |cost| cost.packets);
    figure("until all nominated", "ms", |cost| cost.milliseconds);
}
