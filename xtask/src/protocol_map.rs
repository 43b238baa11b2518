//! `docs/protocol.md`: which file keeps a section of an RFC, and which test proves it.
//!
//! The map is written by hand and checked here: every section of a mapped RFC has one row, every title is the RFC's,
//! every file exists and cites the RFC (when strict: the section, a part of it or what it is a part of), every test exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::citations::{Citation, Finding, read};
use crate::sections::Index;

pub(crate) const PATH: &str = "docs/protocol.md";

/// The RFCs that the map must cover from the first section to the last.
const MAPPED: [u32; 22] = [
    4571, 5780, 5928, 6052, 6062, 6886, 6887, 7050, 7065, 7443, 7635, 7675, 8016, 8155, 8305, 8421,
    8445, 8489, 8656, 8838, 8863, 8880,
];

/// What a row without a file may say instead, each followed by a colon and a reason where one is needed.
const WITHOUT_FILE: [(&str, bool); 4] = [
    ("informative", false),
    ("its parts", false),
    ("later", true),
    ("not applicable", true),
];

/// Checks the map. Returns the number of rows.
pub(crate) fn check(
    root: &Path,
    index: &Index,
    citations: &[Citation],
    strict: bool,
    findings: &mut Vec<Finding>,
) -> Result<usize, String> {
    let text = read(&root.join(PATH))?;
    let (rows, malformed) = parse(&text);
    findings.extend(malformed);
    let mut judge = Judge {
        root,
        index,
        citations,
        strict,
        findings,
        seen: BTreeMap::new(),
    };
    for row in &rows {
        judge.row(row)?;
    }
    judge.completeness();
    Ok(rows.len())
}

#[derive(Debug)]
struct Row {
    line: usize,
    rfc: u32,
    sections: Vec<String>,
    title: String,
    kept: String,
    proven: String,
}

/// The rows of all tables below headings of the form `## RFC NNNN: title`.
fn parse(text: &str) -> (Vec<Row>, Vec<Finding>) {
    let (mut rows, mut findings, mut rfc) = (Vec::new(), Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            rfc = heading.strip_prefix("RFC ").and_then(|rest| {
                rest.split(|c: char| !c.is_ascii_digit())
                    .next()?
                    .parse()
                    .ok()
            });
        }
        let (Some(rfc), Some(cells)) = (rfc, cells(line)) else {
            continue;
        };
        if cells[0] == "section" || cells[0].starts_with("--") {
            continue;
        }
        let [sections, title, kept, proven] = cells[..] else {
            findings.push(finding(
                number + 1,
                "a row has four cells: section, title, kept in, proven by".to_owned(),
            ));
            continue;
        };
        rows.push(Row {
            line: number + 1,
            rfc,
            sections: sections
                .split(',')
                .map(|section| section.trim().to_owned())
                .collect(),
            title: title.to_owned(),
            kept: kept.to_owned(),
            proven: proven.to_owned(),
        });
    }
    (rows, findings)
}

/// The cells of a row of a table.
pub(crate) fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn finding(line: usize, text: String) -> Finding {
    Finding {
        file: PathBuf::from(PATH),
        line,
        text,
    }
}

struct Judge<'a> {
    root: &'a Path,
    index: &'a Index,
    citations: &'a [Citation],
    /// Whether a file must cite the row's section itself, and not only its RFC.
    strict: bool,
    findings: &'a mut Vec<Finding>,
    /// The line of the row that speaks for a section.
    seen: BTreeMap<(u32, String), usize>,
}

