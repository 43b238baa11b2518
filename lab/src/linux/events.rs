//! What happens to a laboratory that stands.

use std::net::Ipv4Addr;

use super::lab::Lab;
use super::{conntrack, program};
use crate::address::{
    PUBLIC_PREFIX_LENGTH, gateway_v4, lower_ethernet, may_renumber_to, upper_ethernet,
};
use crate::error::LabError;
use crate::event::Event;
use crate::nat::Nat;
use crate::nat_rules::NatRules;
use crate::node::{Node, Uplink};
use crate::plan::neighbour;

impl Lab {
    /// Makes something happen; when this returns, it has.
    ///
    /// # Errors
    /// [`LabError::Event`] if it cannot happen in this topology or would change nothing.
    pub fn event(&self, event: Event) -> Result<(), LabError> {
        match event {
            Event::Flush(node) => self.flush(node),
            Event::Remap(node) => self.remap(node),
            Event::Readdress { node, address } => self.readdress(node, address),
            Event::LoseWifi => self.run_in(Node::A, || {
                program::ip(
                    Node::A,
                    &[
                        "link set eth0 down".to_owned(),
                        "addr flush dev eth0".to_owned(),
                    ],
                )
            })?,
            Event::RegainWifi => self.regain_wifi(),
            Event::Blackhole(uplink) => self.cut(uplink, &[Way::To, Way::From]),
            Event::OneWay(uplink) => self.cut(uplink, &[Way::To]),
            Event::Unblackhole(uplink) => self.cut(uplink, &[]),
        }
    }

    fn flush(&self, node: Node) -> Result<(), LabError> {
        let nat = self.current().nats.get(&node).cloned();
        if nat.is_none()
            && self
                .plan
                .machines
                .get(&node)
                .is_none_or(|machine| machine.udp_timeout_seconds.is_none())
        {
            return Err(LabError::Event(format!(
                "{node} is no NAT or firewall of this topology: it has nothing to forget"
            )));
        }
        self.run_in(node, || {
            // The rules as they were at first, so the tables in them are empty.
            program::nft(node, &nat.map(|nat| replaced(&nat)).unwrap_or_default())?;
            forget_flows(node)
        })?
    }

    fn remap(&self, node: Node) -> Result<(), LabError> {
        let nat = self.current().nats.get(&node).cloned();
        let Some(nat) = nat.filter(|nat| nat.nat != Nat::Plain) else {
            return Err(LabError::Event(format!(
                "{node} cannot give out other ports: it is no NAT of this topology, or a plain one, which preserves them"
            )));
        };
        // What remembers the ports in use stays: a port that is taken is not given out again.
        let memory: String = nat
            .memory()
            .iter()
            .map(|table| format!("flush {table}\n"))
            .collect();
        self.run_in(node, || {
            program::nft(node, &memory)?;
            forget_flows(node)
        })?
    }

    /// A packet between two of these steps would teach the box its old address again, so it stands still meanwhile.
    fn readdress(&self, node: Node, address: Ipv4Addr) -> Result<(), LabError> {
        let refuse = |why: String| Err(LabError::Event(why));
        let uplink = self
            .plan
            .machines
            .get(&node)
            .and_then(|machine| machine.public);
        let (Some(uplink), Some(mut nat)) = (uplink, self.current().nats.get(&node).cloned())
        else {
            return refuse(format!(
                "{node} is no NAT with a public address in this topology"
            ));
        };
        let Some(old) = self.public_address(uplink).filter(|old| *old != address) else {
            return refuse(format!("{node} has the address {address} already"));
        };
        let (gateway, length) = (gateway_v4(uplink), PUBLIC_PREFIX_LENGTH);
        if !may_renumber_to(uplink, address) {
            return refuse(format!(
                "{address} is not a free address of {node}'s network, {gateway}/{length}"
            ));
        }
        nat.external = address;
        let core_interface = uplink.interface();
        self.run_in(Node::Core, || {
            program::ip(
                Node::Core,
                &[neighbour(
                    &address.to_string(),
                    &lower_ethernet(uplink),
                    core_interface,
                )],
            )
        })??;
        self.run_in(node, || {
            program::nft(node, "table ip freeze { chain every { type filter hook prerouting priority -400; drop; }; }")?;
            program::ip(node, &[
                format!("addr del {old}/{length} dev wan"),
                format!("addr add {address}/{length} dev wan"),
                // With the last address went what was known of the gateway.
                neighbour(&gateway.to_string(), &upper_ethernet(uplink), "wan"),
                format!("route replace default via {gateway}"),
            ])?;
            program::nft(node, &replaced(&nat))?;
            forget_flows(node)?;
            program::nft(node, "delete table ip freeze")
        })??;
        let mut current = self.current();
        current.nats.insert(node, nat);
        current.public.insert(uplink, address);
        Ok(())
    }

    fn regain_wifi(&self) -> Result<(), LabError> {
        let commands = self
            .plan
            .machines
            .get(&Node::A)
            .map(|machine| machine.ip.as_slice())
            .unwrap_or_default();
        self.run_in(Node::A, || {
            // From a known state, whether or not it was lost before.
            program::ip(
                Node::A,
                &[
                    "link set eth0 down".to_owned(),
                    "addr flush dev eth0".to_owned(),
                ],
            )?;
            program::ip(Node::A, commands)
        })?
    }

    /// Drops packets in the core that go these ways; replaces what was cut before.
    fn cut(&self, uplink: Uplink, ways: &[Way]) -> Result<(), LabError> {
        if !self
            .plan
            .cables
            .iter()
            .any(|cable| cable.uplink == Some(uplink))
        {
            return Err(LabError::Event(format!(
                "this topology has no uplink {uplink}"
            )));
        }
        let table = format!("inet cut_{uplink}");
        let mut rules = format!("table {table} {{ }}\ndelete table {table}\n");
        if !ways.is_empty() {
            let drops: String = ways
                .iter()
                .map(|way| format!("{} \"{uplink}\" drop; ", way.matches()))
                .collect();
            rules += &format!(
                "table {table} {{ chain every {{ type filter hook forward priority -5; {drops}}}; }}\n"
            );
        }
        self.run_in(Node::Core, || program::nft(Node::Core, &rules))?
    }
}

/// Which way a packet goes on an uplink.
#[derive(Clone, Copy)]
enum Way {
    To,
    From,
}

impl Way {
    const fn matches(self) -> &'static str {
        match self {
            Self::To => "oifname",
            Self::From => "iifname",
        }
    }
}

/// A box's NAT made anew in one step.
fn replaced(nat: &NatRules) -> String {
    format!("delete table ip nat\n{}", nat.table())
}

fn forget_flows(node: Node) -> Result<(), LabError> {
    conntrack::flush()
        .map_err(|error| LabError::kernel(format!("forgetting the flows of {node}"), error))
}
