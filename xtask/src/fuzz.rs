//! Seed corpora, replayed through the fuzz targets. A libFuzzer program that is given files runs each of them once and
//! ends, which needs neither instrumentation nor a nightly compiler; how to fuzz for long says `fuzz/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runner::execute;
use crate::workspace::Workspace;

/// How many inputs a target invents where nobody asks for more: about 20 s of them. They are counted, not timed, so that
/// every machine meets the same ones.
fn runs(target: &str) -> u32 {
    match target {
        "agent" => 8_000,
        "recording" => 20_000,
        "stream_framing" | "turn_client" | "turn_server" => 60_000,
        "candidate_lines" => 200_000,
        _ => 2_000_000,
    }
}

/// Ok and Err are both text for a person.
pub(crate) fn replay(workspace: &Workspace) -> Result<String, String> {
    let targets = targets(workspace.root())?;
    let seeds = [
        "run",
        "--quiet",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--bin",
        "seeds",
        "--",
        "--check",
    ];
    execute(workspace.cargo(&seeds))?;
    let mut told = Vec::new();
    for (name, seeds) in &targets {
        let arguments = [
            "run",
            "--quiet",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--bin",
            name,
            "--",
        ];
        let mut command = workspace.cargo(&arguments);
        command.args(seeds);
        execute(command)?;
        told.push(format!("{name} {}", seeds.len()));
    }
    Ok(format!("seeds taken: {}", told.join(", ")))
}

/// Lets each target invent inputs, the same ones every time.
pub(crate) fn explore(workspace: &Workspace) -> Result<String, String> {
    let targets = targets(workspace.root())?;
    let mut told = Vec::new();
    for (name, _) in &targets {
        let runs = runs(name);
        let mut command = workspace.program("fuzz/run");
        command.env("NILAS_FUZZ_FRESH", "1").arg(name).args([
            format!("-runs={runs}"),
            "-seed=1".to_owned(),
            "-timeout=60".to_owned(),
            "-rss_limit_mb=1024".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        execute(command)?;
        told.push(format!("{name} {runs}"));
    }
    Ok(format!("inputs taken: {}", told.join(", ")))
}

/// The targets by name, each with the files of its corpus. Without seeds a target would fuzz without end, so that
/// is an error.
fn targets(root: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
    let mut targets = Vec::new();
    for file in entries(&root.join("fuzz/fuzz_targets"))? {
        let Some(name) = file.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let corpus = root.join("fuzz/corpus").join(name);
        let seeds = entries(&corpus)?;
        if seeds.is_empty() {
            return Err(format!("{} has no seeds", corpus.display()));
        }
        targets.push((name.to_owned(), seeds));
    }
    if targets.is_empty() {
        Err("there is no fuzz target".to_owned())
    } else {
        Ok(targets)
    }
}

/// The files of a directory, in a steady order.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let explain = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(explain)? {
        let path = entry.map_err(explain)?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_seeds_is_an_error() {
        let root = std::env::temp_dir().join(format!("nilas-fuzz-{}", std::process::id()));
        fs::create_dir_all(root.join("fuzz/fuzz_targets"))
            .expect("a temporary directory can be made");
        assert_eq!(targets(&root), Err("there is no fuzz target".to_owned()));
        fs::write(root.join("fuzz/fuzz_targets/stun.rs"), "").expect("it is ours");
        assert!(targets(&root).is_err());
        fs::create_dir_all(root.join("fuzz/corpus/stun")).expect("it is ours");
        assert!(targets(&root).is_err_and(|error| error.ends_with("has no seeds")));
        let seed = root.join("fuzz/corpus/stun/a");
        fs::write(&seed, "a").expect("it is ours");
        assert_eq!(targets(&root), Ok(vec![("stun".to_owned(), vec![seed])]));
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
