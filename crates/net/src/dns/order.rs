//! Who goes first: the order of NAPTR and SRV records, and of addresses. Functions of their arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ServerTransport;

/// An SRV record (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SrvRecord {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Without the root's dot; empty for the root, which says that the service is not there.
    pub(super) target: String,
}

/// A NAPTR record, as S-NAPTR (RFC 3958) uses them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NaptrRecord {
    pub(super) order: u16,
    pub(super) preference: u16,
    pub(super) flags: String,
    pub(super) services: String,
    pub(super) regexp: String,
    pub(super) replacement: String,
}

/// Where a NAPTR record leads for one transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NaptrStep {
    pub(super) transport: ServerTransport,
    pub(super) next: NaptrNext,
}

/// What to ask next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NaptrNext {
    /// NAPTR of this name.
    Naptr(String),
    /// SRV of this name.
    Srv(String),
    /// A and AAAA of this name.
    Addresses(String),
}

/// Numbers for the choice between servers of one priority. Whoever guesses them learns which of a
/// provider's equal servers is asked first.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number up to and including `most`: SplitMix64, scaled.
    fn up_to(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The upper 32 bits times at most 2^32 fill 64 bits; what is left after the shift is at most `most`.
        (((z >> 32) * (u64::from(most) + 1)) >> 32) as u32
    }
}

/// The order of RFC 2782: by priority, and within one by lot, in which weight counts. Records that say
/// that the service is not there are left out.
pub(super) fn order_srv(records: Vec<SrvRecord>, dice: &mut Dice) -> Vec<SrvRecord> {
    let mut rest: Vec<SrvRecord> = records
        .into_iter()
        .filter(|record| !record.target.is_empty())
        .collect();
    // Those of weight 0 stand first, so that they have their small chance.
    rest.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let priority = first.priority;
        let group = rest
            .iter()
            .take_while(|record| record.priority == priority)
            .map(|record| u32::from(record.weight));
        // A response holds fewer than 2^16 records.
        let mut lot = dice.up_to(group.clone().fold(0, u32::saturating_add));
        let chosen = group
            .take_while(|weight| {
                let passed = *weight < lot;
                lot = lot.saturating_sub(*weight);
                passed
            })
            .count();
        ordered.push(rest.remove(chosen));
    }
    ordered
}

/// What the RELAY records (RFC 5928 section 3, step 4) lead to, in the order to follow it: by their rank,
/// and where one record serves several transports, as the application prefers, which is the order of
/// `wanted`.
pub(super) fn naptr_steps(
    mut records: Vec<NaptrRecord>,
    wanted: &[ServerTransport],
) -> Vec<NaptrStep> {
    records.sort_by_key(|record| (record.order, record.preference));
    let mut steps = Vec::new();
    for rank in records.chunk_by(|a, b| (a.order, a.preference) == (b.order, b.preference)) {
        for transport in wanted {
            for record in rank.iter().filter(|record| record.serves(*transport)) {
                if let Some(next) = record.next() {
                    let transport = *transport;
                    steps.push(NaptrStep { transport, next });
                }
            }
        }
    }
    steps
}

impl NaptrRecord {
    fn serves(&self, transport: ServerTransport) -> bool {
        // RFC 5928 section 6 and RFC 7350 section 4.6.2: the tags.
        let tag = match transport {
            ServerTransport::Udp => "turn.udp",
            ServerTransport::Tcp => "turn.tcp",
            ServerTransport::Tls => "turn.tls",
            ServerTransport::Dtls => "turn.dtls",
        };
        let mut parts = self.services.split(':');
        parts
            .next()
            .is_some_and(|service| service.eq_ignore_ascii_case("RELAY"))
            && parts.any(|part| part.eq_ignore_ascii_case(tag))
    }

    fn next(&self) -> Option<NaptrNext> {
        // S-NAPTR has no regular expressions, and no other flags.
        if !self.regexp.is_empty() || self.replacement.is_empty() {
            return None;
        }
        let name = self.replacement.clone();
        match self.flags.as_str() {
            "" => Some(NaptrNext::Naptr(name)),
            "s" | "S" => Some(NaptrNext::Srv(name)),
            "a" | "A" => Some(NaptrNext::Addresses(name)),
            _ => None,
        }
    }
}

