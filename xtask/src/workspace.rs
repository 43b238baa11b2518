//! Where things are, and commands that start in the right folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout this program was built from, and the directory it builds into.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and configuration files count.
    pub(crate) fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or("xtask lies at the root of the file system")?
            .to_path_buf();
        let output = Command::new(cargo_program())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&root)
            .output()
            .map_err(|error| format!("cargo metadata does not start: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
        let target = metadata["target_directory"]
            .as_str()
            .ok_or("cargo metadata names no target_directory")?
            .into();
        Ok(Self { root, target })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the programs are that steps need and cargo does not bring: kept between runs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The Python environment of the real peers.
    pub(crate) fn python(&self) -> PathBuf {
        self.tools().join("venv/bin/python")
    }

    /// The copy of the sources that has faults in it, and what is built of it.
    pub(crate) fn mutants(&self) -> PathBuf {
        self.target.join("mutants")
    }

    /// The program under test, as the step `build` leaves it.
    pub(crate) fn nilas(&self) -> PathBuf {
        self.target.join("debug/nilas")
    }

    /// The program as it is built for release.
    pub(crate) fn nilas_release(&self) -> PathBuf {
        self.target.join("release/nilas")
    }

    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(cargo_program());
        command.args(arguments);
        command
    }

    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }
}

fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
