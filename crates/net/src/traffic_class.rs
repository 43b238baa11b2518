//! How datagrams are marked for the network: DSCP (RFC 8445 section 7.2.3) and ECN, the two parts of one octet.

use std::io;

use nilas_ice::Dscp;
use quinn_udp::{EcnCodepoint, Transmit, UdpSocketState};
#[cfg(target_os = "linux")]
use socket2::{MsgHdr, SockAddr, SockRef};

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

    /// The octet as it stands in a packet: the DSCP in its upper six bits.
    pub const fn from_octet(octet: u8) -> Self {
        Self(octet)
    }

    /// With another ECN field.
    #[must_use]
    pub const fn with_ecn(self, ecn: Ecn) -> Self {
        Self(self.0 & !0b11 | ecn as u8)
    }
}

/// Sends what `transmit` says, marked with `class` in place of its ECN. Where it is not Linux, of the class only the ECN
/// field is used.
///
/// # Errors
/// The system's.
pub fn send_marked(
    socket: &std::net::UdpSocket,
    state: &UdpSocketState,
    transmit: &Transmit<'_>,
    class: TrafficClass,
) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // quinn-udp has no control message for a DSCP.
        let _ = state;
        let control = linux::Control::new(transmit, class);
        let address = SockAddr::from(transmit.destination);
        let buffers = [io::IoSlice::new(transmit.contents)];
        let message = MsgHdr::new()
            .with_addr(&address)
            .with_buffers(&buffers)
            .with_control(control.bytes());
        SockRef::from(socket).sendmsg(&message, 0).map(drop)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let transmit = Transmit {
            ecn: EcnCodepoint::from_bits(class.0 & 0b11),
            ..transmit.clone()
        };
        state.try_send(socket.into(), &transmit)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::IpAddr;

    use nix::libc;
    use quinn_udp::Transmit;

    use super::TrafficClass;

    /// `struct cmsghdr`: the length of all, the level, the type; what follows is aligned like a length.
    const WORD: usize = size_of::<usize>();
    const HEAD: usize = (WORD + 2 * size_of::<i32>()).next_multiple_of(WORD);
    const LONGEST: usize = HEAD + size_of::<libc::in6_pktinfo>().next_multiple_of(WORD);
    /// The mark, the length of segments, the address to send from.
    const MOST: usize = 3;

    /// Control messages for `sendmsg`, in place: nix would allocate them.
    pub(super) struct Control {
        bytes: [u8; MOST * LONGEST],
        length: usize,
    }

    impl Control {
        /// What a call is told beside its bytes and where they go.
        pub(super) fn new(transmit: &Transmit<'_>, class: TrafficClass) -> Self {
            let mut control = Self {
                bytes: [0; MOST * LONGEST],
                length: 0,
            };
            let octet = i32::from(class.0).to_ne_bytes();
            match transmit.destination.is_ipv4() {
                true => control.push(libc::IPPROTO_IP, libc::IP_TOS, &octet),
                false => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &octet),
            }
            // A segment is no longer than a datagram may be.
            let segment = transmit
                .segment_size
                .and_then(|size| u16::try_from(size).ok());
            if let Some(segment) = segment {
                control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
            }
            match transmit.src_ip {
                Some(IpAddr::V4(ip)) => {
                    // `struct in_pktinfo`: any interface, the address to send from, and one that is not looked at.
                    let mut info = [0; 12];
                    info[4..8].copy_from_slice(&ip.octets());
                    control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
                }
                Some(IpAddr::V6(ip)) => {
                    // `struct in6_pktinfo`: the address to send from, any interface.
                    let mut info = [0; 20];
                    info[..16].copy_from_slice(&ip.octets());
                    control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                }
                None => {}
            }
            control
        }

        pub(super) fn bytes(&self) -> &[u8] {
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
