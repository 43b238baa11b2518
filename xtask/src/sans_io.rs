//! What the sans-I/O crates may not touch. Their `clippy.toml` disallows clocks, sockets, threads and ambient
//! randomness by name (the step `lints` enforces it); here the same is shown of what they depend on.

use crate::citations::read;
use crate::workspace::Workspace;

/// Crates that hold state machines only, and how many crates their normal dependency tree may have.
const CRATES: [(&str, &str, usize); 4] = [
    ("nilas-stun", "crates/stun", 30),
    ("nilas-turn", "crates/turn", 30),
    ("nilas-ice", "crates/ice", 30),
    // It has TURN servers in it, with their ciphers.
    ("nilas-sim", "crates/sim", 45),
];

/// Crates that bring a socket, a clock, a runtime or randomness from the system.
const FORBIDDEN: [&str; 9] = [
    "async-std",
    "fastrand",
    "getrandom",
    "mio",
    "nix",
    "rustix",
    "smol",
    "socket2",
    "tokio",
];

/// What each `clippy.toml` must name at least.
const DISALLOWED: [&str; 4] = [
    "std::time::Instant",
    "std::net::UdpSocket",
    "std::thread::spawn",
    "std::hash::RandomState",
];

/// Ok and Err are both text for a person.
pub(crate) fn check(workspace: &Workspace) -> Result<String, String> {
    let mut told = Vec::new();
    for (package, folder, limit) in CRATES {
        let clippy = read(&workspace.root().join(folder).join("clippy.toml"))?;
        if let Some(missing) = DISALLOWED
            .iter()
            .find(|name| !clippy.contains(&format!("\"{name}\"")))
        {
            return Err(format!("{folder}/clippy.toml does not disallow {missing}"));
        }
        if let Some(found) = forbidden(&tree(workspace, package, &[])?) {
            return Err(format!(
                "{package} depends on {found}: cargo tree -p {package} -e normal -i {found} shows through whom"
            ));
        }
        // What counts is the tree of an agent, which is only a client of TURN: the cipher of third-party
        // tokens (RFC 7635) comes with the server.
        let tree = tree(workspace, package, &["--no-default-features"])?;
        if tree.len() > limit {
            return Err(format!(
                "{package} stands on {} crates, more than {limit}",
                tree.len()
            ));
        }
        told.push(format!("{package} {}", tree.len()));
    }
    Ok(format!(
        "no I/O below the core; crates in its trees: {}",
        told.join(", ")
    ))
}

fn forbidden(tree: &[String]) -> Option<&str> {
    tree.iter()
        .map(String::as_str)
        .find(|name| FORBIDDEN.contains(name))
}

/// The names of the crates that a package is built from, itself left out.
fn tree(workspace: &Workspace, package: &str, features: &[&str]) -> Result<Vec<String>, String> {
    let mut arguments = vec![
        "tree",
        "-p",
        package,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "-f",
        "{lib}",
    ];
    arguments.extend(features);
    let output = workspace
        .cargo(&arguments)
        .output()
        .map_err(|error| format!("cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_end_matches("(*)").trim().replace('_', "-"))
        .filter(|name| !name.is_empty() && name != package)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_in_the_tree_is_found() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(forbidden(&names(&["hmac", "tokio"])), Some("tokio"));
        assert_eq!(forbidden(&names(&["hmac", "sha1"])), None);
    }

    #[test]
    fn cargo_tells_the_tree_of_a_package() {
        let workspace = Workspace::find().expect("the tests run in the checkout");
        let tree = tree(&workspace, "xtask", &[]).expect("cargo tree works");
        assert!(tree.iter().any(|name| name == "clap"), "{tree:?}");
        assert!(!tree.iter().any(|name| name == "xtask"), "{tree:?}");
    }
}
