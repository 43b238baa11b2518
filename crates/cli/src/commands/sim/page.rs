//! The matrix as a page of Markdown: docs/matrix.md.

use std::fmt::Write;
use std::time::Duration;

use nilas_ice::Role;
use nilas_sim::matrix::{Judged, Servers, Table};

use super::sessions::milliseconds;

/// The page.
pub(super) fn text(judged: &[Judged], rtt: Duration) -> String {
    let mut page = String::from(HEAD);
    let _ = writeln!(
        page,
        "\nRound trip: {} ms, to the peer and to the servers.",
        milliseconds(rtt)
    );
    for (table, title) in [
        (Table::Endpoints, "## libwebrtc's kinds of endpoint"),
        (Table::Nats, "## The nine types of NAT of RFC 4787"),
    ] {
        let _ = writeln!(page, "\n{title}");
        for servers in Servers::ALL {
            let of_grid: Vec<_> = judged
                .iter()
                .filter(|judged| {
                    let cell = &judged.cell;
                    cell.table == table
                        && cell.servers == servers
                        && cell.role == Role::Controlling
                        && cell.loss == 0.0
                })
                .collect();
            if !of_grid.is_empty() {
                let _ = writeln!(page, "\nWith {}:\n", server_words(servers));
                grid(&mut page, &of_grid);
            }
        }
    }
    differences(&mut page, judged);
    others(&mut page, judged);
    page
}

const HEAD: &str = "\
# What connects with what

This page is written by `cargo xtask matrix`, and `cargo xtask test --only matrix` fails when it is out of date.
Every cell is a session of two real agents in a simulated network and in virtual time; `nilas sim --matrix --json`
prints all figures, also with 5 % and 20 % of loss and with the other peer in control, `nilas sim --nat-a KIND --nat-b KIND` runs one cell again, many times if wished.

The row is the first peer, which controls. A cell tells the kind of its own end of the selected pair, of the other
end, and the milliseconds from the start of gathering until both sides could send; `-` means that there is no path.
Where a peer can send no UDP both look for connections as well (ICE-TCP), and `tcp:` stands before the ends of one.
Why each cell is expected to be so is reasoned in [crates/sim/src/matrix/table.rs](../crates/sim/src/matrix/table.rs).
";

const fn server_words(servers: Servers) -> &'static str {
    match servers {
        Servers::None => "no server",
        Servers::Stun => "STUN and no relay",
        Servers::TurnUdp => "STUN and a relay over UDP",
        Servers::TurnTcp => "STUN and a relay over TCP, port 3478",
        Servers::TurnTls => "STUN and a relay over TLS, port 443",
        _ => servers.as_str(),
    }
}

fn grid(page: &mut String, cells: &[&Judged]) {
    let mut kinds: Vec<&str> = Vec::new();
    for judged in cells {
        if !kinds.contains(&judged.cell.a) {
            kinds.push(judged.cell.a);
        }
    }
    let heads: Vec<_> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
    let _ = writeln!(page, "| | {} |", heads.join(" | "));
    let _ = writeln!(page, "|---{}|", "|---".repeat(kinds.len()));
    for a in &kinds {
        let row = kinds.iter().map(|b| {
            let found = cells
                .iter()
                .find(|judged| judged.cell.a == *a && judged.cell.b == *b);
            found.map_or_else(String::new, |judged| result(judged))
        });
        let _ = writeln!(page, "| `{a}` | {} |", row.collect::<Vec<_>>().join(" | "));
    }
}

fn result(judged: &Judged) -> String {
    let outcome = &judged.outcome;
    let mut text = match (outcome.path, outcome.first_path) {
        (Some(path), Some(at)) => format!("{path} {}", milliseconds(at)),
        (Some(path), None) => path.to_string(),
        (None, _) => "-".to_owned(),
    };
    if !judged.is_ok() {
        let _ = write!(text, " (expected {})", judged.cell.expected);
    }
    text
}

/// Where libwebrtc's own table asserts something else.
fn differences(page: &mut String, judged: &[Judged]) {
    page.push_str("\n## Where libwebrtc's own table says something else\n\n");
    page.push_str(
        "It asserts nothing in 44 of the 100 cells of its kinds; in these it asserts another path.\n\n| first | second | expected here | why |\n|---|---|---|---|\n",
    );
    for judged in judged.iter().filter(|judged| {
        let cell = &judged.cell;
        cell.table == Table::Endpoints
            && cell.servers == Servers::TurnTls
            && cell.role == Role::Controlling
            && cell.loss == 0.0
            && !cell.why.is_empty()
            && !cell.why.contains("asserts nothing")
    }) {
        let cell = &judged.cell;
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} |",
            cell.a, cell.b, cell.expected, cell.why
        );
    }
}

fn others(page: &mut String, judged: &[Judged]) {
    page.push_str("\n## Others\n\n");
    page.push_str("| first | second | servers | path | selected, ms | packets | why |\n|---|---|---|---|---|---|---|\n");
    for judged in judged.iter().filter(|judged| {
        let cell = &judged.cell;
        cell.table == Table::Others && cell.role == Role::Controlling && cell.loss == 0.0
    }) {
        let cell = &judged.cell;
        let selected = judged
            .outcome
            .selected
            .map_or_else(|| "-".to_owned(), |at| milliseconds(at).to_string());
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} | {selected} | {} | {} |",
            cell.a,
            cell.b,
            cell.servers,
            result(judged),
            judged.outcome.packets,
            cell.why
        );
    }
}
