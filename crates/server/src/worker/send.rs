//! Sending runs of datagrams. What the system does not take at once is lost, as a datagram may be: waiting would hold
//! up everybody else.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use std::io;

use quinn_udp::{Transmit, UdpSocketState};
use socket2::{SockAddr, SockRef};
use tokio::net::UdpSocket;

/// A socket, and what sending on it needs.
pub(super) struct Way<'a> {
    pub(super) socket: &'a UdpSocket,
    pub(super) state: &'a UdpSocketState,
    /// Whether segmented sends work on it: some interfaces refuse them, and say so only when they are used.
    pub(super) segments: &'a Cell<bool>,
    /// The address of this machine to send from, if the socket has several.
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
}

impl Way<'_> {
    /// Sends datagrams of `segment` bytes each, the last one possibly shorter. Says how many were not taken.
    pub(super) fn send(&self, bytes: &[u8], segment: usize) -> u64 {
        if bytes.len() <= segment {
            return u64::from(self.send_one(bytes).is_err());
        }
        if self.segments.get() {
            match self.patiently(|| self.transmit(bytes, Some(segment))) {
                Ok(()) => return 0,
                Err(error) if may_be_segmentation(&error) => self.segments.set(false),
                Err(_) => return bytes.len().div_ceil(segment.max(1)) as u64,
            }
        }
        bytes
            .chunks(segment.max(1))
            .map(|datagram| u64::from(self.send_one(datagram).is_err()))
            .sum()
    }

    fn send_one(&self, datagram: &[u8]) -> io::Result<()> {
        self.patiently(|| match self.from {
            Some(_) => self.transmit(datagram, None),
            // A plain `sendto`: without control messages it is the cheaper call.
            None => SockRef::from(self.socket)
                .send_to(datagram, &SockAddr::from(self.to))
                .map(drop),
        })
    }

    /// An ICMP error about an earlier datagram, to whomever that was, fails the next call in its place.
    fn patiently(&self, mut send: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        match send() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                        | io::ErrorKind::ConnectionReset
                ) =>
            {
                send()
            }
            done => done,
        }
    }

    fn transmit(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size,
            src_ip: self.from,
        };
        self.state.try_send(self.socket.into(), &transmit)
    }
}

/// EIO comes from drivers without checksum offload, EINVAL from those that cannot segment, EMSGSIZE where a segment
/// is longer than the path takes.
fn may_be_segmentation(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::InvalidInput
        || quinn_udp::is_msg_size_err(error)
        || cfg!(unix) && error.raw_os_error() == Some(EIO)
}
