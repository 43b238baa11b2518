//! What stands between a peer and the internet, as one word: `KIND[+FLAG...]`.

use std::fmt;
use std::str::FromStr;

use crate::nat::Nat;

/// A side of the laboratory: a kind of access, and flags that bend it.
///
/// Written `KIND[+FLAG...]`, for example `plain`, `cgn:plain:eim-apdf+hairpin` or `multi+udpblock+loss=3`.
///
/// ```
/// let spec: nilas_lab::Spec = "eim-apdf+to=6".parse().unwrap();
/// assert_eq!(spec.flags.udp_timeout_seconds, Some(6));
/// assert_eq!(spec.to_string(), "eim-apdf+to=6");
/// let error = "plane".parse::<nilas_lab::Spec>().unwrap_err();
/// assert!(error.to_string().starts_with("no kind of access is called `plane`"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_structs,
    reason = "a kind and its flags, nothing else"
)]
pub struct Spec {
    /// The kind of access.
    pub kind: Kind,
    /// What bends it.
    pub flags: Flags,
}

/// The kinds of access to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `open`: public addresses of both families, no NAT, no firewall.
    Open,
    /// One NAT: `plain`, `sym`, or a mapping and a filtering (`eim-apdf`, ...).
    Nat(Nat),
    /// `cgn:INNER:OUTER`: a home router behind a carrier's NAT.
    Cgn {
        /// The home router's NAT.
        inner: Nat,
        /// The carrier's NAT.
        outer: Nat,
    },
    /// `same`: on A's home network (B only).
    Same,
    /// `samecgn`: a home router of its own behind A's carrier (B only, and A must be `cgn:...`).
    SameCgn,
    /// `v6fw`: IPv6 only, behind a stateful firewall.
    V6Firewall,
    /// `dual`: IPv4 behind an eim-apdf NAT and IPv6 behind a stateful firewall.
    Dual,
    /// `v6broken`: like `dual`, but the internet has no way back to its IPv6 prefix.
    V6Broken,
    /// `nat64`: IPv6 only, with a translator to IPv4 under [`NAT64_PREFIX`](crate::NAT64_PREFIX).
    Nat64,
    /// `multi`: `dual` on eth0 (Wi-Fi) and a symmetric carrier NAT on eth1 (mobile) at once (A only).
    Multi,
}

/// What bends a kind of access. Percentages are in tenths, as the kernel draws them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Flags {
    /// `hairpin`: machines behind the NAT reach each other by their external addresses (RFC 4787 section 6).
    pub hairpin: bool,
    /// `udpblock`, `tcp443`, `strict443`: what the home router lets out.
    pub egress: Option<Egress>,
    /// `to=N`: mappings and connection tracking forget a UDP flow after this many seconds of silence (otherwise 120).
    pub udp_timeout_seconds: Option<u32>,
    /// `overlap`: the home network uses A's prefix (B only).
    pub overlap: bool,
    /// `mtu=N`: larger IP packets vanish on the uplink without an ICMP error, both ways.
    pub mtu: Option<u16>,
    /// `loss=N` or `lossin=N`: so many tenths of a per cent of packets towards the peer are lost on the uplink.
    pub loss_in_tenths: Option<u16>,
    /// `loss=N` or `lossout=N`: so many tenths of a per cent of packets from the peer are lost on the uplink.
    pub loss_out_tenths: Option<u16>,
    /// `rate=N`: the uplink carries so many kbit/s each way and queues up to 100 ms of it.
    pub rate_kbit: Option<u32>,
}

/// What a home router lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Egress {
    /// `udpblock`: no UDP, and TCP to ports 80 and 443 only.
    UdpBlock,
    /// `tcp443`: no UDP, and TCP to port 443 only.
    Tcp443,
    /// `strict443`: TCP to port 443 and nothing else, not even ICMP.
    Strict443,
}

