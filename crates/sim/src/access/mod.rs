//! How a peer reaches the internet, as one word: `KIND[+FLAG...]`.
//!
//! | file | what lives there |
//! |---|---|
//! | `words` | reading and writing the words |
//! | `peer` | [`Peer`]: the routers, firewalls and the host that a word stands for |

use core::fmt;
use core::time::Duration;

use crate::firewall::Ports;
use crate::nat::Nat;

mod peer;
mod words;

pub use self::peer::{Peer, Side};

/// What stands between a peer and the internet: a kind of access, and flags that bend it.
///
/// The words are those of the laboratory of kernel NATs: `open`, `eim-apdf`, `cgn:plain:sym`, `dual+udpblock`, ...
///
/// ```
/// use nilas_sim::Access;
/// let access: Access = "cgn:plain:eim-apdf+hairpin".parse()?;
/// assert_eq!(access.to_string(), "cgn:eim-apdf:eim-apdf+hairpin");
/// let error = "plane".parse::<Access>().unwrap_err();
/// assert!(error.to_string().starts_with("no kind of access is called `plane`"));
/// # Ok::<(), nilas_sim::AccessError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a kind and its flags, nothing else"
)]
pub struct Access {
    /// The kind of access.
    pub kind: Kind,
    /// What bends it.
    pub flags: Flags,
}

/// The kinds of access to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `open`: public addresses of both families, no NAT, no firewall.
    Open,
    /// One NAT: `MAPPING-FILTERING`, or `plain` (eim-apdf) or `sym` (apdm-apdf). Endpoint-independent mappings
    /// preserve the port where it is free, others draw one.
    Nat(Nat),
    /// `cgn:INNER:OUTER`: a home router behind a carrier's NAT.
    Cgn {
        /// The home router's NAT.
        inner: Nat,
        /// The carrier's NAT.
        outer: Nat,
    },
    /// `same`: on the first peer's home network (the second peer only).
    Same,
    /// `samecgn`: a home router of its own behind the first peer's carrier (the second peer only).
    SameCgn,
    /// `v4fw`: a public IPv4 address behind a stateful firewall.
    V4Firewall,
    /// `v6fw`: IPv6 only, behind a stateful firewall.
    V6Firewall,
    /// `dual`: IPv4 behind an eim-apdf NAT and IPv6 behind a stateful firewall.
    Dual,
    /// `v6broken`: like `dual`, but the internet has no way back to its IPv6 prefix.
    V6Broken,
    /// `nat64`: like `v6fw`, with a translator to IPv4 under 2001:db8:64:64::/96.
    Nat64,
    /// `multi`: `dual` on eth0 (Wi-Fi) and a symmetric carrier NAT on eth1 (mobile) at once.
    Multi,
}

/// What bends a kind of access.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Flags {
    /// `hairpin`: machines behind the NAT reach each other by their external addresses (RFC 4787 section 6).
    pub hairpin: bool,
    /// `noudp`, `udpblock`, `tcp443`, `strict443`: what the home router lets out.
    pub egress: Option<Egress>,
    /// `to=N`: NATs and firewalls forget a UDP flow after this many seconds of silence (otherwise 120).
    pub udp_timeout_seconds: Option<u32>,
    /// `overlap`: the home network uses the first peer's prefix (the second peer only).
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Egress {
    /// `noudp`: no UDP, and TCP to any port.
    NoUdp,
    /// `udpblock`: no UDP, and TCP to ports 80 and 443 only.
    UdpBlock,
    /// `tcp443`: no UDP, and TCP to port 443 only.
    Tcp443,
    /// `strict443`: TCP to port 443 and nothing else. The laboratory drops ICMP as well, which this network does
    /// not have, so it is the same as `tcp443`.
    Strict443,
}

impl Egress {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoUdp => "noudp",
            Self::UdpBlock => "udpblock",
            Self::Tcp443 => "tcp443",
            Self::Strict443 => "strict443",
        }
    }

    fn tcp(self) -> Ports {
        match self {
            Self::NoUdp => Ports::All,
            Self::UdpBlock => Ports::Only(vec![80, 443]),
            Self::Tcp443 | Self::Strict443 => Ports::Only(vec![443]),
        }
    }
}

impl Flags {
    fn udp_timeout(&self) -> Duration {
        // RFC 4787 section 4.3: a mapping must not expire in less than two minutes.
        Duration::from_secs(self.udp_timeout_seconds.unwrap_or(120).into())
    }
}

impl From<Kind> for Access {
    /// The kind as it is, without flags.
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            flags: Flags::default(),
        }
    }
}

/// Why a word is no kind of access, or two of them make no world together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AccessError {
    /// No kind has this name.
    Unknown(String),
    /// `cgn:` without two NATs after it.
    Cgn(String),
    /// No flag has this name.
    Flag(String),
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
        /// The flag.
        flag: &'static str,
        /// The kind.
        kind: Kind,
        /// Why it would change nothing.
        why: &'static str,
    },
    /// The first peer's access leans on another peer's.
    First(Access),
    /// `same` beside a peer without a home network.
    NoHome(Access),
    /// `samecgn` beside a peer without a carrier.
    NoCarrier(Access),
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(
                f,
                "no kind of access is called `{word}`: use open, plain, sym, {{eim,adm,apdm}}-{{eif,adf,apdf}}, cgn:INNER:OUTER, v4fw, v6fw, dual, v6broken, nat64, multi, same or samecgn"
            ),
            Self::Cgn(word) => write!(
                f,
                "`{word}` needs two NATs, the home router's and the carrier's, such as cgn:plain:sym"
            ),
            Self::Flag(word) => write!(
                f,
                "no flag is called `+{word}`: use hairpin, overlap, noudp, udpblock, tcp443, strict443, to=SECONDS, mtu=BYTES, loss=PERCENT, lossin=PERCENT, lossout=PERCENT or rate=KBIT"
            ),
            Self::Value { flag, allowed } => write!(f, "`+{flag}` takes {allowed}"),
            Self::Repeated(word) => {
                write!(
                    f,
                    "`+{word}` repeats or contradicts an earlier flag: leave one out"
                )
            }
            Self::Useless { flag, kind, why } => {
                write!(f, "`+{flag}` would change nothing with `{kind}`: {why}")
            }
            Self::First(access) => write!(
                f,
                "the first peer cannot be `{access}`: that says where the second one is, seen from the first"
            ),
            Self::NoHome(access) => write!(
                f,
                "`same` needs a first peer with a home network, which `{access}` has not"
            ),
            Self::NoCarrier(access) => write!(
                f,
                "`samecgn` needs a first peer behind a carrier's NAT (cgn:...), not `{access}`"
            ),
        }
    }
}

impl core::error::Error for AccessError {}
