//! From a plan to machines that answer.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use super::forwarder::{Forwarder, WireEnds};
use super::lab::cannot_enter;
use super::namespace::{Namespace, write_setting};
use super::packet_socket::{PacketSocket, send_whole_frames};
use super::program;
use crate::error::LabError;
use crate::nat_rules::NatRules;
use crate::node::{Node, Uplink};
use crate::plan::{Cable, Machine, Plan};
use crate::wire::Wire;

/// How long interfaces may take to come up; they need milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A plan carried out.
pub(super) struct Standing {
    pub(super) machines: BTreeMap<Node, Namespace>,
    /// With a wire.
    pub(super) forwarder: Option<Forwarder>,
}

/// Carries out a plan. On an error everything made so far goes when it is dropped.
pub(super) fn build(plan: &Plan, wire: Option<&Wire>) -> Result<Standing, LabError> {
    let machines = make_machines(plan)?;
    let ends = lay_cables(plan, &machines, wire.is_some())?;
    let forwarder = wire
        .map(|wire| {
            Forwarder::start(ends, wire)
                .map_err(|error| LabError::kernel("starting the wires", error))
        })
        .transpose()?;
    in_each(&machines, |node| set_up(node, plan))?;
    in_each(&machines, |node| wait_until_up(node, plan))?;
    Ok(Standing {
        machines,
        forwarder,
    })
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

/// Waits for a machine's interfaces. The kernel reports them up a moment after both ends of a cable have been
/// switched on, from a queue of its own, and until then it drops what they are to send.
fn wait_until_up(node: Node, plan: &Plan) -> Result<(), LabError> {
    let ends = plan
        .cables
        .iter()
        .flat_map(|cable| [cable.upper, cable.lower]);
    let interfaces: Vec<_> = ends
        .filter(|(end, _)| *end == node)
        .map(|(_, interface)| interface)
        .collect();
    let begun = Instant::now();
    loop {
        let list = program::ask(node, "ip", &["-oneline", "link", "show", "up"])?;
        let is_up = |interface: &&str| {
            // "2: eth0@if3: <BROADCAST,...> mtu 1500 qdisc noqueue state UP mode DEFAULT ..."
            list.lines().any(|line| {
                let name = line
                    .split([' ', '@', ':'])
                    .filter(|word| !word.is_empty())
                    .nth(1);
                name == Some(interface) && line.contains(" state UP ")
            })
        };
        if interfaces.iter().all(is_up) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let doing = format!(
                "waiting for the interfaces of {node}, {}",
                interfaces.join(" and ")
            );
            return Err(LabError::kernel(
                doing,
                std::io::Error::from(std::io::ErrorKind::TimedOut),
            ));
        }
        thread::sleep(Duration::from_millis(2));
    }
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
