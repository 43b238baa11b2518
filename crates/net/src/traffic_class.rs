//! How datagrams are marked for the network: DSCP (RFC 8445 section 7.2.3) and ECN, the two parts of one octet.

use nilas_ice::Dscp;
use quinn_udp::EcnCodepoint;

/// The Explicit Congestion Notification field of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// The transport takes no notice of marks: a router that is congested drops.
    #[default]
    NotEct = 0b00,
    /// ECN-capable, for experiments (RFC 8311) such as L4S.
    Ect1 = 0b01,
    /// ECN-capable.
    Ect0 = 0b10,
    /// A router on the way was congested.
    Ce = 0b11,
}

impl Ecn {
    pub(crate) const fn of(codepoint: Option<EcnCodepoint>) -> Self {
        match codepoint {
            None => Self::NotEct,
            Some(EcnCodepoint::Ect1) => Self::Ect1,
            Some(EcnCodepoint::Ect0) => Self::Ect0,
            Some(EcnCodepoint::Ce) => Self::Ce,
        }
    }
}

/// The octet that a datagram is marked with: the traffic class of IPv6, the type of service of IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficClass(u8);

impl TrafficClass {
    /// Best effort, and not ECN-capable: no mark at all.
    pub const NONE: Self = Self(0);

    /// Both parts together.
    pub const fn new(dscp: Dscp, ecn: Ecn) -> Self {
        Self(dscp.code() << 2 | ecn as u8)
    }

    /// With another ECN field.
    #[must_use]
    pub const fn with_ecn(self, ecn: Ecn) -> Self {
        Self(self.0 & !0b11 | ecn as u8)
    }

    /// The ECN field, as quinn-udp has it.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn codepoint(self) -> Option<EcnCodepoint> {
        EcnCodepoint::from_bits(self.0 & 0b11)
    }
}

/// What the system is told about one call: the mark of its datagrams, and how long each of them is.
#[cfg(target_os = "linux")]
pub(crate) use self::linux::Control;

#[cfg(target_os = "linux")]
mod linux {
    use nix::libc;

    use super::TrafficClass;

    /// `struct cmsghdr`: the length of all, the level, the type; what follows is aligned like a length.
    const WORD: usize = size_of::<usize>();
    const HEAD: usize = (WORD + 2 * size_of::<i32>()).next_multiple_of(WORD);
    const LONGEST: usize = HEAD + size_of::<i32>().next_multiple_of(WORD);

    /// Control messages for `sendmsg`, in place: nix would allocate them, and quinn-udp has none for a DSCP.
    pub(crate) struct Control {
        bytes: [u8; 2 * LONGEST],
        length: usize,
    }

    impl Control {
        /// A datagram of this class; or several, of `segment` bytes each.
        pub(crate) fn new(is_ipv4: bool, class: TrafficClass, segment: Option<u16>) -> Self {
            let mut control = Self {
                bytes: [0; 2 * LONGEST],
                length: 0,
            };
            let octet = i32::from(class.0).to_ne_bytes();
            match is_ipv4 {
                true => control.push(libc::IPPROTO_IP, libc::IP_TOS, &octet),
                false => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &octet),
            }
            if let Some(segment) = segment {
                control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
            }
            control
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            &self.bytes[..self.length]
        }

        fn push(&mut self, level: i32, kind: i32, value: &[u8]) {
            let mut out = &mut self.bytes[self.length..];
            self.length += HEAD + value.len().next_multiple_of(WORD);
            let mut put = |bytes: &[u8]| {
                let rest = std::mem::take(&mut out);
                let (here, rest) = rest.split_at_mut(bytes.len());
                here.copy_from_slice(bytes);
                out = rest;
            };
            put(&(HEAD + value.len()).to_ne_bytes());
            put(&level.to_ne_bytes());
            put(&kind.to_ne_bytes());
            put(&[0; HEAD][WORD + 2 * size_of::<i32>()..]);
            put(value);
        }
    }
}
