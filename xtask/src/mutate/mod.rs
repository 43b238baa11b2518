//! Faults put into the cores on purpose: a suite that does not notice them proves nothing.
//!
//! A copy of the sources gets all faults at once, each behind a switch, so that one build does for all of them; the
//! variable `NILAS_FAULT` names the one that is on. Nothing of this is ever in the sources themselves.

mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::faults::{Catcher, Edit, FAULTS, Fault, PREPARATION};
use crate::workspace::Workspace;

/// The crates whose tests are run.
const PACKAGES: [&str; 3] = ["nilas-ice", "nilas-turn", "nilas-sim"];
/// A fault may keep a test from ending; that is noticed, too.
const LIMIT: Duration = Duration::from_secs(300);

/// Which fault is on, appended to each crate that has faults.
const SWITCH: &str = r#"
#[allow(clippy::disallowed_methods, dead_code, missing_docs)]
pub(crate) fn fault(name: &str) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("NILAS_FAULT").ok()).as_deref() == Some(name)
}
"#;

/// A test binary: its package, its name or `lib`, where it is and where it runs.
struct Binary {
    package: String,
    name: String,
    program: PathBuf,
    folder: PathBuf,
}

/// Runs the test that is to catch each fault, or, for a survey, all tests until one of a binary fails.
pub(crate) fn run(workspace: &Workspace, only: &[String], survey: bool) -> Result<bool, String> {
    let chosen: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| only.is_empty() || only.iter().any(|name| name == fault.name))
        .collect();
    if chosen.is_empty() {
        return Err("there is no fault of that name".to_owned());
    }
    let place = workspace.mutants();
    let tree = place.join("tree");
    copy(workspace.root(), &tree)?;
    let binaries = build(&tree, &place.join("target"))?;

    let mut good = true;
    for fault in chosen {
        let told = if survey {
            let caught = find(fault, &binaries)?;
            if caught.is_empty() {
                "survives".to_owned()
            } else {
                format!("caught by {}", caught.join(", "))
            }
        } else {
            let Catcher(package, name, test) = fault.caught_by;
            let binary = binaries
                .iter()
                .find(|binary| binary.package == package && binary.name == name)
                .ok_or_else(|| format!("{package} has no test binary {name}"))?;
            let passes = fails(binary, None, Some(test))?.is_empty();
            let caught = !fails(binary, Some(fault.name), Some(test))?.is_empty();
            good &= passes && caught;
            match (passes, caught) {
                (true, true) => format!("caught by {package} {name} {test}"),
                (true, false) => format!("NOT CAUGHT by {package} {name} {test}"),
                (false, _) => format!("{package} {name} {test} fails WITHOUT it"),
            }
        };
        println!("{:28} {told}", fault.name);
    }
    Ok(good)
}

/// The page that names the faults and their tests.
const PAGE: &str = "docs/mutations.md";

/// Writes the page.
pub(crate) fn write(workspace: &Workspace) -> Result<String, String> {
    fs::write(workspace.root().join(PAGE), page()).map_err(|error| format!("{PAGE}: {error}"))?;
    Ok(format!("{PAGE}: {} faults", FAULTS.len()))
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for fault in FAULTS {
        let file = fault.edits[0].file;
        let Catcher(package, name, test) = fault.caught_by;
        let _ = writeln!(
            page,
            "| `{}` | {} | `{file}` | `{package}`, `{name}`: `{test}` |",
            fault.name, fault.about
        );
    }
    page
}

const HEAD: &str = "# Faults put in on purpose

A suite that does not notice a mistake proves nothing about it. `cargo xtask mutate` puts each of these into a copy of
the cores, one at a time, and runs the test that is to notice it, with the fault and without; `--survey` runs all
tests of the cores instead and names those that notice. Written by `cargo xtask mutate --write` from
`xtask/src/mutate/faults.rs`.

| fault | what is wrong then | file | noticed by |
|---|---|---|---|
";

/// Copies what git knows and puts the faults in. Only what has changed is written, so that cargo builds only that.
fn copy(root: &Path, tree: &Path) -> Result<(), String> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "Cargo.toml",
            "Cargo.lock",
            ".cargo",
            "crates",
            "lab",
            "interop",
            "xtask",
            "docs",
        ])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    clear(tree, tree, &names)?;
    let mut edits = edits();
    for name in names {
        // A file that git knows may have been deleted.
        let Ok(mut content) = fs::read(root.join(name)) else {
            continue;
        };
        if let Some(edits) = edits.remove(name) {
            let text = String::from_utf8(content).map_err(|_| format!("{name} is no text"))?;
            content = edited(name, text, &edits)?.into();
        }
        if ["crates/ice/src/lib.rs", "crates/turn/src/lib.rs"].contains(&name) {
            content.extend_from_slice(SWITCH.as_bytes());
        }
        let to = tree.join(name);
        if fs::read(&to).is_ok_and(|before| before == content) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        fs::write(&to, content).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    match edits.keys().next() {
        Some(name) => Err(format!("{name} is not there any more")),
        None => Ok(()),
    }
}

