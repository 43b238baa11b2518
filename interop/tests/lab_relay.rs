//! `nilas server` on a machine of the laboratory whose addresses change.

use std::thread;
use std::time::{Duration, Instant};

use nilas_interop::server::{PASSWORD, Server, USER};
use nilas_interop::{HANG_GUARD, programs};
use nilas_lab::{Lab, Node};

/// An address that the machine gets while the server runs. It is in no range that is special.
const LATER: &str = "9.9.9.9";

/// Runs a program on the server's machine. Gives what it prints if it succeeds, and what it complains of if not.
fn run(lab: &Lab, program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = lab.command(Node::Server, program).expect("a machine");
    let output = command.args(arguments).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn an_address_that_the_servers_machine_gets_later_is_no_peer_either() {
    let kinds = "open,open".parse().expect("kinds of access");
    let lab = Lab::build(&kinds).expect("a laboratory");
    let _server = Server::start_public_relay(&lab).expect("a server");
    run(
        &lab,
        "ip",
        &["address", "add", &format!("{LATER}/32"), "dev", "lo"],
    )
    .expect("the machine gets an address");
    let nilas = programs::nilas().expect("the program");
    let nilas = nilas.to_str().expect("a path in UTF-8");
    let url = format!("turn:{}", Server::stun_v4());
    let peer = format!("{LATER}:5000");
    let relay = [
        "turn",
        "bench",
        &url,
        "--user",
        USER,
        "--password",
        PASSWORD,
        "--peer",
        &peer,
        "--rate",
        "10",
        "--seconds",
        "1",
    ];
    // The system tells the server, some time.
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let relayed = run(&lab, nilas, &relay);
        match &relayed {
            Err(complaint) if complaint.contains("403") => return,
            _ => assert!(Instant::now() < deadline, "{relayed:?}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}
