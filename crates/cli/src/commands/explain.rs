//! `nilas explain`: says what happened in a recorded session, and why.

use super::print_line;
use crate::arguments;
use crate::failure::Failure;
use crate::output::json_line;
use crate::recording;

const SCHEMA: &str = "nilas.explain/1";

pub(super) fn run(arguments: &arguments::Explain) -> Result<(), Failure> {
    let bytes = recording::read(&arguments.file)?;
    let explanation = nilas_ice::explain(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", arguments.file.display())))?;
    if arguments.json {
        json_line(SCHEMA, &explanation)
    } else {
        print_line(explanation.to_string().trim_end())
    }
}
