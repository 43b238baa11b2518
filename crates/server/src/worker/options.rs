//! What only Linux has: joined datagrams, the DF bit for each send, the DSCP of what comes, ICMP errors with their type
//! and code.

pub(super) use imp::{
    CloseLook, icmp_error, joins_datagrams, set_dont_fragment, tell_traffic_class, tells_icmp,
};

/// Whether a datagram can be sent with the DF bit (RFC 8656 section 14).
pub(crate) const DONT_FRAGMENT: bool = cfg!(target_os = "linux");

/// An ICMP error about a datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    /// Where the datagram was to go.
    pub(super) peer: core::net::SocketAddr,
    pub(super) icmp_type: u8,
    pub(super) code: u8,
    /// The MTU of the next hop in bytes if the datagram was too big, else zero.
    pub(super) error_data: u32,
}

#[cfg(target_os = "linux")]
mod imp {
    use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::io::{self, IoSliceMut};
    use std::os::fd::{AsFd, AsRawFd};

    use nilas_net::TrafficClass;
    use nix::errno::Errno;
    use nix::libc;
    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
    };
    use nix::{setsockopt_impl, sockopt_impl};
    use quinn_udp::RecvMeta;
    use socket2::{Domain, SockRef};

    use super::IcmpError;

    // What nix does not have, made with its own means.
    sockopt_impl!(
        /// What becomes of IPv4 datagrams that are longer than the path takes.
        Ipv4MtuDiscover,
        SetOnly,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::c_int
    );

    /// Lets the kernel join datagrams of one sender (GRO); without it each comes by itself.
    pub(in super::super) fn joins_datagrams(socket: &impl AsFd) {
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    }

    /// Has the system tell how each datagram that comes is marked, or not any more. If it refuses, none is marked.
    pub(in super::super) fn tell_traffic_class(socket: &impl AsFd, tell: bool) {
        let socket = SockRef::from(socket);
        let is_ipv4 = socket.domain().is_ok_and(|domain| domain == Domain::IPV4);
        let _ = match is_ipv4 {
            true => socket.set_recv_tos_v4(tell),
            false => socket.set_recv_tclass_v6(tell),
        };
    }

    /// Room for what the kernel tells about a datagram.
    pub(in super::super) struct CloseLook(Vec<u8>);

    impl CloseLook {
        pub(in super::super) fn new() -> Self {
            Self(nix::cmsg_space!(i32, i32, libc::in6_pktinfo))
        }

        /// Takes a datagram, or several that the kernel has joined, and tells the whole octet that it is marked with.
        pub(in super::super) fn receive(
            &mut self,
            socket: &std::net::UdpSocket,
            room: &mut [u8],
        ) -> io::Result<(RecvMeta, TrafficClass)> {
            let fd = socket.as_fd().as_raw_fd();
            let mut buffers = [IoSliceMut::new(room)];
            let message = recvmsg::<SockaddrStorage>(
                fd,
                &mut buffers,
                Some(&mut self.0),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let from = message.address.as_ref().and_then(socket_address);
            let mut class = TrafficClass::NONE;
            let mut meta = RecvMeta::default();
            meta.addr = from.ok_or(io::ErrorKind::InvalidData)?;
            meta.len = message.bytes;
            meta.stride = message.bytes;
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::Ipv4Tos(octet) => class = TrafficClass::from_octet(octet),
                    // It has eight bits.
                    ControlMessageOwned::Ipv6TClass(octet) => {
                        class = TrafficClass::from_octet(octet as u8);
                    }
                    ControlMessageOwned::UdpGroSegments(segment) => {
                        meta.stride = usize::try_from(segment).unwrap_or(meta.len);
                    }
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        let address = u32::from_be(info.ipi_addr.s_addr);
                        meta.dst_ip = Some(Ipv4Addr::from_bits(address).into());
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        meta.dst_ip = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    _ => {}
                }
            }
            Ok((meta, class))
        }
    }

    /// Has ICMP errors kept for [`icmp_error`].
    pub(in super::super) fn tells_icmp(socket: &impl AsFd, is_ipv4: bool) -> io::Result<()> {
        if is_ipv4 {
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// Whether what is sent from now on may be fragmented, by this host or on the way.
    pub(in super::super) fn set_dont_fragment(
        socket: &impl AsFd,
        is_ipv4: bool,
        dont_fragment: bool,
    ) -> io::Result<()> {
        if is_ipv4 {
            // PROBE sets the bit and heeds no path MTU that somebody may have forged; DONT clears it.
            let mode = if dont_fragment {
                libc::IP_PMTUDISC_PROBE
            } else {
                libc::IP_PMTUDISC_DONT
            };
            setsockopt(socket, Ipv4MtuDiscover, &mode)?;
        } else {
            // Routers do not fragment IPv6; the option keeps this host from it.
            setsockopt(socket, sockopt::Ipv6DontFrag, &dont_fragment)?;
        }
        Ok(())
    }

    /// The next ICMP error, if there is one.
    pub(in super::super) fn icmp_error(socket: &impl AsFd) -> io::Result<Option<IcmpError>> {
        let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let fd = socket.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        loop {
            let message = match recvmsg::<SockaddrStorage>(fd, &mut [], Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let peer = message.address.as_ref().and_then(socket_address);
            let error = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4RecvErr(error, _) => {
                    (error.ee_origin == libc::SO_EE_ORIGIN_ICMP).then_some(error)
                }
                ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    (error.ee_origin == libc::SO_EE_ORIGIN_ICMP6).then_some(error)
                }
                _ => None,
            });
            if let (Some(peer), Some(error)) = (peer, error) {
                return Ok(Some(IcmpError {
                    peer,
                    icmp_type: error.ee_type,
                    code: error.ee_code,
                    error_data: error.ee_info,
                }));
            }
            // This host's own, such as a datagram longer than the interface takes: nobody else said so.
        }
    }

    fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address
            .as_sockaddr_in()
            .map(|address| SocketAddrV4::from(*address).into());
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|address| SocketAddrV6::from(*address).into())
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;

    use nilas_net::TrafficClass;
    use quinn_udp::RecvMeta;

    use super::IcmpError;

    pub(in super::super) fn tell_traffic_class<T>(_: &T, _: bool) {}

    /// Never taken: `Marks` says so.
    pub(in super::super) struct CloseLook;

    impl CloseLook {
        pub(in super::super) const fn new() -> Self {
            Self
        }

        pub(in super::super) fn receive(
            &mut self,
            _: &std::net::UdpSocket,
            _: &mut [u8],
        ) -> io::Result<(RecvMeta, TrafficClass)> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(in super::super) fn joins_datagrams<T>(_: &T) {}

    pub(in super::super) fn tells_icmp<T>(_: &T, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(in super::super) fn set_dont_fragment<T>(_: &T, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(in super::super) fn icmp_error<T>(_: &T) -> io::Result<Option<IcmpError>> {
        Ok(None)
    }
}
