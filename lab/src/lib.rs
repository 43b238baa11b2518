//! A laboratory of kernel NATs: two peers, a server, and what stands between them, built out of
//! network namespaces in a fraction of a second and gone without a trace when it is dropped.
//!
//! ```text
//!            srv 203.0.113.10, .11          2001:db8:5::10, ::11
//!             |
//!   wa ----- core ----- wb                  the internet; wa, wb and wc are the uplinks
//!   |         | wc      |
//!  [ca]      [nc]      [cb]                 carriers, where the kind has one
//!   |         |         |
//!  [na]       |        [nb]                 home routers
//!   |         |         |
//!   a --------+         b                   the peers
//! ```
//!
//! A [`Topology`] is two [`Spec`]s and perhaps a [`Wire`]; [`Lab::build`] makes it real;
//! [`Lab::command`] and [`Lab::run_in`] put programs and closures on its machines; [`Lab::event`]
//! changes the network under them.
//!
//! ```no_run
//! use nilas_lab::{Lab, Node, SERVER_V4, Topology};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! nilas_lab::enter_user_namespace_if_needed()?;
//! let topology: Topology = "plain,cgn:plain:eim-apdf".parse()?;
//! let lab = Lab::build(&topology)?;
//! lab.command(Node::A, "ping")?.args(["-c1", &SERVER_V4[0].to_string()]).status()?;
//! # Ok(())
//! # }
//! ```
//!
//! **How it holds together.** Nothing has a name that could outlive the process: a namespace is an open
//! file, so the kernel takes it away, with its interfaces and rules, when the last process in it ends.
//! That holds after a panic and after SIGKILL too. Programs started with [`Lab::command`] get SIGKILL when the
//! thread that started them ends; dropping the laboratory kills what is still left on its machines.
//! All addresses come from documentation prefixes, no machine of the laboratory has a way out of it,
//! and the host's own network is not touched.
//!
//! **What it needs.** Linux, the programs `ip` and `nft` ([`requirements`] names what is missing), and root
//! or a user namespace ([`enter_user_namespace_if_needed`]).
//!
//! **The rooms.** [`spec`](Spec), [`nat`](Nat), [`topology`](Topology), [`wire`](Wire) and [`event`](Event) are the
//! words that a person types. `plan` and `nat_rules` turn them into commands and rules, without side effects.
//! `impairment` is what a wire does to a frame, in virtual time. `linux` carries it all out; elsewhere
//! every operation answers [`LabError::NotLinux`].

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "only carrying a plan out uses all of the words")
)]

mod address;
mod error;
mod event;
mod nat;
mod node;
mod spec;
mod topology;
mod wire;

#[cfg(target_os = "linux")]
mod impairment;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod nat_rules;
#[cfg(target_os = "linux")]
mod plan;

#[cfg(not(target_os = "linux"))]
mod elsewhere;

pub use address::{NAT64_PREFIX, SERVER_V4, SERVER_V6};
pub use error::{LabError, Missing};
pub use event::{Event, EventError};
pub use nat::{Filtering, Mapping, Nat};
pub use node::{NameError, Node, Side, Uplink};
pub use spec::{Egress, Flags, Kind, Spec, SpecError};
pub use topology::Topology;
pub use wire::{Burst, Direction, Wire, WireError, WireStats};

#[cfg(target_os = "linux")]
pub use linux::{Lab, enter_user_namespace_if_needed, requirements, requirements_for};

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Lab, enter_user_namespace_if_needed, requirements, requirements_for};
