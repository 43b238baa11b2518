//! The end of a wire: a socket that gets every frame of one interface and sends frames out of it.
//!
//! Packet sockets work wherever network namespaces do, in user namespaces and in containers without
//! `/dev/net/tun` too, so they are the one kind of wire there is.
#![allow(
    unsafe_code,
    reason = "neither std nor nix offers AF_PACKET addresses and options, or the ethtool request"
)]

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use nix::libc;
use nix::net::if_::if_nametoindex;

/// What may wait in the kernel for the forwarder, in bytes.
const RECEIVE_BUFFER_BYTES: c_int = 8 << 20;

/// A non-blocking packet socket bound to one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(File);

impl PacketSocket {
    /// Binds to an interface of the calling thread's namespace.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let index = c_int::try_from(if_nametoindex(interface)?).map_err(io::Error::other)?;
        // Protocol 0: nothing arrives before `bind` names the interface.
        // SAFETY: no pointers are passed.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nothing else owns it.
        let socket = Self(unsafe { File::from_raw_fd(fd) });
        // What the forwarder itself sends must not come back to it.
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        // Beyond the system's limit only root of the first user namespace may go.
        if socket
            .set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            .is_err()
        {
            socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
        }
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a whole sockaddr_ll and outlives the call; the length is its size.
        let bound = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(socket)
        }
    }

    /// The next frame that has arrived; `None` if none has.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        (&self.0).read(buffer).ok()
    }

    /// Sends a frame. One that the interface does not take now is lost, as on a real wire.
    pub(crate) fn send(&self, frame: &[u8]) {
        let _ = (&self.0).write(frame);
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: the value is a c_int, outlives the call, and the length is its size.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<c_int>() as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `ETHTOOL_STXCSUM`: switch checksums in hardware on or off.
const SET_TRANSMIT_CHECKSUM: u32 = 0x17;

/// Makes an interface of the calling thread's namespace send frames as a real link carries them: with their
/// checksum, and none larger than its MTU. Between namespaces the kernel otherwise leaves both undone.
pub(crate) fn send_whole_frames(interface: &str) -> io::Result<()> {
    /// `struct ethtool_value`
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let mut value = EthtoolValue {
        command: SET_TRANSMIT_CHECKSUM,
        data: 0,
    };
    // SAFETY: an ifreq is a name and a union of plain values, for all of which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than the field, which ends in a zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(interface.bytes().take(room))
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: SIOCETHTOOL reads an ifreq whose data points to a value of the command's type, and writes to neither
    // beyond its size; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
