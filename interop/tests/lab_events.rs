//! Sessions under 200 messages a second each way whose network changes in the laboratory of kernel NATs. Each row
//! prints the longest silence at both ends, which is the figure that matters to a person; how short it is in virtual time
//! say the proofs of the simulator.

use std::time::Duration;

use nilas_interop::pair::{Pair, candidate_type};
use nilas_interop::scene::{Scene, start_relayed};
use nilas_interop::talk::Talk;
use nilas_lab::{Node, SERVER_V4};

use Way::{Leaves, Returns, Stays};

/// For how long data flows, and when in it the network changes.
const LENGTH: Duration = Duration::from_secs(8);
const FIRST: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(5);

/// Bytes of a message: few, and as many as an application sends that knows nothing of the path.
const SMALL: usize = 20;
const LARGE: usize = 1_200;

/// The first peer's Wi-Fi, or its only network, as the world sees it: part of its candidate, or of its relayed one's base.
const FIRST_NETWORK: &str = " 198.51.100.2 ";

#[test]
fn nothing_happens() {
    bends("quiet", "plain,plain", SMALL, &[]);
}

#[test]
fn wifi_is_lost() {
    bends("wifi lost", "multi,plain", SMALL, &[("losewifi", Leaves)]);
}

#[test]
fn wifi_is_lost_and_comes_back() {
    let events = [("losewifi", Leaves), ("regainwifi", Returns)];
    bends("wifi lost and back", "multi,plain", SMALL, &events);
}

#[test]
fn the_nat_forgets_everything() {
    bends("NAT flushed", "plain,plain", SMALL, &[("flush na", Stays)]);
}

#[test]
fn the_nat_gets_another_address() {
    let events = [("readdress na 198.51.100.9", Leaves)];
    bends("NAT renumbered", "plain,plain", SMALL, &events);
}

#[test]
fn the_path_swallows_everything() {
    let events = [("blackhole wa", Leaves)];
    bends("black hole", "multi,plain", SMALL, &events);
}

#[test]
fn the_path_swallows_everything_one_way() {
    bends("one way", "multi,plain", SMALL, &[("oneway wa", Leaves)]);
}

#[test]
fn large_packets_do_not_get_through() {
    bends("mtu 1280", "plain+mtu=1280,plain", LARGE, &[]);
}

/// The server that carries the data is told to end, and does; there is another.
#[test]
fn the_server_is_drained() {
    let mut scene = Scene::with_relays("sym,sym").unwrap_or_else(|why| panic!("{why}"));
    let mut pair = pair(&scene);
    let carrier = carrier(&pair);
    let mut talk = pair.talk(SMALL);
    talk.until(FIRST).unwrap_or_else(|why| panic!("{why}"));
    scene.servers()[carrier]
        .drain()
        .unwrap_or_else(|error| panic!("{error}"));
    finish("server drained", talk);
    let ended = scene.servers()[carrier].has_ended();
    assert!(ended.is_ok_and(|ended| ended), "the server goes on");
}

/// Which of the two relays carries the data.
fn carrier(pair: &Pair) -> usize {
    let seen = pair.seen(0);
    let (local, remote) = seen.selected.last().expect("a pair is selected");
    let relayed = [local, remote]
        .into_iter()
        .find(|line| candidate_type(line) == Some("relay"))
        .unwrap_or_else(|| panic!("no relay: {local} {remote}"));
    SERVER_V4
        .iter()
        .position(|address| relayed.contains(&format!(" {address} ")))
        .unwrap_or_else(|| panic!("whose is {relayed}?"))
}

/// What becomes of the data's way through the first peer's first network.
#[derive(Clone, Copy)]
enum Way {
    Stays,
    Leaves,
    Returns,
}

#[track_caller]
fn bends(name: &str, kinds: &str, length: usize, events: &[(&str, Way)]) {
    // The mobile network of `multi` is behind a symmetric NAT: only a relay leads there.
    let scene = Scene::with_relays(kinds).unwrap_or_else(|why| panic!("{kinds}: {why}"));
    let mut pair = pair(&scene);
    let mut talk = pair.talk(length);
    let on_first = |pair: &Pair| {
        let selected = pair.seen(0).selected.last();
        selected.is_some_and(|(local, _)| local.contains(FIRST_NETWORK))
    };
    let mut lead = || -> Result<(), String> {
        talk.until_seen("the data goes by the first network", on_first)?;
        for ((event, way), at) in events.iter().zip([FIRST, SECOND]) {
            talk.until(at)?;
            scene.happen(event)?;
            match way {
                Stays => {}
                Leaves => talk.until_seen("the data leaves it", |pair| !on_first(pair))?,
                Returns => talk.until_seen("the data returns to it", on_first)?,
            }
        }
        Ok(())
    };
    lead().unwrap_or_else(|why| panic!("{name}: {why}"));
    finish(name, talk);
}

#[track_caller]
fn finish(name: &str, talk: Talk<'_>) {
    let told = talk
        .finish(LENGTH)
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    println!("{name}: {told}");
}

fn pair(scene: &Scene) -> Pair {
    let programs = [Node::A, Node::B].map(|node| {
        scene
            .nilas(node)
            .unwrap_or_else(|why| panic!("nilas agent: {why}"))
    });
    let mut pair = Pair::start(programs, [start_relayed(true), start_relayed(false)])
        .unwrap_or_else(|why| panic!("{why}"));
    pair.connect().unwrap_or_else(|why| panic!("{why}"));
    pair
}
