//! A prober: plain UDP sockets on the machines of a laboratory, and what they find out.
//!
//! Between machines without a wire a packet usually arrives before `send_to` returns, and packets that
//! take the same way keep their order. So the proof that a packet was dropped is that others sent after it
//! have arrived, and nothing has to wait for silence.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nilas_lab::{Filtering, Lab, Mapping, Node, SERVER_V4, Topology};

/// A guard against waiting forever, not an expectation.
const PATIENCE: Duration = Duration::from_secs(60);

/// A laboratory; where it cannot be built the test fails with what to do.
pub(crate) fn lab(topology: &str) -> Lab {
    build(
        &topology
            .parse()
            .unwrap_or_else(|error| panic!("{topology}: {error}")),
    )
}

/// The same with a wire on each uplink.
pub(crate) fn wired_lab(topology: &str, wire: &str) -> Lab {
    let mut topology: Topology = topology.parse().unwrap();
    topology.wire = Some(wire.parse().unwrap());
    build(&topology)
}

fn build(topology: &Topology) -> Lab {
    Lab::build(topology).unwrap_or_else(|error| panic!("{topology}: {error}"))
}

/// A UDP socket on a machine.
pub(crate) fn socket(
    lab: &Lab,
    node: Node,
    address: impl Into<IpAddr> + Send,
    port: u16,
) -> UdpSocket {
    let socket = lab
        .run_in(node, || {
            UdpSocket::bind(SocketAddr::new(address.into(), port))
        })
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A UDP socket on a machine, at any IPv4 address and port of it.
pub(crate) fn any_socket(lab: &Lab, node: Node) -> UdpSocket {
    socket(lab, node, Ipv4Addr::UNSPECIFIED, 0)
}

/// Sends a packet that must arrive; answers where it seems to come from.
pub(crate) fn deliver(from: &UdpSocket, to: &UdpSocket, destination: SocketAddr) -> SocketAddr {
    from.send_to(b"must arrive", destination).unwrap();
    let (text, source) = receive(to);
    assert_eq!(text, "must arrive");
    source
}

/// The next packet, as text.
pub(crate) fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    try_receive(socket).expect("nothing arrived")
}

/// The next packet, if one comes before the socket's patience ends. A wait that a signal cuts short goes on.
pub(crate) fn try_receive(socket: &UdpSocket) -> std::io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 2000];
    loop {
        match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => {
                return received.map(|(length, source)| {
                    (
                        String::from_utf8_lossy(&buffer[..length]).into_owned(),
                        source,
                    )
                });
            }
        }
    }
}

/// Whether a packet gets through, told by a second packet that surely does.
pub(crate) fn gets_through(
    (from, destination): (&UdpSocket, SocketAddr),
    (sure, sure_destination): (&UdpSocket, SocketAddr),
    to: &UdpSocket,
) -> bool {
    // An ICMP error that an earlier packet earned is reported by the next call, which then sends nothing.
    for _ in 0..2 {
        if from.send_to(b"may arrive", destination).is_ok() {
            break;
        }
    }
    // The pause is for a kernel so busy that it has put the first packet off; mostly it has long arrived.
    let mut through = false;
    for _ in 0..2 {
        sure.send_to(b"surely arrives", sure_destination).unwrap();
        while receive(to).0 == "may arrive" {
            through = true;
        }
        if through {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    through
}

/// The server's sockets: two addresses with the same two ports each.
pub(crate) struct Servers {
    pub(crate) sockets: [[UdpSocket; 2]; 2],
    pub(crate) addresses: [[SocketAddr; 2]; 2],
}

impl Servers {
    pub(crate) fn on(lab: &Lab) -> Self {
        let ports = [3478, 3479];
        Self {
            sockets: SERVER_V4
                .map(|address| ports.map(|port| socket(lab, Node::Server, address, port))),
            addresses: SERVER_V4
                .map(|address| ports.map(|port| SocketAddr::new(address.into(), port))),
        }
    }

    /// As what the first server socket sees another machine's socket.
    pub(crate) fn reflect(&self, socket: &UdpSocket) -> SocketAddr {
        deliver(socket, &self.sockets[0][0], self.addresses[0][0])
    }
}

/// How the NAT in front of a machine maps, by where three destinations see one socket.
pub(crate) fn mapping(lab: &Lab, servers: &Servers, node: Node) -> Mapping {
    let socket = any_socket(lab, node);
    let seen = |address: usize, port: usize| {
        deliver(
            &socket,
            &servers.sockets[address][port],
            servers.addresses[address][port],
        )
    };
    let (first, other_port, other_address) = (seen(0, 0), seen(0, 1), seen(1, 0));
    // What is seen once stays so.
    assert_eq!(
        (first, other_port, other_address),
        (seen(0, 0), seen(0, 1), seen(1, 0))
    );
    if first != other_port {
        assert_ne!(first, other_address);
        Mapping::AddressAndPortDependent
    } else if first != other_address {
        Mapping::AddressDependent
    } else {
        Mapping::EndpointIndependent
    }
}

/// Whom the NAT in front of a machine lets in, after one packet to the first server socket.
pub(crate) fn filtering(lab: &Lab, servers: &Servers, node: Node) -> Filtering {
    let socket = any_socket(lab, node);
    let seen = servers.reflect(&socket);
    let [[contacted, other_port], [other_address, neither]] = &servers.sockets;
    let passes = |from: &UdpSocket| gets_through((from, seen), (contacted, seen), &socket);
    match (passes(neither), passes(other_address), passes(other_port)) {
        (true, true, true) => Filtering::EndpointIndependent,
        (false, false, true) => Filtering::AddressDependent,
        (false, false, false) => Filtering::AddressAndPortDependent,
        other => panic!("no filtering of RFC 4787: {other:?}"),
    }
}
