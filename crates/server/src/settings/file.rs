//! The file in TOML: names and values with their lines.

use core::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Place};

/// A longer file is no list of settings.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A key and what stands behind it.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) values: Vec<(Place, String)>,
    pub(super) is_list: bool,
}

/// The entries in the order of their lines. What is no TOML, and what is no value of a setting, is a mistake.
pub(super) fn read(path: &Arc<Path>, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Entry> {
    if text.len() > MAX_FILE_BYTES {
        let place = Place::File(Arc::clone(path), 0);
        let reason = "the file is too long: at most 1 MiB";
        mistakes.push(Mistake::new(place, "", reason));
        return Vec::new();
    }
    let at = |span: &Range<usize>| Place::File(Arc::clone(path), line(text, span.start));
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        // The message alone: the error as a whole shows the line, which may hold a secret.
        let place = at(&error.span().unwrap_or_default());
        mistakes.push(Mistake::new(
            place,
            "",
            format!("not TOML: {}", error.message()),
        ));
    }
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let place = at(&key.span());
        let name = key.get_ref().to_string();
        let mut values = Vec::new();
        let is_list = matches!(value.get_ref(), DeValue::Array(_));
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            match scalar(item.get_ref()) {
                Ok(text) => values.push((at(&item.span()), text)),
                Err(reason) => mistakes.push(Mistake::new(at(&item.span()), &name, reason)),
            }
        }
        entries.push(Entry {
            key: name,
            place,
            values,
            is_list,
        });
    }
    entries.sort_by(|one, other| one.place.cmp(&other.place));
    entries
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number is too large"),
        DeValue::Table(_) => {
            Err("a setting is no table: all settings stand at the top of the file")
        }
        DeValue::Array(_) => Err("a list in a list is no value of a setting"),
        DeValue::Float(_) | DeValue::Datetime(_) => {
            Err("a text in quotes, a whole number, true or false is needed")
        }
    }
}

/// The line of a place in the text, from one.
fn line(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
