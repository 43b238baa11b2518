//! Many datagrams in one system call: room for what comes in, and runs of what goes out.

use core::net::{IpAddr, SocketAddr};
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;

use nilas_net::TrafficClass;
use nilas_turn::server::{ListenerId, RelayId};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use super::marks::Marks;
use super::options::{CloseLook, tell_traffic_class};

/// What the kernel may join to one buffer when many datagrams of one sender arrive together (GRO).
const SLOT_BYTES: usize = 1 << 16;
/// From one slot to the next. Beginnings a power of two apart would share their places in the processor's cache.
const STRIDE_BYTES: usize = SLOT_BYTES + 1_344;
/// What one segmented send may hold: what fits one UDP datagram, with room for headers of either family.
const RUN_BYTES: usize = 65_000;
/// So many runs are made at one time, at most.
const MOST_RUNS: usize = 128;
/// A power of two, and several times as many, so that two destinations seldom have one place.
const INDEX_PLACES: usize = 1_024;

/// Room for what one system call receives. Address space; memory is used as far as datagrams fill it.
pub(super) struct Inbound {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    classes: [TrafficClass; BATCH_SIZE],
    count: usize,
    close_look: CloseLook,
}

/// A datagram that was received.
pub(super) struct Received<'a> {
    pub(super) from: SocketAddr,
    /// The address of this machine that it was sent to, where the socket tells.
    pub(super) to: Option<IpAddr>,
    /// How it is marked.
    pub(super) class: TrafficClass,
    pub(super) bytes: &'a [u8],
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_SIZE * STRIDE_BYTES],
            metas: [RecvMeta::default(); BATCH_SIZE],
            classes: [TrafficClass::NONE; BATCH_SIZE],
            count: 0,
            close_look: CloseLook::new(),
        }
    }

    /// Takes what has arrived at a socket, as much as `slots` hold. Says whether there may be more.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        slots: usize,
        marks: &Marks,
    ) -> io::Result<bool> {
        self.count = 0;
        let slots = slots.clamp(1, BATCH_SIZE);
        // Elsewhere nobody tells a DSCP, and ECN always comes along.
        if cfg!(target_os = "linux") && marks.look_closely(|tell| tell_traffic_class(socket, tell))
        {
            return self.receive_closely(socket, slots, marks);
        }
        let mut chunks = self.bytes.chunks_exact_mut(STRIDE_BYTES);
        // There are BATCH_SIZE chunks; an empty slice would only mean one datagram fewer.
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = core::array::from_fn(|_| {
            let chunk = chunks.next().unwrap_or_default();
            let length = chunk.len().min(SLOT_BYTES);
            IoSliceMut::new(&mut chunk[..length])
        });
        self.count = state.recv(socket.into(), &mut slices[..slots], &mut self.metas)?;
        marks.looked();
        for (class, meta) in self.classes.iter_mut().zip(&self.metas[..self.count]) {
            *class = TrafficClass::from_octet(meta.ecn.map_or(0, |ecn| ecn as u8));
        }
        Ok(self.count == slots)
    }

    /// The same, one by one, with the mark of each.
    fn receive_closely(
        &mut self,
        socket: &UdpSocket,
        slots: usize,
        marks: &Marks,
    ) -> io::Result<bool> {
        let chunks = self.bytes.chunks_exact_mut(STRIDE_BYTES).take(slots);
        let places = self.metas.iter_mut().zip(&mut self.classes);
        for (chunk, (meta, class)) in chunks.zip(places) {
            match self.close_look.receive(socket, &mut chunk[..SLOT_BYTES]) {
                Ok(received) => {
                    (*meta, *class) = received;
                    marks.note(*class);
                    self.count += 1;
                }
                Err(error) if self.count == 0 => return Err(error),
                Err(error) => return Ok(error.kind() != io::ErrorKind::WouldBlock),
            }
        }
        Ok(true)
    }

    /// How many buffers were filled.
    pub(super) const fn filled(&self) -> usize {
        self.count
    }

    /// The datagrams in the order of arrival.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        let slots = self.bytes.chunks_exact(STRIDE_BYTES);
        slots
            .zip(&self.metas[..self.count])
            .zip(&self.classes)
            .flat_map(|((slot, meta), &class)| {
                let bytes = &slot[..meta.len.min(SLOT_BYTES)];
                // What the kernel has joined has one length, but for the last, which may be shorter. An empty
                // datagram is one, too.
                let empty = bytes.is_empty().then_some(bytes);
                let segments = bytes.chunks(meta.stride.max(1));
                empty
                    .into_iter()
                    .chain(segments)
                    .map(move |bytes| Received {
                        from: meta.addr,
                        to: meta.dst_ip,
                        // The kernel joins only datagrams of one mark.
                        class,
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
        class: TrafficClass,
    },
    /// From a listener to a client; from this address of the machine if the listener has several.
    Client {
        listener: ListenerId,
        client: SocketAddr,
        from: Option<IpAddr>,
        class: TrafficClass,
    },
}

impl Destination {
    /// Its place in the index of runs: the same for the same one, and usually another for another. However datagrams are
    /// marked, those to one address have one place, and so keep their order.
    fn key(self) -> usize {
        let (relay, remote) = match self {
            Self::Peer { relay, peer, .. } => (relay.slot(), peer),
            Self::Client { client, .. } => (INDEX_PLACES / 2, client),
        };
        let ip = match remote.ip() {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => ip.to_bits() as u32,
        };
        // Whoever makes several meet gains nothing but that their own data goes one by one.
        let mixed =
            (ip ^ u32::from(remote.port()) ^ ((relay as u32) << 16)).wrapping_mul(0x9E37_79B1);
        (mixed >> (u32::BITS - INDEX_PLACES.ilog2())) as usize
    }
}

/// Datagrams of one length to one destination, one after another, to be sent with one system call (GSO). The last
/// may be shorter and ends the run.
struct Run {
    destination: Destination,
    /// Its place in the index.
    key: usize,
    length: usize,
    segment: usize,
    count: usize,
}

impl Run {
    /// A run that begins with a datagram of this length.
    const fn new(destination: Destination, key: usize, length: usize) -> Self {
        Self {
            destination,
            key,
            length: 0,
            segment: length,
            count: 0,
        }
    }

    /// Whether a datagram of this length can join.
    fn takes(&self, destination: Destination, length: usize, most: usize) -> bool {
        self.destination == destination
            && self.count < most
            // Only the last may be shorter, and so far all are full; an empty one is not a segment.
            && self.length == self.count * self.segment
            && (1..=self.segment).contains(&length)
            && self.length + length <= RUN_BYTES
    }
}

/// The runs that are being made, one for each destination. Datagrams of many flows come interleaved; here those of
/// each come together again, as far as the server is so busy that several wait. Nothing waits for others to come.
pub(super) struct Runs {
    runs: Vec<Run>,
    /// Room for each run. Address space; memory is used as far as runs fill it.
    bytes: Vec<u8>,
    /// By what is computed from a destination: the number of its run. Two destinations may have one place; then the
    /// older run is sent, so that what goes to one destination is never in two.
    index: [u8; INDEX_PLACES],
    most: usize,
}

impl Runs {
    /// For runs of at most so many datagrams each.
    pub(super) fn new(most: usize) -> Self {
        Self {
            runs: Vec::with_capacity(MOST_RUNS),
            bytes: vec![0; MOST_RUNS * RUN_BYTES],
            index: [0; INDEX_PLACES],
            most,
        }
    }

    /// Adds a datagram of head, data and so many zeros. What cannot wait any longer is sent before.
    pub(super) fn push(
        &mut self,
        destination: Destination,
        [head, data]: [&[u8]; 2],
        tail: usize,
        send: &mut impl FnMut(Destination, &[u8], usize),
    ) {
        let length = head.len() + data.len() + tail;
        if length > RUN_BYTES {
            // More than any datagram holds.
            return;
        }
        let number = self.run_for(destination, length, send);
        let run = &mut self.runs[number];
        let start = number * RUN_BYTES + run.length;
        let (head_room, rest) = self.bytes[start..start + length].split_at_mut(head.len());
        let (data_room, tail_room) = rest.split_at_mut(data.len());
        head_room.copy_from_slice(head);
        data_room.copy_from_slice(data);
        tail_room.fill(0);
        run.length += length;
        run.count += 1;
    }

    /// Sends all runs.
    pub(super) fn flush(&mut self, send: &mut impl FnMut(Destination, &[u8], usize)) {
        for number in 0..self.runs.len() {
            self.send(number, send);
        }
        self.runs.clear();
    }

    /// The number of a run that takes such a datagram.
    fn run_for(
        &mut self,
        destination: Destination,
        length: usize,
        send: &mut impl FnMut(Destination, &[u8], usize),
    ) -> usize {
        let key = destination.key();
        let number = usize::from(self.index[key]);
        if let Some(run) = self.runs.get(number)
            && run.key == key
        {
            if !run.takes(destination, length, self.most) {
                self.send(number, send);
                self.runs[number] = Run::new(destination, key, length);
            }
            return number;
        }
        if self.runs.len() == MOST_RUNS {
            self.flush(send);
        }
        let number = self.runs.len();
        // There are not more than that.
        self.index[key] = number as u8;
        self.runs.push(Run::new(destination, key, length));
        number
    }

    fn send(&self, number: usize, send: &mut impl FnMut(Destination, &[u8], usize)) {
        let run = &self.runs[number];
        let start = number * RUN_BYTES;
        let bytes = &self.bytes[start..start + run.length];
        send(run.destination, bytes, run.segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Destination = client(9);

    const fn client(port: u16) -> Destination {
        Destination::Client {
            listener: ListenerId(0),
            client: SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), port),
            from: None,
            class: TrafficClass::NONE,
        }
    }

    /// What was sent: where to, the bytes, the length of each datagram.
    #[derive(Default)]
    struct Sent(Vec<(Destination, Vec<u8>, usize)>);

    impl Sent {
        fn push(&mut self, runs: &mut Runs, to: Destination, data: &[u8]) {
            runs.push(to, [b"", data], 0, &mut |to, bytes, segment| {
                self.0.push((to, bytes.to_vec(), segment));
            });
        }

        fn flush(&mut self, runs: &mut Runs) {
            runs.flush(&mut |to, bytes, segment| self.0.push((to, bytes.to_vec(), segment)));
        }
    }

    #[test]
    fn a_run_is_of_one_length_and_ends_with_a_shorter_one() {
        let (mut runs, mut sent) = (Runs::new(4), Sent::default());
        runs.push(TO, [b"head", b"data"], 0, &mut |_, _, _| unreachable!());
        runs.push(TO, [b"more", b"da"], 2, &mut |_, _, _| unreachable!());
        sent.push(&mut runs, TO, b"short");
        assert!(sent.0.is_empty());
        sent.push(&mut runs, TO, b"again");
        assert_eq!(sent.0, [(TO, b"headdatamoreda\0\0short".to_vec(), 8)]);
        sent.push(&mut runs, TO, b"longer");
        assert_eq!(sent.0[1], (TO, b"again".to_vec(), 5));
        sent.push(&mut runs, TO, b"");
        assert_eq!(sent.0[2], (TO, b"longer".to_vec(), 6));
        for _ in 0..5 {
            sent.push(&mut runs, TO, b"x");
        }
        sent.flush(&mut runs);
        let last: Vec<_> = sent.0[3..]
            .iter()
            .map(|sent| (sent.1.len(), sent.2))
            .collect();
        assert_eq!(last, [(0, 0), (4, 1), (1, 1)], "four are a full run");
        sent.0.clear();
        sent.flush(&mut runs);
        assert!(sent.0.is_empty());
    }

    #[test]
    fn a_run_is_of_one_mark_and_keeps_its_place_before_the_next() {
        let (mut runs, mut sent) = (Runs::new(64), Sent::default());
        let Destination::Client {
            listener,
            client,
            from,
            ..
        } = TO
        else {
            unreachable!()
        };
        let marked = Destination::Client {
            listener,
            client,
            from,
            class: TrafficClass::from_octet(46 << 2),
        };
        for (to, data) in [
            (TO, b"1"),
            (TO, b"2"),
            (marked, b"3"),
            (marked, b"4"),
            (TO, b"5"),
        ] {
            sent.push(&mut runs, to, data);
        }
        sent.flush(&mut runs);
        let sent: Vec<_> = sent.0.into_iter().map(|sent| (sent.0, sent.1)).collect();
        let wanted = [(TO, &b"12"[..]), (marked, b"34"), (TO, b"5")];
        assert_eq!(sent, wanted.map(|(to, data)| (to, data.to_vec())));
    }

    #[test]
    fn interleaved_flows_leave_with_one_call_each() {
        let (mut runs, mut sent) = (Runs::new(64), Sent::default());
        for round in 0..5 {
            for flow in 0..3 {
                sent.push(&mut runs, client(1_000 + flow), &[round, flow as u8]);
            }
        }
        assert!(sent.0.is_empty());
        sent.flush(&mut runs);
        assert_eq!(sent.0.len(), 3);
        let of_the_second = [0, 1, 1, 1, 2, 1, 3, 1, 4, 1];
        assert_eq!(sent.0[1], (client(1_001), of_the_second.to_vec(), 2));
    }

    /// Whichever destinations meet in the index, and however many there are.
    #[test]
    fn what_goes_to_one_destination_keeps_its_order() {
        let (mut runs, mut sent) = (Runs::new(8), Sent::default());
        let mut random = 1_u64;
        let mut numbers = vec![0_u16; 3_000];
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Some come often.
            let flow = ((random >> 40) as usize % 3_000) >> ((random >> 60) as usize % 8);
            let data = [numbers[flow].to_be_bytes(), (flow as u16).to_be_bytes()].concat();
            sent.push(&mut runs, client(flow as u16), &data);
            numbers[flow] += 1;
        }
        sent.flush(&mut runs);
        let mut seen = vec![0_u16; 3_000];
        for (to, bytes, segment) in sent.0 {
            for datagram in bytes.chunks(segment) {
                let [high, low, flow_high, flow_low] = *datagram else {
                    panic!("four bytes");
                };
                let flow = u16::from_be_bytes([flow_high, flow_low]);
                assert_eq!(to, client(flow));
                let seen = &mut seen[usize::from(flow)];
                assert_eq!(u16::from_be_bytes([high, low]), *seen, "of flow {flow}");
                *seen += 1;
            }
        }
        assert_eq!(seen, numbers, "nothing is lost");
    }

    #[test]
    fn nothing_is_too_long_for_a_run() {
        let (mut runs, mut sent) = (Runs::new(64), Sent::default());
        sent.push(&mut runs, TO, &[2; 60_000]);
        sent.push(&mut runs, TO, &[2; 60_000]);
        sent.push(&mut runs, TO, &[2; 65_535]);
        sent.flush(&mut runs);
        assert_eq!(sent.0.len(), 2, "no datagram holds the third");
    }
}
