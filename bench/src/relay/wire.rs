//! Datagrams one by one, as a network brings them: each is a system call of its sender, and flows take turns.
//!
//! One thread on the first core sends as fast as it can. Receivers have room for a few datagrams and nobody reads them:
//! what they have no room for was relayed, and the kernel counts it. In life that end is the network's work, and a load
//! that did it here could not bring a server to its end. The server's processor time is the kernel's word.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nilas_turn::Time;
use nilas_turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, Failure as Ended, Transport,
};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::Failure;
use super::servers::{PASSWORD, Server, USER};

const CHANNEL: u16 = 0x4000;
/// Room for a few datagrams.
const RECEIVE_BUFFER_BYTES: usize = 8_192;
/// Longer than one answer takes.
const ANSWER: Duration = Duration::from_millis(50);
const MOST_PORTS: usize = 20;
const GIVE_UP: Duration = Duration::from_secs(10);
/// What is under way when the sending ends takes less.
const LINGER: Duration = Duration::from_millis(200);
/// So many datagrams are sent between two looks at the clock.
const SENT_AT_ONCE: usize = 100;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToPeers,
    ToClients,
}

/// Clients with an allocation and a channel each, and their peers.
pub(crate) struct Wire<'a> {
    server: &'a Server,
    flows: Vec<Flow>,
}

/// A client and its peer, both connected to the other's end of the relay.
struct Flow {
    client: UdpSocket,
    peer: UdpSocket,
}

/// What a run came to.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Relayed in a second.
    pub(crate) rate: f64,
    /// Nanoseconds of the server's processor time for each that was relayed.
    pub(crate) each: f64,
    /// Less than 1 % was lost: the server could have relayed more.
    pub(crate) limited_by_the_generator: bool,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(server: &'a Server, flows: u32) -> Result<Self, Failure> {
        let flows: Result<_, _> = (0..flows).map(|_| Flow::new(server.address())).collect();
        Ok(Self {
            server,
            flows: flows?,
        })
    }

    /// Sends as much as goes for so long.
    pub(crate) fn run(
        &self,
        direction: Direction,
        size: usize,
        time: Duration,
    ) -> Result<Run, Failure> {
        std::thread::scope(|scope| {
            let run = || {
                let mut first = CpuSet::new();
                first.set(0)?;
                sched_setaffinity(Pid::from_raw(0), &first)?;
                self.run_here(direction, size, time)
            };
            let done = scope.spawn(run).join();
            done.map_err(|_| "the load panicked")?
        })
    }

    fn run_here(&self, direction: Direction, size: usize, time: Duration) -> Result<Run, Failure> {
        let mut message = vec![7; 4 + size];
        message[..2].copy_from_slice(&CHANNEL.to_be_bytes());
        message[2..4].copy_from_slice(&(size as u16).to_be_bytes());
        let (bytes, ends): (_, Vec<_>) = match direction {
            Direction::ToPeers => (
                &message[..],
                self.flows
                    .iter()
                    .map(|flow| [&flow.client, &flow.peer])
                    .collect(),
            ),
            Direction::ToClients => (
                &message[4..],
                self.flows
                    .iter()
                    .map(|flow| [&flow.peer, &flow.client])
                    .collect(),
            ),
        };
        let ports = ends
            .iter()
            .map(|[_, to]| Ok(to.local_addr()?.port()))
            .collect::<Result<BTreeSet<_>, Failure>>()?;
        // Full from the start.
        for _ in 0..2 * RECEIVE_BUFFER_BYTES / size {
            for [from, _] in &ends {
                from.send(bytes)?;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(LINGER);
        let dropped_before = dropped(&ports)?;
        let used_before = self.server.processor_time()?;
        let mut sent = 0_u64;
        let began = Instant::now();
        let mut turns = ends.iter().cycle();
        while began.elapsed() < time {
            for [from, _] in turns.by_ref().take(SENT_AT_ONCE) {
                // What this machine does not take was not sent.
                sent += u64::from(from.send(bytes).is_ok());
            }
        }
        std::thread::sleep(LINGER);
        let took = began.elapsed();
        let used = self.server.processor_time()?.saturating_sub(used_before);
        let relayed = dropped(&ports)?.saturating_sub(dropped_before) as f64;
        if relayed == 0.0 {
            return Err(format!("{} relayed nothing", self.server.name()).into());
        }
        Ok(Run {
            rate: relayed / took.as_secs_f64(),
            each: used.as_nanos() as f64 / relayed,
            limited_by_the_generator: relayed > 0.99 * sent as f64,
        })
    }
}

impl Flow {
    /// A port may still have the allocation of a client before that was killed (437): then another one is taken.
    fn new(server: SocketAddr) -> Result<Self, Failure> {
        for _ in 0..MOST_PORTS {
            if let Some(flow) = Self::from_some_port(server)? {
                return Ok(flow);
            }
        }
        Err(format!("no free port at {server}").into())
    }

    fn from_some_port(server: SocketAddr) -> Result<Option<Self>, Failure> {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        client.connect(server)?;
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let credentials = Credentials {
            username: USER.to_owned(),
            password: PASSWORD.to_owned(),
        };
        let config = ClientConfig::new(credentials, Transport::Datagram);
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&client.local_addr()?.port().to_be_bytes());
        let mut core = Client::new(config, seed);
        let began = Instant::now();
        let now = || Time::from_nanos(began.elapsed().as_nanos() as u64);
        client.set_read_timeout(Some(ANSWER))?;
        let mut buffer = [0; 2_048];
        while began.elapsed() < GIVE_UP {
            while let Some(size) = core.poll(now(), &mut buffer) {
                client.send(&buffer[..size])?;
            }
            match core.poll_event() {
                Some(ClientEvent::Allocated { relayed, .. }) => {
                    peer.connect(relayed[0])?;
                    core.bind(now(), peer.local_addr()?);
                    continue;
                }
                Some(ClientEvent::ChannelBound { .. }) => {
                    for socket in [&client, &peer] {
                        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
                        socket.set_nonblocking(true)?;
                    }
                    return Ok(Some(Self { client, peer }));
                }
                Some(ClientEvent::Failed(Ended::Mismatch)) => return Ok(None),
                Some(event) => return Err(format!("{event:?}").into()),
                None => {}
            }
            if let Ok(size) = client.recv(&mut buffer) {
                let _ = core.handle(now(), &buffer[..size]);
            }
        }
        Err(format!("no channel at {server}").into())
    }
}

/// What the kernel has dropped at these ports.
fn dropped(ports: &BTreeSet<u16>) -> Result<u64, Failure> {
    let table = fs::read_to_string("/proc/net/udp")?;
    let dropped = table.lines().skip(1).filter_map(|line| {
        let (_, port) = line.split_whitespace().nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let count: u64 = line.split_whitespace().last()?.parse().ok()?;
        ports.contains(&port).then_some(count)
    });
    Ok(dropped.sum())
}
