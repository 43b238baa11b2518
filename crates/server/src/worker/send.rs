//! Sending runs of datagrams. What the system does not take at once is lost, as a datagram may be: waiting would hold
//! up everybody else.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use std::io;
use std::net::UdpSocket;

use nilas_net::{TrafficClass, send_marked};
use quinn_udp::{Transmit, UdpSocketState};
use socket2::{SockAddr, SockRef};

/// No longer segments are tried: what Ethernet carries over IPv4. Datagrams that are longer go one by one.
const MAX_SEGMENT: usize = 1_472;

/// The longest segments to try on a socket at first, if the system segments at all.
pub(super) fn first_segments(state: &UdpSocketState) -> usize {
    if state.max_gso_segments() > 1 {
        MAX_SEGMENT
    } else {
        0
    }
}

/// A socket, and what sending on it needs.
pub(super) struct Way<'a> {
    pub(super) socket: &'a UdpSocket,
    pub(super) state: &'a UdpSocketState,
    /// The longest segments that work on it, or zero: some interfaces refuse them, and say so only when they are used.
    pub(super) segments: &'a Cell<usize>,
    /// The address of this machine to send from, if the socket has several.
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
    /// What its datagrams are marked with.
    pub(super) class: TrafficClass,
}

impl Way<'_> {
    /// Sends datagrams of `segment` bytes each, the last one possibly shorter. Says how many were not taken.
    pub(super) fn send(&self, bytes: &[u8], segment: usize) -> u64 {
        if bytes.len() <= segment {
            return u64::from(self.send_one(bytes).is_err());
        }
        if segment <= self.segments.get() {
            match self.patiently(|| self.transmit(bytes, Some(segment))) {
                Ok(()) => return 0,
                Err(error) => match works_up_to(&error, segment) {
                    // Shorter ones may do, so nobody can take them from others by being far away.
                    Some(longest) => self.segments.set(longest),
                    None => return bytes.len().div_ceil(segment.max(1)) as u64,
                },
            }
        }
        bytes
            .chunks(segment.max(1))
            .map(|datagram| u64::from(self.send_one(datagram).is_err()))
            .sum()
    }

    fn send_one(&self, datagram: &[u8]) -> io::Result<()> {
        self.patiently(|| match (self.from, self.class) {
            // A plain `sendto`: without control messages it is the cheaper call.
            (None, TrafficClass::NONE) => SockRef::from(self.socket)
                .send_to(datagram, &SockAddr::from(self.to))
                .map(drop),
            _ => self.transmit(datagram, None),
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
        send_marked(self.socket, self.state, &transmit, self.class)
    }
}

/// The longest segments that may still work, if that is what the error is about: EIO comes from drivers without checksum
/// offload, EINVAL and EMSGSIZE from paths that take no segment of this length.
fn works_up_to(error: &io::Error, segment: usize) -> Option<usize> {
    const EIO: i32 = 5;
    if cfg!(unix) && error.raw_os_error() == Some(EIO) {
        return Some(0);
    }
    let too_long = error.kind() == io::ErrorKind::InvalidInput || quinn_udp::is_msg_size_err(error);
    too_long.then_some(segment.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_takes_no_long_segments_may_take_shorter_ones() {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        assert_eq!(works_up_to(&error, 1_400), Some(1_399));
        let error = io::Error::from(io::ErrorKind::WouldBlock);
        assert_eq!(works_up_to(&error, 1_400), None);
        if cfg!(unix) {
            assert_eq!(works_up_to(&io::Error::from_raw_os_error(5), 100), Some(0));
        }
    }
}
