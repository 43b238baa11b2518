//! How fast datagrams of 1,200 bytes go over loopback, through a `Connection` and without one.
//!
//! ```text
//! cargo run --release -p nilas --example throughput [SECONDS]
//! ```
//!
//! What arrived is counted, for a plain loop of `send` and `recv` on connected sockets, a `Connection` one
//! by one, and a `Connection` in batches:
//!
//! - *one thread*: both ends in one thread, which sends a datagram (or a batch) and receives it before the
//!   next, so that the cost of both ends adds up;
//! - *two threads*: the sender does not wait for the receiver, and what that cannot take is lost.
//!
//! All are measured in turns, several times, so that a disturbance of the machine hits all of them; the
//! ratios are of the medians.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nilas::signaling::Signal;
use nilas::{Batch, Config, Connection, Role};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};

const DATAGRAM_BYTES: usize = 1200;
const BATCH_DATAGRAMS: usize = 50;
const ROUNDS: usize = 5;
static DATAGRAMS: [u8; DATAGRAM_BYTES * BATCH_DATAGRAMS] = [7; DATAGRAM_BYTES * BATCH_DATAGRAMS];

type Failure = Box<dyn std::error::Error>;
/// Measures for so long, and gives the datagrams received per second.
type Measure = fn(Duration) -> Result<f64, Failure>;

fn main() -> Result<(), Failure> {
    let seconds: f64 = std::env::args()
        .nth(1)
        .map_or(Ok(1.0), |text| text.parse())?;
    let each = Duration::from_secs_f64(seconds / ROUNDS as f64);
    let rows: [(&str, Measure); 6] = [
        ("one thread, send and recv", plain_in_turns),
        ("one thread, Connection one by one", |time| {
            in_turns(time, 1)
        }),
        ("one thread, Connection batches", |time| {
            in_turns(time, BATCH_DATAGRAMS)
        }),
        ("two threads, send and recv", plain_flow),
        ("two threads, Connection one by one", |time| flow(time, 1)),
        ("two threads, Connection batches", |time| {
            flow(time, BATCH_DATAGRAMS)
        }),
    ];
    let mut rates = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        for ((_, measure), rates) in rows.iter().zip(&mut rates) {
            rates.push(measure(each)?);
        }
    }
    println!(
        "{DATAGRAM_BYTES}-byte datagrams over loopback, medians of {ROUNDS} rounds of {each:.1?}\n"
    );
    println!("{:<36} {:>12} {:>10}", "", "received/s", "of plain");
    let mut plain = 0.0;
    for (row, ((name, _), rates)) in rows.iter().zip(&mut rates).enumerate() {
        rates.sort_by(f64::total_cmp);
        let median = rates[ROUNDS / 2];
        if row % 3 == 0 {
            plain = median;
        }
        println!("{name:<36} {median:>12.0} {:>10.2}", median / plain);
    }
    Ok(())
}

