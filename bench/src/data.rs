//! Datagrams of 1,200 bytes over loopback, both ends counted: a plain loop of `send` and `recv`, and
//! `Connection`, one by one and in batches.
//!
//! What counts is what arrives. In *turns*, both ends are on one thread, so that the costs of both add up;
//! as a *flow*, each has a thread of its own, and what the receiver cannot take is lost.

use std::error::Error;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nilas::{Agent, Config, Connection};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::clock::median;
use crate::report::{Bar, Figure, Report};

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: usize = 1_200;
/// As many as fit into the largest datagram that the kernel segments.
const BATCH: usize = 54;
const ROUND: Duration = Duration::from_millis(700);
const WARM_UP: Duration = Duration::from_millis(100);
const ROUNDS: usize = 7;

/// How an end of a connection works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    OneByOne,
    Batched,
}

/// An end of a flow.
#[derive(Clone, Copy)]
enum End {
    Sender,
    Receiver,
}

impl End {
    /// Gives the end on this thread a core to itself, the same in each round: on which core the system itself works, too,
    /// makes more of a difference than what is measured. With one core there is no choice.
    fn take_core(self) -> Result<(), Failure> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        let core = match self {
            Self::Sender => cores.next_back(),
            Self::Receiver => cores.next(),
        };
        let mut own = CpuSet::new();
        own.set(core.ok_or("there is no core to run on")?)?;
        sched_setaffinity(this, &own)?;
        Ok(())
    }
}

/// What both ends of a round share.
#[derive(Default)]
struct Meter {
    received: AtomicU64,
    ended: AtomicBool,
}

impl Meter {
    /// Waits for the round to pass; the datagrams that arrive in a second.
    fn read(&self) -> f64 {
        thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), self.received.load(Relaxed));
        thread::sleep(ROUND);
        let (took, after) = (start.elapsed(), self.received.load(Relaxed));
        self.ended.store(true, Relaxed);
        (after - before) as f64 / took.as_secs_f64()
    }
}

/// A plain loop as a flow: connected sockets, one call for each datagram at each end.
fn raw_flow() -> Result<f64, Failure> {
    let [a, b] = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    b.set_read_timeout(Some(Duration::from_millis(100)))?;
    let meter = Meter::default();
    let rate = thread::scope(|scope| {
        scope.spawn(|| {
            let _ = End::Sender.take_core();
            let payload = [0x80; SIZE];
            while !meter.ended.load(Relaxed) {
                // A full buffer is the receiver's loss, which is what is counted.
                let _ = a.send(&payload);
            }
        });
        scope.spawn(|| {
            let _ = End::Receiver.take_core();
            let mut buffer = [0; 2_048];
            while !meter.ended.load(Relaxed) {
                if b.recv(&mut buffer).is_ok() {
                    meter.received.fetch_add(1, Relaxed);
                }
            }
        });
        meter.read()
    });
    Ok(rate)
}

/// As the plain loop's sockets: on loopback, and of IPv4, whose way through the kernel is shorter than IPv6's.
fn on_loopback(config: Config) -> Config {
    let mut config = config.loopback(true).interface("lo");
    config.engine_config_mut().filter.ipv6 = false;
    config
}

/// A connected agent on this thread. Tickets go through the channels.
async fn connect(
    config: Config,
    tell: mpsc::Sender<nilas::signaling::Ticket>,
    hear: mpsc::Receiver<nilas::signaling::Ticket>,
) -> Result<(Agent, Connection), Failure> {
    let agent = Agent::new(on_loopback(config)).await?;
    tell.send(agent.ticket().await?)?;
    let ticket = hear.recv_timeout(Duration::from_secs(10))?;
    agent.accept(&ticket).await?;
    let connection = tokio::time::timeout(Duration::from_secs(10), agent.connect()).await??;
    Ok((agent, connection))
}

