//! Where the programs are that take part.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test: `NILAS_BIN`, or what cargo built last beside this test.
///
/// # Errors
/// A sentence that says how to get it.
pub fn nilas() -> Result<PathBuf, String> {
    found("NILAS_BIN", "nilas", "cargo build --package nilas-cli")
}

/// `interop/aioice/agent.py` in the peers' Python environment, as program and argument.
///
/// # Errors
/// A sentence that says how to get it.
pub fn aioice() -> Result<(PathBuf, PathBuf), String> {
    let python = found(
        "NILAS_INTEROP_PYTHON",
        "../tools/venv/bin/python",
        "cargo xtask test --only peers",
    )?;
    Ok((
        python,
        Path::new(env!("CARGO_MANIFEST_DIR")).join("aioice/agent.py"),
    ))
}

/// `interop/aioice/relay.py` in the peers' Python environment.
///
/// # Errors
/// A sentence that says how to get it.
pub fn aioice_relay() -> Result<Command, String> {
    let (python, agent) = aioice()?;
    let mut command = Command::new(python);
    command.arg(agent.with_file_name("relay.py"));
    Ok(command)
}

/// `interop/libnice/agent.py`, as program and argument. Any Python will do; libnice itself is Debian's `libnice10`.
#[must_use]
pub fn libnice() -> (PathBuf, PathBuf) {
    (
        "python3".into(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("libnice/agent.py"),
    )
}

/// `interop/chromium/agent.py`, as program and argument. Any Python will do; the browser is Debian's `chromium`.
#[must_use]
pub fn chromium() -> (PathBuf, PathBuf) {
    (
        "python3".into(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("chromium/agent.py"),
    )
}

/// What a program that ran to its end has said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs a program to its end, without input.
///
/// # Panics
/// When it does not start; the tests that call this can do nothing about it.
#[must_use]
pub fn run(mut command: Command) -> Said {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program starts");
    Said {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn found(variable: &str, beside: &str, how: &str) -> Result<PathBuf, String> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => built().join(beside),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: {how} makes it", path.display()))
    }
}

/// `target/debug`, two levels above a test program in `target/debug/deps`.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    test.parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
