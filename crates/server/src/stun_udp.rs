//! STUN over UDP (RFC 8489 section 6.2.1): a batch of datagrams in, an answer each out, no allocation.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::binding::{MAX_ANSWER, answer};
use crate::counters::Counters;

/// Datagrams taken in one system call.
const BATCH: usize = 8;
/// What the kernel may join to one buffer when many datagrams of one sender arrive together (GRO).
const BUFFER_BYTES: usize = 1 << 16;
/// After an error that is not the datagram's, so that it cannot keep a core busy.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// A bound socket with what batching needs to know about it.
pub(crate) struct StunUdp {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl StunUdp {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }

    /// Answers, for as long as it is polled.
    pub(crate) async fn run(self, counters: Arc<Counters>) {
        let mut memory = vec![0; BATCH * BUFFER_BYTES];
        let mut metas = [RecvMeta::default(); BATCH];
        loop {
            match self.receive(&mut memory, &mut metas).await {
                Ok(count) => {
                    for (buffer, meta) in memory.chunks(BUFFER_BYTES).zip(&metas).take(count) {
                        self.answer_all(buffer, meta, &counters);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "receiving a datagram failed");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn receive(&self, memory: &mut [u8], metas: &mut [RecvMeta; BATCH]) -> io::Result<usize> {
        let mut chunks = memory.chunks_mut(BUFFER_BYTES);
        // There are BATCH chunks of it; an empty slice would only mean one datagram fewer.
        let mut slices: [IoSliceMut<'_>; BATCH] =
            core::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.socket
            .async_io(Interest::READABLE, || {
                self.state.recv((&self.socket).into(), &mut slices, metas)
            })
            .await
    }

    fn answer_all(&self, buffer: &[u8], meta: &RecvMeta, counters: &Counters) {
        if meta.len == 0 {
            counters.udp_received.add(1);
            counters.udp_ignored.add(1);
        }
        // What the kernel has joined has one length, but for the last, which may be shorter.
        for received in buffer[..meta.len].chunks(meta.stride.max(1)) {
            counters.udp_received.add(1);
            let mut answer_bytes = [0; MAX_ANSWER];
            match answer(received, meta.addr, &mut answer_bytes) {
                None => counters.udp_ignored.add(1),
                Some(length) => match self.send(&answer_bytes[..length], meta.addr, meta.dst_ip) {
                    Ok(()) => counters.udp_answered.add(1),
                    // The client asks again (RFC 8489 section 6.2.1); waiting would hold up everybody else.
                    Err(_) => counters.udp_not_sent.add(1),
                },
            }
        }
    }

    /// RFC 8489 section 6.3.1.2: from the address that the request was sent to, back to where it came from.
    fn send(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: None,
            src_ip,
        };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.socket).into(), &transmit)
        })
    }
}
