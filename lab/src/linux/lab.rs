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

use super::forwarder::{Forwarder, WireEnds};
use super::namespace::{Namespace, write_setting};
use super::packet_socket::{PacketSocket, send_whole_frames};
use super::privilege::requirements_for;
use super::program;
use crate::address::public_v4;
use crate::error::LabError;
use crate::nat_rules::NatRules;
use crate::node::{Node, Uplink};
use crate::plan::{Cable, Machine, Plan};
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
        let machines = make_machines(&plan)?;
        let ends = lay_cables(&plan, &machines, topology.wire.is_some())?;
        let forwarder = match &topology.wire {
            Some(wire) => Some(
                Forwarder::start(ends, wire)
                    .map_err(|error| LabError::kernel("starting the wires", error))?,
            ),
            None => None,
        };
        in_each(&machines, |node| set_up(node, &plan))?;
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
        let machine = self.machine(node)?.clone();
        let mut command = Command::new(program);
        on_machine(&mut command, machine);
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

fn cannot_enter(node: Node, error: std::io::Error) -> LabError {
    LabError::kernel(format!("entering the machine {node}"), error)
}

/// Makes a command run on a machine and not outlive the thread that starts it.
#[allow(
    unsafe_code,
    reason = "a child can enter a namespace only between fork and exec"
)]
fn on_machine(command: &mut Command, machine: Namespace) {
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
    // calls, touches no lock and allocates nothing: its errors are error numbers.
    unsafe { command.pre_exec(enter) };
}

/// Makes every machine's namespace, at once, with the settings that must stand before interfaces come.
fn make_machines(plan: &Plan) -> Result<BTreeMap<Node, Namespace>, LabError> {
    thread::scope(|scope| {
        let threads: Vec<_> = plan
            .machines
            .keys()
            .map(|&node| (node, scope.spawn(move || make_machine(node.is_router()))))
            .collect();
        threads
            .into_iter()
            .map(|(node, thread)| Ok((node, joined(thread.join())?)))
            .collect()
    })
}

fn make_machine(is_router: bool) -> Result<Namespace, LabError> {
    let namespace = Namespace::create()?;
    let forwards = if is_router { "1" } else { "0" };
    for (name, value) in [
        ("ipv4/ip_forward", forwards),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/all/forwarding", forwards),
        // Addresses are used as soon as they are there: nobody else can have them.
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        // A host's settings for these are inherited and must not decide what the laboratory shows.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/icmp_ratelimit", "0"),
        // Bridged packets that pass the NAT's rules break hairpinning in a home network.
        ("bridge/bridge-nf-call-iptables", "0"),
        ("bridge/bridge-nf-call-ip6tables", "0"),
    ] {
        write_setting(name, value)?;
    }
    Ok(namespace)
}

/// Joins interfaces. A cable with a wire ends in a hidden namespace, at two sockets of the forwarder's.
fn lay_cables(
    plan: &Plan,
    machines: &BTreeMap<Node, Namespace>,
    wires: bool,
) -> Result<Vec<WireEnds>, LabError> {
    let hidden = wires
        .then(|| thread::scope(|scope| joined(scope.spawn(make_hidden).join())))
        .transpose()?;
    let path = |(node, interface): (Node, &str)| {
        let machine = machines.get(&node).ok_or(LabError::NoSuchNode(node))?;
        Ok::<_, LabError>(format!("{interface} netns {}", machine.path().display()))
    };
    let mut commands = Vec::new();
    let mut wired = Vec::new();
    for cable in &plan.cables {
        let (upper, lower) = (path(cable.upper)?, path(cable.lower)?);
        match (&hidden, cable.uplink) {
            (Some(hidden), Some(uplink)) => {
                let hidden = hidden.path();
                for (end, letter) in [(upper, 'u'), (lower, 'l')] {
                    let between = format!("{letter}{uplink} netns {}", hidden.display());
                    commands.push(format!("link add {end} type veth peer name {between}"));
                }
                wired.push((uplink, cable));
            }
            _ => commands.push(format!("link add {upper} type veth peer name {lower}")),
        }
    }
    let core = machines
        .get(&Node::Core)
        .ok_or(LabError::NoSuchNode(Node::Core))?;
    on(core, Node::Core, || program::ip(Node::Core, &commands))?;
    let Some(hidden) = hidden else {
        return Ok(Vec::new());
    };
    for (_, Cable { upper, lower, .. }) in &wired {
        for &(node, interface) in [upper, lower] {
            let machine = machines.get(&node).ok_or(LabError::NoSuchNode(node))?;
            on(machine, node, || whole_frames(node, interface))?;
        }
    }
    on(&hidden, Node::Core, || {
        wired.iter().map(|(uplink, _)| open_ends(*uplink)).collect()
    })
}

