//! The laboratory's kernel NATs and the simulated network agree, cell by cell: what `nilas demo --nat A,B` finds in
//! the one is what `nilas sim --nat-a A --nat-b B` finds in the other. Where a network translates, its DNS tells the prefix
//! (RFC 7050), in the simulated network and in the laboratory; the machines of a demo, which are one process, have one
//! `/etc/resolv.conf`, so that there two `nilas agent` meet instead.
//!
//! Whether a mapped address is called server-reflexive or peer-reflexive depends on whose packet is first, and which
//! side's relay is used on whose permission is, so that neither makes a difference here.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;

use nilas_interop::dns64::Dns64;
use nilas_interop::pair::{Pair, Seen, candidate_type};
use nilas_interop::programs::{self, Said};
use nilas_interop::scene::{Scene, start_relayed};
use nilas_lab::{Node, SERVER_V4, SERVER_V6};
use serde_json::Value;

/// All that both can build: each of the nine types beside itself, and the others beside what makes a difference.
const CELLS: [[&str; 2]; 42] = [
    ["eim-eif", "eim-eif"],
    ["eim-adf", "eim-adf"],
    ["eim-apdf", "eim-apdf"],
    ["adm-eif", "adm-eif"],
    ["adm-adf", "adm-adf"],
    ["adm-apdf", "adm-apdf"],
    ["apdm-eif", "apdm-eif"],
    ["apdm-adf", "apdm-adf"],
    ["apdm-apdf", "apdm-apdf"],
    ["eim-eif", "apdm-apdf"],
    ["eim-adf", "apdm-apdf"],
    ["eim-apdf", "apdm-apdf"],
    ["eim-apdf", "adm-adf"],
    ["eim-adf", "adm-apdf"],
    ["adm-eif", "apdm-apdf"],
    ["apdm-eif", "apdm-adf"],
    ["open", "open"],
    ["open", "plain"],
    ["open", "sym"],
    ["plain", "plain"],
    ["plain", "sym"],
    ["sym", "sym"],
    ["plain", "same"],
    ["sym", "same"],
    ["eim-apdf+hairpin", "same"],
    ["eim-apdf", "plain+overlap"],
    ["cgn:plain:eim-apdf", "eim-apdf"],
    ["cgn:plain:sym", "plain"],
    ["cgn:plain:eim-apdf", "samecgn"],
    ["cgn:plain:eim-apdf+hairpin", "samecgn"],
    ["v6fw", "v6fw"],
    ["v6fw", "open"],
    ["v6fw", "plain"],
    ["dual", "dual"],
    ["dual", "v6fw"],
    ["v6broken", "plain"],
    ["nat64", "plain"],
    ["nat64", "v6fw"],
    ["plain+udpblock", "sym"],
    ["plain+udpblock", "plain+udpblock"],
    ["plain+tcp443", "plain"],
    ["plain+strict443", "plain"],
];

/// The kind whose network has IPv6 only, and a translator to IPv4.
const TRANSLATED: &str = "nat64";

/// So many demos at a time: each mostly waits for round trips.
const WORKERS: usize = 4;

/// What came of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    None,
    Relayed,
    /// From a's end to b's, each named by a itself and by b itself.
    Direct(End, End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Host,
    Mapped,
}

impl Path {
    /// By the names that the two sides of a pair have for their own candidates.
    fn of(a: &str, b: &str) -> Result<Self, String> {
        let end = |kind: &str| match kind {
            "host" => Ok(Some(End::Host)),
            "srflx" | "prflx" => Ok(Some(End::Mapped)),
            "relay" => Ok(None),
            _ => Err(format!("no candidate is of type {kind}")),
        };
        Ok(match (end(a)?, end(b)?) {
            (Some(a), Some(b)) => Self::Direct(a, b),
            _ => Self::Relayed,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no path"),
            Self::Relayed => f.write_str("a relayed path"),
            Self::Direct(a, b) => write!(f, "a path {a:?} to {b:?}"),
        }
    }
}

#[test]
fn the_laboratory_and_the_simulator_agree_in_every_cell() {
    let waiting = Mutex::new(CELLS.iter());
    let disagreements = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let cell = waiting.lock().expect("nobody panics here").next();
                    let Some([a, b]) = cell else { return };
                    let told = compare(a, b).err();
                    let told = told.map(|why| format!("{a} beside {b}: {why}"));
                    disagreements.lock().expect("nor here").extend(told);
                }
            });
        }
    });
    let disagreements = disagreements.into_inner().expect("all have ended");
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

fn compare(a: &str, b: &str) -> Result<(), String> {
    let simulated = in_the_simulator(a, b)?;
    if [a, b].contains(&TRANSLATED) {
        return beside_a_translator([a, b], &simulated);
    }
    let real = in_the_laboratory(a, b)?;
    if simulated.contains(&real) {
        return Ok(());
    }
    let simulated = any_of(&simulated);
    Err(format!(
        "the laboratory finds {real}, the simulator {simulated}"
    ))
}

fn any_of(paths: &BTreeSet<Path>) -> String {
    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    paths.join(" or ")
}

