//! The words: reading and writing them.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::{Access, AccessError, Egress, Flags, Kind};
use crate::nat::{Dependence, Nat, PortAssignment};

impl FromStr for Access {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let mut words = text.split('+');
        let kind = parse_kind(words.next().unwrap_or_default())?;
        let mut flags = Flags::default();
        for word in words {
            parse_flag(word, &mut flags)?;
        }
        let access = Self { kind, flags };
        access.check()?;
        Ok(access)
    }
}

fn parse_kind(kind: &str) -> Result<Kind, AccessError> {
    if let Some(nats) = kind.strip_prefix("cgn:") {
        let broken = || AccessError::Cgn(kind.to_owned());
        let (inner, outer) = nats.split_once(':').ok_or_else(broken)?;
        return Ok(Kind::Cgn {
            inner: parse_nat(inner).ok_or_else(broken)?,
            outer: parse_nat(outer).ok_or_else(broken)?,
        });
    }
    Ok(match kind {
        "open" => Kind::Open,
        "same" => Kind::Same,
        "samecgn" => Kind::SameCgn,
        "v4fw" => Kind::V4Firewall,
        "v6fw" => Kind::V6Firewall,
        "dual" => Kind::Dual,
        "v6broken" => Kind::V6Broken,
        "nat64" => Kind::Nat64,
        "multi" => Kind::Multi,
        _ => Kind::Nat(parse_nat(kind).ok_or_else(|| AccessError::Unknown(kind.to_owned()))?),
    })
}

/// A NAT by its word; it does not hairpin unless a flag says so.
fn parse_nat(word: &str) -> Option<Nat> {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let (mapping, filtering) = match word {
        "plain" => ("eim", "apdf"),
        "sym" => ("apdm", "apdf"),
        _ => word.split_once('-')?,
    };
    let (mapping, ports) = match mapping {
        "eim" => (EndpointIndependent, PortAssignment::Preserving),
        "adm" => (AddressDependent, PortAssignment::Random),
        "apdm" => (AddressAndPortDependent, PortAssignment::Random),
        _ => return None,
    };
    let filtering = match filtering {
        "eif" => EndpointIndependent,
        "adf" => AddressDependent,
        "apdf" => AddressAndPortDependent,
        _ => return None,
    };
    let mut nat = Nat::new(mapping, filtering);
    nat.hairpin = false;
    nat.ports = ports;
    Some(nat)
}

fn parse_flag(word: &str, flags: &mut Flags) -> Result<(), AccessError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let wrong = |allowed| AccessError::Value {
        flag: word.to_owned(),
        allowed,
    };
    let number = |allowed, range: RangeInclusive<u32>| {
        let value = value.and_then(|value| value.parse().ok());
        value
            .filter(|number| range.contains(number))
            .ok_or_else(|| wrong(allowed))
    };
    let percent = || {
        value
            .and_then(parse_tenths)
            .ok_or_else(|| wrong("a percentage from 0.1 to 100 in steps of 0.1"))
    };
    let once = |fresh: bool| match fresh {
        true => Ok(()),
        false => Err(AccessError::Repeated(word.to_owned())),
    };
    let egress = [
        Egress::NoUdp,
        Egress::UdpBlock,
        Egress::Tcp443,
        Egress::Strict443,
    ];
    let egress = egress.into_iter().find(|egress| egress.as_str() == name);
    if value.is_some() && (egress.is_some() || ["hairpin", "overlap"].contains(&name)) {
        return Err(wrong("no value"));
    }
    match name {
        "hairpin" => {
            once(!flags.hairpin)?;
            flags.hairpin = true;
        }
        "overlap" => {
            once(!flags.overlap)?;
            flags.overlap = true;
        }
        _ if egress.is_some() => {
            once(flags.egress.is_none())?;
            flags.egress = egress;
        }
        "to" => {
            once(flags.udp_timeout_seconds.is_none())?;
            flags.udp_timeout_seconds = Some(number("seconds from 1 to 86400", 1..=86_400)?);
        }
        "mtu" => {
            once(flags.mtu.is_none())?;
            let mtu = number("bytes of an IP packet from 576 to 1499", 576..=1_499)?;
            flags.mtu = u16::try_from(mtu).ok();
        }
        "rate" => {
            once(flags.rate_kbit.is_none())?;
            flags.rate_kbit = Some(number("kbit/s from 8 to 10000000", 8..=10_000_000)?);
        }
        "loss" => {
            once(flags.loss_in_tenths.is_none() && flags.loss_out_tenths.is_none())?;
            flags.loss_in_tenths = Some(percent()?);
            flags.loss_out_tenths = flags.loss_in_tenths;
        }
        "lossin" => {
            once(flags.loss_in_tenths.is_none())?;
            flags.loss_in_tenths = Some(percent()?);
        }
        "lossout" => {
            once(flags.loss_out_tenths.is_none())?;
            flags.loss_out_tenths = Some(percent()?);
        }
        _ => return Err(AccessError::Flag(word.to_owned())),
    }
    Ok(())
}

