//! Where a demo happens: on this machine as it is, or in a laboratory of NATs.

use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;

use nilas_lab::{Kind, Lab, Node, SERVER_V4, SERVER_V6, Side, Topology};
use nilas_server::{DEFAULT_STUN_PORT, ServerConfig};

use crate::failure::Failure;

/// In the laboratory the rendezvous stands where even the strictest firewall lets TCP through.
const LAB_RENDEZVOUS_PORT: u16 = 443;

#[derive(Debug)]
pub(super) enum Place {
    /// This machine and its own network.
    Here,
    /// Network namespaces behind the kernel's NATs.
    Lab { lab: Box<Lab>, topology: Topology },
}

/// How a peer reaches the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub(super) stun: SocketAddr,
    /// A URL.
    pub(super) rendezvous: String,
}

impl Place {
    /// What a person should know before it begins.
    pub(super) fn introduction(&self) -> String {
        match self {
            Self::Here => {
                "two peers on this machine, a and b, and a server that introduces them".to_owned()
            }
            Self::Lab { topology, .. } => {
                let wire = topology.wire.as_ref().map(|wire| {
                    format!(
                        "; {} ms and {} % loss on each side's wire",
                        wire.delay.as_millis(),
                        wire.loss_percent
                    )
                });
                let Topology { a, b, .. } = topology;
                format!(
                    "peer a behind {a}, peer b behind {b}, in network namespaces{}",
                    wire.unwrap_or_default()
                )
            }
        }
    }

    /// Starts a thread on a machine of this place.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        node: Node,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Failure> {
        match self {
            Self::Here => std::thread::Builder::new()
                .name(node.to_string())
                .spawn(work)
                .map_err(Failure::internal),
            Self::Lab { lab, .. } => lab.spawn_in(node, work).map_err(Failure::usage),
        }
    }

    /// What the server is to be.
    pub(super) fn server_config(&self) -> ServerConfig {
        match self {
            Self::Here => ServerConfig::loopback(),
            Self::Lab { .. } => {
                let addresses = [IpAddr::V4(SERVER_V4[0]), IpAddr::V6(SERVER_V6[0])];
                ServerConfig::on(&addresses, DEFAULT_STUN_PORT, LAB_RENDEZVOUS_PORT)
            }
        }
    }

    /// Which of the server's addresses a peer uses: those of its own family.
    pub(super) fn server_for(
        &self,
        side: Side,
        stun: &[SocketAddr],
        rendezvous: &[SocketAddr],
    ) -> Option<ServerAddress> {
        let ipv6 = match self {
            Self::Here => false,
            Self::Lab { topology, .. } => {
                matches!(topology.side(side).kind, Kind::V6Firewall | Kind::Nat64)
            }
        };
        let choose = |addresses: &[SocketAddr]| {
            let of_family = addresses.iter().find(|address| address.is_ipv6() == ipv6);
            of_family.or_else(|| addresses.first()).copied()
        };
        Some(ServerAddress {
            stun: choose(stun)?,
            rendezvous: format!("ws://{}", choose(rendezvous)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_uses_the_server_s_address_of_its_family() {
        let addresses: Vec<SocketAddr> = ["127.0.0.1:1", "[::1]:2"]
            .map(|text| text.parse().expect("an address"))
            .into();
        let server = Place::Here
            .server_for(Side::A, &addresses, &addresses)
            .expect("there is one");
        assert_eq!(
            server,
            ServerAddress {
                stun: addresses[0],
                rendezvous: "ws://127.0.0.1:1".to_owned()
            }
        );
        let only_v6 = Place::Here.server_for(Side::A, &addresses[1..], &addresses[1..]);
        assert_eq!(
            only_v6.map(|server| server.rendezvous),
            Some("ws://[::1]:2".to_owned())
        );
        assert_eq!(Place::Here.server_for(Side::A, &[], &addresses), None);
    }
}
