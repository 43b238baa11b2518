//! A process without root builds a laboratory.
//!
//! Entering a user namespace takes a process with a single thread, which the usual test harness is not;
//! so this file brings its own `main`, with as much of the harness's command line as cargo and nextest use.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    const NAME: &str = "a_process_without_root_builds_a_laboratory";
    if std::env::var_os(rootless::CHILD).is_some() {
        return rootless::child();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if filters.is_empty() || filters.iter().any(|filter| NAME.contains(filter.as_str())) {
        rootless::parent();
        println!("test {NAME} ... ok");
    }
}

#[cfg(target_os = "linux")]
mod rootless {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::Duration;

    use nilas_lab::{Lab, Node, SERVER_V4, Topology};

    pub(crate) const CHILD: &str = "NILAS_LAB_TEST_ROOTLESS";

    /// The user and group that Debian calls nobody and nogroup.
    const NOBODY: u32 = 65_534;

    pub(crate) fn parent() {
        // The path leads to the file itself, whatever directories nobody may enter.
        let mut child = Command::new("/proc/self/exe");
        child.env(CHILD, "1").current_dir("/");
        let may_change_user = std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
            map.split_whitespace()
                .nth(2)
                .is_some_and(|count| count.parse() != Ok(1))
        });
        if nix::unistd::geteuid().is_root() && may_change_user {
            child.uid(NOBODY).gid(NOBODY);
        }
        let status = child
            .status()
            .expect("starting this test again as another user");
        assert!(
            status.success(),
            "the laboratory does not work without root: {status}"
        );
    }

    pub(crate) fn child() {
        nilas_lab::enter_user_namespace_if_needed().unwrap_or_else(|error| panic!("{error}"));
        let mut topology: Topology = "cgn:plain:eim-apdf,v6fw+loss=1+rate=1000".parse().unwrap();
        topology.wire = Some("delay=1".parse().unwrap());
        let lab = Lab::build(&topology).unwrap_or_else(|error| panic!("{error}"));
        let bind = |node, address: Ipv4Addr, port| {
            let socket = lab
                .run_in(node, || UdpSocket::bind((address, port)))
                .unwrap()
                .unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            socket
        };
        let (a, server) = (
            bind(Node::A, Ipv4Addr::UNSPECIFIED, 0),
            bind(Node::Server, SERVER_V4[0], 3478),
        );
        let mut buffer = [0; 100];
        a.send_to(b"out", (SERVER_V4[0], 3478)).unwrap();
        let (_, seen) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(seen.ip(), Ipv4Addr::new(198, 51, 100, 2));
        server.send_to(b"back", seen).unwrap();
        assert_eq!(a.recv_from(&mut buffer).unwrap().0, 4);
        lab.event("flush ca".parse().unwrap()).unwrap();
        let status = lab.command(Node::B, "true").unwrap().status().unwrap();
        assert!(status.success());
        // With threads about, it is too late to ask; and with the privilege already, no need.
        let asked_again = std::thread::spawn(nilas_lab::enter_user_namespace_if_needed)
            .join()
            .unwrap();
        assert!(asked_again.is_ok());
    }
}
