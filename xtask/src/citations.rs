//! Every citation of an RFC section in the sources and the documents, checked against the index.
//!
//! The one form is `RFC NNNN section X.Y` (or `RFC NNNN appendix B.1`, or `RFC NNNN sections X, Y and Z`), also when a
//! comment breaks the line inside it. In Rust files a `section X.Y` by itself belongs to the RFC named last.
//! Near misses are findings too, because a citation in another form would escape the check.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::protocol_map;
use crate::sections::{Index, is_section_number};
use crate::workspace::Workspace;

/// Where sources and documents lie. xtask itself is left out: its tests hold wrong citations on purpose.
const SCANNED: [&str; 7] = ["crates", "lab", "interop", "fuzz", "bench", "docs", "."];

/// A section of an RFC named at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Citation {
    pub(crate) rfc: u32,
    pub(crate) section: String,
    /// Relative to the root of the checkout.
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

/// Something wrong at a place, as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.text)
    }
}

/// Checks citations and the protocol map. Ok and Err are both text for a person.
pub(crate) fn check(workspace: &Workspace) -> Result<String, String> {
    check_map(workspace, false)
}

/// As `check`; `strict` as the protocol map understands it.
pub(crate) fn check_map(workspace: &Workspace, strict: bool) -> Result<String, String> {
    let index = Index::load(workspace)?;
    let (mut citations, mut findings) = (Vec::new(), Vec::new());
    for file in sources(workspace.root())? {
        let text = read(&workspace.root().join(&file))?;
        let (cited, malformed) = scan(&file, &text);
        findings.extend(
            cited
                .iter()
                .filter_map(|citation| unknown(&index, citation)),
        );
        findings.extend(malformed);
        citations.extend(cited);
    }
    let rows = protocol_map::check(workspace.root(), &index, &citations, strict, &mut findings)?;
    if findings.is_empty() {
        return Ok(format!(
            "{} citations and {rows} rows of {} point somewhere",
            citations.len(),
            protocol_map::PATH
        ));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(lines.join("\n"))
}

fn unknown(index: &Index, citation: &Citation) -> Option<Finding> {
    let Citation { rfc, section, .. } = citation;
    let text = if index.sections(*rfc).is_none() {
        format!("RFC {rfc} is not in xtask/rfc-sections: add it with cargo xtask rfc-index")
    } else if index.title(*rfc, section).is_none() {
        format!("RFC {rfc} has no section {section}")
    } else {
        return None;
    };
    Some(Finding {
        file: citation.file.clone(),
        line: citation.line,
        text,
    })
}

/// Finds the citations in a text, and what looks like one but is not in the one form.
pub(crate) fn scan(file: &Path, text: &str) -> (Vec<Citation>, Vec<Finding>) {
    let mut scanner = Scanner {
        file,
        words: words(text),
        rfc: None,
        citations: Vec::new(),
        findings: Vec::new(),
    };
    for at in 0..scanner.words.len() {
        scanner.look_at(at);
    }
    (scanner.citations, scanner.findings)
}

struct Scanner<'a> {
    file: &'a Path,
    words: Vec<(&'a str, usize)>,
    /// The RFC named last, which a section without one belongs to.
    rfc: Option<u32>,
    citations: Vec<Citation>,
    findings: Vec<Finding>,
}

impl<'a> Scanner<'a> {
    fn look_at(&mut self, at: usize) {
        let word = open(self.word(at));
        match word.strip_prefix("RFC") {
            Some("") => self.rfc(at),
            // "RFC8445 section 7.1"
            Some(glued) if starts_with_digit(glued) && names_section(self.word(at + 1)) => {
                self.malformed(at)
            }
            _ if names_section(word) => self.section(at),
            _ => {}
        }
    }

    /// An "RFC" that stands by itself.
    fn rfc(&mut self, at: usize) {
        let number = self.word(at + 1);
        if !starts_with_digit(number) {
            return;
        }
        let digits = number
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        self.rfc = digits.parse().ok();
        if names_section(self.word(at + 2)) && number.len() != digits.len() {
            // "RFC 8445, section 7.1"
            self.malformed(at);
        }
    }

    /// A "section": of the RFC right before it, or else of the one named last in the file.
    fn section(&mut self, at: usize) {
        let before = at
            .checked_sub(2)
            .map_or("", |before| open(self.word(before)));
        let named = before == "RFC";
        if named && !self.word(at - 1).bytes().all(|byte| byte.is_ascii_digit()) {
            // Told already.
            return;
        }
        let of_rfc = self.word(at + 2) == "of" && open(self.word(at + 3)).starts_with("RFC");
        let number = self.word(at + 1);
        if !named && of_rfc && starts_with_digit(number) {
            // "section 7.1 of RFC 8445"
            self.malformed(at);
            return;
        }
        let is_rust = self
            .file
            .extension()
            .is_some_and(|extension| extension == "rs");
        let continued = is_rust
            && matches!(open(self.word(at)), "section" | "sections")
            && starts_with_digit(number);
        if !named && !continued {
            return;
        }
        // In a table with a column of RFCs: "8489 section 9.2".
        let tabled = at
            .checked_sub(1)
            .and_then(|before| rfc_number(self.word(before)));
        let Some(rfc) = tabled.or(self.rfc) else {
            return;
        };
        let first = if named { at - 2 } else { at };
        let sections = match (open(self.word(at)), section_of(number)) {
            ("section" | "appendix", Some(section)) => vec![section],
            ("sections", Some(_)) => enumeration(&self.words[at + 1..]),
            _ => Vec::new(),
        };
        if sections.is_empty() {
            self.malformed(first);
        }
        for section in sections {
            self.citations.push(Citation {
                rfc,
                section: section.to_owned(),
                file: self.file.to_path_buf(),
                line: self.words[first].1,
            });
        }
    }

    fn malformed(&mut self, at: usize) {
        let quoted: Vec<&str> = (at..at + 4).map(|at| self.word(at)).collect();
        self.findings.push(Finding {
            file: self.file.to_path_buf(),
            line: self.words[at].1,
            text: format!(
                "\"{}\": cite one section as \"RFC NNNN section X.Y\"",
                quoted.join(" ")
            ),
        });
    }

    fn word(&self, at: usize) -> &'a str {
        self.words.get(at).map_or("", |(word, _)| *word)
    }
}

