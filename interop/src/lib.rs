//! Drives `nilas agent` and real peers, and judges what comes of it.
//!
//! Every peer is a process that speaks the JSON lines of `nilas agent` (docs/agent.md) in a network namespace of
//! its own; one runner pairs any two and hands each what the other says, as signaling would.
//!
//! | room | what lives there |
//! |---|---|
//! | `peer` | one process and its lines |
//! | `pair` | two peers, the relaying between them, and what was seen |
//! | `talk` | two peers that talk while the network changes, and for how long either hears nothing |
//! | `server` | `nilas server` in the middle of a laboratory |
//! | `scene` | a laboratory with a server in its middle, and the programs that meet there |
//! | `dns64` | the DNS of a network with a translator to IPv4 |
//! | `gateway` | miniupnpd on a home router of a laboratory |
//! | `coturn` | coturn on loopback, and certificates for it |
//! | `relay_server` | our own relay on loopback, for others to judge |
//! | `programs` | where the programs are that take part |
//! | `aioice/`, `libnice/`, `chromium/` | the peers' drivers, in Python |
//! | `tests/` | the suites: coturn, miniupnpd, aioice, libnice, Chromium, agents among themselves, the rows of NATs, packets on their way, the program's own words |

pub mod coturn;
pub mod dns64;
pub mod gateway;
pub mod pair;
pub mod peer;
pub mod programs;
pub mod relay_server;
pub mod scene;
pub mod server;
pub mod talk;

/// Longer than anything here takes: what is not there by then never comes. No test measures time by it.
pub const HANG_GUARD: std::time::Duration = std::time::Duration::from_secs(60);

/// The README's example compiles as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
