//! The relay beside coturn: packets, allocations and memory of one core each.
//!
//! Both servers run at the same time as processes of their own, pinned to one core; the load comes from `nilas turn
//! bench` on another core, in turns, one round here and one there. Everything stays on loopback. What counts is what
//! a server relayed, not what was sent to it.
//!
//! | file | what is in it |
//! |---|---|
//! | `servers` | both servers: started, asked for their memory, killed |
//! | `load` | one run of `nilas turn bench` |
//! | `flood` | requests of strangers, from many addresses |

mod flood;
mod load;
mod servers;

use std::error::Error;
use std::thread;
use std::time::Duration;

pub(crate) use servers::serve;

use crate::clock::median;
use crate::report::{Bar, Figure, Report};
use load::Load;
use servers::Server;

type Failure = Box<dyn Error + Send + Sync>;

const ROUNDS: usize = 3;
const FLOWS: [u32; 2] = [1, 100];
const SIZES: [u32; 2] = [120, 1_200];
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
    throughput(report, both)?;
    allocations(report, both)?;
    idle_memory(report, both)?;
    flood_memory(report, both)?;
    report.note(
        "relay: one core for each server and another for the load, which shares it with its own receiver; what the \
         receiver dropped counts as relayed",
    );
    Ok(())
}

fn throughput(report: &mut Report, both: [&Server; 2]) -> Result<(), Failure> {
    let mut limited = false;
    for flows in FLOWS {
        for size in SIZES {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (server, rates) in both.iter().zip(&mut rates) {
                    let load = Load::run(
                        server,
                        &[
                            "--flows",
                            &flows.to_string(),
                            "--size",
                            &size.to_string(),
                            "--seconds",
                            "3",
                        ],
                    )?;
                    limited |= load.limited_by_the_generator;
                    rates.push(load.packets_per_second);
                }
            }
            let [nilas, coturn] = rates.map(median);
            report.add(
                Figure::new(
                    format!("relay: {flows} flows of {size} bytes"),
                    "pkt/s",
                    nilas,
                )
                .beside("coturn", coturn)
                .ratio(nilas / coturn)
                .bar(Bar::AtLeast(2.0)),
            );
        }
    }
    if limited {
        report.note("relay: in some rounds the load was the limit, and that server may relay more");
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
        .bar(Bar::AtMost(256.0)),
    );
    Ok(())
}
