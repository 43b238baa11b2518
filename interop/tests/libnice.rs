//! `nilas agent` and libnice, each in a network namespace of its own: both roles, both ways to nominate, restarts.

use nilas_interop::pair::Pair;
use nilas_interop::scene::{Scene, lite, start, start_by_relay, tcp};
use nilas_lab::Node;

/// How libnice nominates when it controls: RFC 8445 knows the first way only, older peers use the second.
const REGULAR: bool = false;
const AGGRESSIVE: bool = true;

/// nilas behind a NAT, libnice not: it asks STUN servers as RFC 3489 did, without the magic cookie, and such
/// requests `nilas server` does not answer.
const NATS: &str = "plain,open";

#[test]
fn nilas_controls() {
    run(NATS, [true, false], REGULAR, |pair| pair.live(20));
}

#[test]
fn libnice_controls() {
    run(NATS, [false, true], REGULAR, |pair| pair.live(20));
}

#[test]
fn libnice_controls_and_nominates_aggressively() {
    run(NATS, [false, true], AGGRESSIVE, |pair| pair.live(20));
}

#[test]
fn both_start_as_controlling() {
    run("open,open", [true, true], REGULAR, |pair| pair.live(20));
}

#[test]
fn both_start_as_controlled() {
    run("open,open", [false, false], REGULAR, |pair| pair.live(20));
}

#[test]
fn nilas_restarts() {
    for controls in [true, false] {
        run(NATS, [controls, !controls], REGULAR, |mut pair| {
            pair.connect()?;
            pair.restart(&[0], 5)?;
            pair.close()
        });
    }
}

#[test]
fn libnice_restarts() {
    for controls in [true, false] {
        run(NATS, [controls, !controls], REGULAR, |mut pair| {
            pair.connect()?;
            pair.restart(&[1], 5)?;
            pair.close()
        });
    }
}

/// libnice is given no UDP, so that only TCP is left (RFC 6544). The first side is behind a NAT and has to connect; the
/// other accepts.
#[test]
fn a_connection_carries_the_session() {
    for first in [Peer::Nilas, Peer::Libnice] {
        for controls in [true, false] {
            let run = || {
                let scene = Scene::build("plain,open")?;
                let peers = match first {
                    Peer::Nilas => [scene.nilas(Node::A)?, scene.libnice(Node::B, REGULAR)?],
                    Peer::Libnice => [scene.libnice(Node::A, REGULAR)?, scene.nilas(Node::B)?],
                };
                let mut pair = Pair::start(peers, [tcp(controls), tcp(!controls)])?;
                pair.connect()?;
                pair.exchange(20)?;
                let selected = pair.seen(0).selected.last();
                let (local, remote) = selected.ok_or("the first side selected nothing")?;
                if !(local.contains(" tcptype active") && remote.contains(" tcptype passive")) {
                    return Err(format!("not over TCP: {local} and {remote}"));
                }
                pair.close()
            };
            run().unwrap_or_else(|report: String| {
                panic!("first: {first:?}, controls: {controls}: {report}")
            });
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Nilas,
    Libnice,
}

#[test]
fn nilas_is_lite() {
    for aggressive in [REGULAR, AGGRESSIVE] {
        let run = || {
            let scene = Scene::build("open,open")?;
            let peers = [scene.nilas(Node::A)?, scene.libnice(Node::B, aggressive)?];
            Pair::start(peers, [lite(false), start(true)])?.live(20)
        };
        run().unwrap_or_else(|report: String| panic!("aggressive: {aggressive}: {report}"));
    }
}

#[test]
fn libnice_is_lite() {
    let run = || {
        let scene = Scene::build("plain,open")?;
        let peers = [scene.nilas(Node::A)?, scene.libnice(Node::B, REGULAR)?];
        // The first guess is wrong: the full side controls (RFC 8445 section 6.1.1).
        Pair::start(peers, [start(false), lite(false)])?.live(20)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}

/// Each behind a NAT that lets nobody in, and both only reach the relay, each over another transport.
#[test]
fn a_relay_where_nothing_direct_works() {
    for (nilas, transports) in [(true, ["udp", "tcp"]), (false, ["tcp", "udp"])] {
        let run = || {
            let scene = Scene::with_relays("sym,sym")?;
            let peers = [scene.nilas(Node::A)?, scene.libnice(Node::B, REGULAR)?];
            let starts = [
                start_by_relay(nilas, transports[0]),
                start_by_relay(!nilas, transports[1]),
            ];
            Pair::start(peers, starts)?.live(20)
        };
        run().unwrap_or_else(|report: String| panic!("nilas controls: {nilas}: {report}"));
    }
}

/// Without `nilas agent`: when this fails, the laboratory, the driver or the runner is to blame.
#[test]
fn libnice_connects_to_itself() {
    let run = || {
        let scene = Scene::build("open,open")?;
        let peers = [
            scene.libnice(Node::A, REGULAR)?,
            scene.libnice(Node::B, REGULAR)?,
        ];
        Pair::start(peers, [start(true), start(false)])?.live(20)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}

/// Starts both, told whether they control, and lets `judge` decide.
fn run(
    kinds: &str,
    [nilas, libnice]: [bool; 2],
    aggressive: bool,
    judge: impl FnOnce(Pair) -> Result<(), String>,
) {
    let run = || {
        let scene = Scene::build(kinds)?;
        let peers = [scene.nilas(Node::A)?, scene.libnice(Node::B, aggressive)?];
        judge(Pair::start(peers, [start(nilas), start(libnice)])?)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}