impl Kind {
    /// Whether the peer has an IPv4 home network of its own.
    pub(crate) const fn has_lan_v4(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::Same | Self::V6Firewall | Self::Nat64
        )
    }

    /// Whether the peer has an IPv6 home network of its own.
    pub(crate) const fn has_lan_v6(self) -> bool {
        matches!(
            self,
            Self::V6Firewall | Self::Dual | Self::V6Broken | Self::Nat64 | Self::Multi
        )
    }

    /// The NAT that faces the public IPv4 internet.
    pub(crate) const fn outer_nat(self) -> Option<Nat> {
        match self {
            Self::Open | Self::Same | Self::SameCgn | Self::V6Firewall => None,
            Self::Nat(nat) => Some(nat),
            Self::Cgn { outer, .. } => Some(outer),
            Self::Dual | Self::V6Broken | Self::Nat64 | Self::Multi => Some(Nat::HOME),
        }
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut words = text.split('+');
        let kind = parse_kind(words.next().unwrap_or_default())?;
        let mut flags = Flags::default();
        for word in words {
            parse_flag(word, &mut flags)?;
        }
        let spec = Self { kind, flags };
        spec.check()?;
        Ok(spec)
    }
}

impl From<Kind> for Spec {
    /// The kind as it is, without flags.
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            flags: Flags::default(),
        }
    }
}

fn parse_kind(word: &str) -> Result<Kind, SpecError> {
    if let Some(nats) = word.strip_prefix("cgn:") {
        let broken = || SpecError::Cgn(word.to_owned());
        let (inner, outer) = nats.split_once(':').ok_or_else(broken)?;
        return Ok(Kind::Cgn {
            inner: inner.parse().map_err(|()| broken())?,
            outer: outer.parse().map_err(|()| broken())?,
        });
    }
    Ok(match word {
        "open" => Kind::Open,
        "same" => Kind::Same,
        "samecgn" => Kind::SameCgn,
        "v6fw" => Kind::V6Firewall,
        "dual" => Kind::Dual,
        "v6broken" => Kind::V6Broken,
        "nat64" => Kind::Nat64,
        "multi" => Kind::Multi,
        _ => Kind::Nat(
            word.parse()
                .map_err(|()| SpecError::UnknownKind(word.to_owned()))?,
        ),
    })
}

fn parse_flag(word: &str, flags: &mut Flags) -> Result<(), SpecError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let number = |allowed, range: std::ops::RangeInclusive<u32>| {
        value
            .and_then(|value| value.parse().ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| SpecError::Value {
                flag: word.to_owned(),
                allowed,
            })
    };
    let percent = || {
        value
            .and_then(parse_tenths)
            .ok_or_else(|| SpecError::Value {
                flag: word.to_owned(),
                allowed: "a percentage from 0.1 to 100 in steps of 0.1",
            })
    };
    let once = |fresh: bool| {
        if fresh {
            Ok(())
        } else {
            Err(SpecError::Repeated(word.to_owned()))
        }
    };
    let egress = match name {
        "udpblock" => Some(Egress::UdpBlock),
        "tcp443" => Some(Egress::Tcp443),
        "strict443" => Some(Egress::Strict443),
        _ => None,
    };
    match name {
        _ if name.starts_with("wire") => return Err(SpecError::WireFlag),
        "hairpin" | "overlap" | "udpblock" | "tcp443" | "strict443" if value.is_some() => {
            return Err(SpecError::Value {
                flag: word.to_owned(),
                allowed: "no value",
            });
        }
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
        _ => return Err(SpecError::UnknownFlag(word.to_owned())),
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

impl Spec {
    /// Refuses a flag that would change nothing: a test that sets it would prove nothing.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let refuse = |flag: &'static str, why: &'static str| {
            Err(SpecError::Useless {
                flag,
                kind: Self::from(self.kind).to_string(),
                why,
            })
        };
        let flags = &self.flags;
        if flags.hairpin && !self.kind.outer_nat().is_some_and(Nat::is_typed) {
            return refuse(
                "hairpin",
                "only a NAT with a table of mappings can turn packets round: eim-apdf and its like, cgn with such an outer NAT, dual, v6broken, multi",
            );
        }
        if flags.hairpin && self.kind == Kind::Nat64 {
            return refuse("hairpin", "nobody else is behind that NAT");
        }
        if flags.overlap && !self.kind.has_lan_v4() {
            return refuse("overlap", "it has no IPv4 home network of its own");
        }
        let has_router = !matches!(self.kind, Kind::Open | Kind::Same);
        if !has_router && flags.egress.is_some() {
            return refuse(
                "udpblock, tcp443 and strict443",
                "it has no router of its own that could block anything",
            );
        }
        if !has_router && flags.udp_timeout_seconds.is_some() {
            return refuse("to", "it has no router of its own that could forget a flow");
        }
        let Flags {
            mtu,
            loss_in_tenths,
            loss_out_tenths,
            rate_kbit,
            ..
        } = flags;
        let bends_uplink = mtu.is_some()
            || loss_in_tenths.is_some()
            || loss_out_tenths.is_some()
            || rate_kbit.is_some();
        if self.kind == Kind::Same && bends_uplink {
            return refuse(
                "mtu, loss and rate",
                "it shares A's uplink, so give the flag to A",
            );
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat(nat) => return nat.fmt(f),
            Self::Cgn { inner, outer } => return write!(f, "cgn:{inner}:{outer}"),
            Self::Open => "open",
            Self::Same => "same",
            Self::SameCgn => "samecgn",
            Self::V6Firewall => "v6fw",
            Self::Dual => "dual",
            Self::V6Broken => "v6broken",
            Self::Nat64 => "nat64",
            Self::Multi => "multi",
        })
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UdpBlock => "udpblock",
            Self::Tcp443 => "tcp443",
            Self::Strict443 => "strict443",
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = &self.flags;
        write!(f, "{}", self.kind)?;
        if flags.hairpin {
            f.write_str("+hairpin")?;
        }
        if let Some(egress) = flags.egress {
            write!(f, "+{egress}")?;
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
            (Some(loss_in), Some(loss_out)) if loss_in == loss_out => {
                write!(f, "+loss={}", Percent(loss_in))?
            }
            (loss_in, loss_out) => {
                if let Some(tenths) = loss_in {
                    write!(f, "+lossin={}", Percent(tenths))?;
                }
                if let Some(tenths) = loss_out {
                    write!(f, "+lossout={}", Percent(tenths))?;
                }
            }
        }
        if let Some(rate) = flags.rate_kbit {
            write!(f, "+rate={rate}")?;
        }
        Ok(())
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

