//! What a step needs from the machine, and how it gets there: Debian packages where we are root, a Python environment
//! and cargo-deny in the target directory. What cannot be installed here is named with the one line to type.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::runner::execute;
use crate::workspace::Workspace;

/// Something that does not come with cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A program and the Debian package that brings it.
    Program {
        program: &'static str,
        package: &'static str,
    },
    /// A shared library and the Debian package that brings it.
    Library {
        file: &'static str,
        package: &'static str,
    },
    /// The Python environment that `interop/aioice/requirements.txt` describes.
    Aioice,
    CargoDeny,
}

/// What is missing and what to type, in words.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

/// What `nilas-lab` calls: tayga for the kind `nat64` only, but its tests build that too.
pub(crate) const LABORATORY: &[Need] = &[
    Need::Program {
        program: "nft",
        package: "nftables",
    },
    Need::Program {
        program: "ip",
        package: "iproute2",
    },
    Need::Program {
        program: "tayga",
        package: "tayga",
    },
];

pub(crate) const PEERS: &[Need] = &[
    Need::Program {
        program: "nft",
        package: "nftables",
    },
    Need::Program {
        program: "ip",
        package: "iproute2",
    },
    Need::Program {
        program: "python3",
        package: "python3",
    },
    Need::Program {
        program: "turnserver",
        package: "coturn",
    },
    Need::Program {
        program: "miniupnpd",
        package: "miniupnpd-nftables",
    },
    Need::Program {
        program: "chromium",
        package: "chromium",
    },
    Need::Library {
        file: "libnice.so.10",
        package: "libnice10",
    },
    Need::Aioice,
];

/// The version that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";
const REQUIREMENTS: &str = "interop/aioice/requirements.txt";

/// Installs what is missing, or says what to type.
pub(crate) fn bring(workspace: &Workspace, needs: BTreeSet<Need>) -> Result<(), Missing> {
    if !has_nextest(workspace) {
        println!(
            "cargo-nextest is not installed: tests run with cargo test, which ends no test that hangs"
        );
    }
    packages(workspace, &missing_packages(&needs, &search_path()))?;
    if needs.contains(&Need::Aioice) {
        aioice(workspace)?;
    }
    if needs.contains(&Need::CargoDeny) {
        install_cargo_deny(workspace)?;
    }
    Ok(())
}

pub(crate) fn has_nextest(workspace: &Workspace) -> bool {
    quiet(workspace.cargo(&["nextest", "--version"]))
}

/// The cargo-deny to call: the machine's own, or ours in the target directory.
pub(crate) fn cargo_deny(workspace: &Workspace) -> PathBuf {
    let ours = workspace.tools().join("bin/cargo-deny");
    if ours.is_file() {
        ours
    } else {
        "cargo-deny".into()
    }
}

fn packages(workspace: &Workspace, missing: &BTreeSet<&str>) -> Result<(), Missing> {
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().copied().collect();
    let line = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        names.join(" ")
    );
    let explain = |what: &str| Missing(format!("{what}; as root, type: {line}"));
    let lacking = format!("this machine lacks {}", names.join(", "));
    if !is_root() {
        return Err(explain(&lacking));
    }
    if find("apt-get", &search_path()).is_none() {
        let text = format!(
            "{lacking}, and it has no apt-get: install these Debian packages' programs by its own means"
        );
        return Err(Missing(text));
    }
    println!("{lacking}: installing");
    let mut update = workspace.program("apt-get");
    update.args(["update", "-q"]);
    let mut install = workspace.program("apt-get");
    install
        .args(["install", "-q", "-y", "--no-install-recommends"])
        .args(&names);
    for mut command in [update, install] {
        command
            // A mirror that is away for a moment fails nothing; so pip is told below, and cargo in .cargo/config.toml.
            .args(["-o", "Acquire::Retries=10"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        execute(command).map_err(|error| explain(&error))?;
    }
    Ok(())
}

fn missing_packages(needs: &BTreeSet<Need>, path: &[PathBuf]) -> BTreeSet<&'static str> {
    let missing = |need: &Need| match need {
        Need::Program { program, package } => find(program, path).is_none().then_some(*package),
        Need::Library { file, package } => (!has_library(file, path)).then_some(*package),
        Need::Aioice | Need::CargoDeny => None,
    };
    needs.iter().filter_map(missing).collect()
}

