//! What a socket is asked for, and no more.

use std::io;
use std::net::UdpSocket;

use quinn_udp::UdpSocketState;

/// Has a socket join datagrams that arrive together, and set DF on all that it sends and heed no path MTU that anybody may
/// have forged (RFC 8899 section 4.5), where the system can. What comes back is what `quinn_udp` sends and receives with.
///
/// On Linux nothing is told with a datagram that nobody here reads: neither its mark, nor the address it was sent to, nor
/// its time, for which `quinn_udp` asks by itself. A socket that has once asked for the time has the kernel look at the
/// clock for every packet that this machine receives, for as long as it is open.
///
/// # Errors
/// The system's.
pub fn udp_state(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    #[cfg(target_os = "linux")]
    {
        linux::set_options(socket)?;
        UdpSocketState::new((&linux::like(socket)?).into())
    }
    #[cfg(not(target_os = "linux"))]
    UdpSocketState::new(socket.into())
}

/// Has the system tell with each datagram to which address of this machine it was sent, and by which interface it came.
///
/// # Errors
/// The system's.
pub fn tell_own_address(socket: &UdpSocket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    linux::tell_own_address(socket)?;
    // Elsewhere quinn-udp has asked for it.
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use nix::errno::Errno;
    use nix::libc;
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::{setsockopt_impl, sockopt_impl};
    use socket2::{Domain, Socket, Type};

    use super::{UdpSocket, io};

    // What nix does not have, made with its own means.
    sockopt_impl!(
        /// What becomes of IPv4 datagrams that are longer than the path takes.
        Ipv4MtuDiscover,
        SetOnly,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::c_int
    );
    sockopt_impl!(
        /// The same of IPv6.
        Ipv6MtuDiscover,
        SetOnly,
        libc::IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
        libc::c_int
    );

    pub(super) fn set_options(socket: &UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // Without it each datagram comes by itself.
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
        if socket.local_addr()?.is_ipv4() {
            supported(setsockopt(
                socket,
                Ipv4MtuDiscover,
                &libc::IP_PMTUDISC_PROBE,
            ))
        } else {
            supported(setsockopt(
                socket,
                Ipv6MtuDiscover,
                &libc::IPV6_PMTUDISC_PROBE,
            ))?;
            // The other one alone leaves the kernel free to fragment.
            supported(setsockopt(socket, sockopt::Ipv6DontFrag, &true))
        }
    }

    pub(super) fn tell_own_address(socket: &UdpSocket) -> io::Result<()> {
        match socket.local_addr()?.is_ipv4() {
            true => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            false => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    /// A kernel without an option, such as a sandbox's, does without it.
    fn supported(set: nix::Result<()>) -> io::Result<()> {
        match set {
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => Ok(()),
            set => Ok(set?),
        }
    }

    /// A socket of the same kind, which asks for everything in this one's place.
    pub(super) fn like(socket: &UdpSocket) -> io::Result<Socket> {
        Socket::new(Domain::for_address(socket.local_addr()?), Type::DGRAM, None)
    }
}
