//! What `cargo xtask test` runs, in order.

use std::process::Command;

use crate::prerequisites::{self, Need};
use crate::workspace::Workspace;
use crate::{citations, documents, fuzz, matrix, sans_io};

/// One line of the list that `cargo xtask test` works through.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What the machine must have; the step `prerequisites` brings it.
    pub(crate) needs: &'static [Need],
    /// Whether the steps after this one make no sense when it fails.
    pub(crate) gate: bool,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// Brings what the chosen steps need.
    Prerequisites,
    /// Programs that must exit with 0, one after the other.
    Commands(fn(&Workspace) -> Vec<Command>),
    /// Ok and Err are text for a person.
    Check(fn(&Workspace) -> Result<String, String>),
}

/// The steps that a person named, or all. The prerequisites of a step come with it.
pub(crate) fn chosen(only: &[String]) -> Result<Vec<&'static Step>, String> {
    if let Some(unknown) = only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        return Err(format!(
            "there is no step {unknown}; cargo xtask test --list names them"
        ));
    }
    let wanted = |step: &&Step| {
        only.is_empty()
            || only.iter().any(|name| name == step.name)
            || matches!(step.work, Work::Prerequisites)
    };
    Ok(STEPS.iter().filter(wanted).collect())
}

static STEPS: [Step; 20] = [
    Step {
        name: "prerequisites",
        about: "finds and installs what the machine lacks for the steps below",
        needs: &[],
        gate: true,
        work: Work::Prerequisites,
    },
    Step {
        name: "format",
        about: "cargo fmt --all --check, here and in the workspaces of their own",
        needs: &[],
        gate: false,
        work: Work::Commands(format),
    },
    Step {
        name: "rfc",
        about: "every cited RFC section exists; docs/protocol.md points at files and tests",
        needs: &[],
        gate: false,
        work: Work::Check(citations::check),
    },
    Step {
        name: "documents",
        about: "links lead somewhere; every dependency has a reason in ARCHITECTURE.md",
        needs: &[],
        gate: false,
        work: Work::Check(documents::check),
    },
    Step {
        name: "sans-io",
        about: "the core depends on nothing that has a socket, a clock or randomness of its own",
        needs: &[],
        gate: false,
        work: Work::Check(sans_io::check),
    },
    Step {
        name: "dependencies",
        about: "cargo deny: licences, bans, sources",
        needs: &[Need::CargoDeny],
        gate: false,
        work: Work::Commands(dependencies),
    },
    Step {
        name: "lints",
        about: "clippy, here and in the benchmarks, warnings are errors; the disallowed clocks and sockets too",
        needs: &[],
        gate: false,
        work: Work::Commands(lints),
    },
    Step {
        name: "docs",
        about: "rustdoc, warnings are errors",
        needs: &[],
        gate: false,
        work: Work::Commands(docs),
    },
    Step {
        name: "build",
        about: "the program, the examples, the tests",
        needs: &[],
        gate: true,
        work: Work::Commands(build),
    },
    Step {
        name: "tests",
        about: "unit and integration tests, those of the laboratory and the peers left for later",
        needs: &[],
        gate: false,
        work: Work::Commands(tests),
    },
    Step {
        name: "doctests",
        about: "the examples in the documentation run",
        needs: &[],
        gate: false,
        work: Work::Commands(doctests),
    },
    Step {
        name: "worlds",
        about: "what must hold in every network holds in 10,000 random ones, and in every order of events",
        needs: &[],
        gate: false,
        work: Work::Commands(worlds),
    },
    Step {
        name: "matrix",
        about: "every kind of NAT beside every other connects as expected; docs/matrix.md tells it",
        needs: &[],
        gate: false,
        work: Work::Check(matrix::check),
    },
    Step {
        name: "fuzz",
        about: "the fuzz targets build and take their seed corpora",
        needs: &[Need::Program {
            program: "c++",
            package: "g++",
        }],
        gate: false,
        work: Work::Check(fuzz::replay),
    },
    Step {
        name: "fuzz-short",
        about: "each fuzz target invents inputs, the same every time, and finds nothing",
        needs: &[Need::Program {
            program: "c++",
            package: "g++",
        }],
        gate: false,
        work: Work::Check(fuzz::explore),
    },
    Step {
        name: "lab",
        about: "the laboratory of kernel NATs behaves as it says",
        needs: prerequisites::LABORATORY,
        gate: false,
        work: Work::Commands(lab),
    },
    Step {
        name: "cli",
        about: "the program's JSON, sentences and exit codes; what nilas agent promises",
        needs: prerequisites::LABORATORY,
        gate: false,
        work: Work::Commands(cli),
    },
    Step {
        name: "rows",
        about: "behind each row of NATs the path that is expected and that the simulator finds; networks change",
        needs: prerequisites::LABORATORY,
        gate: false,
        work: Work::Commands(rows),
    },
    Step {
        name: "peers",
        about: "aioice, libnice and Chromium, in both roles; coturn as server and as judge of ours",
        needs: prerequisites::PEERS,
        gate: false,
        work: Work::Commands(peers),
    },
    Step {
        name: "readme",
        about: "the README's first command, as written",
        needs: &[],
        gate: false,
        work: Work::Commands(readme),
    },
];

fn worlds(workspace: &Workspace) -> Vec<Command> {
    vec![workspace.cargo(&[
        "test",
        "--release",
        "-p",
        "nilas-sim",
        "--test",
        "properties",
        "--test",
        "explore",
    ])]
}

