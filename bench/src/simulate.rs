//! The simulator as whoever changes the engine uses it: every cell of the matrix, and random worlds by the thousand.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::program::program;
use crate::report::{Bar, Figure, Report};

/// Runs both, on as many threads as there are processors.
pub(crate) fn measure(report: &mut Report) -> Result<(), String> {
    // With each loss and in both roles.
    let matrix = seconds(&["--matrix"])?;
    report.add(Figure::new("the whole matrix", "s", matrix).bar(Bar::AtMost(60.0)));
    let worlds = seconds(&["--worlds", "10000"])?;
    report.add(Figure::new("10,000 random worlds", "s", worlds).bar(Bar::AtMost(180.0)));
    report.note("The simulator's figures are of the clock on the wall, with all processors.");
    Ok(())
}

/// How long `nilas sim` takes. A cell that is not as expected, or a world in which something does not hold, is an error.
fn seconds(arguments: &[&str]) -> Result<f64, String> {
    let program = program()?;
    let start = Instant::now();
    let ended = Command::new(&program)
        .arg("sim")
        .args(arguments)
        .arg("--json")
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let took = start.elapsed();
    match ended.success() {
        true => Ok(took.as_secs_f64()),
        false => Err(format!("nilas sim {}: {ended}", arguments.join(" "))),
    }
}
