//! What the documents promise about the tree: links lead to files, the dependency table of `ARCHITECTURE.md`
//! names what the manifest has, and the scenarios of `docs/session.md` are tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::citations::{Finding, read, sources};
use crate::protocol_map::{cells, missing_tests};
use crate::workspace::Workspace;

const SCENARIOS: &str = "docs/session.md";

/// Ok and Err are both text for a person.
pub(crate) fn check(workspace: &Workspace) -> Result<String, String> {
    let root = workspace.root();
    let (mut findings, mut links) = (Vec::new(), 0);
    for file in sources(root)? {
        if file.extension().is_some_and(|extension| extension == "md") {
            let text = read(&root.join(&file))?;
            for (line, target) in relative_links(&text) {
                links += 1;
                let path = file.with_file_name("").join(&target);
                if !root.join(&path).exists() {
                    findings.push(Finding {
                        file: file.clone(),
                        line,
                        text: format!("there is no {}", path.display()),
                    });
                }
            }
        }
    }
    let scenarios = scenarios(root, &read(&root.join(SCENARIOS))?, &mut findings)?;
    let named = table(&read(&root.join("ARCHITECTURE.md"))?);
    let used = manifest(&read(&root.join("Cargo.toml"))?);
    for (missing, place) in [
        (used.difference(&named), "ARCHITECTURE.md"),
        (named.difference(&used), "Cargo.toml"),
    ] {
        for name in missing {
            let text = format!("the dependency {name} is not in it, and it is in the other");
            findings.push(Finding {
                file: PathBuf::from(place),
                line: 1,
                text,
            });
        }
    }
    if findings.is_empty() {
        return Ok(format!(
            "{links} links lead somewhere; {} dependencies have a reason; {scenarios} scenarios are tests",
            used.len()
        ));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(lines.join("\n"))
}

/// Checks the tables of what a session does: each row has a cell that says it and one that names tests. Returns how many
/// tests are named.
fn scenarios(root: &Path, text: &str, findings: &mut Vec<Finding>) -> Result<usize, String> {
    let mut count = 0;
    for (number, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            continue;
        };
        let wrong = match cells[..] {
            ["what", _] => continue,
            [rule, _] if rule.starts_with("--") => continue,
            [_, shown] => {
                let (named, mut missing) = missing_tests(root, shown)?;
                count += named;
                if named == 0 {
                    missing.push("name a test in backticks".to_owned());
                }
                missing
            }
            _ => vec!["a row has two cells: what, shown by".to_owned()],
        };
        findings.extend(wrong.into_iter().map(|text| Finding {
            file: PathBuf::from(SCENARIOS),
            line: number + 1,
            text,
        }));
    }
    Ok(count)
}

/// Targets of Markdown links that stay inside the checkout, without their anchors.
fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else {
                continue;
            };
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number + 1, path.to_owned()));
            }
        }
    }
    found
}

/// The first cells of the table below the heading `## Dependencies`.
fn table(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| *line != "## Dependencies")
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The dependencies of `[workspace.dependencies]` that are not ours.
fn manifest(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "nilas" && !name.starts_with("nilas-") && !name.starts_with('#'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_inside_the_checkout_are_found() {
        let text =
            "see [a](docs/a.md#part) and\n[b](https://example.org/b) or [c](#here), [d](../d)";
        assert_eq!(
            relative_links(text),
            [(1, "docs/a.md".to_owned()), (2, "../d".to_owned())]
        );
    }

    #[test]
    fn each_wrong_row_of_scenarios_is_found() {
        let root = std::env::temp_dir().join(format!("nilas-scenarios-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a temporary directory can be made");
        std::fs::write(root.join("a.rs"), "#[test]\nfn shows() {}\n").expect("it is ours");
        let found = |row: &str| {
            let text = format!("words\n| what | shown by |\n|---|---|\n{row}\n");
            let mut findings = Vec::new();
            let count = scenarios(&root, &text, &mut findings).expect("the file can be read");
            let texts: Vec<String> = findings.into_iter().map(|finding| finding.text).collect();
            (count, texts.join("; "))
        };
        for (row, expected) in [
            ("| it bends | `a.rs`: `shows` |", (1, "")),
            (
                "| it bends | `a.rs`: `hides` |",
                (1, "a.rs has no test hides"),
            ),
            (
                "| it bends | `b.rs`: `shows` |",
                (1, "there is no file b.rs; the test shows follows no file"),
            ),
            ("| it bends | later |", (0, "name a test in backticks")),
            ("| it bends |", (0, "a row has two cells: what, shown by")),
        ] {
            assert_eq!(found(row), (expected.0, expected.1.to_owned()), "{row}");
        }
        std::fs::remove_dir_all(&root).expect("it is ours");
    }

    #[test]
    fn names_are_read_from_table_and_manifest() {
        let manifest = manifest(
            "[workspace.dependencies]\nnilas = { path = \"x\" }\n# why\nclap = \"4\"\n\n[profile.dev]\nopt = 1\n",
        );
        assert_eq!(manifest, BTreeSet::from(["clap".to_owned()]));
        let table = table(
            "| `before` | |\n## Dependencies\n\n| crate | |\n|--|--|\n| `clap` | command line |\n",
        );
        assert_eq!(table, manifest);
    }
}
