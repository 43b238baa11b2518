//! Both servers, each a process on the second core.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nilas_server::{ServerConfig, User};

use super::Failure;

pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "secret";
/// Longer than a server takes to start.
const START: Duration = Duration::from_secs(20);

/// A server that runs. Dropped, it is killed.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

/// What `nilas-bench --serve-relay PORT` does: the server of this source tree, with one worker.
pub(crate) fn serve(port: u16) -> ExitCode {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut config = ServerConfig::default();
    config.stun_udp = vec![here];
    config.stun_tcp = Vec::new();
    config.rendezvous = Vec::new();
    config.workers = core::num::NonZeroU8::new(1);
    config.access.users = vec![User::new(USER, PASSWORD)];
    config.relay.addresses = vec![here.ip().into()];
    config.relay.allow_peers = "127.0.0.0/8".parse().into_iter().collect();
    config.relay.quotas.allocations_per_user = 100_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            runtime.block_on(async {
                let server = nilas_server::Server::bind(config).await;
                server
                    .map_err(|error| error.to_string())?
                    .run(std::future::pending::<()>())
                    .await
                    .map_err(|error| error.to_string())
            })
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the server does not run: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Server {
    pub(crate) fn nilas() -> Result<Self, Failure> {
        let address = free_address()?;
        let mut command = pinned();
        command
            .arg(std::env::current_exe()?)
            .args(["--serve-relay", &address.port().to_string()]);
        Self::start("nilas", command, address)
    }

    /// coturn with one relay thread and nothing that it could do without.
    pub(crate) fn coturn() -> Result<Self, Failure> {
        let address = free_address()?;
        let mut command = pinned();
        command
            .args([
                "turnserver",
                "-n",
                "--no-cli",
                "--no-tcp",
                "--no-tls",
                "--no-dtls",
            ])
            .args([
                "--relay-threads=1",
                "--log-file=/dev/null",
                "--simple-log",
                "--pidfile=/dev/null",
            ])
            .args(["--lt-cred-mech", "--realm=bench", "--allow-loopback-peers"])
            .arg(format!("--user={USER}:{PASSWORD}"))
            .args(["-L", "127.0.0.1", "-E", "127.0.0.1"])
            .arg(format!("--listening-port={}", address.port()));
        Self::start("coturn", command, address)
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        resident_bytes(self.child.id())
    }

    /// The processor time that it has used.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // None has much to tell that ends meanwhile.
            let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let used = told.split_whitespace().next().unwrap_or("0");
            nanoseconds += used.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The most resident memory that it had while something was done.
    pub(crate) fn most_memory_during(
        &self,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let process = self.child.id();
        let worked = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    most.fetch_max(resident_bytes(process).unwrap_or_default(), Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let worked = work();
            done.store(true, Relaxed);
            worked
        });
        worked.map(|()| most.load(Relaxed))
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset (util-linux): {error}"))?;
        let mut server = Self {
            name,
            child,
            address,
        };
        let began = Instant::now();
        while began.elapsed() < START {
            if answers(address) {
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Killed first, so that its last words end.
        drop(server.child.kill());
        let mut told = String::new();
        if let Some(mut errors) = server.child.stderr.take() {
            errors.read_to_string(&mut told)?;
        }
        Err(format!("{name} does not serve at {address}: {told}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pinned() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]);
    command
}

/// Whether a STUN server answers a Binding request there.
fn answers(address: SocketAddr) -> bool {
    let mut request = [0; 20];
    request[1] = 1;
    request[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
    let asked = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send(&request)?;
        socket.recv(&mut [0; 500])
    };
    asked().is_ok()
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn resident_bytes(process: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib
        .ok_or("the kernel does not tell resident memory")?
        .parse()?;
    Ok(kib * 1_024)
}
