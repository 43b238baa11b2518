//! `docs/matrix.md`: what connects with what, as the simulated network shows it.

use std::path::PathBuf;

use crate::citations::read;
use crate::workspace::Workspace;

/// Writes the page; the answer is text for a person.
pub(crate) fn write(workspace: &Workspace) -> Result<String, String> {
    let (page, path) = (run(workspace)?, path(workspace));
    std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("{} is written", path.display()))
}

/// Ok and Err are both text for a person.
pub(crate) fn check(workspace: &Workspace) -> Result<String, String> {
    let page = run(workspace)?;
    // With every loss and in both roles: its exit code is the judgement.
    sim(workspace, &["--json"])?;
    if read(&path(workspace))? == page {
        Ok("every cell is as expected, and docs/matrix.md tells it".to_owned())
    } else {
        Err("docs/matrix.md is not what the simulated network shows now: run cargo xtask matrix, and look at what changed".to_owned())
    }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/matrix.md")
}

/// The page as it is now. A cell that is not as expected makes the program fail.
fn run(workspace: &Workspace) -> Result<String, String> {
    sim(workspace, &["--markdown"])
}

/// Runs the matrix; the answer is what it printed.
fn sim(workspace: &Workspace, arguments: &[&str]) -> Result<String, String> {
    let mut command = workspace.cargo(&["run", "--quiet", "--release", "-p", "nilas-cli", "--"]);
    command.args(["sim", "--matrix"]).args(arguments);
    let output = command
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|_| "the output is not text".to_owned())
}