/// The namespace between the ends of wires, where nothing but the forwarder may speak.
fn make_hidden() -> Result<Namespace, LabError> {
    let namespace = Namespace::create()?;
    write_setting("ipv6/conf/default/disable_ipv6", "1")?;
    Ok(namespace)
}

fn open_ends(uplink: Uplink) -> Result<WireEnds, LabError> {
    let (upper, lower) = (format!("u{uplink}"), format!("l{uplink}"));
    program::ip(
        Node::Core,
        &[
            format!("link set {upper} up"),
            format!("link set {lower} up"),
        ],
    )?;
    let open = |interface: &str| {
        PacketSocket::open(interface).map_err(|error| {
            LabError::kernel(format!("opening a packet socket on {interface}"), error)
        })
    };
    Ok(WireEnds {
        uplink,
        upper: open(&upper)?,
        lower: open(&lower)?,
    })
}

/// Gives a machine its addresses, routes and rules; runs on that machine.
fn set_up(node: Node, plan: &Plan) -> Result<(), LabError> {
    let Some(Machine {
        ip,
        second,
        rules,
        nat,
        udp_timeout_seconds,
        rates,
        ..
    }) = plan.machines.get(&node)
    else {
        return Ok(());
    };
    // Rules first: no packet must pass a NAT before it is one.
    let nat = nat.as_ref().map(NatRules::table).unwrap_or_default();
    program::nft(node, &(nat + rules))?;
    if let Some(seconds) = udp_timeout_seconds {
        let seconds = seconds.to_string();
        // These exist once a rule has asked for connection tracking.
        write_setting("netfilter/nf_conntrack_udp_timeout", &seconds)?;
        write_setting("netfilter/nf_conntrack_udp_timeout_stream", &seconds)?;
    }
    program::ip(node, &[ip.as_slice(), second].concat())?;
    if plan.whole_packets && !node.is_router() {
        for (end, interface) in plan
            .cables
            .iter()
            .flat_map(|cable| [cable.upper, cable.lower])
        {
            if end == node {
                whole_frames(node, interface)?;
            }
        }
    }
    if !rates.is_empty() {
        let shape: String = rates
            .iter()
            .map(|(interface, kbit)| shape(interface, *kbit))
            .collect();
        program::run(node, "tc", &["-batch", "-"], &shape)?;
    }
    Ok(())
}

/// The command for `tc` that bounds what leaves an interface.
fn shape(interface: &str, kbit: u32) -> String {
    // A bucket below one packet would let none through; above a millisecond's worth it would show.
    let burst_bytes = (kbit / 8).max(5_000);
    format!(
        "qdisc add dev {interface} root tbf rate {kbit}kbit burst {burst_bytes} latency 100ms\n"
    )
}

fn whole_frames(node: Node, interface: &str) -> Result<(), LabError> {
    send_whole_frames(interface).map_err(|error| {
        LabError::kernel(
            format!("switching off checksum offload of {interface} on {node}"),
            error,
        )
    })
}

/// Does one thing on every machine at once.
fn in_each(
    machines: &BTreeMap<Node, Namespace>,
    action: impl Fn(Node) -> Result<(), LabError> + Sync,
) -> Result<(), LabError> {
    let action = &action;
    thread::scope(|scope| {
        let threads: Vec<_> = machines
            .iter()
            .map(|(&node, machine)| {
                scope.spawn(move || {
                    machine.enter().map_err(|error| cannot_enter(node, error))?;
                    action(node)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| joined(thread.join()))
    })
}

/// Does one thing on one machine.
fn on<T: Send>(
    machine: &Namespace,
    node: Node,
    action: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            machine.enter().map_err(|error| cannot_enter(node, error))?;
            action()
        });
        joined(thread.join())
    })
}

fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| resume_unwind(panic))
}
