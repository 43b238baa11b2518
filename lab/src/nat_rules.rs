//! NAT boxes and firewalls as nft rule sets.
//!
//! Masquerade alone gives two kinds of NAT. For the nine of RFC 4787 a box keeps its own tables:
//! a chain behind the translation (postrouting, priority 300) learns which external port belongs to which
//! internal address and who was contacted; `snat ... map @fwdm` keeps a mapping, its key being the mapping
//! behaviour; the set `perm` in front of `dnat ... map @rev` is the filtering behaviour.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::nat::{Filtering, Mapping, Nat};
use crate::spec::Egress;

/// What is forgotten after so much silence where a spec does not say `to=N`.
/// RFC 4787 section 4.3 asks for two minutes or more.
pub(crate) const UDP_TIMEOUT_SECONDS: u32 = 120;

/// The NAT of one box; its interfaces are called `wan` and `lan...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NatRules {
    pub(crate) nat: Nat,
    pub(crate) external: Ipv4Addr,
    pub(crate) hairpin: bool,
    pub(crate) udp_timeout_seconds: u32,
}

impl NatRules {
    /// The table `ip nat`.
    pub(crate) fn table(&self) -> String {
        match self.nat {
            Nat::Plain => masquerade_table("masquerade"),
            Nat::Symmetric => masquerade_table("masquerade random,fully-random"),
            Nat::Typed { mapping, filtering } => self.typed_table(mapping, filtering),
        }
    }

    /// The tables that hold mappings and permissions, apart from the list of used ports.
    pub(crate) fn memory(&self) -> Vec<&'static str> {
        let Nat::Typed { filtering, .. } = self.nat else {
            return Vec::new();
        };
        let mut memory = vec!["map ip nat fwdm", "map ip nat rev"];
        if filtering != Filtering::EndpointIndependent {
            memory.push("set ip nat perm");
            if self.hairpin {
                memory.push("set ip nat hperm");
            }
        }
        memory
    }

    fn typed_table(&self, mapping: Mapping, filtering: Filtering) -> String {
        let key = MappingKey::of(mapping);
        let permission = Permission::of(filtering);
        let MappingKey {
            kind,
            packet,
            flow,
            allocate,
            reallocate,
            ..
        } = key;
        let Permission {
            check,
            learn_sent,
            learn_answered,
            ..
        } = permission;
        let bounded = format!(
            "flags dynamic,timeout; timeout {}s; size 65535;",
            self.udp_timeout_seconds
        );
        let set = permission.set(&bounded);
        let hairpin = if self.hairpin {
            self.hairpin_parts(mapping, filtering, &key, &bounded)
        } else {
            HairpinParts::default()
        };
        format!(
            r#"table ip nat {{
 map fwdm {{ type {kind} : ipv4_addr . inet_service; {bounded} }}
 map rev {{ type inet_service : ipv4_addr . inet_service; {bounded} }}
 set used {{ type inet_service; {bounded} }}
{set} chain pre {{ type nat hook prerouting priority dstnat;
  iifname "wan" meta l4proto udp {check} dnat ip to udp dport map @rev;
{hairpin_pre} }}
 chain post {{ type nat hook postrouting priority srcnat;
  oifname "wan" meta l4proto udp snat ip to {packet} map @fwdm;
  oifname "wan" meta l4proto udp udp sport @used {reallocate};
  oifname "wan" {allocate};
{hairpin_post} }}
 chain learn {{ type filter hook postrouting priority 300;
  oifname "wan" meta l4proto udp goto rec;
{hairpin_learn} }}
{hairpin_filter} chain rec {{
  meta l4proto udp ct direction original update @fwdm {{ {flow} : ip saddr . udp sport }} update @rev {{ udp sport : ct original ip saddr . ct original proto-src }} update @used {{ udp sport }} {learn_sent}
  meta l4proto udp ct direction reply update @rev {{ udp sport : ct reply ip saddr . ct reply proto-src }} update @used {{ udp sport }} {learn_answered}
 }}
}}
"#,
            hairpin_pre = hairpin.pre,
            hairpin_post = hairpin.post,
            hairpin_learn = hairpin.learn,
            hairpin_filter = hairpin.filter,
        )
    }

    /// RFC 4787 section 6: a packet from inside to an external port of this box comes back inside, with
    /// its sender's external address and port.
    fn hairpin_parts(
        &self,
        mapping: Mapping,
        filtering: Filtering,
        key: &MappingKey,
        bounded: &str,
    ) -> HairpinParts {
        let external = self.external;
        let mut post = String::new();
        let turned = r#"oifname "lan*" ct status dnat"#;
        // `dnat` has rewritten the destination by now, so a key that holds it must take it from the flow.
        // With APDM no mapping towards another inside port can exist yet.
        if mapping != Mapping::AddressAndPortDependent {
            let _ = writeln!(
                post,
                "  {turned} meta l4proto udp snat ip to {} map @fwdm;",
                key.turned_packet
            );
        }
        let random = if mapping == Mapping::EndpointIndependent {
            "random"
        } else {
            "fully-random"
        };
        let _ = writeln!(
            post,
            "  {turned} meta l4proto udp udp sport @used snat to {external} {random};"
        );
        let _ = writeln!(post, "  {turned} snat to {external};");
        let mut filter = String::new();
        if filtering != Filtering::EndpointIndependent {
            // Every hairpinned sender has the same address, this box's: whoever has sent to it is open to it.
            let _ = write!(
                filter,
                r#" set hperm {{ type ipv4_addr . inet_service; {bounded} }}
 chain hp {{ type filter hook prerouting priority -250; iifname "lan*" ip daddr {external} meta l4proto udp update @hperm {{ ip saddr . udp sport }}; }}
 chain hf {{ type filter hook forward priority 10; iifname "lan*" {turned} ct direction original meta l4proto udp ip daddr . udp dport != @hperm drop; }}
"#
            );
        }
        HairpinParts {
            pre: format!(
                "  iifname \"lan*\" ip daddr {external} meta l4proto udp dnat ip to udp dport map @rev;\n"
            ),
            post,
            learn: format!("  iifname \"lan*\" {turned} meta l4proto udp goto rec;\n"),
            filter,
        }
    }
}

