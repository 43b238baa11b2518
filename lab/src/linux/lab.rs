//! A laboratory: built, used, and taken down.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use super::build::{Standing, build};
use super::forwarder::Forwarder;
use super::namespace::{Door, Namespace};
use super::privilege::requirements_for;
use super::program;
use crate::address::public_v4;
use crate::error::LabError;
use crate::nat_rules::NatRules;
use crate::node::{Node, Uplink};
use crate::plan::Plan;
use crate::topology::Topology;
use crate::wire::{Direction, Wire, WireStats};

/// A laboratory that stands. Dropping it takes it down, with every process that is still on one of its machines;
/// threads of this process that are still on one keep that machine, cut off, until they end.
pub struct Lab {
    pub(super) plan: Plan,
    pub(super) current: Mutex<Current>,
    machines: BTreeMap<Node, Namespace>,
    forwarder: Option<Forwarder>,
    /// Waits for the translator of `nat64` to end.
    translator: Option<JoinHandle<()>>,
}

/// What events change.
pub(super) struct Current {
    /// The table `ip nat` of each box that has one.
    pub(super) nats: BTreeMap<Node, NatRules>,
    pub(super) public: BTreeMap<Uplink, Ipv4Addr>,
}

impl Lab {
    /// Builds a topology. When this returns, every machine answers.
    ///
    /// # Errors
    /// What does not fit together, what the machine lacks, or what the kernel refused; nothing is left
    /// behind then.
    pub fn build(topology: &Topology) -> Result<Self, LabError> {
        topology.check()?;
        if let Some(wire) = &topology.wire {
            wire.check()?;
        }
        requirements_for(topology)?;
        let plan = Plan::of(topology);
        let Standing {
            machines,
            forwarder,
        } = build(&plan, topology.wire.as_ref())?;
        let nats = plan
            .machines
            .iter()
            .filter_map(|(node, machine)| Some((*node, machine.nat.clone()?)))
            .collect();
        let public = plan
            .machines
            .values()
            .filter_map(|machine| machine.public)
            .map(|uplink| (uplink, public_v4(uplink)));
        let current = Mutex::new(Current {
            nats,
            public: public.collect(),
        });
        let mut lab = Self {
            plan,
            current,
            machines,
            forwarder,
            translator: None,
        };
        if let Some(node) = lab.plan.translator {
            lab.translator = Some(lab.start_translator(node)?);
        }
        Ok(lab)
    }

