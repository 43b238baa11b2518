//! Many datagrams in one system call: room for what comes in, and runs of what goes out.

use core::net::{IpAddr, SocketAddr};
use std::io::{self, IoSliceMut};

use nilas_turn::server::{ListenerId, RelayId};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::net::UdpSocket;

/// What the kernel may join to one buffer when many datagrams of one sender arrive together (GRO).
const SLOT_BYTES: usize = 1 << 16;
/// What one segmented send may hold: what fits one UDP datagram, with room for headers of either family.
const RUN_BYTES: usize = 65_000;

/// Room for what one system call receives. Address space; memory is used as far as datagrams fill it.
pub(super) struct Inbound {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    count: usize,
}

/// A datagram that was received.
pub(super) struct Received<'a> {
    pub(super) from: SocketAddr,
    /// The address of this machine that it was sent to, where the socket tells.
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_SIZE * SLOT_BYTES],
            metas: [RecvMeta::default(); BATCH_SIZE],
            count: 0,
        }
    }

    /// Takes what has arrived at a socket, as much as `slots` hold. Says whether there may be more.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        slots: usize,
    ) -> io::Result<bool> {
        self.count = 0;
        let slots = slots.clamp(1, BATCH_SIZE);
        let mut chunks = self.bytes.chunks_exact_mut(SLOT_BYTES);
        // There are BATCH_SIZE chunks; an empty slice would only mean one datagram fewer.
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            core::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.count = state.recv(socket.into(), &mut slices[..slots], &mut self.metas)?;
        Ok(self.count == slots)
    }

    /// How many buffers were filled.
    pub(super) const fn filled(&self) -> usize {
        self.count
    }

    /// The datagrams in the order of arrival.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        let slots = self.bytes.chunks_exact(SLOT_BYTES);
        slots
            .zip(&self.metas[..self.count])
            .flat_map(|(slot, meta)| {
                let bytes = &slot[..meta.len.min(SLOT_BYTES)];
                // What the kernel has joined has one length, but for the last, which may be shorter. An empty
                // datagram is one, too.
                let empty = bytes.is_empty().then_some(bytes);
                let segments = bytes.chunks(meta.stride.max(1));
                empty.into_iter().chain(segments).map(|bytes| Received {
                    from: meta.addr,
                    to: meta.dst_ip,
                    bytes,
                })
            })
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// From a relayed transport address to a peer.
    Peer {
        relay: RelayId,
        peer: SocketAddr,
        dont_fragment: bool,
    },
    /// From a listener to a client; from this address of the machine if the listener has several.
    Client {
        listener: ListenerId,
        client: SocketAddr,
        from: Option<IpAddr>,
    },
}

/// Datagrams of one length to one destination, one after another, to be sent with one system call (GSO). The last
/// may be shorter and ends the run.
pub(super) struct Run {
    bytes: Box<[u8; RUN_BYTES]>,
    length: usize,
    segment: usize,
    count: usize,
    most: usize,
    destination: Option<Destination>,
}

impl Run {
    /// For runs of at most so many datagrams.
    pub(super) fn new(most: usize) -> Self {
        Self {
            bytes: Box::new([0; RUN_BYTES]),
            length: 0,
            segment: 0,
            count: 0,
            most,
            destination: None,
        }
    }

    /// Whether a datagram of this length can join.
    pub(super) fn takes(&self, destination: Destination, length: usize) -> bool {
        self.count > 0
            && self.destination == Some(destination)
            && self.count < self.most
            // Only the last may be shorter, and so far all are full; an empty one is not a segment.
            && self.length == self.count * self.segment
            && (1..=self.segment).contains(&length)
            && self.length + length <= RUN_BYTES
    }

    /// Adds a datagram of head, data and so many zeros. The run is empty, or [`takes`](Self::takes) it.
    pub(super) fn push(&mut self, destination: Destination, head: &[u8], data: &[u8], tail: usize) {
        let length = head.len() + data.len() + tail;
        if self.length + length > RUN_BYTES {
            // More than any datagram holds.
            return;
        }
        if self.count == 0 {
            self.destination = Some(destination);
            self.segment = length;
        }
        let room = &mut self.bytes[self.length..self.length + length];
        let (head_room, rest) = room.split_at_mut(head.len());
        let (data_room, tail_room) = rest.split_at_mut(data.len());
        head_room.copy_from_slice(head);
        data_room.copy_from_slice(data);
        tail_room.fill(0);
        self.length += length;
        self.count += 1;
    }

    /// What is to be sent, if anything: where to, the bytes, the length of each datagram.
    pub(super) fn contents(&self) -> Option<(Destination, &[u8], usize)> {
        Some((self.destination?, &self.bytes[..self.length], self.segment))
    }

    pub(super) fn clear(&mut self) {
        self.destination = None;
        self.length = 0;
        self.segment = 0;
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Destination = Destination::Client {
        listener: ListenerId(0),
        client: SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 9),
        from: None,
    };
    const ELSEWHERE: Destination = Destination::Client {
        listener: ListenerId(1),
        client: SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 9),
        from: None,
    };

    #[test]
    fn a_run_is_of_one_destination_and_one_length_and_ends_with_a_shorter_one() {
        let mut run = Run::new(4);
        assert!(!run.takes(TO, 8), "an empty run is begun, not joined");
        run.push(TO, b"head", b"data", 0);
        assert!(run.takes(TO, 8) && run.takes(TO, 1));
        assert!(!run.takes(TO, 9) && !run.takes(TO, 0) && !run.takes(ELSEWHERE, 8));
        run.push(TO, b"more", b"da", 2);
        run.push(TO, b"", b"short", 0);
        assert!(!run.takes(TO, 8) && !run.takes(TO, 5));
        assert_eq!(
            run.contents(),
            Some((TO, &b"headdatamoreda\0\0short"[..], 8))
        );
        run.clear();
        assert_eq!(run.contents(), None);
        for _ in 0..4 {
            run.push(TO, b"", b"x", 0);
        }
        assert!(!run.takes(TO, 1), "full");
    }

    #[test]
    fn nothing_is_too_long_for_a_run() {
        let mut run = Run::new(64);
        run.push(TO, &[1; 48], &[2; 60_000], 3);
        assert!(!run.takes(TO, 60_000));
        run.clear();
        run.push(TO, &[1; 48], &[2; 65_535], 3);
        assert_eq!(run.contents(), None);
    }
}
