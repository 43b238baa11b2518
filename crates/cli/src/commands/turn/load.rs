//! Sending as much as goes, or at a rate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nilas_net::relay::{Relay, RelaySendError};
use tokio::task::yield_now;

use super::sink::{Arrivals, Sink};

/// Datagrams that are sent at once: as many as one system call takes.
const BURST: usize = 64;
/// What is on its way at the end of the load may take so long.
const LINGER: Duration = Duration::from_millis(500);

/// A sender: an allocation, and where its datagrams go.
pub(super) struct Flow {
    pub(super) relay: Relay,
    pub(super) peer: SocketAddr,
}

/// What a load came to.
pub(super) struct Load {
    pub(super) sent: u64,
    /// Thrown away by this machine on arrival.
    pub(super) dropped_here: u64,
    pub(super) took: Duration,
    pub(super) arrivals: Arrivals,
}

/// Sends through all flows in turn.
pub(super) async fn run(
    flows: &[Flow],
    sink: &mut Sink,
    mut arrivals: Arrivals,
    size: usize,
    time: Duration,
    rate: Option<u32>,
) -> Result<Load, RelaySendError> {
    let dropped_before = sink.dropped();
    let mut datagrams = vec![0; BURST * size];
    let mut sent = 0_u64;
    let mut next = 0_usize;
    let began = Instant::now();
    while began.elapsed() < time {
        let wanted = match rate {
            None => BURST as u64,
            // As many as are due; the first at once.
            Some(rate) => {
                let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1;
                due.saturating_sub(sent).min(BURST as u64)
            }
        };
        if wanted > 0 {
            let flow = &flows[next % flows.len()];
            next = next.wrapping_add(1);
            let burst = &mut datagrams[..wanted as usize * size];
            let now = arrivals.now();
            for datagram in burst.chunks_mut(size) {
                arrivals.mark(datagram, now);
            }
            match flow.relay.try_send_many(flow.peer, burst, size) {
                Ok(bytes) => sent += bytes.div_ceil(size) as u64,
                Err(RelaySendError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        sink.drain(&mut arrivals);
        // The relays' own tasks have their turn, and with them what arrives at relays.
        yield_now().await;
    }
    let took = began.elapsed();
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < LINGER && arrivals.count < sent {
        if sink.drain(&mut arrivals) {
            quiet_since = Instant::now();
        }
        yield_now().await;
    }
    Ok(Load {
        sent,
        dropped_here: sink.dropped() - dropped_before,
        took,
        arrivals,
    })
}
