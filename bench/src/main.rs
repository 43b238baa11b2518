//! nilas and its peers, measured side by side.
//!
//! Everything is measured in one run of one program, the contenders in turn, and a figure is the median
//! of several rounds: read the ratios and the counts, not the absolute times. CPU time is that of the
//! thread. Allocations and bytes of heap are counted by the program's own allocator.
//!
//! | file | what it measures |
//! |---|---|
//! | `codec` | a check of 96 bytes: built, parsed and verified; time and instructions |
//! | `establish` | two agents in virtual time, from start to the nominated pair |
//! | `idle` | what a connected agent costs that does nothing, and how that scales |
//! | `data` | datagrams of 1,200 bytes over loopback, through `Connection` |
//! | `relay` | the relay beside coturn: packets, allocations, memory |
//! | `simulate` | the matrix and random worlds in the simulator |
//! | `floor`, `peer_is`, `pair` | the contenders: bytes laid by hand, the crate `is`, nilas |
//! | `allocator`, `clock`, `report` | counting, timing, telling |
//! | `program` | where the program `nilas` is |

mod allocator;
mod clock;
mod codec;
mod data;
mod establish;
mod floor;
mod idle;
mod pair;
mod peer_is;
mod program;
mod relay;
mod report;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::report::Report;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// Measures nilas and its peers side by side, and compares with the bars that the project sets itself.
///
/// The exit code is 1 if a bar was missed.
#[derive(Parser)]
#[command(name = "nilas-bench")]
struct Arguments {
    /// What to measure.
    #[arg(default_value = "all")]
    what: What,
    /// One JSON document, `nilas.bench/1`, instead of a table.
    #[arg(long)]
    json: bool,
    /// Used by the program itself: repeats one step of the codec under an instruction counter.
    #[arg(long, hide = true, num_args = 2, value_names = ["STEP", "ROUNDS"])]
    count: Option<Vec<String>>,
    /// Used by the program itself: serves as the relay that is measured.
    #[arg(long, hide = true, value_name = "PORT")]
    serve_relay: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything.
    All,
    /// A connectivity check: built, parsed and verified.
    Codec,
    /// Two agents from start to the nominated pair.
    Establish,
    /// Connected agents that do nothing.
    Idle,
    /// Application data over loopback.
    Data,
    /// The simulator: the whole matrix, and ten thousand random worlds.
    Simulate,
    /// The relay beside coturn, which must be installed; not part of `all`.
    Relay,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(count) = arguments.count {
        return codec::run_counted(&count);
    }
    if let Some(port) = arguments.serve_relay {
        return relay::serve(port);
    }
    let mut report = Report::default();
    let wanted = |what| arguments.what == What::All || arguments.what == what;
    if wanted(What::Codec) {
        codec::measure(&mut report);
    }
    if wanted(What::Establish) {
        establish::measure(&mut report);
    }
    if wanted(What::Idle) {
        idle::measure(&mut report);
    }
    if wanted(What::Data)
        && let Err(error) = data::measure(&mut report)
    {
        eprintln!("the data path could not be measured: {error}");
        return ExitCode::FAILURE;
    }
    if wanted(What::Simulate)
        && let Err(error) = simulate::measure(&mut report)
    {
        eprintln!("the simulator could not be measured: {error}");
        return ExitCode::FAILURE;
    }
    if arguments.what == What::Relay
        && let Err(error) = relay::measure(&mut report)
    {
        eprintln!("the relay could not be measured: {error}");
        return ExitCode::FAILURE;
    }
    report.print(arguments.json);
    if report.all_reached() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
