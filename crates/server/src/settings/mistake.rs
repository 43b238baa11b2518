//! What is wrong and where.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

/// A mistake in the settings. No value is repeated: it could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// The setting, or what was given for one. Empty where no setting can be told, as in text that is no TOML.
    pub setting: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// A line of a file, from one; zero for the file as a whole.
    File(Arc<Path>, usize),
    /// A variable of the environment.
    Variable(Arc<str>),
    /// A flag.
    Flag,
    /// Nowhere: it has its default, or is missing.
    Default,
}

impl Mistake {
    pub(super) fn new(place: Place, setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            place,
            setting: setting.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            setting,
            reason,
        } = self;
        match place {
            Place::File(path, 0) => write!(f, "{}: ", path.display())?,
            Place::File(path, line) => write!(f, "{}:{line}: ", path.display())?,
            Place::Variable(name) => return write!(f, "{name}: {reason}"),
            Place::Flag => return write!(f, "--{setting}: {reason}"),
            Place::Default => {}
        }
        if !setting.is_empty() {
            write!(f, "{setting}: ")?;
        }
        f.write_str(reason)
    }
}

impl core::error::Error for Mistake {}

/// The known name that is nearest to what was written, if one is near.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('_', "-");
    // A name of any length costs as much as the longest that could be near.
    if written.len() > 64 {
        return None;
    }
    known
        .map(|name| (distance(&written, name), name))
        .filter(|(distance, name)| *distance <= name.len().min(written.len()) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be added, removed or replaced to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, theirs) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let near = |written| nearest(written, ["user", "realm", "relay-ports"].into_iter());
        assert_eq!(near("users"), Some("user"));
        assert_eq!(near("relay_ports"), Some("relay-ports"));
        assert_eq!(near("Relam"), Some("realm"));
        assert_eq!(near("certificate"), None);
        assert_eq!(near(&"x".repeat(10_000)), None);
    }

    #[test]
    fn the_distance_counts_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }
}
