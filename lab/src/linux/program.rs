//! Running the programs that set machines up, on the machine of the calling thread.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::LabError;
use crate::node::Node;

/// Where a program is. An ordinary user's PATH often lacks the directories that these programs are in.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Runs a program with `input` on its standard input and waits for it.
pub(crate) fn run(
    node: Node,
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<(), LabError> {
    finish(node, program, arguments, input).map(drop)
}

/// Runs a program and answers what it wrote.
pub(crate) fn ask(
    node: Node,
    program: &'static str,
    arguments: &[&str],
) -> Result<String, LabError> {
    finish(node, program, arguments, "")
}

fn finish(
    node: Node,
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, LabError> {
    let failed = |said: String| LabError::Program {
        program: program.to_owned(),
        node,
        said,
    };
    let path = find(program).unwrap_or_else(|| Path::new(program).to_owned());
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has failed already does not read on; what it says is the better error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!(
            "{} ({})",
            String::from_utf8_lossy(&output.stderr).trim(),
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a list of `ip` commands. Some failures are only said on standard error by older versions, but with
/// `-batch` the exit status tells.
pub(crate) fn ip(node: Node, commands: &[String]) -> Result<(), LabError> {
    if commands.is_empty() {
        return Ok(());
    }
    run(node, "ip", &["-batch", "-"], &(commands.join("\n") + "\n"))
}

/// Loads nft rules, all or none.
pub(crate) fn nft(node: Node, rules: &str) -> Result<(), LabError> {
    if rules.is_empty() {
        return Ok(());
    }
    run(node, "nft", &["-f", "-"], rules)
}