/// Four digits, as no section has and all RFCs that matter here.
fn rfc_number(word: &str) -> Option<u32> {
    let is_number = word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

fn starts_with_digit(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

fn names_section(word: &str) -> bool {
    let word = open(word);
    let lower = word
        .trim_end_matches(|c: char| c.is_ascii_punctuation())
        .to_ascii_lowercase();
    word.starts_with('§') || matches!(lower.as_str(), "section" | "sections" | "appendix" | "sec")
}

/// The sections of `5, 14.3 and 14.5 to 14.7`; of a range its ends. None when it names one only.
fn enumeration<'a>(words: &[(&'a str, usize)]) -> Vec<&'a str> {
    let mut sections = Vec::new();
    let mut words = words.iter().map(|(word, _)| *word).peekable();
    while let Some(word) = words.next() {
        let Some(section) = section_of(word).filter(|section| rfc_number(section).is_none()) else {
            break;
        };
        sections.push(section);
        let rest = &word[section.len()..];
        let joined = rest.is_empty()
            && words
                .next_if(|next| matches!(*next, "and" | "or" | "to"))
                .is_some();
        if !joined && rest != "," {
            break;
        }
        // The last comma of an enumeration may be followed by an "and".
        words.next_if(|next| !joined && *next == "and");
    }
    if sections.len() < 2 {
        Vec::new()
    } else {
        sections
    }
}

/// The section number at the start of a word; none where it goes on as a range.
fn section_of(word: &str) -> Option<&str> {
    let end = word
        .find(|c: char| !(c.is_ascii_digit() || c.is_ascii_uppercase() || c == '.'))
        .unwrap_or(word.len());
    let (number, rest) = word.split_at(end);
    let number = number.trim_end_matches('.');
    let range = rest.starts_with(['-', '–', '/']) && rest.contains(|c: char| c.is_ascii_digit());
    (is_section_number(number) && !range).then_some(number)
}

/// Without the punctuation that may stand before a word.
fn open(word: &str) -> &str {
    word.trim_start_matches(['(', '[', '{', '"', '\'', '`', '*', '_', '<', '|'])
}

/// The words of a text with their line numbers, the marks of comments left out.
fn words(text: &str) -> Vec<(&str, usize)> {
    text.lines()
        .enumerate()
        .flat_map(|(number, line)| {
            let line = line
                .trim_start()
                .trim_start_matches(['/', '!', '*', '>', '#']);
            line.split_whitespace().map(move |word| (word, number + 1))
        })
        .collect()
}

/// The Rust and Markdown files of the checkout, relative to it, in a steady order.
pub(crate) fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for directory in SCANNED {
        let deep = directory != ".";
        if root.join(directory).is_dir() {
            walk(root, Path::new(directory), deep, &mut files)?;
        }
    }
    files.sort();
    Ok(files)
}

