//! `nilas explain`: says what happened in a recorded session, and why.

use nilas_ice::explain::Explanation;
use serde::Serialize;

use super::print_line;
use crate::arguments;
use crate::failure::Failure;
use crate::output::{ended, json_line};
use crate::recording;

const SCHEMA: &str = "nilas.explain/1";

/// What a program gets to know (schema nilas.explain/1).
#[derive(Serialize)]
struct Explained {
    /// Whether there is an explanation, and not whether the session went well.
    ok: bool,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(super) fn run(arguments: &arguments::Explain) -> Result<(), Failure> {
    let explanation = ended(arguments.json, SCHEMA, explain(arguments))?;
    if arguments.json {
        let ok = true;
        json_line(SCHEMA, &Explained { ok, explanation })
    } else {
        print_line(explanation.to_string().trim_end())
    }
}

fn explain(arguments: &arguments::Explain) -> Result<Explanation, Failure> {
    let bytes = recording::read(&arguments.file)?;
    nilas_ice::explain(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", arguments.file.display())))
}
