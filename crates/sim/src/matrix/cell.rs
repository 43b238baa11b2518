//! The cells: every pair of kinds with what is expected of it, and the judge.

use core::fmt;
use core::time::Duration;

use nilas_ice::Role;

use super::path::Expected;
use super::scenario::{Outcome, Scenario, Servers};
use super::table::{
    ENDPOINT_CELLS, ENDPOINTS, LIBWEBRTC_CELLS, NAT_CELLS, NATS, SINGLES, beside_libwebrtc,
};
use crate::access::Access;

/// A pair of kinds, and what is expected of a session between them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cell {
    /// The table that the cell is of.
    pub table: Table,
    /// The first peer's access, as it is written there.
    pub a: &'static str,
    /// The second peer's access.
    pub b: &'static str,
    /// What servers there are.
    pub servers: Servers,
    /// Whether both look for paths over TCP as well: where one of them can send no UDP.
    pub tcp: bool,
    /// The first peer's role.
    pub role: Role,
    /// The share of datagrams that is lost on the whole way, in each direction, from 0 to 1.
    pub loss: f64,
    /// What the session is to come to.
    pub expected: Expected,
    /// Why, where the tables' rules do not say it.
    pub why: &'static str,
}

/// Where a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Table {
    /// libwebrtc's kinds of endpoint, beside each other.
    Endpoints,
    /// The nine types of NAT of RFC 4787, beside each other.
    Nats,
    /// Outside of both.
    Others,
}

/// A cell, and what came of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Judged {
    /// The cell.
    pub cell: Cell,
    /// What came of its session.
    pub outcome: Outcome,
}

/// The shares of lost datagrams with which every cell is run.
pub const LOSSES: [f64; 3] = [0.0, 0.05, 0.2];

/// All cells, with the sets of servers that matter to their table, each loss and both roles.
pub fn cells() -> Vec<Cell> {
    let mut all = Vec::new();
    for (table, a, b, expected, why) in pairs() {
        for servers in table.servers() {
            for loss in LOSSES {
                for (role, expected) in [Role::Controlling, Role::Controlled]
                    .into_iter()
                    .zip(&expected)
                {
                    all.push(Cell {
                        table,
                        a,
                        b,
                        servers: *servers,
                        tcp: !has_udp(a) || !has_udp(b),
                        role,
                        loss,
                        expected: with_servers(expected, a, b, *servers),
                        why,
                    });
                }
            }
        }
    }
    all
}

/// Whether a peer can send UDP.
fn has_udp(access: &str) -> bool {
    !["noudp", "udpblock", "tcp443", "strict443"]
        .iter()
        .any(|flag| access.ends_with(flag))
}

/// What is left of an expectation with these servers.
fn with_servers(expected: &Expected, a: &str, b: &str, servers: Servers) -> Expected {
    if !servers.relay() {
        return expected.without_relays();
    }
    if !expected.is_relayed() {
        return expected.clone();
    }
    // Who cannot send UDP has a relay or nothing.
    let has_way_out = |access: &str| match access.split_once('+') {
        Some((_, "noudp")) => servers != Servers::TurnUdp,
        Some((_, "udpblock" | "tcp443" | "strict443")) => {
            matches!(servers, Servers::TurnTls | Servers::Turn)
        }
        _ => true,
    };
    if has_way_out(a) && has_way_out(b) {
        expected.clone()
    } else {
        Expected::NONE
    }
}

impl Table {
    /// The sets of servers with which its cells are run.
    pub const fn servers(self) -> &'static [Servers] {
        match self {
            Self::Endpoints => &[
                Servers::Stun,
                Servers::TurnUdp,
                Servers::TurnTcp,
                Servers::TurnTls,
            ],
            Self::Nats => &[Servers::Stun, Servers::TurnUdp],
            Self::Others => &[Servers::Stun, Servers::TurnUdp, Servers::TurnTls],
        }
    }
}