fn format(workspace: &Workspace) -> Vec<Command> {
    let mut commands = vec![workspace.cargo(&["fmt", "--all", "--check"])];
    for manifest in ["bench/Cargo.toml", "fuzz/Cargo.toml"] {
        commands.push(workspace.cargo(&["fmt", "--manifest-path", manifest, "--check"]));
    }
    commands
}

fn dependencies(workspace: &Workspace) -> Vec<Command> {
    let mut command = workspace.program(prerequisites::cargo_deny(workspace));
    command.args([
        "--workspace",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    vec![command]
}

fn lints(workspace: &Workspace) -> Vec<Command> {
    let clippy = |of: &[&str]| {
        let arguments = [&["clippy"], of, &["--all-targets", "--", "-D", "warnings"]];
        workspace.cargo(&arguments.concat())
    };
    // The benchmarks use what the rest makes public, and nothing else compiles them here.
    // In one folder, so that what both are made of is looked at once.
    let bench = clippy(&[
        "--manifest-path",
        "bench/Cargo.toml",
        "--target-dir",
        "target",
    ]);
    vec![clippy(&["--workspace"]), bench]
}

fn docs(workspace: &Workspace) -> Vec<Command> {
    // The program `nilas` and the library `nilas` would write to one folder; the program's documentation is --help.
    let mut command =
        workspace.cargo(&["doc", "--workspace", "--no-deps", "--exclude", "nilas-cli"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    vec![command]
}

fn build(workspace: &Workspace) -> Vec<Command> {
    vec![workspace.cargo(&["build", "--workspace", "--all-targets"])]
}

fn tests(workspace: &Workspace) -> Vec<Command> {
    let rest = [
        "--workspace",
        "--exclude",
        "nilas-lab",
        "--exclude",
        "nilas-interop",
    ];
    vec![test_runner(workspace, &rest)]
}

fn doctests(workspace: &Workspace) -> Vec<Command> {
    vec![workspace.cargo(&["test", "--workspace", "--doc"])]
}

fn lab(workspace: &Workspace) -> Vec<Command> {
    vec![privileged(
        workspace,
        test_runner(workspace, &["--package", "nilas-lab"]),
    )]
}

fn cli(workspace: &Workspace) -> Vec<Command> {
    interop(workspace, &["--test", "cli", "--test", "agent"])
}

fn rows(workspace: &Workspace) -> Vec<Command> {
    let suites = [
        "lab_rows",
        "lab_events",
        "lab_interfaces",
        "lab_packets",
        "lab_relay",
        "lab_and_simulator",
    ];
    interop(workspace, &suites.map(|suite| ["--test", suite]).concat())
}

fn peers(workspace: &Workspace) -> Vec<Command> {
    interop(
        workspace,
        &[
            "--test",
            "aioice",
            "--test",
            "libnice",
            "--test",
            "libnice_components",
            "--test",
            "chromium",
            "--test",
            "coturn_client",
            "--test",
            "coturn_judges",
            "--test",
            "port_mapping",
        ],
    )
}

fn readme(workspace: &Workspace) -> Vec<Command> {
    vec![workspace.cargo(&["run", "--release", "--", "demo"])]
}

fn interop(workspace: &Workspace, suites: &[&str]) -> Vec<Command> {
    let arguments = [&["--package", "nilas-interop"], suites].concat();
    let mut suite = privileged(workspace, test_runner(workspace, &arguments));
    suite.env("NILAS_BIN", workspace.nilas());
    suite.env("NILAS_INTEROP_PYTHON", workspace.python());
    // By itself a step judges the sources as they are, not the program that was built last.
    vec![workspace.cargo(&["build", "--package", "nilas-cli"]), suite]
}

/// cargo-nextest where it is installed (a hung test is ended, see .config/nextest.toml), else cargo test.
fn test_runner(workspace: &Workspace, arguments: &[&str]) -> Command {
    let runner: &[&str] = if prerequisites::has_nextest(workspace) {
        &["nextest", "run", "--no-fail-fast"]
    } else {
        &["test", "--no-fail-fast", "--lib", "--bins", "--tests"]
    };
    workspace.cargo(&[runner, arguments].concat())
}

/// Runs tests where they may make network namespaces: as they are for root, else as the root of a user namespace.
fn privileged(workspace: &Workspace, command: Command) -> Command {
    let mut command = match prerequisites::is_root() {
        true => command,
        false => {
            let mut wrapped = workspace.program("unshare");
            wrapped
                .args(["--user", "--map-root-user", "--"])
                .arg(command.get_program())
                .args(command.get_args());
            wrapped
        }
    };
    // One at a time: they use the machine as a whole. To cargo-nextest .config/nextest.toml says so.
    command.env("RUST_TEST_THREADS", "1");
    command
}

#[cfg(test)]
mod tests_of_steps {
    use super::*;

    #[test]
    fn a_step_brings_the_prerequisites() {
        let names: Vec<&str> = chosen(&["lints".to_owned()])
            .expect("the step exists")
            .iter()
            .map(|step| step.name)
            .collect();
        assert_eq!(names, ["prerequisites", "lints"]);
        assert_eq!(chosen(&[]).expect("all").len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_is_an_error() {
        let error = chosen(&["lint".to_owned()])
            .err()
            .expect("there is no such step");
        assert!(error.contains("no step lint"), "{error}");
    }
}
