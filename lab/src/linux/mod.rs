//! Carrying out a plan with the Linux kernel.
//!
//! `namespace` holds one machine, `build` makes all of them, `lab` is what they are used by, `events` what happens to
//! them later. `program` runs `ip` and
//! `nft` where they are needed, `conntrack` makes a router forget. `forwarder` is the thread that carries
//! frames over wires, between `packet_socket`s. `privilege` is about being allowed to.

mod build;
mod conntrack;
mod events;
mod forwarder;
mod lab;
mod namespace;
mod packet_socket;
mod privilege;
mod program;

pub use lab::Lab;
pub use privilege::{enter_user_namespace_if_needed, requirements, requirements_for};