impl Judge<'_> {
    fn row(&mut self, row: &Row) -> Result<(), String> {
        self.sections(row);
        let files = quoted(&row.kept);
        if files.is_empty() {
            self.without_file(row);
        }
        for file in &files {
            self.file(row, file);
        }
        self.tests(row, !files.is_empty())
    }

    fn sections(&mut self, row: &Row) {
        for section in &row.sections {
            match self.index.title(row.rfc, section) {
                None => self.say(row, format!("RFC {} has no section {section}", row.rfc)),
                Some(title) if row.sections.len() == 1 && title != row.title => {
                    self.say(row, format!("section {section} is titled \"{title}\""));
                }
                Some(_) => {}
            }
            if let Some(other) = self.seen.insert((row.rfc, section.clone()), row.line) {
                self.say(
                    row,
                    format!("section {section} has a row already, at line {other}"),
                );
            }
        }
    }

    fn without_file(&mut self, row: &Row) {
        let fits = |(word, reason): &(&str, bool)| {
            row.kept
                .strip_prefix(word)
                .is_some_and(|rest| match rest.strip_prefix(':') {
                    Some(text) => !text.trim().is_empty(),
                    None => rest.is_empty() && !reason,
                })
        };
        if !WITHOUT_FILE.iter().any(fits) {
            let text = "name a file in backticks, or say: informative; its parts; later: why; not applicable: why";
            self.say(row, text.to_owned());
        }
    }

    fn file(&mut self, row: &Row, file: &str) {
        if !self.root.join(file).is_file() {
            self.say(row, format!("there is no file {file}"));
            return;
        }
        let of_file =
            |citation: &&Citation| citation.rfc == row.rfc && citation.file == Path::new(file);
        let exact = |citation: &Citation| {
            let related = |section: &String| {
                is_part_of(&citation.section, section) || is_part_of(section, &citation.section)
            };
            row.sections.iter().any(related)
        };
        let cited: Vec<&Citation> = self.citations.iter().filter(of_file).collect();
        let is_enough = match self.strict {
            true => cited.iter().any(|citation| exact(citation)),
            false => !cited.is_empty(),
        };
        if !is_enough {
            let wanted = if self.strict {
                format!(" section {}", row.sections.join(" or "))
            } else {
                String::new()
            };
            self.say(row, format!("{file} does not cite RFC {}{wanted}", row.rfc));
        }
    }

    fn tests(&mut self, row: &Row, needed: bool) -> Result<(), String> {
        let (count, missing) = missing_tests(self.root, &row.proven)?;
        for text in missing {
            self.say(row, text);
        }
        let excused = row
            .proven
            .strip_prefix("no test:")
            .is_some_and(|reason| !reason.trim().is_empty());
        if needed && count == 0 && !excused {
            self.say(
                row,
                "name a test in backticks, or say: no test: why".to_owned(),
            );
        }
        Ok(())
    }

    fn completeness(&mut self) {
        for rfc in MAPPED {
            let Some(sections) = self.index.sections(rfc) else {
                self.findings
                    .push(finding(1, format!("RFC {rfc} is not in the index")));
                continue;
            };
            for (section, title) in sections {
                if !self.seen.contains_key(&(rfc, section.clone())) {
                    self.findings.push(finding(
                        1,
                        format!("RFC {rfc} section {section} ({title}) has no row"),
                    ));
                }
            }
        }
    }

    fn say(&mut self, row: &Row, text: String) {
        self.findings.push(finding(row.line, text));
    }
}

/// How many tests a cell names, and what is wrong with that: `file`: `test`, `test`; `other file`: `test`.
pub(crate) fn missing_tests(root: &Path, cell: &str) -> Result<(usize, Vec<String>), String> {
    let mut file: Option<(&str, String)> = None;
    let (mut count, mut missing) = (0, Vec::new());
    for name in quoted(cell) {
        if name.ends_with(".rs") {
            let path = root.join(name);
            if path.is_file() {
                file = Some((name, read(&path)?));
            } else {
                missing.push(format!("there is no file {name}"));
                file = None;
            }
            continue;
        }
        count += 1;
        match &file {
            Some((_, text)) if has_test(text, name) => {}
            Some((path, _)) => missing.push(format!("{path} has no test {name}")),
            None => missing.push(format!("the test {name} follows no file")),
        }
    }
    Ok((count, missing))
}

