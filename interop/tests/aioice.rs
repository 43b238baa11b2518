//! `nilas agent` and aioice, each in a network namespace of its own, in both roles, with data both ways.

use nilas_interop::pair::Pair;
use nilas_interop::scene::{Scene, lite, start, start_by_relay};
use nilas_lab::Node;

/// Who starts as controlling.
struct Controlling {
    nilas: bool,
    aioice: bool,
}

const NILAS: Controlling = Controlling {
    nilas: true,
    aioice: false,
};
const AIOICE: Controlling = Controlling {
    nilas: false,
    aioice: true,
};
const BOTH: Controlling = Controlling {
    nilas: true,
    aioice: true,
};
const NEITHER: Controlling = Controlling {
    nilas: false,
    aioice: false,
};

#[test]
fn nilas_controls() {
    connects("open,open", NILAS);
}

#[test]
fn aioice_controls() {
    connects("open,open", AIOICE);
}

#[test]
fn both_start_as_controlling() {
    connects("open,open", BOTH);
}

#[test]
fn both_start_as_controlled() {
    connects("open,open", NEITHER);
}

#[test]
fn nilas_controls_behind_nats() {
    connects("plain,plain", NILAS);
}

#[test]
fn aioice_controls_behind_nats() {
    connects("plain,plain", AIOICE);
}

#[test]
fn both_start_as_controlling_behind_nats() {
    connects("eim-apdf,eim-adf", BOTH);
}

#[test]
fn both_start_as_controlled_behind_nats() {
    connects("eim-apdf,eim-adf", NEITHER);
}

/// On one link aioice resolves the name that nilas answers for.
#[test]
fn nilas_hides_its_addresses() {
    for nilas in [true, false] {
        let run = || {
            let scene = Scene::build("plain,same")?;
            let peers = [scene.nilas(Node::A)?, scene.aioice(Node::B)?];
            let mut hidden = start(nilas);
            hidden["mdns"] = true.into();
            Pair::start(peers, [hidden, start(!nilas)])?.live(20)
        };
        run().unwrap_or_else(|report: String| panic!("nilas controls: {nilas}: {report}"));
    }
}

#[test]
fn nilas_is_lite() {
    for aioice in [true, false] {
        let run = || {
            let scene = Scene::build("open,plain")?;
            let peers = [scene.nilas(Node::A)?, scene.aioice(Node::B)?];
            Pair::start(peers, [lite(false), start(aioice)])?.live(20)
        };
        run().unwrap_or_else(|report: String| panic!("aioice controls: {aioice}: {report}"));
    }
}

/// Each behind a NAT that lets nobody in, and both only reach the relay, each over another transport.
#[test]
fn a_relay_where_nothing_direct_works() {
    for (nilas, transports) in [(true, ["udp", "tcp"]), (false, ["tcp", "udp"])] {
        let run = || {
            let scene = Scene::with_relays("sym,sym")?;
            let peers = [scene.nilas(Node::A)?, scene.aioice(Node::B)?];
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
fn aioice_connects_to_itself() {
    let run = || {
        let scene = Scene::build("open,open")?;
        Pair::start(
            [scene.aioice(Node::A)?, scene.aioice(Node::B)?],
            [start(true), start(false)],
        )?
        .live(20)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}

fn connects(kinds: &str, controlling: Controlling) {
    let run = || {
        let scene = Scene::build(kinds)?;
        let peers = [scene.nilas(Node::A)?, scene.aioice(Node::B)?];
        Pair::start(peers, [start(controlling.nilas), start(controlling.aioice)])?.live(20)
    };
    run().unwrap_or_else(|report: String| panic!("{report}"));
}