/// Whether the dynamic linker knows a library.
fn has_library(file: &str, path: &[PathBuf]) -> bool {
    let Some(ldconfig) = find("ldconfig", path) else {
        return false;
    };
    let known = Command::new(ldconfig).arg("-p").output();
    known.is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains(file))
}

/// The environment is made anew when the requirements have changed since.
fn aioice(workspace: &Workspace) -> Result<(), Missing> {
    let requirements = workspace.root().join(REQUIREMENTS);
    let wanted =
        fs::read(&requirements).map_err(|error| Missing(format!("{REQUIREMENTS}: {error}")))?;
    let environment = workspace.tools().join("venv");
    let made_from = environment.join("made-from.txt");
    if fs::read(&made_from).is_ok_and(|text| text == wanted) && workspace.python().is_file() {
        return Ok(());
    }
    let mut probe = workspace.program("python3");
    probe.args(["-c", "import venv, ensurepip"]);
    if !quiet(probe) {
        packages(workspace, &BTreeSet::from(["python3-venv"]))?;
    }
    println!(
        "making the Python environment of the peers in {}",
        environment.display()
    );
    let mut make = workspace.program("python3");
    make.args(["-m", "venv", "--clear"]).arg(&environment);
    let mut fill = workspace.program(workspace.python());
    fill.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries=10",
        "-r",
    ])
    .arg(&requirements);
    let fail = |error| {
        Missing(format!(
            "{error}; the peers of {REQUIREMENTS} come from PyPI: is it reachable?"
        ))
    };
    execute(make).and_then(|()| execute(fill)).map_err(fail)?;
    fs::write(&made_from, wanted)
        .map_err(|error| Missing(format!("{}: {error}", made_from.display())))
}

fn install_cargo_deny(workspace: &Workspace) -> Result<(), Missing> {
    let mut probe = workspace.program(cargo_deny(workspace));
    probe.arg("--version");
    if quiet(probe) {
        return Ok(());
    }
    println!(
        "installing cargo-deny {CARGO_DENY} in {} (once, a minute or two)",
        workspace.tools().display()
    );
    // Unoptimised: it is built once and runs for a second.
    let mut install = workspace.cargo(&[
        "install",
        "--debug",
        "--locked",
        "cargo-deny",
        "--version",
        CARGO_DENY,
        "--root",
    ]);
    let build = workspace.tools().join("build");
    install
        .arg(workspace.tools())
        .env("CARGO_TARGET_DIR", &build);
    let line = format!("cargo install --locked cargo-deny --version {CARGO_DENY}");
    execute(install).map_err(|error| Missing(format!("{error}; by hand: {line}")))?;
    // Its build directory is large and never needed again; what is left of it harms nothing.
    drop(fs::remove_dir_all(build));
    Ok(())
}

/// Whether packages may be installed and namespaces made.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// `PATH`, and where Debian keeps the programs of an administrator.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect()
}

fn find(program: &str, path: &[PathBuf]) -> Option<PathBuf> {
    path.iter()
        .map(|directory| directory.join(program))
        .find(|file| Path::is_file(file))
}

fn quiet(mut command: Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package_once() {
        let need = |program| Need::Program {
            program,
            package: "the-package",
        };
        let needs = BTreeSet::from([need("no-such-program"), need("nor-this-one"), Need::Aioice]);
        assert_eq!(
            missing_packages(&needs, &search_path()),
            BTreeSet::from(["the-package"])
        );
        let shell = BTreeSet::from([Need::Program {
            program: "sh",
            package: "dash",
        }]);
        assert!(missing_packages(&shell, &search_path()).is_empty());
        let library = |file| Need::Library {
            file,
            package: "the-library",
        };
        let needs = BTreeSet::from([library("libc.so.6"), library("libno-such-library.so.1")]);
        assert_eq!(
            missing_packages(&needs, &search_path()),
            BTreeSet::from(["the-library"])
        );
        let here = BTreeSet::from([library("libc.so.6")]);
        assert!(missing_packages(&here, &search_path()).is_empty());
        assert_eq!(missing_packages(&shell, &[]), BTreeSet::from(["dash"]));
    }
}