fn walk(root: &Path, directory: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let explain = |error: std::io::Error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(root.join(directory)).map_err(explain)? {
        let entry = entry.map_err(explain)?;
        let kind = entry.file_type().map_err(explain)?;
        let path = directory.join(entry.file_name());
        let path = path
            .strip_prefix(".")
            .map(Path::to_path_buf)
            .unwrap_or(path);
        if kind.is_dir() {
            let built = ["target", "corpus", "artifacts"]
                .iter()
                .any(|name| path.ends_with(name));
            if deep && !built {
                walk(root, &path, deep, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "md")
        {
            files.push(path);
        }
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> (Vec<(u32, String, usize)>, Vec<usize>) {
        let (citations, findings) = scan(Path::new("a.rs"), text);
        (
            citations
                .into_iter()
                .map(|c| (c.rfc, c.section, c.line))
                .collect(),
            findings.into_iter().map(|finding| finding.line).collect(),
        )
    }

    #[test]
    fn the_one_form_is_found_wherever_it_stands() {
        let text = "// RFC 8445 section 7.3.1.4: text\nlet x = 1; // see (RFC 8489 section 14.5).\n//! RFC 8489 appendix B.1";
        let (citations, findings) = scanned(text);
        let expected = [(8445, "7.3.1.4", 1), (8489, "14.5", 2), (8489, "B.1", 3)];
        assert_eq!(
            citations,
            expected.map(|(rfc, section, line)| (rfc, section.to_owned(), line))
        );
        assert!(findings.is_empty());
    }

    #[test]
    fn a_citation_over_two_lines_of_a_comment_counts() {
        for text in [
            "/// as RFC 8445\n    /// section 9 says",
            "// as RFC\n// 8445 section 9",
        ] {
            assert_eq!(scanned(text).0, [(8445, "9".to_owned(), 1)]);
        }
    }

    #[test]
    fn each_section_of_an_enumeration_counts() {
        for (text, expected) in [
            ("RFC 8489 sections 14.5 and 14.6).", &["14.5", "14.6"][..]),
            (
                "RFC 8489 sections 14.3, 14.8 to 14.10, 14.14) and 9",
                &["14.3", "14.8", "14.10", "14.14"],
            ),
            (
                "RFC 8489 sections 5, 7, and 9: and 3 more",
                &["5", "7", "9"],
            ),
        ] {
            let (citations, findings) = scanned(text);
            let sections: Vec<&str> = citations
                .iter()
                .map(|(_, section, _)| section.as_str())
                .collect();
            assert_eq!(sections, expected, "{text}");
            assert!(findings.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_column_of_rfcs_needs_no_word_before_the_number() {
        let (citations, findings) = scanned(
            "//! RFC 8656\n//! | a | 8489 section 9.2, 7635 |\n//! | b | 8656 sections 6 to 8, 8016 |",
        );
        let expected = [(8489, "9.2", 2), (8656, "6", 3), (8656, "8", 3)];
        assert_eq!(
            citations,
            expected.map(|(rfc, section, line)| (rfc, section.to_owned(), line))
        );
        assert!(findings.is_empty());
    }

    #[test]
    fn near_misses_are_findings() {
        for text in [
            "RFC 8445 Section 7.1",
            "RFC 8445, section 7.1",
            "RFC8445 section 7.1",
            "RFC 8445 §7.1",
            "RFC 8445 sections 7.1",
            "RFC 8445 section 7.1-7.3",
            "RFC 8445 section 14.5..14.7",
            "section 7.1 of RFC 8445",
        ] {
            let (citations, findings) = scanned(text);
            assert!(citations.is_empty(), "{text}");
            assert_eq!(findings, [1], "{text}");
        }
    }

    #[test]
    fn an_rfc_without_a_section_is_no_citation() {
        let (citations, findings) = scanned(
            "This section 3 is ours. RFC 8445 says so; RFC 8838 and RFC 8863 too, in a section each.",
        );
        assert!(citations.is_empty() && findings.is_empty());
    }

    #[test]
    fn a_section_without_an_rfc_belongs_to_the_one_named_last() {
        let (citations, findings) =
            scanned("RFC 8445 (section 7.3), RFC 8838 in its\nsections 11 and 14.");
        let expected = [(8445, "7.3", 1), (8838, "11", 2), (8838, "14", 2)];
        assert_eq!(
            citations,
            expected.map(|(rfc, section, line)| (rfc, section.to_owned(), line))
        );
        assert!(findings.is_empty());
        assert!(
            scan(Path::new("a.md"), "RFC 8445 and our section 99")
                .0
                .is_empty()
        );
    }

    #[test]
    fn a_section_that_does_not_exist_is_found() {
        let index = Index::of(&[(8445, &[("7.1", "STUN Extensions")])]);
        let cited = |text| scan(Path::new("a.rs"), text).0;
        assert!(unknown(&index, &cited("RFC 8445 section 7.1")[0]).is_none());
        let wrong = unknown(&index, &cited("\nRFC 8445 section 7.9")[0]);
        assert_eq!(
            wrong.map(|w| w.to_string()).as_deref(),
            Some("a.rs:2: RFC 8445 has no section 7.9")
        );
        let unindexed = unknown(&index, &cited("RFC 1 section 7.1")[0]);
        assert!(unindexed.is_some_and(|u| u.text.contains("not in xtask/rfc-sections")));
    }
}
