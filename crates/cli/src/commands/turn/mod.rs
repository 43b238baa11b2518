//! `nilas turn`: servers of others, or ours, tried, loaded, and supplied with credentials.
//!
//! The rooms: `targets` is which servers, with which credentials; `test` and its `probe`, `echo` and `report`;
//! `bench` and its `load` and `sink`; `creds`.

mod bench;
mod creds;
mod echo;
mod load;
mod probe;
mod report;
mod sink;
mod targets;
mod test;

use crate::arguments::turn::{Turn, TurnVerb};
use crate::failure::Failure;

pub(crate) fn run(arguments: &Turn) -> Result<(), Failure> {
    match &arguments.verb {
        TurnVerb::Test(arguments) => test::run(arguments),
        TurnVerb::Bench(arguments) => bench::run(arguments),
        TurnVerb::Creds(arguments) => creds::run(arguments),
    }
}