fn in_the_laboratory(a: &str, b: &str) -> Result<Path, String> {
    // On a wire without delay the machine's own pauses would decide which check comes first.
    let kinds = format!("{a},{b}");
    let said = nilas(&["demo", "--json", "--delay-ms", "10", "--nat", &kinds])?;
    let result = last_line(&said)?;
    if result["ok"] != true {
        let verdict = result["verdict"].as_str().unwrap_or("no verdict");
        return match verdict.contains("no connection") {
            true => Ok(Path::None),
            false => Err(verdict.to_owned()),
        };
    }
    let end = |end: &Value| {
        let address = end["address"].as_str().unwrap_or_default();
        let address = address.parse().ok().map(|address: SocketAddr| address.ip());
        kind_of(address, end["type"].as_str())
    };
    let lines = said.output.lines();
    let selected: Vec<_> = lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == "selected")
        .collect();
    let kinds = |name: &str| {
        let pair = selected.iter().rev().find(|event| event["peer"] == name);
        let pair = pair.ok_or_else(|| format!("{name} selected nothing: {said:?}"))?;
        Ok::<_, String>(["local", "remote"].map(|which| end(&pair[which])))
    };
    agreed([kinds("a")?, kinds("b")?])
}

/// What a demo finds, between two programs whose machines ask different resolvers. A side may move once more when both have
/// completed, and the other follows some checks later.
fn beside_a_translator(kinds: [&str; 2], simulated: &BTreeSet<Path>) -> Result<(), String> {
    let scene = Scene::with_relays(&kinds.join(","))?;
    let _dns = Dns64::start(scene.lab())?;
    let agent = |side: usize| {
        let node = [Node::A, Node::B][side];
        match kinds[side] {
            TRANSLATED => scene.nilas_asking(node, Dns64::ADDRESS.into()),
            _ => scene.nilas(node),
        }
    };
    let starts = [true, false].map(start_relayed);
    let mut pair = Pair::start([agent(0)?, agent(1)?], starts)?;
    let end = |line: &str| {
        // RFC 8839 section 5.1: foundation, component, transport, priority, address.
        let address = line.split_whitespace().nth(4);
        let address = address.and_then(|address| address.parse().ok());
        kind_of(address, candidate_type(line))
    };
    let selected = |side: &Seen| {
        let (local, remote) = side.selected.last()?;
        let is_over = side.states.last().is_some_and(|state| state == "completed");
        is_over.then(|| [end(local), end(remote)])
    };
    let goal = format!("both sides have completed on {}", any_of(simulated));
    pair.relay_until(&goal, |seen| match seen.each_ref().map(selected) {
        [Some(a), Some(b)] => agreed([a, b]).is_ok_and(|path| simulated.contains(&path)),
        _ => false,
    })?;
    pair.close()
}

/// The kernel may give a packet that begins a flow where it knows another between the same ends another source port. A
/// relayed address is then seen as one that nobody told; whose address it is does not change.
fn kind_of(address: Option<IpAddr>, told: Option<&str>) -> String {
    let mut servers =
        { SERVER_V4.into_iter().map(IpAddr::from) }.chain(SERVER_V6.map(IpAddr::from));
    let is_relayed = address.is_some_and(|address| servers.any(|server| server == address));
    match is_relayed {
        true => "relay".to_owned(),
        false => told.unwrap_or("missing").to_owned(),
    }
}

/// The path of two sides that each name their own end and the other's.
fn agreed([a, b]: [[String; 2]; 2]) -> Result<Path, String> {
    let seen_by_each = [Path::of(&a[0], &a[1])?, Path::of(&b[1], &b[0])?];
    match seen_by_each.map(|path| path == Path::Relayed) {
        [true, true] => Ok(Path::Relayed),
        [false, false] => Path::of(&a[0], &b[0]),
        _ => Err(format!("its two sides do not agree: {a:?} and {b:?}")),
    }
}

/// The paths that some sessions find there: chance decides which ports a NAT chooses, and what comes first.
fn in_the_simulator(a: &str, b: &str) -> Result<BTreeSet<Path>, String> {
    let arguments = ["sim", "--json", "--nat-a", a, "--nat-b", b];
    let said = nilas(
        &[
            &arguments[..],
            &["--servers", "turn", "--rtt-ms", "40", "--runs", "8"],
        ]
        .concat(),
    )?;
    let result = last_line(&said)?;
    let paths = result["paths"].as_array().cloned().unwrap_or_default();
    let one = |path: &Value| {
        let path = path["path"].as_str().unwrap_or_default();
        let (local, remote) = path.split_once('>').ok_or_else(|| path.to_owned())?;
        Path::of(local, remote)
    };
    let mut paths: BTreeSet<_> = paths.iter().map(one).collect::<Result<_, _>>()?;
    if result["connected"] != result["runs"] {
        paths.insert(Path::None);
    }
    Ok(paths)
}

fn nilas(arguments: &[&str]) -> Result<Said, String> {
    let mut command = Command::new(programs::nilas()?);
    command.args(arguments);
    let said = programs::run(command);
    // 1 is a session without a path, which is an answer, too.
    match said.code {
        Some(0 | 1) => Ok(said),
        _ => Err(format!("{arguments:?}: {said:?}")),
    }
}

fn last_line(said: &Said) -> Result<Value, String> {
    let line = said.output.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("{error}: {said:?}"))
}