/// Whether a section is another one or lies in it.
fn is_part_of(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether the text defines a function of this name with a test attribute right above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let defines = |line: &str| {
        let after = line.split_once("fn ").map(|(_, after)| after);
        after
            .and_then(|after| after.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    let above = |at: usize| {
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    lines
        .iter()
        .enumerate()
        .any(|(at, line)| defines(line) && above(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &[(u32, &[(&str, &str)])] = &[(
        8445,
        &[("5", "Gathering"), ("5.1", "Full"), ("6", "Processing")],
    )];

    /// What is found in a map that has these rows for RFC 8445, the rows of the other RFCs left aside.
    fn found(test: &str, rows: &str, strict: bool) -> Vec<String> {
        let root = std::env::temp_dir().join(format!("nilas-{test}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("src")).expect("a temporary directory can be made");
        std::fs::write(
            root.join("src/a.rs"),
            "#[test]\n// why\nfn proves() {}\nfn helper() {}\n",
        )
        .expect("it is ours");
        let index = Index::of(INDEX);
        let citation = Citation {
            rfc: 8445,
            section: "5.1".to_owned(),
            file: "src/a.rs".into(),
            line: 1,
        };
        let citations = [citation];
        let mut findings = Vec::new();
        let (parsed, malformed) = parse(&format!(
            "## RFC 8445: ICE\n| section | title | kept in | proven by |\n|--|--|--|--|\n{rows}"
        ));
        findings.extend(malformed);
        let mut judge = Judge {
            root: &root,
            index: &index,
            citations: &citations,
            strict,
            findings: &mut findings,
            seen: BTreeMap::new(),
        };
        for row in &parsed {
            judge.row(row).expect("the files can be read");
        }
        judge.completeness();
        std::fs::remove_dir_all(&root).expect("it is ours");
        let of_8445 = |finding: &Finding| !finding.text.contains("not in the index");
        findings
            .iter()
            .filter(|finding| of_8445(finding))
            .map(|finding| finding.text.clone())
            .collect()
    }

    const GOOD: &str = "\
| 5 | Gathering | its parts | |
| 5.1 | Full | `src/a.rs` | `src/a.rs`: `proves` |
| 6 | Processing | later: not built | |";

    #[test]
    fn a_good_map_has_no_findings() {
        assert_eq!(found("good", GOOD, true), [""; 0]);
    }

    #[test]
    fn a_file_that_cites_another_section_is_found_when_strict() {
        let rows = GOOD.replacen("later: not built", "`src/a.rs`", 1);
        let rows = rows.replacen("| |", "| no test: why |", 2);
        let finding = "src/a.rs does not cite RFC 8445 section 6";
        assert!(found("strict", &rows, true).contains(&finding.to_owned()));
        assert!(
            !found("lenient", &rows, false)
                .iter()
                .any(|text| text.contains("does not cite"))
        );
    }

    #[test]
    fn each_wrong_row_is_found() {
        for (from, to, expected) in [
            ("`proves`", "`missing`", "src/a.rs has no test missing"),
            ("`proves`", "`helper`", "src/a.rs has no test helper"),
            (
                "`src/a.rs`: `proves`",
                "",
                "name a test in backticks, or say: no test: why",
            ),
            (
                "| `src/a.rs` |",
                "| `src/b.rs` |",
                "there is no file src/b.rs",
            ),
            (
                "later: not built",
                "`src/a.rs`",
                "src/a.rs does not cite RFC 8445 section 6",
            ),
            ("later: not built", "later", "name a file in backticks"),
            (
                "Processing",
                "Progress",
                "section 6 is titled \"Processing\"",
            ),
            ("| 6 |", "| 7 |", "RFC 8445 has no section 7"),
            ("| 5 |", "| 6 |", "section 6 has a row already, at line 4"),
            (
                "| 6 | Processing | later: not built | |",
                "",
                "RFC 8445 section 6 (Processing) has no row",
            ),
            (
                "| 6 | Processing |",
                "| Processing |",
                "a row has four cells",
            ),
        ] {
            let findings = found("wrong", &GOOD.replacen(from, to, 1), true);
            assert!(
                findings.iter().any(|text| text.starts_with(expected)),
                "{expected}: {findings:?}"
            );
        }
    }
}