#[derive(Default)]
struct HairpinParts {
    pre: String,
    post: String,
    learn: String,
    filter: String,
}

fn masquerade_table(how: &str) -> String {
    format!(
        "table ip nat {{\n chain post {{ type nat hook postrouting priority srcnat; oifname \"wan\" {how}; }}\n}}\n"
    )
}

/// What a mapping is looked up by.
struct MappingKey {
    /// Its nft type.
    kind: &'static str,
    /// Its value, read from a packet before translation.
    packet: &'static str,
    /// Its value, read from a hairpinned packet before translation of the source.
    turned_packet: &'static str,
    /// Its value, read from the flow after translation.
    flow: &'static str,
    /// How a flow without a mapping gets its external port,
    allocate: &'static str,
    /// and how, if somebody else holds the port it would get.
    reallocate: &'static str,
}

impl MappingKey {
    const fn of(mapping: Mapping) -> Self {
        match mapping {
            Mapping::EndpointIndependent => Self {
                kind: "ipv4_addr . inet_service",
                packet: "ip saddr . udp sport",
                turned_packet: "ip saddr . udp sport",
                flow: "ct original ip saddr . ct original proto-src",
                allocate: "masquerade",
                reallocate: "masquerade random",
            },
            Mapping::AddressDependent => Self {
                kind: "ipv4_addr . inet_service . ipv4_addr",
                packet: "ip saddr . udp sport . ip daddr",
                turned_packet: "ip saddr . udp sport . ct original ip daddr",
                flow: "ct original ip saddr . ct original proto-src . ct original ip daddr",
                allocate: "masquerade fully-random",
                reallocate: "masquerade fully-random",
            },
            Mapping::AddressAndPortDependent => Self {
                kind: "ipv4_addr . inet_service . ipv4_addr . inet_service",
                packet: "ip saddr . udp sport . ip daddr . udp dport",
                turned_packet: "",
                flow: "ct original ip saddr . ct original proto-src . ct original ip daddr . ct original proto-dst",
                allocate: "masquerade fully-random",
                reallocate: "masquerade fully-random",
            },
        }
    }
}

/// Who may come in through an external port.
struct Permission {
    /// The nft type of the set `perm`; empty: no set, anyone may.
    kind: &'static str,
    check: &'static str,
    learn_sent: &'static str,
    /// The same for a flow that began outside, when the inside answers.
    learn_answered: &'static str,
}