/// `3` and `0.5` as tenths of a per cent; `None` below 0.1, above 100, or finer than a tenth.
fn parse_tenths(text: &str) -> Option<u16> {
    let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
    if tenths.len() != 1 {
        return None;
    }
    let value = whole
        .parse::<u16>()
        .ok()?
        .checked_mul(10)?
        .checked_add(tenths.parse().ok()?)?;
    (1..=1_000).contains(&value).then_some(value)
}

impl Access {
    /// Refuses a flag that would change nothing: a test that sets it would prove nothing.
    fn check(self) -> Result<(), AccessError> {
        let Self { kind, flags } = self;
        let refuse = |flag, why| Err(AccessError::Useless { flag, kind, why });
        let has_nat = !matches!(
            kind,
            Kind::Open | Kind::Same | Kind::SameCgn | Kind::V4Firewall | Kind::V6Firewall
        );
        if flags.hairpin && !has_nat {
            return refuse(
                "hairpin",
                "it has no NAT of its own that faces the internet",
            );
        }
        if flags.hairpin && kind == Kind::Nat64 {
            return refuse("hairpin", "nobody else is behind that NAT");
        }
        if flags.overlap && !has_nat && kind != Kind::SameCgn
            || flags.overlap && kind == Kind::Nat64
        {
            return refuse("overlap", "it has no IPv4 home network of its own");
        }
        if flags.egress.is_some() && kind == Kind::Same {
            return refuse(
                "noudp, udpblock, tcp443 and strict443",
                "it has no router of its own that could block anything",
            );
        }
        let has_router = !matches!(kind, Kind::Open | Kind::Same);
        if !has_router && flags.udp_timeout_seconds.is_some() {
            return refuse("to", "it has no router of its own that could forget a flow");
        }
        let bends_uplink = flags.mtu.is_some()
            || flags.loss_in_tenths.is_some()
            || flags.loss_out_tenths.is_some()
            || flags.rate_kbit.is_some();
        if kind == Kind::Same && bends_uplink {
            return refuse(
                "mtu, loss and rate",
                "it shares the first peer's uplink, so give the flag to the first",
            );
        }
        Ok(())
    }

