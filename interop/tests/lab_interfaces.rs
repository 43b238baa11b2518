//! What a machine notices of its own network: carriers and routes that come and go under a program that watches.

use std::sync::mpsc::{Receiver, channel};

use nilas_interop::HANG_GUARD;
use nilas_interop::scene::Scene;
use nilas_lab::Node;
use nilas_net::InterfaceWatch;

#[track_caller]
fn good<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|report| panic!("{report}"))
}

/// The names of the interfaces with addresses on a machine, and whether the default route is theirs: as they are, and
/// after each change.
type Seen = Vec<(String, bool)>;

fn watch(scene: &Scene, node: Node) -> Receiver<Seen> {
    let (tell, seen) = channel();
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut watch = InterfaceWatch::new().expect("a listing");
            let mut found = watch.interfaces();
            loop {
                let found_now = found
                    .iter()
                    .map(|interface| (interface.name.clone(), interface.default_route))
                    .collect();
                if tell.send(found_now).is_err() {
                    return;
                }
                found = watch.changed().await;
            }
        });
    };
    // It ends with the test's process.
    drop(good(scene.lab().spawn_in(node, watch)));
    seen
}

/// Passes by what was seen until it is this.
#[track_caller]
fn wait_for(seen: &Receiver<Seen>, wanted: &[(&str, bool)]) {
    let mut last = Seen::new();
    let is_wanted = |found: &Seen| {
        let found = found.iter().map(|(name, route)| (name.as_str(), *route));
        found.eq(wanted.iter().copied())
    };
    while let Ok(found) = seen.recv_timeout(HANG_GUARD) {
        if is_wanted(&found) {
            return;
        }
        last = found;
    }
    panic!("{wanted:?} does not come; last there was {last:?}");
}

fn ip(scene: &Scene, node: Node, words: &str) {
    let words: Vec<_> = words.split(' ').collect();
    let mut command = good(scene.lab().command(node, "ip"));
    let status = good(command.args(words).status());
    assert!(status.success(), "{status}");
}

#[test]
fn an_interface_whose_cable_leads_nowhere_is_gone_until_it_leads_somewhere() {
    let scene = good(Scene::build("plain,open"));
    let seen = watch(&scene, Node::A);
    let both = [("lo", false), ("eth0", true)];
    wait_for(&seen, &both);
    ip(&scene, Node::HomeA, "link set lan0 down");
    wait_for(&seen, &both[..1]);
    ip(&scene, Node::HomeA, "link set lan0 up");
    wait_for(&seen, &both);
}

#[test]
fn a_default_route_that_changes_is_noticed() {
    let scene = good(Scene::build("plain,open"));
    let seen = watch(&scene, Node::A);
    wait_for(&seen, &[("lo", false), ("eth0", true)]);
    ip(&scene, Node::A, "route del default");
    wait_for(&seen, &[("lo", false), ("eth0", false)]);
    ip(&scene, Node::A, "route add default via 192.168.1.1");
    wait_for(&seen, &[("lo", false), ("eth0", true)]);
}