/// `send` and `recv` of the standard library, in turns.
fn plain_in_turns(time: Duration) -> Result<f64, Failure> {
    let (from, to) = plain_sockets()?;
    let (mut count, mut buffer) = (0u64, [0; 2048]);
    let begin = Instant::now();
    while begin.elapsed() < time {
        for _ in 0..BATCH_DATAGRAMS {
            from.send(&DATAGRAMS[..DATAGRAM_BYTES])?;
            count += u64::from(to.recv(&mut buffer)? == DATAGRAM_BYTES);
        }
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// `send` and `recv` of the standard library, each in a thread of its own.
fn plain_flow(time: Duration) -> Result<f64, Failure> {
    let (from, to) = plain_sockets()?;
    let (over, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                if to.recv(&mut buffer).is_ok() {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let sent = (|| {
            while begin.elapsed() < time {
                for _ in 0..BATCH_DATAGRAMS {
                    from.send(&DATAGRAMS[..DATAGRAM_BYTES])?;
                }
            }
            Ok::<_, Failure>(())
        })();
        let count = received.load(Ordering::Relaxed);
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        sent.map(|()| rate)
    })
}

fn plain_sockets() -> Result<(UdpSocket, UdpSocket), Failure> {
    let (from, to) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    from.connect(to.local_addr()?)?;
    to.connect(from.local_addr()?)?;
    // So that a lost datagram, or the end of a measurement, does not hang it.
    to.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok((from, to))
}

/// Both agents and the application on one thread.
fn in_turns(time: Duration, datagrams: usize) -> Result<f64, Failure> {
    runtime()?.block_on(async {
        let (to_b, from_a) = mpsc::channel(64);
        let (to_a, from_b) = mpsc::channel(64);
        let (a, b) = tokio::join!(
            end(Role::Controlling, to_b, from_b),
            end(Role::Controlled, to_a, from_a)
        );
        let (mut a, mut b) = (a?, b?);
        let (mut count, mut buffer, mut batch) = (0u64, [0; 2048], Batch::new());
        let begin = Instant::now();
        while begin.elapsed() < time {
            if datagrams == 1 {
                for datagram in DATAGRAMS.chunks(DATAGRAM_BYTES) {
                    a.send(datagram).await?;
                    count += u64::from(b.recv(&mut buffer).await? == DATAGRAM_BYTES);
                }
            } else {
                a.send_batch(&DATAGRAMS, DATAGRAM_BYTES).await?;
                let mut rest = datagrams;
                while rest > 0 {
                    b.recv_batch(&mut batch).await?;
                    rest = rest.saturating_sub(batch.len());
                    count += batch.len() as u64;
                }
            }
        }
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    })
}

/// Each agent with its application on a thread of its own, as in two processes.
fn flow(time: Duration, datagrams: usize) -> Result<f64, Failure> {
    let (over, received) = (Notify::new(), AtomicU64::new(0));
    let (to_b, from_a) = mpsc::channel(64);
    let (to_a, from_b) = mpsc::channel(64);
    let (sender, receiver) = (runtime()?, runtime()?);
    thread::scope(|scope| {
        scope.spawn(|| {
            receiver.block_on(async {
                let receive = async {
                    let mut b = end(Role::Controlled, to_a, from_a).await?;
                    let (mut batch, mut buffer) = (Batch::new(), [0; 2048]);
                    loop {
                        let count = if datagrams == 1 {
                            b.recv(&mut buffer).await.map(|_| 1)?
                        } else {
                            b.recv_batch(&mut batch).await.map(|()| batch.len())?
                        };
                        received.fetch_add(count as u64, Ordering::Relaxed);
                    }
                };
                tokio::select! {
                    ended = receive => ended,
                    () = over.notified() => Ok::<(), nilas::Error>(()),
                }
            })
        });
        let rate = sender.block_on(async {
            let mut a = end(Role::Controlling, to_b, from_b).await?;
            let before = received.load(Ordering::Relaxed);
            let begin = Instant::now();
            while begin.elapsed() < time {
                if datagrams == 1 {
                    for datagram in DATAGRAMS.chunks(DATAGRAM_BYTES) {
                        a.send(datagram).await?;
                    }
                } else {
                    a.send_batch(&DATAGRAMS, DATAGRAM_BYTES).await?;
                }
            }
            let count = received.load(Ordering::Relaxed) - before;
            Ok(count as f64 / begin.elapsed().as_secs_f64())
        });
        over.notify_one();
        rate
    })
}

async fn end(
    role: Role,
    to_peer: mpsc::Sender<Signal>,
    from_peer: mpsc::Receiver<Signal>,
) -> Result<Connection, nilas::Error> {
    let mut config = Config::new(role).loopback(true).interface("lo");
    // As the plain sockets.
    config.engine_config_mut().filter.ipv6 = false;
    nilas::connect(config, to_peer, from_peer).await
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
