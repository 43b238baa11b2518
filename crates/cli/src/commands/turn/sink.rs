//! Where the datagrams of a load arrive, and what is noted of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nilas_net::relay::Relay;
use nilas_net::{ReceiveBatch, UdpSocket};

/// Every so many datagrams one is looked at for its age.
const SAMPLED: u64 = 16;
/// More ages than this are not kept.
const MAX_SAMPLES: usize = 1 << 20;

/// A datagram's head: when it was sent, and of which run.
pub(super) const HEAD_BYTES: usize = 12;

/// Where datagrams arrive.
pub(super) enum Sink {
    /// At a socket of this machine.
    Local {
        socket: UdpSocket,
        batch: Box<ReceiveBatch>,
    },
    /// At allocations of this program, one for each flow.
    Relays(Vec<Relay>),
}

/// What arrived.
pub(super) struct Arrivals {
    began: Instant,
    /// Of this run, so that stragglers of another do not count.
    tag: u32,
    size: usize,
    pub(super) count: u64,
    ages: Vec<u64>,
}

/// Ages of datagrams on arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p90: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Sink {
    /// Takes what has arrived. False if nothing had.
    pub(super) fn drain(&mut self, arrivals: &mut Arrivals) -> bool {
        let before = arrivals.count;
        match self {
            Self::Local { socket, batch } => {
                // An error is that nothing has arrived, or as good as that.
                while socket.try_receive(batch).is_ok() {
                    let now = arrivals.now();
                    for (_, range) in batch.datagrams() {
                        arrivals.note(&batch.bytes()[range], now);
                    }
                    if batch.is_partial() {
                        break;
                    }
                }
            }
            Self::Relays(relays) => {
                let now = arrivals.now();
                for relay in relays {
                    while let Some((_, data)) = relay.try_recv() {
                        arrivals.note(&data, now);
                    }
                }
            }
        }
        arrivals.count > before
    }

    /// What this machine has thrown away because it was not read in time, as far as it says.
    pub(super) fn dropped(&self) -> u64 {
        match self {
            Self::Local { socket, .. } => socket_drops(socket.local_address()),
            Self::Relays(relays) => relays.iter().map(Relay::dropped).sum(),
        }
    }
}

impl Arrivals {
    pub(super) fn new(tag: u32, size: usize) -> Self {
        Self {
            began: Instant::now(),
            tag,
            size,
            count: 0,
            ages: Vec::new(),
        }
    }

    /// Writes a datagram's head.
    pub(super) fn mark(&self, datagram: &mut [u8], now: u64) {
        datagram[..8].copy_from_slice(&now.to_be_bytes());
        datagram[8..HEAD_BYTES].copy_from_slice(&self.tag.to_be_bytes());
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn note(&mut self, datagram: &[u8], now: u64) {
        let Some((time, rest)) = datagram.split_first_chunk() else {
            return;
        };
        if datagram.len() != self.size || !rest.starts_with(&self.tag.to_be_bytes()) {
            return;
        }
        if self.count.is_multiple_of(SAMPLED) && self.ages.len() < MAX_SAMPLES {
            self.ages
                .push(now.saturating_sub(u64::from_be_bytes(*time)));
        }
        self.count += 1;
    }

    pub(super) fn latency(&mut self) -> Option<Latency> {
        self.ages.sort_unstable();
        let last = self.ages.len().checked_sub(1)?;
        let at = |share: usize| Duration::from_nanos(self.ages[last * share / 100]);
        Some(Latency {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        })
    }
}

/// The last column of the kernel's table of sockets (Linux); 0 where there is none.
fn socket_drops(local: SocketAddr) -> u64 {
    let table = if local.is_ipv4() {
        "/proc/net/udp"
    } else {
        "/proc/net/udp6"
    };
    let Ok(text) = std::fs::read_to_string(table) else {
        return 0;
    };
    drops_of_port(&text, local.port())
}

fn drops_of_port(table: &str, port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let of_port = |line: &&str| {
        let mut columns = line.split_whitespace();
        columns.nth(1).is_some_and(|local| local.ends_with(&port))
    };
    let drops = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
    table
        .lines()
        .skip(1)
        .filter(of_port)
        .filter_map(drops)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_datagrams_of_this_run_count() {
        let mut arrivals = Arrivals::new(7, 16);
        let mut datagram = [0; 16];
        arrivals.mark(&mut datagram, 1_000);
        arrivals.note(&datagram, 3_000);
        arrivals.note(&datagram[..15], 3_000);
        datagram[8] = 1;
        arrivals.note(&datagram, 3_000);
        assert_eq!(arrivals.count, 1);
        let latency = arrivals.latency().expect("one was looked at");
        assert_eq!(latency.max, Duration::from_nanos(2_000));
        assert_eq!(latency.p50, latency.max);
    }

    #[test]
    fn drops_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 2190: 00000000:0D98 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 17
 2191: 0100007F:0D99 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 4
";
        assert_eq!(drops_of_port(table, 0x0D98), 17);
        assert_eq!(drops_of_port(table, 0x0D9A), 0);
    }
}
