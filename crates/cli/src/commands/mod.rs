//! The verbs, one file each.

mod manual;

use crate::arguments::{Arguments, Verb};
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Man => manual::page(),
        _ => Err(Failure::internal("x")),
    }
}
