//! Every kind of access beside every other.

use std::time::Duration;

use nilas_ice::Role;
use nilas_sim::matrix::{Cell, Judged, Table, cells};
use serde::Serialize;

use super::sessions::milliseconds;
use super::{on_all_processors, page};
use crate::arguments;
use crate::commands::print_line;
use crate::failure::Failure;
use crate::output::{ended, json_line};

const SCHEMA: &str = "nilas.sim-cell/1";

/// A cell and what came of it (schema nilas.sim-cell/1).
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// The table: endpoints, nats or others.
    table: &'static str,
    a: &'a str,
    b: &'a str,
    servers: &'static str,
    controlling: &'static str,
    /// In per cent.
    loss: f64,
    expected: String,
    got: String,
    ok: bool,
    first_path_ms: Option<u64>,
    selected_ms: Option<u64>,
    packets: u64,
    /// Why this is expected, where the rules of the tables do not say it.
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

impl<'a> Line<'a> {
    fn of(judged: &'a Judged) -> Self {
        let Judged { cell, outcome, .. } = judged;
        Self {
            table: match cell.table {
                Table::Endpoints => "endpoints",
                Table::Nats => "nats",
                _ => "others",
            },
            a: cell.a,
            b: cell.b,
            servers: cell.servers.as_str(),
            controlling: if cell.role == Role::Controlling {
                "a"
            } else {
                "b"
            },
            loss: per_cent(cell.loss),
            expected: cell.expected.to_string(),
            got: outcome
                .path
                .map_or_else(|| "none".to_owned(), |path| path.to_string()),
            ok: judged.is_ok(),
            first_path_ms: outcome.first_path.map(milliseconds),
            selected_ms: outcome.selected.map(milliseconds),
            packets: outcome.packets,
            why: cell.why,
        }
    }
}

pub(super) fn run(arguments: &arguments::Sim) -> Result<(), Failure> {
    let rtt = Duration::from_millis(arguments.rtt_ms.into());
    let cells = ended(arguments.json, SCHEMA, chosen(arguments))?;
    let judged = on_all_processors(&cells, |cell| cell.run(rtt));
    let wrong = judged.iter().filter(|judged| !judged.is_ok()).count();
    if arguments.markdown {
        print_line(page::text(&judged, rtt).trim_end())?;
    } else if arguments.json {
        judged
            .iter()
            .try_for_each(|judged| json_line(SCHEMA, &Line::of(judged)))?;
    } else {
        judged
            .iter()
            .try_for_each(|judged| print_line(&row(&Line::of(judged))))?;
        print_line(&format!("{} cells, {wrong} not as expected", judged.len()))?;
    }
    if wrong == 0 {
        return Ok(());
    }
    let first = judged.iter().find(|judged| !judged.is_ok());
    let first = first.map(ToString::to_string).unwrap_or_default();
    Err(Failure::no_connection(format!(
        "{wrong} cells are not as expected; the first got {first}"
    )))
}

/// The cells that are asked for.
fn chosen(arguments: &arguments::Sim) -> Result<Vec<Cell>, Failure> {
    let mut cells = cells();
    if let Some(servers) = arguments.servers {
        cells.retain(|cell| cell.servers == servers);
    }
    if arguments.markdown {
        // What chance decides has no place on a page that is compared.
        cells.retain(|cell| cell.loss == 0.0);
    }
    if cells.is_empty() {
        return Err(Failure::usage("the matrix has no cell with these servers"));
    }
    Ok(cells)
}

fn row(line: &Line<'_>) -> String {
    let number =
        |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    format!(
        "{} {:<26} {:<26} {:<9} {}  {:>3} %  {:<12} {:>6} ms {:>6} ms {:>5} packets{}",
        if line.ok { "ok   " } else { "WRONG" },
        line.a,
        line.b,
        line.servers,
        line.controlling,
        line.loss,
        line.got,
        number(line.first_path_ms),
        number(line.selected_ms),
        line.packets,
        if line.ok {
            String::new()
        } else {
            format!("  (expected {})", line.expected)
        },
    )
}

/// A share as per cent, of the tables' round values.
fn per_cent(share: f64) -> f64 {
    (share * 1_000.0).round() / 10.0
}
