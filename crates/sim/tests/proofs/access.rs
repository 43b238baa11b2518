//! Accesses by their words: sessions between them, where no relay is needed, end as they do between the kernel's own
//! NATs in the laboratory.

use std::time::Duration;

use nilas_sim::matrix::{Scenario, Session};
use nilas_sim::{Access, Fate};

fn session(a: &str, b: &str) -> Session {
    let [a, b] = [a, b].map(|word| {
        word.parse::<Access>()
            .unwrap_or_else(|error| panic!("{error}"))
    });
    Scenario::new(a, b).run().expect("they make a world")
}

#[track_caller]
fn ends(a: &str, b: &str, expected: &str, ipv4: bool) {
    let session = session(a, b);
    let path = session.outcome.path.map(|path| path.to_string());
    assert_eq!(path.as_deref(), Some(expected), "{a} {b}");
    let pair = session.world.selected_pair(session.a).expect("a pair");
    assert_eq!(pair.base.is_ipv4(), ipv4, "{a} {b}");
    assert!(session.outcome.carries_data, "{a} {b}");
}

#[test]
fn two_homes_of_both_families_meet_on_ipv6() {
    for (a, b) in [
        ("dual", "dual"),
        ("v6fw", "v6fw"),
        ("v6fw", "open"),
        ("multi", "dual"),
        ("v6fw", "nat64"),
    ] {
        ends(a, b, "host>host", false);
    }
}

#[test]
fn a_broken_ipv6_costs_nothing_but_itself() {
    ends("v6broken", "dual", "srflx>srflx", true);
    let broken = session("v6broken", "dual").outcome.first_path;
    let without = session("plain", "plain").outcome.first_path;
    let (broken, without) = (broken.expect("a path"), without.expect("a path"));
    assert!(broken <= without + Duration::from_millis(50), "{broken:?}");
}

#[test]
fn the_common_nats_are_passed() {
    for (a, b) in [
        ("eim-apdf", "plain"),
        ("eim-apdf+overlap", "plain"),
        ("cgn:plain:eim-apdf", "eim-apdf"),
        ("multi", "plain"),
        ("eim-apdf+mtu=1280", "plain+loss=3"),
        ("plain+rate=256", "dual"),
        ("plain+to=20", "plain"),
    ] {
        ends(a, b, "srflx>srflx", true);
    }
    ends("cgn:plain:eim-apdf+hairpin", "samecgn", "srflx>srflx", true);
    ends("v4fw", "plain", "host>srflx", true);
    ends("dual", "same", "host>host", false);
}

#[test]
fn what_needs_a_relay_has_no_path_without_one() {
    for (a, b) in [
        ("sym", "eim-apdf"),
        ("cgn:plain:eim-apdf", "samecgn"),
        ("v6fw", "plain"),
        ("open+noudp", "open"),
        ("plain+udpblock", "open"),
        ("dual+tcp443", "dual"),
        ("v6fw+strict443", "open"),
    ] {
        let session = session(a, b);
        assert_eq!(session.outcome.path, None, "{a} {b}");
    }
}

#[test]
fn a_blocked_peer_sends_into_the_dark() {
    let session = session("plain+udpblock", "open");
    let from_a = session.world.trace().packets().iter();
    let blocked = from_a.filter(|packet| packet.fate == Fate::Blocked);
    assert!(blocked.count() > 0);
}
