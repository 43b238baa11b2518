//! Sessions under 200 messages a second each way whose network changes in the laboratory of kernel NATs. Each row
//! prints the longest silence at both ends, which is the figure that matters to a person.

use std::time::Duration;

use nilas_interop::pair::{Pair, candidate_type};
use nilas_interop::scene::{Scene, start_relayed};
use nilas_interop::talk::Talk;
use nilas_lab::{Node, SERVER_V4};

/// For how long data flows, and when in it the network changes.
const LENGTH: Duration = Duration::from_secs(8);
const FIRST: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(5);

/// Nothing here takes nearly as long on a machine that does nothing else: who is silent for longer waited for somebody
/// else to help. How short it is in virtual time say the proofs of the simulator.
const LONGEST: Duration = Duration::from_secs(5);

#[test]
fn nothing_happens() {
    bends("quiet", "plain,plain", &[]);
}

#[test]
fn wifi_is_lost() {
    bends("wifi lost", "multi,plain", &[(FIRST, "losewifi")]);
}

#[test]
fn wifi_is_lost_and_comes_back() {
    bends(
        "wifi lost and back",
        "multi,plain",
        &[(FIRST, "losewifi"), (SECOND, "regainwifi")],
    );
}

#[test]
fn the_nat_forgets_everything() {
    bends("NAT flushed", "plain,plain", &[(FIRST, "flush na")]);
}

#[test]
fn the_nat_gets_another_address() {
    bends(
        "NAT renumbered",
        "plain,plain",
        &[(FIRST, "readdress na 198.51.100.9")],
    );
}

#[test]
fn the_path_swallows_everything() {
    bends("black hole", "multi,plain", &[(FIRST, "blackhole wa")]);
}

#[test]
fn the_path_swallows_everything_one_way() {
    bends("one way", "multi,plain", &[(FIRST, "oneway wa")]);
}

#[test]
fn large_packets_do_not_get_through() {
    bends("mtu 1280", "plain+mtu=1280,plain", &[]);
}

/// The server that carries the data is told to end, and does; there is another.
#[test]
fn the_server_is_drained() {
    let mut scene = Scene::with_relays("sym,sym").unwrap_or_else(|why| panic!("{why}"));
    let mut pair = pair(&scene);
    let carrier = carrier(&pair);
    let mut talk = pair.talk();
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

#[track_caller]
fn bends(name: &str, kinds: &str, events: &[(Duration, &str)]) {
    // The mobile network of `multi` is behind a symmetric NAT: only a relay leads there.
    let scene = Scene::with_relays(kinds).unwrap_or_else(|why| panic!("{kinds}: {why}"));
    let mut pair = pair(&scene);
    let mut talk = pair.talk();
    for (at, event) in events {
        talk.until(*at)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        scene
            .happen(event)
            .unwrap_or_else(|why| panic!("{name}: {event}: {why}"));
    }
    finish(name, talk);
}

#[track_caller]
fn finish(name: &str, talk: Talk<'_>) {
    let told = talk
        .finish(LENGTH)
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    println!("{name}: {told}");
    assert!(told.longest_silence() <= LONGEST, "{name}: {told}");
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