/// Takes away what git does not know any more: a module that has moved would be there twice.
fn clear(tree: &Path, folder: &Path, names: &BTreeSet<&str>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            clear(tree, &path, names)?;
        } else if let Ok(name) = path.strip_prefix(tree)
            && !names.contains(name.to_string_lossy().as_ref())
        {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// All changes by file, with the names of the faults filled in.
fn edits() -> BTreeMap<&'static str, Vec<(&'static str, String)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut add = |edit: &Edit, name: &str| {
        let to = edit.to.replace("FAULT", &format!("crate::fault({name:?})"));
        all.entry(edit.file).or_default().push((edit.from, to));
    };
    for edit in &PREPARATION {
        add(edit, "");
    }
    for fault in FAULTS {
        for edit in fault.edits {
            add(edit, fault.name);
        }
    }
    all
}

fn edited(name: &str, mut text: String, edits: &[(&str, String)]) -> Result<String, String> {
    for (from, to) in edits {
        let found = text.matches(from).count();
        if found != 1 {
            return Err(format!(
                "{name}: {from:?} is there {found} times: bring xtask/src/mutate/faults.rs up to date"
            ));
        }
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

fn build(tree: &Path, target: &Path) -> Result<Vec<Binary>, String> {
    let mut command = Command::new("cargo");
    command
        .args([
            "test",
            "--no-run",
            "--lib",
            "--tests",
            "--message-format=json-render-diagnostics",
        ])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .env("CARGO_TARGET_DIR", target)
        // The simulator runs whole matrices of sessions; time is saved by a little optimisation.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(tree)
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    if !output.status.success() {
        return Err("the sources with the faults in them do not build".to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let artifacts = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let binaries = artifacts.filter_map(|artifact| {
        let manifest = Path::new(artifact["manifest_path"].as_str()?);
        let folder = manifest.parent()?;
        let name = match artifact["target"]["kind"][0].as_str()? {
            "lib" => "lib",
            _ => artifact["target"]["name"].as_str()?,
        };
        Some(Binary {
            package: format!("nilas-{}", folder.file_name()?.to_str()?),
            name: name.to_owned(),
            program: artifact["executable"].as_str()?.into(),
            folder: folder.to_path_buf(),
        })
    });
    Ok(binaries.collect())
}

/// The tests that a fault fails, of the first binaries that notice it.
fn find(fault: &Fault, binaries: &[Binary]) -> Result<Vec<String>, String> {
    let crate_of = fault.edits[0].file.split('/').nth(1).unwrap_or_default();
    // Its own crate's tests first; the simulator's take longest.
    let mut order: Vec<&Binary> = binaries.iter().collect();
    order.sort_by_key(|binary| (!binary.package.ends_with(crate_of), binary.name == "matrix"));
    for binary in order {
        let failed = fails(binary, Some(fault.name), None)?;
        if !failed.is_empty() {
            return Ok(failed
                .iter()
                .map(|test| format!("{} {} {test}", binary.package, binary.name))
                .collect());
        }
    }
    Ok(Vec::new())
}

/// Runs a test binary, or one test of it, and names the tests that fail.
fn fails(binary: &Binary, fault: Option<&str>, test: Option<&str>) -> Result<Vec<String>, String> {
    let log = binary.program.with_extension("log");
    let error = |error| format!("{}: {error}", binary.program.display());
    let output = fs::File::create(&log).map_err(error)?;
    let mut command = Command::new(&binary.program);
    command
        .current_dir(&binary.folder)
        .env_remove("NILAS_FAULT")
        .stdout(output)
        .stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env("NILAS_FAULT", fault);
    }
    if let Some(test) = test {
        command.args([test, "--exact"]);
    }
    let mut child = command.spawn().map_err(error)?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(error)? {
            break Some(status);
        }
        if begun.elapsed() > LIMIT {
            child.kill().map_err(error)?;
            child.wait().map_err(error)?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = fs::read_to_string(&log).map_err(error)?;
    let mut failed: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    match status {
        None => failed.push("(does not end)".to_owned()),
        Some(status) if !status.success() && failed.is_empty() => {
            failed.push(format!("({status})"))
        }
        Some(_) => {}
    }
    if let Some(test) = test
        && failed.is_empty()
        && !text.contains("1 passed")
    {
        return Err(format!(
            "{} {} has no test {test}",
            binary.package, binary.name
        ));
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_table_says() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        let written = fs::read_to_string(workspace.root().join(PAGE)).expect("the page is there");
        assert_eq!(written, page(), "write it: cargo xtask mutate --write");
    }

    #[test]
    fn the_sources_have_the_places_of_all_faults() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        for (file, edits) in edits() {
            let text = fs::read_to_string(workspace.root().join(file)).expect("the file is there");
            assert_eq!(edited(file, text, &edits).map(drop), Ok(()));
        }
    }

    #[test]
    fn a_place_that_is_not_there_once_is_an_error() {
        let edits = [("a", "b".to_owned())];
        assert_eq!(edited("x", "1a2".into(), &edits), Ok("1b2".into()));
        assert!(edited("x", "1a2a".into(), &edits).is_err());
        assert!(edited("x", "12".into(), &edits).is_err());
    }
}
