//! `nilas replay`: gives a recording to this build's engine, and shows where it first does something else.

use nilas_ice::{Difference, RecordingEnd, Replay, Time};
use serde::Serialize;

use super::print_line;
use crate::arguments;
use crate::failure::Failure;
use crate::output::{ended, json_line};
use crate::recording;

const SCHEMA: &str = "nilas.replay/1";

/// What came of it (schema nilas.replay/1).
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// The same as `equal`.
    ok: bool,
    /// Whether all that is recorded came out the same.
    equal: bool,
    /// The version of nilas that recorded.
    recorded_by: &'a str,
    note: &'a str,
    /// Calls of the engine that came out the same.
    calls: u64,
    /// When the last of them was.
    until_ms: f64,
    /// Whether the recording has its end.
    complete: bool,
    /// Calls that were not recorded, where that is known.
    missed: Option<u64>,
    difference: Option<Shown<'a>>,
    /// Whether paths were chosen by a policy of the application's own, which no recording holds.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    foreign_policy: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    at_ms: f64,
    call: u64,
    offset: usize,
    given: &'a str,
    expected: &'a str,
    got: &'a str,
}

impl<'a> From<&'a Difference> for Shown<'a> {
    fn from(difference: &'a Difference) -> Self {
        Self {
            at_ms: milliseconds(difference.at),
            call: difference.call,
            offset: difference.offset,
            given: &difference.given,
            expected: &difference.expected,
            got: &difference.got,
        }
    }
}

pub(super) fn run(arguments: &arguments::Replay) -> Result<(), Failure> {
    let done = ended(arguments.json, SCHEMA, replay(arguments))?;
    let difference = done.difference.as_ref();
    if arguments.json {
        json_line(
            SCHEMA,
            &Report {
                ok: difference.is_none(),
                equal: difference.is_none(),
                recorded_by: &done.version,
                note: &done.note,
                calls: done.calls,
                until_ms: milliseconds(done.until),
                complete: difference.is_none() && done.end == RecordingEnd::Whole,
                missed: match done.end {
                    RecordingEnd::Limited { missed, .. } => Some(missed),
                    _ => None,
                },
                difference: difference.map(Into::into),
                foreign_policy: done.foreign_policy,
            },
        )?;
        return match difference {
            Some(_) => Err(Failure::Told),
            None => Ok(()),
        };
    }
    if done.foreign_policy {
        print_line(
            "the application chose paths by a policy of its own, which is not in the recording: that of nilas takes its place",
        )?;
    }
    if let Some(difference) = difference {
        print_line(&format!(
            "{} calls come out the same; then this nilas does something else\n{difference}",
            done.calls
        ))?;
        return Err(Failure::Told);
    }
    print_line(&format!(
        "all {} calls until {:.3} s come out the same",
        done.calls,
        milliseconds(done.until) / 1e3
    ))?;
    if done.end != RecordingEnd::Whole {
        print_line(&done.end.to_string())?;
    }
    Ok(())
}

fn replay(arguments: &arguments::Replay) -> Result<Replay, Failure> {
    let bytes = recording::read(&arguments.file)?;
    nilas_ice::replay(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", arguments.file.display())))
}

fn milliseconds(time: Time) -> f64 {
    time.as_nanos() as f64 / 1e6
}
