//! A network in memory, for proofs about sessions in virtual time.
//!
//! A [`World`] has a clock of its own, hosts with addresses, links with delay, jitter, loss and
//! duplication, NATs, STUN servers and names. Each host can carry a [`nilas_ice::Engine`]: the world
//! does for it what an operating system and a driver would, and writes down what it told. Nothing
//! waits: an hour passes as fast as its packets can be counted. Nothing is left to chance either: all
//! of it follows from one seed, so a failure is reproduced by running the same seed again.
//!
//! # Testing your application's session
//!
//! ```
//! use std::time::Duration;
//!
//! use nilas_ice::{AgentConfig, Role};
//! use nilas_sim::{Link, Nat, Realm, Signaling, World};
//!
//! // All chance follows from the seed.
//! let mut world = World::new(7);
//! let stun = "198.51.100.1:3478".parse()?;
//! world.add_stun_server(Realm::INTERNET, stun, Link::new(Duration::from_millis(5)));
//!
//! // One peer is on the Internet, 10 ms and 5 % of loss away from it; the other behind a home router.
//! let lossy = Link::new(Duration::from_millis(10)).with_loss(0.05);
//! let office = world.add_host(Realm::INTERNET, &["192.0.2.1".parse()?], lossy);
//! let (_router, home) = world.add_nat(Realm::INTERNET, "203.0.113.7".parse()?, lossy, Nat::default());
//! let laptop = world.add_host(home, &["192.168.1.2".parse()?], Link::default());
//!
//! // Two agents whose descriptions and candidates take 30 ms from one to the other.
//! let a = world.add_agent(office, AgentConfig::new(Role::Controlling))?;
//! let mut config = AgentConfig::new(Role::Controlled);
//! config.stun_servers.push(stun.into());
//! let b = world.add_agent(laptop, config)?;
//! world.signal_between(a, b, Signaling::trickled(Duration::from_millis(30)))?;
//! world.gather(a)?;
//! world.gather(b)?;
//!
//! let connected = world.run_until(Duration::from_secs(60), |world| world.is_up(a) && world.is_up(b));
//! assert!(connected.is_some(), "{}", world.trace());
//!
//! // What your application would say to its peer, until it arrives.
//! while world.received(b).is_empty() {
//!     world.send(a, b"hello")?;
//!     world.run_for(Duration::from_millis(100));
//! }
//! assert_eq!(world.received(b)[0].1, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rooms
//!
//! | file | what lives there |
//! |---|---|
//! | `world` | [`World`]: running it, asking it |
//! | `build` | building it, and whether it makes sense |
//! | `drive` | what a driver does for an engine |
//! | `agents` | what a world can do with an agent of one of its hosts |
//! | `interfaces` | addresses and links of nodes: they come, change and go |
//! | `transit` | a packet's way: up the sender's wire, through realms and routers, down to a socket |
//! | `packet` | a packet; [`Flow`], its transport |
//! | `queue` | the virtual clock and what is to happen when |
//! | `link` | [`Wire`] and [`Link`]: delay, jitter, loss, bursts, duplication, reordering, rate, queue, MTU |
//! | `link_names` | names that hosts answer for on their link |
//! | `port_mapping` | ports that routers forward on demand |
//! | `router` | [`Router`]: what stands between a realm and those behind it; NAT64, subnets |
//! | `routing` | a packet's way through a router |
//! | `nat` | [`Nat`]: mapping, filtering, ports and addresses in the terms of RFC 4787 and RFC 5382 |
//! | `access` | [`Access`]: how a peer reaches the internet, as one word; [`Peer`]: that, built |
//! | `firewall` | [`Firewall`]: ports, and answers only |
//! | `host` | a host: its engine, what its agents told |
//! | `sockets` | the UDP sockets of a node; [`UdpSocket`], for what is no agent |
//! | `tcp` | TCP, with a handshake like TLS's or without; [`TcpStream`], for what is no agent |
//! | `streams` | the connections of a host's engine to TURN servers |
//! | `stun_server` | a STUN server, over UDP and TCP |
//! | `turn_server` | [`TurnServer`]: a relay on the core that real servers run |
//! | `signaling` | [`Signaling`]: how two agents' descriptions reach each other |
//! | `trace` | [`Trace`]: every packet and its fate |
//! | `error` | [`WorldError`]: what makes no sense in a world |
//! | `diagram` | [`sequence_diagram`]: a session for a person's eyes |
//! | [`random_world`] | sessions in random worlds, and what must hold in every one |
//! | [`matrix`] | two peers behind every kind of NAT, as data, with what is expected of them |
//!
//! # How addresses are found
//!
//! A [`Realm`] is an address space: the Internet is one, and every router makes another one behind it.
//! A packet climbs its sender's wire into the sender's realm. If an interface there has the
//! destination's address, it descends that interface's wire. If a router there routes the destination's
//! network, it descends the router's wire into the realm behind it. Otherwise the router that leads out of the
//! realm, if there is one, passes it on, translated or not. So two private realms may use the same addresses.
//! What is sent to a multicast address reaches everybody else in its realm who has a socket on that port.
//!
//! # What it does not do
//!
//! Nothing is told to a sender whose packet cannot arrive: there is no ICMP, and a packet without
//! a route is a lost one. Nothing is fragmented. Engines and servers take no time to compute.
#![forbid(unsafe_code)]

mod access;
mod agents;
mod build;
mod diagram;
mod drive;
mod error;
mod firewall;
mod host;
mod interfaces;
mod link;
mod link_names;
pub mod matrix;
mod nat;
mod packet;
mod port_mapping;
mod queue;
pub mod random_world;
mod router;
mod routing;
mod sessions;
mod signaling;
mod sockets;
mod streams;
mod stun_server;
mod tcp;
mod trace;
mod transit;
mod turn_server;
mod world;

pub use access::{Access, AccessError, Egress, Flags, Kind, Peer, Side};
pub use agents::Agent;
pub use diagram::sequence_diagram;
pub use error::WorldError;
pub use firewall::{Firewall, Inbound, Ports};
pub use ipnet::{IpNet, Ipv6Net};
pub use link::{Bursts, Link, Wire};
pub use nat::{Dependence, Nat, Pooling, PortAssignment, Refresh};
pub use packet::{Flow, Segment};
pub use router::Router;
pub use sessions::Session;
pub use signaling::{Signal, Signaling};
pub use sockets::{Received, UdpSocket};
pub use tcp::{End, TcpListener, TcpStream};
pub use trace::{Fate, Trace, TracedPacket};
pub use turn_server::{TurnServer, UNIX_TIME_AT_START};
pub use world::{NodeId, Realm, World};
