//! Being allowed to make network namespaces, and having the programs for it.

use std::fs;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::program::find;
use crate::error::{LabError, Missing};
use crate::spec::Kind;
use crate::topology::Topology;

/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, which namespaces, interfaces and rules take.
const NEEDED_CAPABILITIES: u64 = (1 << 12) | (1 << 21);

/// Whether this process can build laboratories as it is, apart from what only some kinds need.
///
/// # Errors
/// [`LabError::Missing`] names everything that is missing and how to get it.
pub fn requirements() -> Result<(), LabError> {
    check(&[("ip", "iproute2"), ("nft", "nftables")], false)
}

/// Whether this process can build this topology.
///
/// # Errors
/// [`LabError::Missing`] names everything that is missing and how to get it.
pub fn requirements_for(topology: &Topology) -> Result<(), LabError> {
    let mut programs = vec![("ip", "iproute2"), ("nft", "nftables")];
    let sides = [&topology.a, &topology.b];
    if sides.iter().any(|side| side.flags.rate_kbit.is_some()) {
        programs.insert(1, ("tc", "iproute2"));
    }
    let translates = sides.iter().any(|side| side.kind == Kind::Nat64);
    if translates {
        programs.push(("tayga", "tayga"));
    }
    check(&programs, translates)
}

fn check(programs: &[(&'static str, &'static str)], needs_tun: bool) -> Result<(), LabError> {
    let missing = Missing {
        programs: programs
            .iter()
            .copied()
            .filter(|(program, _)| find(program).is_none())
            .collect(),
        privilege: !is_privileged(),
        ipv6: !Path::new("/proc/sys/net/ipv6").exists(),
        tun: needs_tun
            && fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .is_err(),
    };
    if missing.programs.is_empty() && !missing.privilege && !missing.ipv6 && !missing.tun {
        return Ok(());
    }
    Err(missing.into())
}

fn is_privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|capabilities| capabilities & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES)
}

/// Lets a process without root build laboratories, by becoming root of a user namespace of its own. With
/// the needed privileges already it does nothing.
///
/// To be called at the start of `main`: it is only possible while the process has one thread. From
/// then on the process sees itself as user 0, stands in an empty network namespace (no interface but a
/// loopback that is down), and files that it makes belong to its real user.
///
/// # Errors
/// [`LabError::Missing`] where user namespaces are not allowed, [`LabError::Kernel`] with the reason where
/// the process has threads already.
pub fn enter_user_namespace_if_needed() -> Result<(), LabError> {
    if is_privileged() {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(LabError::kernel(
            format!(
                "entering a user namespace with {threads} threads (call it before the first is started)"
            ),
            nix::errno::Errno::EINVAL,
        ));
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|_| Missing {
            programs: Vec::new(),
            privilege: true,
            ipv6: false,
            tun: false,
        })?;
    // Without giving up setgroups an unprivileged process may not map its group.
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), content)
            .map_err(|error| LabError::kernel(format!("writing /proc/self/{file}"), error))?;
    }
    Ok(())
}
