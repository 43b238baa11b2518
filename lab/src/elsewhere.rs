//! The laboratory where there is no Linux: the same functions, and one answer.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use crate::{Direction, Event, LabError, Node, Topology, Uplink, Wire, WireStats};

/// A laboratory; on this system none can be built.
#[derive(Debug)]
pub struct Lab(Infallible);

#[allow(
    clippy::missing_errors_doc,
    clippy::unused_self,
    reason = "there is one answer to everything"
)]
impl Lab {
    /// Always [`LabError::NotLinux`].
    pub fn build(_: &Topology) -> Result<Self, LabError> {
        Err(LabError::NotLinux)
    }

    /// Its machines.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        match self.0 {}
    }

    /// A program on one of its machines.
    pub fn command(&self, _: Node, _: impl AsRef<OsStr>) -> Result<Command, LabError> {
        match self.0 {}
    }

    /// A closure on one of its machines.
    pub fn run_in<T: Send>(&self, _: Node, _: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        match self.0 {}
    }

    /// A thread on one of its machines.
    pub fn spawn_in<T: Send + 'static>(
        &self,
        _: Node,
        _: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        match self.0 {}
    }

    /// Something happens.
    pub fn event(&self, _: Event) -> Result<(), LabError> {
        match self.0 {}
    }

    /// The public IPv4 address of an uplink.
    #[must_use]
    pub fn public_address(&self, _: Uplink) -> Option<Ipv4Addr> {
        match self.0 {}
    }

    /// A path to a machine's network namespace.
    pub fn namespace_path(&self, _: Node) -> Result<PathBuf, LabError> {
        match self.0 {}
    }

    /// Other settings for a wire.
    pub fn set_wire(&self, _: Uplink, _: Direction, _: Wire) -> Result<(), LabError> {
        match self.0 {}
    }

    /// What a wire did.
    #[must_use]
    pub fn wire_stats(&self, _: Uplink, _: Direction) -> Option<WireStats> {
        match self.0 {}
    }
}

/// Always [`LabError::NotLinux`].
///
/// # Errors
/// Always.
pub fn requirements() -> Result<(), LabError> {
    Err(LabError::NotLinux)
}

/// Always [`LabError::NotLinux`].
///
/// # Errors
/// Always.
pub fn requirements_for(_: &Topology) -> Result<(), LabError> {
    Err(LabError::NotLinux)
}

/// Always [`LabError::NotLinux`].
///
/// # Errors
/// Always.
pub fn enter_user_namespace_if_needed() -> Result<(), LabError> {
    Err(LabError::NotLinux)
}