/// A pair of kinds with what is expected when the first peer controls and when it does not, and why.
type Pair = (
    Table,
    &'static str,
    &'static str,
    [Expected; 2],
    &'static str,
);

fn pairs() -> Vec<Pair> {
    let mut pairs = square(Table::Endpoints, &ENDPOINTS, &ENDPOINT_CELLS);
    let theirs = LIBWEBRTC_CELLS.iter().flat_map(|row| row.split(' '));
    let ours = ENDPOINT_CELLS.iter().flat_map(|row| row.split(' '));
    for (pair, (theirs, ours)) in pairs.iter_mut().zip(theirs.zip(ours)) {
        pair.4 = beside_libwebrtc(theirs, ours);
    }
    pairs.extend(square(Table::Nats, &NATS, &NAT_CELLS));
    pairs.extend(SINGLES.iter().map(|single| {
        (
            Table::Others,
            single.a,
            single.b,
            single.paths.map(expected),
            single.why,
        )
    }));
    pairs
}

/// Every kind beside every kind. Where the second peer controls, the mirrored cell holds.
fn square(table: Table, kinds: &[&'static str], rows: &[&'static str]) -> Vec<Pair> {
    let cells: Vec<Vec<Expected>> = rows
        .iter()
        .map(|row| row.split(' ').map(expected).collect())
        .collect();
    let mut pairs = Vec::new();
    for (a, kind_a) in kinds.iter().enumerate() {
        for (b, kind_b) in kinds.iter().enumerate() {
            pairs.push((
                table,
                *kind_a,
                *kind_b,
                [cells[a][b].clone(), cells[b][a].mirrored()],
                "",
            ));
        }
    }
    pairs
}

/// An expectation by the letters of the tables.
fn expected(letters: &str) -> Expected {
    let word = |letter| match letter {
        'h' => "host",
        's' => "srflx",
        'p' => "prflx",
        _ => "relay",
    };
    let (tcp, ends) = match letters.strip_suffix('t') {
        Some(ends) => ("tcp:", ends),
        None => ("", letters),
    };
    let words: Vec<_> = ends.chars().map(word).collect();
    let path = format!("{tcp}{}", words.join(">"));
    path.parse().expect("two letters are two ends")
}

impl Cell {
    /// Runs the cell's session, with a round trip of this length.
    pub fn run(&self, rtt: Duration) -> Judged {
        let access = |word: &str| word.parse::<Access>().expect("the tables know their kinds");
        let scenario = Scenario {
            servers: self.servers,
            tcp: self.tcp,
            rtt,
            loss: self.loss,
            role: self.role,
            ..Scenario::new(access(self.a), access(self.b))
        };
        let session = scenario.run().expect("the tables' pairs make a world");
        Judged {
            cell: self.clone(),
            outcome: session.outcome,
        }
    }
}

impl Judged {
    /// Whether the session came to what was expected: the kinds, the same pair on both sides, and data both ways.
    pub fn is_ok(&self) -> bool {
        let Outcome {
            path,
            mirrored,
            carries_data,
            ..
        } = self.outcome;
        self.cell.expected.is_met_by(path, self.cell.loss == 0.0)
            && mirrored
            && carries_data == path.is_some()
    }
}

impl fmt::Display for Judged {
    /// A line for a person, with the command that runs the session again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, outcome } = self;
        match outcome.path {
            Some(path) => write!(f, "{path}")?,
            None => f.write_str("none")?,
        }
        write!(f, " instead of {}", cell.expected)?;
        if !outcome.mirrored {
            f.write_str(", and the two sides differ")?;
        }
        if outcome.path.is_some() && !outcome.carries_data {
            f.write_str(", and no data passes")?;
        }
        let role = if cell.role == Role::Controlling {
            "a"
        } else {
            "b"
        };
        write!(
            f,
            ": nilas sim --nat-a {} --nat-b {} --servers {} --loss {} --controlling {role}{}",
            cell.a,
            cell.b,
            cell.servers,
            cell.loss * 100.0,
            if cell.tcp { " --tcp" } else { "" }
        )
    }
}
