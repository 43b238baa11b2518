//! The relay beside coturn: packets, allocations and memory of one core each.
//!
//! Both servers run at the same time as processes of their own, pinned to one core; the load comes from another core,
//! in turns, one round here and one there. Everything stays on loopback. What counts is what a server relayed, not what
//! was sent to it, and how much processor time that took: then it matters little what else the machine does.
//!
//! | file | what is in it |
//! |---|---|
//! | `servers` | both servers: started, asked for their memory, killed |
//! | `wire` | data, one datagram after another, in both directions |
//! | `load` | one run of `nilas turn bench`: data in bursts, allocations |
//! | `flood` | requests of strangers, from many addresses |

mod flood;
mod load;
mod servers;
mod wire;

use std::error::Error;
use std::thread;
use std::time::Duration;

pub(crate) use servers::serve;

use crate::clock::median;
use crate::report::{Bar, Figure, Report};
use load::Load;
use servers::Server;
use wire::{Direction, Run, Wire};

type Failure = Box<dyn Error + Send + Sync>;

const ROUNDS: usize = 3;
const FLOWS: [u32; 2] = [1, 100];
const SIZES: [usize; 2] = [120, 1_200];
const ROUND_TIME: Duration = Duration::from_secs(2);
/// At one time, for the time that one allocation takes.
const BURST_ALLOCATIONS: u32 = 300;
/// Kept, for the memory that one takes. A process may open 1,024 files where nobody has changed that.
const IDLE_ALLOCATIONS: u32 = 800;
/// Each from an address and port of its own.
const STRANGERS: u32 = 20_000;
const KIB: f64 = 1_024.0;

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err("a server and its load need a core each, and there is one".into());
    }
    let [nilas, coturn] = [Server::nilas()?, Server::coturn()?];
    let both = [&nilas, &coturn];
    allocations(report, both)?;
    // Before their memory has grown with traffic.
    idle_memory(report, both)?;
    flood_memory(report, both)?;
    bursts(report, both)?;
    throughput(report, both)?;
    report.note("relay: a second of a core is one of the server's processor time");
    Ok(())
}

fn throughput(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    // All stay to the end: their allocations do, and a new client that got the port of one would be refused (437).
    let mut all = Vec::new();
    for flows in FLOWS {
        all.push((
            flows,
            [Wire::new(both[0], flows)?, Wire::new(both[1], flows)?],
        ));
    }
    for (flows, wires) in &all {
        for size in SIZES {
            for direction in [Direction::ToPeers, Direction::ToClients] {
                let mut runs: [Vec<Run>; 2] = Default::default();
                for _ in 0..ROUNDS {
                    for (wire, runs) in wires.iter().zip(&mut runs) {
                        runs.push(wire.run(direction, size, ROUND_TIME)?);
                    }
                }
                let way = match direction {
                    Direction::ToPeers => "to peers",
                    Direction::ToClients => "to clients",
                };
                relayed(report, &format!("{flows} flows, {size} B {way}"), &runs);
            }
        }
    }
    Ok(())
}

fn relayed(report: &mut Report, what: &str, runs: &[Vec<Run>; 2]) {
    let median_of = |value: fn(&Run) -> f64| {
        runs.each_ref()
            .map(|runs| median(runs.iter().map(value).collect()))
    };
    let [nilas, coturn] = median_of(|run| 1e9 / run.each);
    report.add(
        Figure::new(format!("relay: {what}"), "/core s", nilas)
            .beside("coturn", coturn)
            .ratio(nilas / coturn)
            .bar(Bar::AtLeast(2.0)),
    );
    let [nilas, coturn] = median_of(|run| run.rate);
    let idle = ["nilas", "coturn"]
        .into_iter()
        .zip(runs)
        .filter(|(_, runs)| {
            let limited = runs.iter().filter(|run| run.limited_by_the_generator);
            limited.count() * 2 > runs.len()
        });
    let idle: Vec<_> = idle.map(|(name, _)| name).collect();
    let idle = match &idle[..] {
        [] => String::new(),
        names => format!("; the load was the limit of {}", names.join(" and ")),
    };
    report.note(format!(
        "relay: {what}: {nilas:.0} relayed in a second, coturn {coturn:.0}{idle}"
    ));
}

/// Datagrams in bursts of one flow, as a sender makes them that uses segmentation offload.
fn bursts(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    for flows in FLOWS {
        for size in SIZES {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (server, rates) in both.iter().zip(&mut rates) {
                    let (flows, size) = (flows.to_string(), size.to_string());
                    let wanted = ["--flows", &flows, "--size", &size, "--seconds", "2"];
                    rates.push(Load::run(server, &wanted)?.packets_per_second);
                }
            }
            let [nilas, coturn] = rates.map(median);
            report.add(
                Figure::new(
                    format!("relay: {flows} flows, {size} B in bursts"),
                    "pkt/s",
                    nilas,
                )
                .beside("coturn", coturn)
                .ratio(nilas / coturn)
                .bar(Bar::AtLeast(2.0)),
            );
        }
    }
    Ok(())
}

fn allocations(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, rates) in both.iter().zip(&mut rates) {
            let load = Load::run(
                server,
                &["--flows", &BURST_ALLOCATIONS.to_string(), "--seconds", "0"],
            )?;
            rates.push(load.allocations_per_second);
        }
    }
    let [nilas, coturn] = rates.map(median);
    report.add(
        Figure::new("relay: allocations made", "1/s", nilas)
            .beside("coturn", coturn)
            .ratio(nilas / coturn),
    );
    Ok(())
}

/// The growth of resident memory by one allocation, permissions and channels not counted.
fn idle_memory(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    let mut each = Vec::new();
    for server in both {
        let before = server.resident_bytes()?;
        let most = server.most_memory_during(|| {
            Load::run(
                server,
                &[
                    "--flows",
                    &IDLE_ALLOCATIONS.to_string(),
                    "--seconds",
                    "0",
                    "--idle",
                    "2",
                ],
            )
            .map(drop)
        })?;
        each.push(most.saturating_sub(before) as f64 / f64::from(IDLE_ALLOCATIONS));
    }
    report.add(
        Figure::new("relay: resident memory of an idle allocation", "B", each[0])
            .beside("coturn", each[1])
            .ratio_to_first()
            .bar(Bar::AtMost(2.0 * KIB)),
    );
    Ok(())
}

/// The growth of resident memory by requests without credentials.
fn flood_memory(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    let mut growth = Vec::new();
    for server in both {
        let before = server.resident_bytes()?;
        let most = server.most_memory_during(|| {
            flood::run(server.address(), STRANGERS)?;
            thread::sleep(Duration::from_millis(500));
            Ok(())
        })?;
        growth.push(most.saturating_sub(before) as f64 / KIB);
    }
    report.add(
        Figure::new(
            format!("relay: resident memory for {STRANGERS} strangers"),
            "KiB",
            growth[0],
        )
        .beside("coturn", growth[1])
        // The first flood finds the table of sources untouched. It has 512 KiB, and nothing grows beyond.
        .bar(Bar::AtMost(640.0)),
    );
    Ok(())
}
