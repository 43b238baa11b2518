//! What a relayed datagram costs a TURN server's processor over the loopback: this server, or another one.
//!
//! Run with `cargo run --release -p nilas-server --example relay_speed` for this one, in this process with one worker;
//! with `-- 127.0.0.1:3478 USER PASSWORD PID` for one that runs already, such as
//! `turnserver -n -m 1 -L 127.0.0.1 -E 127.0.0.1 -a -u USER:PASSWORD -r example.org --allow-loopback-peers`.
//!
//! Each line: flows, bytes of data, direction; datagrams sent and delivered in a second; what one cost the server in
//! processor time, and how many a core would relay at that price. Datagrams are sent one by one, as a network brings
//! them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nilas_server::{Server, ServerConfig, User};
use nilas_turn::Time;
use nilas_turn::client::{Client, ClientConfig, ClientEvent, Credentials, Transport};
use socket2::SockRef;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MEASURE: Duration = Duration::from_secs(3);
const CHANNEL: u16 = 0x4000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (server, user, password, usage) = match &arguments[..] {
        [] => (
            own_server()?,
            "ann".into(),
            "password".into(),
            Usage::OwnThreads,
        ),
        [server, user, password, pid] => (
            server.parse()?,
            user.clone(),
            password.clone(),
            Usage::Process(pid.parse()?),
        ),
        _ => return Err("give nothing, or ADDRESS USER PASSWORD PID".into()),
    };
    // They stay open: a new client that got the port of one would find its allocation there (437).
    let _idle = match usage {
        Usage::OwnThreads => idle(server, &user, &password)?,
        Usage::Process(_) => Vec::new(),
    };
    for flows in [1, 100] {
        let pairs: Vec<Pair> = (0..flows)
            .map(|_| Pair::new(server, &user, &password))
            .collect::<Result<_, _>>()?;
        for size in [120, 1_200] {
            let message = [
                &CHANNEL.to_be_bytes()[..],
                &(size as u16).to_be_bytes(),
                &vec![7; size],
            ]
            .concat();
            let out = |pair: &Pair| (pair.client.try_clone(), pair.peer.try_clone());
            let back = |pair: &Pair| (pair.peer.try_clone(), pair.client.try_clone());
            measure("to peers", flows, size, &usage, &pairs, out, &message)?;
            measure(
                "to clients",
                flows,
                size,
                &usage,
                &pairs,
                back,
                &message[4..],
            )?;
        }
    }
    Ok(())
}

/// What an allocation costs that nobody uses, in resident memory of the process.
fn idle(server: SocketAddr, user: &str, password: &str) -> Result<Vec<UdpSocket>, Failure> {
    let make = |count: usize| -> Result<Vec<UdpSocket>, Failure> {
        (0..count)
            .map(|_| Ok(Pair::new(server, user, password)?.client))
            .collect()
    };
    // What is allocated once is, and the sockets of the clients' end are the kernel's.
    let mut clients = make(200)?;
    let before = resident()?;
    let idle = make(2_000)?;
    let each = (resident()? - before) / idle.len() as i64;
    println!("an idle allocation with a channel: {each} bytes of resident memory");
    clients.extend(idle);
    Ok(clients)
}

fn resident() -> Result<i64, Failure> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages: i64 = status.split(' ').nth(1).ok_or("no memory")?.parse()?;
    Ok(pages * 4_096)
}

/// A client with an allocation and a channel, and its peer; both connected to the other's end of the relay.
struct Pair {
    client: UdpSocket,
    peer: UdpSocket,
}

impl Pair {
    fn new(server: SocketAddr, user: &str, password: &str) -> Result<Self, Failure> {
        let client = UdpSocket::bind((HOME, 0))?;
        client.connect(server)?;
        let peer = UdpSocket::bind((HOME, 0))?;
        for socket in [&client, &peer] {
            SockRef::from(socket).set_recv_buffer_size(4 << 20)?;
        }
        let credentials = Credentials {
            username: user.to_owned(),
            password: password.to_owned(),
        };
        let config = ClientConfig::new(credentials, Transport::Datagram);
        let mut core = Client::new(config, nilas_net::os_seed()?);
        let began = Instant::now();
        let now = || Time::from_nanos(began.elapsed().as_nanos() as u64);
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut buffer = [0; 2_048];
        loop {
            while let Some(size) = core.poll(now(), &mut buffer) {
                client.send(&buffer[..size])?;
            }
            match core.poll_event() {
                Some(ClientEvent::Allocated { relayed, .. }) => {
                    peer.connect(relayed[0])?;
                    core.bind(now(), peer.local_addr()?);
                    continue;
                }
                Some(ClientEvent::ChannelBound { .. }) => return Ok(Self { client, peer }),
                Some(event) => return Err(format!("{event:?}").into()),
                None => {}
            }
            if let Ok(size) = client.recv(&mut buffer) {
                let _ = core.handle(now(), &buffer[..size]);
            }
        }
    }
}