/// Why a text is not a spec, or two specs not a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// The first word names no kind.
    UnknownKind(String),
    /// `cgn:` is not followed by two NATs.
    Cgn(String),
    /// A word after a plus names no flag.
    UnknownFlag(String),
    /// A wire was asked for as a flag.
    WireFlag,
    /// A flag has a value outside what it takes, or none, or one too many.
    Value {
        /// The flag as given.
        flag: String,
        /// What it takes.
        allowed: &'static str,
    },
    /// A flag contradicts or repeats an earlier one.
    Repeated(String),
    /// The flag would change nothing with this kind.
    Useless {
        /// The flag or flags.
        flag: &'static str,
        /// The kind.
        kind: String,
        /// Why it would change nothing.
        why: &'static str,
    },
    /// The kind or flag stands on the wrong side.
    Side {
        /// The kind or flag.
        what: &'static str,
        /// Where it may stand, and beside what.
        rule: &'static str,
    },
    /// A topology is two specs joined by a comma.
    NotTwo(usize),
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(word) => write!(
                f,
                "no kind of access is called `{word}`; there are open, plain, sym, {{eim,adm,apdm}}-{{eif,adf,apdf}}, \
                 cgn:INNER:OUTER, same, samecgn, v6fw, dual, v6broken, nat64, multi"
            ),
            Self::Cgn(word) => write!(
                f,
                "`{word}` does not name two NATs; write cgn:INNER:OUTER, each of them plain, sym or one of \
                 {{eim,adm,apdm}}-{{eif,adf,apdf}}"
            ),
            Self::UnknownFlag(word) => write!(
                f,
                "no flag is called `{word}`; there are hairpin, udpblock, tcp443, strict443, to=SECONDS, overlap, \
                 mtu=BYTES, loss=PERCENT, lossin=PERCENT, lossout=PERCENT, rate=KBIT"
            ),
            Self::WireFlag => f.write_str(
                "a wire is not a flag of a spec: it is given apart, for both sides at once",
            ),
            Self::Value { flag, allowed } => write!(f, "`{flag}`: this flag takes {allowed}"),
            Self::Repeated(flag) => write!(f, "`{flag}` repeats or contradicts an earlier flag"),
            Self::Useless { flag, kind, why } => {
                write!(f, "{flag} would change nothing with `{kind}`: {why}")
            }
            Self::Side { what, rule } => write!(f, "`{what}` {rule}"),
            Self::NotTwo(count) => write!(
                f,
                "two specs joined by a comma are needed, one for each peer, and here are {count}"
            ),
        }
    }
}

impl std::error::Error for SpecError {}