async fn send(mut connection: Connection, way: Way, meter: &Meter) -> Result<(), Failure> {
    let payload = vec![0x80; SIZE * BATCH];
    while !meter.ended.load(Relaxed) {
        match way {
            Way::OneByOne => {
                for _ in 0..BATCH {
                    connection.send(&payload[..SIZE]).await?;
                }
            }
            Way::Batched => connection.send_batch(&payload, SIZE).await?,
        }
        // The agent's own task must have its turn, too.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn receive(mut connection: Connection, way: Way, meter: &Meter) -> Result<(), Failure> {
    let (mut buffer, mut batch) = ([0; 2_048], nilas::Batch::new());
    while !meter.ended.load(Relaxed) {
        let waiting = Duration::from_millis(200);
        match way {
            Way::OneByOne => {
                // A deadline for a run of datagrams, not for each: it is there to see the end.
                let run = async {
                    for _ in 0..1_000 {
                        connection.recv(&mut buffer).await?;
                        meter.received.fetch_add(1, Relaxed);
                    }
                    Ok::<_, nilas::Error>(())
                };
                if let Ok(ended) = tokio::time::timeout(waiting, run).await {
                    ended?;
                }
            }
            Way::Batched => {
                if let Ok(ended) =
                    tokio::time::timeout(waiting, connection.recv_batch(&mut batch)).await
                {
                    ended?;
                    meter.received.fetch_add(batch.len() as u64, Relaxed);
                }
            }
        }
    }
    Ok(())
}

/// Two agents, each on a thread with a runtime of its own.
fn flow(way: Way) -> Result<f64, Failure> {
    let meter = Arc::new(Meter::default());
    let ((tell_b, hear_a), (tell_a, hear_b)) = (mpsc::channel(), mpsc::channel());
    let (ready, is_ready) = mpsc::channel();
    let sender = {
        let (meter, ready) = (Arc::clone(&meter), ready.clone());
        thread::spawn(move || {
            on_own_runtime(async {
                End::Sender.take_core()?;
                let (agent, connection) = connect(Config::controlling(), tell_b, hear_b).await?;
                ready.send(())?;
                send(connection, way, &meter).await?;
                agent.close().await;
                Ok(())
            })
        })
    };
    let receiver = {
        let meter = Arc::clone(&meter);
        thread::spawn(move || {
            on_own_runtime(async {
                End::Receiver.take_core()?;
                let (agent, connection) = connect(Config::controlled(), tell_a, hear_a).await?;
                ready.send(())?;
                receive(connection, way, &meter).await?;
                agent.close().await;
                Ok(())
            })
        })
    };
    let both = is_ready.recv().and_then(|()| is_ready.recv());
    let rate = if both.is_ok() { meter.read() } else { 0.0 };
    meter.ended.store(true, Relaxed);
    for end in [sender, receiver] {
        end.join()
            .map_err(|_| "an end of the connection panicked")??;
    }
    Ok(rate)
}

/// A plain loop in turns.
fn raw_turns() -> Result<f64, Failure> {
    let [a, b] = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    b.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (payload, mut buffer) = ([0x80; SIZE], [0; 2_048]);
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < ROUND {
        for _ in 0..BATCH {
            a.send(&payload)?;
            b.recv(&mut buffer)?;
            count += 1;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Two agents and their applications on one thread.
fn turns(way: Way) -> Result<f64, Failure> {
    let mut rate = 0.0;
    on_own_runtime(async {
        let a = Agent::new(on_loopback(Config::controlling())).await?;
        let b = Agent::new(on_loopback(Config::controlled())).await?;
        let (ticket_a, ticket_b) = (a.ticket().await?, b.ticket().await?);
        a.accept(&ticket_b).await?;
        b.accept(&ticket_a).await?;
        let connected = async { Ok::<_, nilas::Error>((a.connect().await?, b.connect().await?)) };
        let (mut from, mut to) = tokio::time::timeout(Duration::from_secs(10), connected).await??;
        let work = async {
            let payload = vec![0x80; SIZE * BATCH];
            let (mut buffer, mut batch) = ([0; 2_048], nilas::Batch::new());
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < ROUND {
                match way {
                    Way::OneByOne => {
                        for _ in 0..BATCH {
                            from.send(&payload[..SIZE]).await?;
                            to.recv(&mut buffer).await?;
                        }
                    }
                    Way::Batched => {
                        from.send_batch(&payload, SIZE).await?;
                        let mut received = 0;
                        while received < BATCH {
                            to.recv_batch(&mut batch).await?;
                            received += batch.len();
                        }
                    }
                }
                count += BATCH;
            }
            rate = count as f64 / start.elapsed().as_secs_f64();
            Ok::<_, nilas::Error>(())
        };
        // Nothing is lost here; this is a guard, so that a lost datagram does not hang the program.
        tokio::time::timeout(Duration::from_secs(30), work).await??;
        a.close().await;
        b.close().await;
        Ok(())
    })?;
    Ok(rate)
}

fn on_own_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let (mut in_turns, mut as_flow) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        in_turns.push([raw_turns()?, turns(Way::OneByOne)?, turns(Way::Batched)?]);
    }
    for _ in 0..ROUNDS {
        // The plain loop on both sides of what is compared with it: a processor that has rested is faster for a while.
        let before = raw_flow()?;
        let one_by_one = flow(Way::OneByOne)?;
        let after = raw_flow()?;
        as_flow.push([
            f64::midpoint(before, after),
            one_by_one,
            flow(Way::Batched)?,
        ]);
    }
    for (rounds, column, name, bar) in [
        (&in_turns, 1, "in turns, one by one", None),
        (&in_turns, 2, "in turns, in batches", None),
        (
            &as_flow,
            1,
            "as a flow, one by one",
            Some(Bar::AtLeast(0.9)),
        ),
        (
            &as_flow,
            2,
            "as a flow, in batches",
            Some(Bar::AtLeast(1.0)),
        ),
    ] {
        let of = |column: usize| median(rounds.iter().map(|round| round[column] / 1e3).collect());
        let ratios = rounds.iter().map(|round| round[column] / round[0]);
        let mut figure = Figure::new(format!("data, Connection {name}"), "k/s", of(column))
            .beside("plain loop", of(0))
            .ratio(median(ratios.collect()));
        figure.bar = bar;
        report.add(figure);
    }
    report.note(
        "In turns one by one, each datagram waits for the receiving agent's task: that row is about latency and \
         has no bar. A flow is what an application sends.",
    );
    Ok(())
}