fn measure(
    direction: &str,
    flows: usize,
    size: usize,
    usage: &Usage,
    pairs: &[Pair],
    ends: impl Fn(&Pair) -> (std::io::Result<UdpSocket>, std::io::Result<UdpSocket>),
    message: &[u8],
) -> Result<(), Failure> {
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for pair in pairs {
        let (from, to) = ends(pair);
        senders.push(from?);
        let to = to?;
        to.set_nonblocking(true)?;
        receivers.push(to);
    }
    let (sent, delivered, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let before = usage.processor_time()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for sender in &senders {
                    let taken = sender.send(message).is_ok();
                    sent.fetch_add(u64::from(taken), Ordering::Relaxed);
                }
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 2_048];
            while !done.load(Ordering::Relaxed) {
                let mut any = false;
                for receiver in &receivers {
                    for _ in 0..64 {
                        if receiver.recv(&mut buffer).is_err() {
                            break;
                        }
                        any = true;
                        delivered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if !any {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        std::thread::sleep(MEASURE);
        done.store(true, Ordering::Relaxed);
    });
    let seconds = began.elapsed().as_secs_f64();
    let spent = usage.processor_time()?.saturating_sub(before);
    let (sent, delivered) = (sent.into_inner() as f64, delivered.into_inner() as f64);
    for receiver in &receivers {
        while receiver.recv(&mut [0; 2_048]).is_ok() {}
        receiver.set_nonblocking(false)?;
    }
    let each = spent.as_secs_f64() / delivered.max(1.0);
    println!(
        "{flows:3} flows {size:4} B {direction:10}: sent {:7.0}/s delivered {:7.0}/s, {:5.2} us each, {:7.0}/s a core",
        sent / seconds,
        delivered / seconds,
        each * 1e6,
        1.0 / each
    );
    Ok(())
}

/// Whose processor time is measured.
enum Usage {
    /// This process's threads that relay.
    OwnThreads,
    Process(u32),
}

impl Usage {
    fn processor_time(&self) -> Result<Duration, Failure> {
        match self {
            Self::Process(pid) => ticks(&format!("/proc/{pid}/stat")),
            Self::OwnThreads => {
                let mut sum = Duration::ZERO;
                for task in std::fs::read_dir("/proc/self/task")? {
                    let task = task?.path();
                    if std::fs::read_to_string(task.join("comm"))?.starts_with("relay-") {
                        sum += ticks(&task.join("stat").to_string_lossy())?;
                    }
                }
                Ok(sum)
            }
        }
    }
}

/// User and system time, in hundredths of a second.
fn ticks(stat: &str) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(stat)?;
    let (_, fields) = text.rsplit_once(')').ok_or("no process")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let (user, system): (u64, u64) = (fields[11].parse()?, fields[12].parse()?);
    Ok(Duration::from_millis((user + system) * 10))
}

/// A server in this process, with one worker.
fn own_server() -> Result<SocketAddr, Failure> {
    let mut config = ServerConfig::on(&[HOME], 0, 0);
    config.workers = std::num::NonZeroU8::new(1);
    config.access.users.push(User::new("ann", "password"));
    config.relay.addresses = vec![HOME.into()];
    config.relay.allow_peers = vec!["127.0.0.0/8".parse()?];
    config.relay.quotas.error_interval = Duration::ZERO;
    config.relay.quotas.allocations_per_user = 10_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = runtime.block_on(Server::bind(config))?;
    let address = server.local_addresses().stun_udp[0];
    std::thread::spawn(move || runtime.block_on(server.run(std::future::pending())));
    Ok(address)
}