impl Permission {
    const fn of(filtering: Filtering) -> Self {
        match filtering {
            Filtering::EndpointIndependent => Self {
                kind: "",
                check: "",
                learn_sent: "",
                learn_answered: "",
            },
            Filtering::AddressDependent => Self {
                kind: "inet_service . ipv4_addr",
                check: "udp dport . ip saddr @perm",
                learn_sent: "update @perm { udp sport . ct original ip daddr }",
                learn_answered: "update @perm { udp sport . ct reply ip daddr }",
            },
            Filtering::AddressAndPortDependent => Self {
                kind: "inet_service . ipv4_addr . inet_service",
                check: "udp dport . ip saddr . udp sport @perm",
                learn_sent: "update @perm { udp sport . ct original ip daddr . ct original proto-dst }",
                learn_answered: "update @perm { udp sport . ct reply ip daddr . ct reply proto-dst }",
            },
        }
    }

    fn set(&self, bounded: &str) -> String {
        if self.kind.is_empty() {
            return String::new();
        }
        format!(" set perm {{ type {}; {bounded} }}\n", self.kind)
    }
}

/// The table `ip filter` of a NAT box. What comes unasked to the box itself is dropped: an ICMP answer would
/// confirm a connection tracking entry that holds the port which a peer's packet is about to need, and hole
/// punching would fail where it works through a home router.
pub(crate) fn nat_firewall(egress: Option<Egress>) -> String {
    format!(
        r#"table ip filter {{
 chain input {{ type filter hook input priority 0; policy accept;
  iifname "wan" ct state new udp dport != 0 drop;
  iifname "wan" ct state new tcp dport != 0 drop;
 }}
 chain forward {{ type filter hook forward priority 0; policy accept;
{}  iifname "wan" ct state new ct status dnat accept;
  iifname "wan" ct state {{ new, invalid, untracked }} drop;
 }}
}}
"#,
        egress_rules(egress)
    )
}

/// The table `ip6 filter` of a home router: what the inside began may be answered, nothing else comes in.
/// A translator's own interface, `nat64`, counts as inside.
pub(crate) fn v6_firewall(egress: Option<Egress>) -> String {
    format!(
        r#"table ip6 filter {{
 chain forward {{ type filter hook forward priority 0; policy drop;
{}  ct state established,related accept;
  iifname {{ "lanbr", "nat64" }} accept;
  icmpv6 type {{ packet-too-big, echo-request }} accept;
 }}
}}
"#,
        egress_rules(egress)
    )
}

fn egress_rules(egress: Option<Egress>) -> &'static str {
    match egress {
        None => "",
        Some(Egress::UdpBlock) => {
            "  meta l4proto udp drop;\n  meta l4proto tcp ct state new tcp dport != { 80, 443 } drop;\n"
        }
        Some(Egress::Tcp443) => {
            "  meta l4proto udp drop;\n  meta l4proto tcp ct state new tcp dport != 443 drop;\n"
        }
        Some(Egress::Strict443) => {
            "  meta l4proto != tcp drop;\n  ct state new tcp dport != 443 drop;\n"
        }
    }
}

/// What goes wrong on an uplink, as a table of the router above it; empty if nothing does.
pub(crate) fn impairments(table: &str, interface: &str, flags: &crate::spec::Flags) -> String {
    let mut rules = String::new();
    if let Some(tenths) = flags.loss_in_tenths {
        let _ = writeln!(rules, "  oifname \"{interface}\" {}drop;", chance(tenths));
    }
    if let Some(tenths) = flags.loss_out_tenths {
        let _ = writeln!(rules, "  iifname \"{interface}\" {}drop;", chance(tenths));
    }
    if let Some(mtu) = flags.mtu {
        let _ = writeln!(rules, "  oifname \"{interface}\" meta length > {mtu} drop;");
        let _ = writeln!(rules, "  iifname \"{interface}\" meta length > {mtu} drop;");
    }
    if rules.is_empty() {
        return rules;
    }
    format!(
        "table inet {table} {{\n chain forward {{ type filter hook forward priority 0;\n{rules} }}\n}}\n"
    )
}

/// The match that lets through one packet in so many; nft refuses a range that is always true.
fn chance(tenths: u16) -> String {
    if tenths >= 1_000 {
        String::new()
    } else {
        format!("numgen random mod 1000 < {tenths} ")
    }
}