    /// Whether this access of a second peer can stand beside that of a first.
    ///
    /// # Errors
    /// Why not.
    pub fn check_beside(self, first: Self) -> Result<(), AccessError> {
        if matches!(first.kind, Kind::Same | Kind::SameCgn) {
            return Err(AccessError::First(first));
        }
        match (first.kind, self.kind) {
            (Kind::Open | Kind::V4Firewall, Kind::Same) => Err(AccessError::NoHome(first)),
            (Kind::Cgn { .. }, Kind::SameCgn) => Ok(()),
            (_, Kind::SameCgn) => Err(AccessError::NoCarrier(first)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat(nat) => return NatWord(nat).fmt(f),
            Self::Cgn { inner, outer } => {
                return write!(f, "cgn:{}:{}", NatWord(inner), NatWord(outer));
            }
            Self::Open => "open",
            Self::Same => "same",
            Self::SameCgn => "samecgn",
            Self::V4Firewall => "v4fw",
            Self::V6Firewall => "v6fw",
            Self::Dual => "dual",
            Self::V6Broken => "v6broken",
            Self::Nat64 => "nat64",
            Self::Multi => "multi",
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = &self.flags;
        write!(f, "{}", self.kind)?;
        if flags.hairpin {
            f.write_str("+hairpin")?;
        }
        if let Some(egress) = flags.egress {
            write!(f, "+{}", egress.as_str())?;
        }
        if let Some(seconds) = flags.udp_timeout_seconds {
            write!(f, "+to={seconds}")?;
        }
        if flags.overlap {
            f.write_str("+overlap")?;
        }
        if let Some(mtu) = flags.mtu {
            write!(f, "+mtu={mtu}")?;
        }
        match (flags.loss_in_tenths, flags.loss_out_tenths) {
            (Some(inwards), Some(outwards)) if inwards == outwards => {
                write!(f, "+loss={}", Percent(inwards))?;
            }
            (inwards, outwards) => {
                if let Some(tenths) = inwards {
                    write!(f, "+lossin={}", Percent(tenths))?;
                }
                if let Some(tenths) = outwards {
                    write!(f, "+lossout={}", Percent(tenths))?;
                }
            }
        }
        match flags.rate_kbit {
            Some(rate) => write!(f, "+rate={rate}"),
            None => Ok(()),
        }
    }
}

/// Tenths of a per cent as a person writes them.
struct Percent(u16);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, tenths) => write!(f, "{whole}.{tenths}"),
        }
    }
}

struct NatWord<'a>(&'a Nat);

impl fmt::Display for NatWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.mapping {
            Dependence::EndpointIndependent => "eim-",
            Dependence::AddressDependent => "adm-",
            Dependence::AddressAndPortDependent => "apdm-",
        })?;
        f.write_str(match self.0.filtering {
            Dependence::EndpointIndependent => "eif",
            Dependence::AddressDependent => "adf",
            Dependence::AddressAndPortDependent => "apdf",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_back() {
        for word in [
            "open",
            "same",
            "samecgn",
            "v4fw+noudp",
            "v6fw",
            "dual+hairpin+udpblock",
            "v6broken",
            "nat64",
            "multi+to=30",
            "eim-eif",
            "adm-adf+overlap",
            "apdm-apdf+hairpin",
            "cgn:eim-eif:apdm-apdf+hairpin",
            "samecgn+overlap",
            "eim-apdf+tcp443+mtu=1280+loss=3+rate=500",
            "open+lossin=0.5+lossout=10",
            "open+strict443",
        ] {
            let access: Access = word.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(access.to_string(), word);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_word() {
        for (word, reason) in [
            ("", "no kind of access is called ``"),
            ("eim", "no kind of access is called `eim`"),
            ("eim-xxx", "no kind of access is called `eim-xxx`"),
            ("cgn:plain", "`cgn:plain` needs two NATs"),
            ("cgn:plain:open", "`cgn:plain:open` needs two NATs"),
            (
                "open+hairpin",
                "`+hairpin` would change nothing with `open`",
            ),
            (
                "v6fw+overlap",
                "`+overlap` would change nothing with `v6fw`",
            ),
            (
                "same+noudp",
                "`+noudp, udpblock, tcp443 and strict443` would",
            ),
            ("same+loss=1", "`+mtu, loss and rate` would change nothing"),
            ("open+to=3", "`+to` would change nothing with `open`"),
            ("plain+mirror", "no flag is called `+mirror`"),
            ("plain+to", "`+to` takes seconds from 1 to 86400"),
            ("plain+to=0", "`+to=0` takes seconds from 1 to 86400"),
            ("plain+mtu=1500", "`+mtu=1500` takes bytes"),
            ("plain+loss=0.05", "`+loss=0.05` takes a percentage"),
            ("plain+hairpin=1", "`+hairpin=1` takes no value"),
            ("plain+udpblock+noudp", "`+noudp` repeats or contradicts"),
            (
                "plain+loss=1+lossin=1",
                "`+lossin=1` repeats or contradicts",
            ),
        ] {
            let error = word.parse::<Access>().expect_err(word).to_string();
            assert!(error.starts_with(reason), "{word}: {error}");
        }
    }
}
