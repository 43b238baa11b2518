//! What users see: lines for people, live rows on a terminal, JSON for programs.
//!
//! The rooms: [`event`] is what can be told and how it reads as JSON, [`reporter`] puts it where it belongs,
//! [`pairs`] turns an agent's statistics into pairs, [`reason`] says why a pair won, [`text`] words it all.

pub(crate) mod event;
pub(crate) mod pairs;
pub(crate) mod reason;
pub(crate) mod reporter;
pub(crate) mod text;

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

pub(crate) use event::{CandidateView, Event};
pub(crate) use pairs::PairView;
pub(crate) use reporter::{Format, Reporter, Stream};

/// Writes an object as one line of JSON to standard output, at once, with `schema`, its name and version.
pub(crate) fn json_line(schema: &'static str, value: &impl Serialize) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        schema: &'static str,
        #[serde(flatten)]
        value: &'a T,
    }
    let mut line = serde_json::to_string(&Line { schema, value }).map_err(Failure::internal)?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Hands a result on. One that is bad and was asked for as JSON is told first, as the last line: `ok` is false, and `reason` is
/// the sentence that standard error has as well.
pub(crate) fn ended<T>(
    json: bool,
    schema: &'static str,
    result: Result<T, Failure>,
) -> Result<T, Failure> {
    #[derive(Serialize)]
    struct Ended {
        ok: bool,
        reason: String,
    }
    if let (true, Err(failure)) = (json, &result)
        && failure.needs_telling()
    {
        let reason = failure.to_string();
        json_line(schema, &Ended { ok: false, reason })?;
    }
    result
}

/// Tells the user why the program ends badly.
pub(crate) fn complain(failure: &Failure) {
    let label = console::Style::new()
        .red()
        .bold()
        .for_stderr()
        .apply_to("nilas:");
    // Where standard error is gone too, there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{label} {failure}");
}
