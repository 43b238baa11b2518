//! The index of RFC sections: numbers and titles, made once from the RFC texts and committed, so that a
//! citation can be checked without them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::workspace::Workspace;

/// Section numbers in the order of the document, each with its title.
pub(crate) type Sections = Vec<(String, String)>;

/// All the RFCs that may be cited by section.
pub(crate) struct Index(BTreeMap<u32, Sections>);

impl Index {
    pub(crate) fn load(workspace: &Workspace) -> Result<Self, String> {
        let directory = workspace.root().join(DIRECTORY);
        let mut rfcs = BTreeMap::new();
        for (path, number) in numbered_files(&directory, "")? {
            rfcs.insert(number, parse_index(&read(&path)?));
        }
        Ok(Self(rfcs))
    }

    #[cfg(test)]
    pub(crate) fn of(rfcs: &[(u32, &[(&str, &str)])]) -> Self {
        let own = |sections: &[(&str, &str)]| {
            sections
                .iter()
                .map(|(number, title)| ((*number).to_owned(), (*title).to_owned()))
                .collect()
        };
        Self(
            rfcs.iter()
                .map(|(rfc, sections)| (*rfc, own(sections)))
                .collect(),
        )
    }

    pub(crate) fn sections(&self, rfc: u32) -> Option<&Sections> {
        self.0.get(&rfc)
    }

    pub(crate) fn title(&self, rfc: u32, section: &str) -> Option<&str> {
        let sections = self.0.get(&rfc)?;
        sections
            .iter()
            .find(|(number, _)| number == section)
            .map(|(_, title)| title.as_str())
    }
}

const DIRECTORY: &str = "xtask/rfc-sections";

/// Reads `rfcNNNN.txt` files and writes the index. Returns a sentence for the person who asked.
pub(crate) fn write_index(workspace: &Workspace, texts: &Path) -> Result<String, String> {
    let directory = workspace.root().join(DIRECTORY);
    let (mut rfcs, mut count) = (0, 0);
    for (path, number) in numbered_files(texts, "rfc")? {
        let sections = parse_rfc(&read(&path)?);
        if sections.is_empty() {
            return Err(format!(
                "{} has no sections: is it the text of an RFC?",
                path.display()
            ));
        }
        rfcs += 1;
        count += sections.len();
        let lines: String = sections
            .iter()
            .map(|(number, title)| format!("{number} {title}\n"))
            .collect();
        let file = directory.join(format!("{number}.txt"));
        fs::write(&file, lines).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(format!(
        "{count} sections of {rfcs} RFCs written to {DIRECTORY}"
    ))
}

fn numbered_files(
    directory: &Path,
    prefix: &str,
) -> Result<Vec<(std::path::PathBuf, u32)>, String> {
    let entries =
        fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", directory.display()))?
            .path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| {
                name.strip_prefix(prefix)?
                    .strip_suffix(".txt")?
                    .parse()
                    .ok()
            });
        if let Some(number) = number {
            found.push((path, number));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse_index(text: &str) -> Sections {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(number, title)| (number.to_owned(), title.to_owned()))
        .collect()
}

/// The headings of an RFC's body. They alone stand in the first column (the table of contents is indented);
/// a line that looks like one but does not follow its predecessor in number is text, not a heading.
fn parse_rfc(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((number, title)) = heading(line) else {
            continue;
        };
        let previous = sections.last().map(|(number, _)| number.as_str());
        if !follows(previous, &number) {
            continue;
        }
        let mut title = title.to_owned();
        while let Some(rest) =
            lines.next_if(|next| next.starts_with(' ') && !next.trim().is_empty())
        {
            if !title.ends_with('-') {
                title.push(' ');
            }
            title.push_str(rest.trim());
        }
        sections.push((number, title));
    }
    sections
}

/// `7.3.1.4.  Triggered Checks` or `Appendix B.  Design Motivations`.
fn heading(line: &str) -> Option<(String, &str)> {
    let (appendix, line) = match line.strip_prefix("Appendix ") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    // A line of a table of contents that lost its indentation ends in a row of dots and a page number.
    if line.contains("....") || line.contains(". . .") {
        return None;
    }
    let (number, title) = line.split_once(char::is_whitespace)?;
    let number = number.trim_end_matches([':', '.']);
    let title = title.trim();
    let is_number = is_section_number(number)
        && (number.starts_with(|first: char| first.is_ascii_digit())
            || appendix
            || number.contains('.'));
    (is_number && !title.is_empty()).then(|| (number.to_owned(), title))
}

/// Digits and dots, the first part perhaps one capital letter: `7`, `7.3.1.4`, `B`, `B.2`.
pub(crate) fn is_section_number(text: &str) -> bool {
    text.split('.').enumerate().all(|(depth, part)| {
        let letter =
            depth == 0 && part.len() == 1 && part.starts_with(|c: char| c.is_ascii_uppercase());
        letter || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Whether `next` may be the heading right after `previous`: its first child, or the next sibling of it or of
/// one of its ancestors, or the first appendix.
fn follows(previous: Option<&str>, next: &str) -> bool {
    let Some(previous) = previous else {
        return next == "1";
    };
    let previous: Vec<&str> = previous.split('.').collect();
    let next: Vec<&str> = next.split('.').collect();
    if next.len() == previous.len() + 1 {
        return next.starts_with(&previous) && next.last() == Some(&"1");
    }
    if next == ["A"] {
        return previous[0].starts_with(|first: char| first.is_ascii_digit());
    }
    let depth = next.len();
    depth <= previous.len()
        && next[..depth - 1] == previous[..depth - 1]
        && successor(previous[depth - 1]).as_deref() == Some(next[depth - 1])
}

fn successor(part: &str) -> Option<String> {
    if let Ok(number) = part.parse::<u32>() {
        return Some((number + 1).to_string());
    }
    let letter = part.bytes().next()?;
    Some(char::from(letter + 1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
   1.  Introduction  . . . . . . . 5
   2.  Overview  . . . . . . . . . 6
2.1. A Title Out of Its Column ......7

RFC 9999                 An Example                 July 2018

1.  Introduction

   3.  a list item, indented

2.  Overview

2.1.  A Title That Goes On and Ends in MESSAGE-
      INTEGRITY

   Text.

9.  bytes of text in the first column are no heading

2.1.1.  Deep

3.  Last

Appendix A.  First Appendix

A.1.  Inside

Appendix B.  Second Appendix
";

    #[test]
    fn headings_are_found_and_text_is_not() {
        let numbers: Vec<String> = parse_rfc(TEXT)
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, ["1", "2", "2.1", "2.1.1", "3", "A", "A.1", "B"]);
    }

    #[test]
    fn a_title_on_two_lines_is_joined() {
        let sections = parse_rfc(TEXT);
        assert_eq!(
            sections[2].1,
            "A Title That Goes On and Ends in MESSAGE-INTEGRITY"
        );
    }

    #[test]
    fn section_numbers_are_told_from_words() {
        for good in ["1", "7.3.1.4", "B", "B.2", "14.10"] {
            assert!(is_section_number(good), "{good}");
        }
        for bad in ["", "7.", ".7", "BB", "b", "7.x", "7..1", "1.B"] {
            assert!(!is_section_number(bad), "{bad}");
        }
    }
}