/// RFC 8305 section 4: the families take turns, IPv6 first, so that a broken family costs one attempt.
pub(super) fn interleave(v6: Vec<Ipv6Addr>, v4: Vec<Ipv4Addr>) -> Vec<IpAddr> {
    let mut v4 = v4.into_iter();
    let mut all = Vec::new();
    for address in v6 {
        all.push(IpAddr::V6(address));
        all.extend(v4.next().map(IpAddr::V4));
    }
    all.extend(v4.map(IpAddr::V4));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use ServerTransport::{Dtls, Tcp, Tls, Udp};

    fn srv(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord {
            priority,
            weight,
            port: 3478,
            target: target.to_owned(),
        }
    }

    fn naptr(order: u16, preference: u16, flags: &str, services: &str, to: &str) -> NaptrRecord {
        NaptrRecord {
            order,
            preference,
            flags: flags.to_owned(),
            services: services.to_owned(),
            regexp: String::new(),
            replacement: to.to_owned(),
        }
    }

    #[test]
    fn priority_rules_and_weight_is_a_chance() {
        let records = vec![
            srv(20, 0, "last"),
            srv(10, 0, "never"),
            srv(10, 30, "some"),
            srv(10, 70, "most"),
            srv(0, 9, ""),
        ];
        let mut first = std::collections::BTreeMap::new();
        for seed in 0..10_000 {
            let order = order_srv(records.clone(), &mut Dice::new(seed));
            let names: Vec<&str> = order.iter().map(|record| record.target.as_str()).collect();
            assert_eq!(names.len(), 4);
            assert_eq!(names[3], "last");
            *first.entry(names[0].to_owned()).or_insert(0) += 1;
        }
        // 1 + 30 + 70 lots; the seeds are fixed, so these numbers are too.
        assert!((6700..7200).contains(&first["most"]), "{first:?}");
        assert!((2700..3200).contains(&first["some"]), "{first:?}");
        assert!((50..200).contains(&first["never"]), "{first:?}");
    }

    #[test]
    fn one_seed_is_one_order_and_dice_reach_both_ends() {
        let records: Vec<SrvRecord> = (0..20).map(|n| srv(1, n, &n.to_string())).collect();
        let order = |seed| order_srv(records.clone(), &mut Dice::new(seed));
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut dice = Dice::new(1);
        let seen: std::collections::BTreeSet<u32> = (0..100).map(|_| dice.up_to(2)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(dice.up_to(0), 0);
        dice.up_to(u32::MAX);
    }

    #[test]
    fn naptr_records_lead_on_by_rank_and_preference() {
        // The first set of RFC 5928 section 4.1.
        let records = vec![
            naptr(200, 10, "", "RELAY:turn.tcp:turn.tls", "stream.example.net"),
            naptr(100, 10, "", "RELAY:turn.udp", "datagram.example.net"),
            naptr(50, 10, "S", "SIP+D2U", "_sip._udp.example.net"),
            naptr(300, 20, "u", "RELAY:turn.udp", "x"),
            naptr(300, 10, "A", "relay:TURN.DTLS", "a.example.net"),
        ];
        let steps = naptr_steps(records, &[Tls, Tcp, Udp, Dtls]);
        let stream = || NaptrNext::Naptr(String::from("stream.example.net"));
        let expected = [
            (Udp, NaptrNext::Naptr(String::from("datagram.example.net"))),
            (Tls, stream()),
            (Tcp, stream()),
            (Dtls, NaptrNext::Addresses(String::from("a.example.net"))),
        ];
        let expected = expected.map(|(transport, next)| NaptrStep { transport, next });
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_regular_expression_is_no_s_naptr() {
        let mut record = naptr(1, 1, "A", "RELAY:turn.udp", "a");
        assert_eq!(naptr_steps(vec![record.clone()], &[Udp]).len(), 1);
        record.regexp = String::from("!^.*$!x!");
        assert!(naptr_steps(vec![record], &[Udp]).is_empty());
    }

    #[test]
    fn families_take_turns() {
        let v6 = vec!["::1".parse().unwrap(), "::2".parse().unwrap()];
        let v4 = vec!["192.0.2.1".parse().unwrap()];
        let texts: Vec<String> = interleave(v6, v4).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["::1", "192.0.2.1", "::2"]);
    }
}