    /// The machines that this topology has.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.machines.keys().copied().collect()
    }

    /// A program that will run on a machine, to be completed and started like any other.
    ///
    /// It gets SIGKILL when the thread that starts it ends, so start it from one that lives long enough. Only
    /// its network is the machine's own; `/sys/class/net` still shows the host's interfaces.
    ///
    /// # Errors
    /// [`LabError::NoSuchNode`].
    pub fn command(&self, node: Node, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let machine = self.machine(node)?;
        let mut command = Command::new(program);
        on_machine(&mut command, machine.door());
        Ok(command)
    }

    /// Runs a closure on a machine, in a thread of its own, and waits for it. Sockets that it opens are the
    /// machine's, and so are the threads that it starts; a tokio runtime may live there. A panic in it goes
    /// on in the caller.
    ///
    /// # Errors
    /// [`LabError::NoSuchNode`], or the kernel did not let the thread in.
    pub fn run_in<T: Send>(
        &self,
        node: Node,
        closure: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        let machine = self.machine(node)?;
        let result = thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name(format!("lab {node}"))
                .spawn_scoped(scope, || {
                    machine.enter().map_err(|error| cannot_enter(node, error))?;
                    Ok(closure())
                });
            thread
                .map_err(|error| LabError::kernel("starting a thread", error))
                .map(thread::ScopedJoinHandle::join)
        })?;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Like [`run_in`](Self::run_in) without waiting.
    ///
    /// # Errors
    /// [`LabError::NoSuchNode`], or the kernel did not let the thread in.
    pub fn spawn_in<T: Send + 'static>(
        &self,
        node: Node,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        // A thread begins where the one that starts it is.
        self.run_in(node, || {
            thread::Builder::new()
                .name(format!("lab {node}"))
                .spawn(closure)
        })?
        .map_err(|error| LabError::kernel("starting a thread", error))
    }

    /// The public IPv4 address behind an uplink at present.
    #[must_use]
    pub fn public_address(&self, uplink: Uplink) -> Option<Ipv4Addr> {
        self.current().public.get(&uplink).copied()
    }

    /// A path to a machine's network namespace while this process runs, for `nsenter --net=PATH`.
    ///
    /// # Errors
    /// [`LabError::NoSuchNode`].
    pub fn namespace_path(&self, node: Node) -> Result<PathBuf, LabError> {
        Ok(self.machine(node)?.path())
    }

    /// Other settings for one direction of a wire, from the next frame on.
    ///
    /// # Errors
    /// Settings that make no sense, or an uplink without a wire.
    pub fn set_wire(
        &self,
        uplink: Uplink,
        direction: Direction,
        wire: Wire,
    ) -> Result<(), LabError> {
        wire.check()?;
        if self
            .forwarder
            .as_ref()
            .is_some_and(|forwarder| forwarder.set(uplink, direction, wire))
        {
            return Ok(());
        }
        Err(LabError::Event(format!(
            "the uplink {uplink} has no wire; build the topology with one"
        )))
    }

    /// What has happened to frames in one direction of a wire; `None` without that wire.
    #[must_use]
    pub fn wire_stats(&self, uplink: Uplink, direction: Direction) -> Option<WireStats> {
        self.forwarder.as_ref()?.stats(uplink, direction)
    }

    pub(super) fn current(&self) -> MutexGuard<'_, Current> {
        // Every change under this lock is a single assignment.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machine(&self, node: Node) -> Result<&Namespace, LabError> {
        self.machines.get(&node).ok_or(LabError::NoSuchNode(node))
    }

    /// RFC 6146 on a home router: tayga between IPv6 and a private IPv4 network, which the router's NAT then
    /// makes public.
    fn start_translator(&self, node: Node) -> Result<JoinHandle<()>, LabError> {
        const CONFIGURATION: &str = "tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:64::1\n\
            prefix 2001:db8:64:64::/96\ndynamic-pool 192.168.255.0/24\n";
        self.run_in(node, || {
            program::run(
                node,
                "tayga",
                &["-c", "/dev/stdin", "--mktun"],
                CONFIGURATION,
            )?;
            program::ip(
                node,
                &[
                    "link set nat64 up".to_owned(),
                    "route add 192.168.255.0/24 dev nat64".to_owned(),
                    "route add 2001:db8:64:64::/96 dev nat64".to_owned(),
                ],
            )
        })??;
        let failed = move |said: String| LabError::Program {
            program: "tayga".to_owned(),
            node,
            said,
        };
        let path = program::find("tayga").unwrap_or_else(|| "tayga".into());
        let mut command = self.command(node, path)?;
        command.args(["-c", "/dev/stdin", "--nodetach"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The program ends with the thread that starts it, so that thread must last as long.
        let (send, started) = mpsc::sync_channel(1);
        let keeper = thread::Builder::new()
            .name("lab nat64".to_owned())
            .spawn(move || {
                let result = command.spawn().and_then(|mut child| {
                    // Closed when this statement ends, and that ends the configuration.
                    let stdin = child.stdin.take();
                    stdin
                        .map_or(Ok(()), |mut stdin| {
                            stdin.write_all(CONFIGURATION.as_bytes())
                        })
                        .map(|()| child)
                });
                let (child, result) =
                    result.map_or_else(|error| (None, Err(error)), |child| (Some(child), Ok(())));
                // The receiver waits for exactly this.
                let _ = send.send(result);
                if let Some(mut child) = child {
                    let _ = child.wait();
                }
            });
        let keeper = keeper.map_err(|error| LabError::kernel("starting a thread", error))?;
        match started.recv() {
            Ok(Ok(())) => Ok(keeper),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("its thread ended".to_owned())),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let identities: Vec<_> = self
            .machines
            .values()
            .filter_map(Namespace::identity)
            .collect();
        for pid in Namespace::inhabitants(&identities)
            .into_iter()
            .filter_map(|pid| i32::try_from(pid).ok())
        {
            // It can only have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(translator) = self.translator.take() {
            // A panic in it has been reported already.
            let _ = translator.join();
        }
    }
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab")
            .field("nodes", &self.nodes())
            .finish_non_exhaustive()
    }
}

pub(super) fn cannot_enter(node: Node, error: std::io::Error) -> LabError {
    LabError::kernel(format!("entering the machine {node}"), error)
}

/// Makes a command run on a machine and not outlive the thread that starts it.
#[allow(
    unsafe_code,
    reason = "a child can enter a namespace only between fork and exec"
)]
fn on_machine(command: &mut Command, machine: Door) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let enter = move || {
        machine.enter()?;
        set_pdeathsig(Signal::SIGKILL)?;
        // A parent that ended before the line above cannot be the cause of a signal any more.
        if u32::try_from(getppid().as_raw()) != Ok(parent) {
            return Err(nix::errno::Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is safe in a signal handler may be called. `enter` makes three system
    // calls, touches no lock, and neither allocates nor frees: its errors are error numbers, and the
    // laboratory, whose memory the child has a copy of, holds the file on as well.
    unsafe { command.pre_exec(enter) };
}
