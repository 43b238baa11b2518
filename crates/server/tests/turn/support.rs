//! A server on the loopback, and clients of it: the client's core over real sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nilas_net::stream::{Stream, StreamReader, StreamWriter};
use nilas_server::{
    LocalAddresses, Server, ServerConfig, ServerError, ServerHandle, ServerStats, User,
};
use nilas_stun::TransactionId;
use nilas_turn::Time;
use nilas_turn::client::{
    Client, ClientConfig, ClientEvent, Credentials, Failure, Families, MAX_HEAD, Received,
    Transport,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Only a guard against hanging.
pub(crate) const GUARD: Duration = Duration::from_secs(60);
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

pub(crate) fn need_ipv6() {
    let there = std::net::UdpSocket::bind((V6, 0));
    there.expect("the loopback interface needs IPv6");
}
pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "password of ann";

/// A relay on 127.0.0.1 with two workers, for the user ann, who may reach the loopback.
pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::on(&[V4], 0, 0);
    config.rendezvous.clear();
    config.workers = std::num::NonZeroU8::new(2);
    config.access.users.push(User::new(USER, PASSWORD));
    config.relay.addresses = vec![V4.into()];
    config.relay.allow_peers = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    config.relay.quotas.error_interval = Duration::ZERO;
    config.max_stun_connections_per_source = 1_000;
    config
}

pub(crate) struct Running {
    pub(crate) addresses: LocalAddresses,
    pub(crate) handle: ServerHandle,
    pub(crate) task: tokio::task::JoinHandle<Result<(), ServerError>>,
}

pub(crate) async fn start(config: ServerConfig) -> Running {
    try_start(config).await.unwrap()
}

pub(crate) async fn try_start(config: ServerConfig) -> Result<Running, ServerError> {
    let server = Server::bind(config).await?;
    let addresses = server.local_addresses().clone();
    let handle = server.handle();
    let task = tokio::spawn(server.run(std::future::pending()));
    Ok(Running {
        addresses,
        handle,
        task,
    })
}

impl Running {
    pub(crate) fn udp(&self) -> SocketAddr {
        self.addresses.stun_udp[0]
    }

    /// Waits until the server's counters are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&ServerStats) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.handle.stats()) {
            assert!(
                begun.elapsed() < GUARD,
                "{what}: {:#?}",
                self.handle.stats()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.handle.stop();
        timeout(GUARD, self.task).await.unwrap().unwrap().unwrap();
    }
}

enum Way {
    Udp(UdpSocket),
    Stream {
        reader: StreamReader,
        writer: StreamWriter,
        pending: Vec<u8>,
    },
}

/// A TURN client.
pub(crate) struct Relayed {
    core: Client,
    way: Way,
    began: Instant,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<ClientEvent>,
}

pub(crate) fn credentials() -> Credentials {
    Credentials {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    }
}

fn seed() -> [u8; 32] {
    nilas_net::os_seed().unwrap()
}

impl Relayed {
    /// A client over UDP.
    pub(crate) async fn udp(
        server: SocketAddr,
        credentials: Credentials,
        families: Families,
    ) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).await.unwrap();
        socket.connect(server).await.unwrap();
        Self::new(Way::Udp(socket), credentials, families, Transport::Datagram)
    }

    /// A client over a stream: TCP, TLS or DTLS.
    pub(crate) fn stream(stream: Stream, credentials: Credentials) -> Self {
        let (reader, writer) = stream.into_split();
        let transport = if reader.is_datagrams() {
            Transport::Datagram
        } else {
            Transport::Stream
        };
        let way = Way::Stream {
            reader,
            writer,
            pending: Vec::new(),
        };
        Self::new(way, credentials, Families::V4, transport)
    }

    fn new(way: Way, credentials: Credentials, families: Families, transport: Transport) -> Self {
        let mut config = ClientConfig::new(credentials, transport);
        config.families = families;
        Self {
            core: Client::new(config, seed()),
            way,
            began: Instant::now(),
            inbox: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.began.elapsed().as_nanos() as u64)
    }

    /// The relayed addresses.
    pub(crate) async fn allocate(&mut self) -> Vec<SocketAddr> {
        self.try_allocate().await.expect("an allocation")
    }

    /// Why there is none.
    pub(crate) async fn refusal(&mut self) -> Failure {
        self.try_allocate().await.expect_err("no allocation")
    }

    pub(crate) async fn try_allocate(&mut self) -> Result<Vec<SocketAddr>, Failure> {
        let allocated = |event: &ClientEvent| matches!(event, ClientEvent::Allocated { .. });
        self.event(allocated).await.map(|event| match event {
            ClientEvent::Allocated { relayed, .. } => relayed,
            other => panic!("{other:?}"),
        })
    }

    /// The code with which a peer is refused, or nothing if it is not.
    pub(crate) async fn bind(&mut self, peer: SocketAddr) -> Option<u16> {
        let now = self.now();
        self.core.bind(now, peer);
        let wanted = |event: &ClientEvent| match event {
            ClientEvent::ChannelBound { peer: bound } => *bound == peer,
            ClientEvent::PeerRefused { peer: refused, .. } => refused.ip() == peer.ip(),
            _ => false,
        };
        match self.event(wanted).await.unwrap() {
            ClientEvent::PeerRefused { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(crate) async fn release(&mut self) {
        self.core.release();
        self.event(|event| *event == ClientEvent::Released)
            .await
            .unwrap();
    }

    /// Waits for an event, or the failure that comes in its stead.
    pub(crate) async fn event(
        &mut self,
        wanted: impl Fn(&ClientEvent) -> bool,
    ) -> Result<ClientEvent, Failure> {
        let search = async {
            loop {
                self.say().await;
                while let Some(event) = self.core.poll_event() {
                    self.events.push_back(event);
                }
                while let Some(event) = self.events.pop_front() {
                    if wanted(&event) {
                        return Ok(event);
                    }
                    if let ClientEvent::Failed(failure) = event {
                        return Err(failure);
                    }
                }
                self.hear().await;
            }
        };
        timeout(GUARD, search).await.expect("an event")
    }

    /// Sends data to a peer.
    pub(crate) async fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let now = self.now();
        self.core.permit(now, peer);
        let mut head = [0; MAX_HEAD];
        let id = TransactionId::new(*b"twelve bytes");
        let (size, tail) = self
            .core
            .framing(now, peer)
            .write(&mut head, id, data.len())
            .unwrap();
        let message = [&head[MAX_HEAD - size..], data, &[0; 3][..tail]].concat();
        self.write(&message).await;
    }

    /// The socket of a client over UDP.
    #[cfg(target_os = "linux")]
    pub(crate) fn socket(&self) -> &UdpSocket {
        match &self.way {
            Way::Udp(socket) => socket,
            Way::Stream { .. } => panic!("a stream"),
        }
    }

    /// The next datagram of a peer.
    pub(crate) async fn receive(&mut self) -> (SocketAddr, Vec<u8>) {
        let search = async {
            loop {
                if let Some(received) = self.inbox.pop_front() {
                    return received;
                }
                self.say().await;
                self.hear().await;
            }
        };
        timeout(GUARD, search).await.expect("a datagram")
    }

    /// Lives until a time from now, refreshing what it has.
    pub(crate) async fn live(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.say().await;
            let rest = end.saturating_duration_since(Instant::now());
            let _ = timeout(rest, self.hear()).await;
        }
    }

    /// Sends what the core wants sent.
    async fn say(&mut self) {
        let mut buffer = [0; 2_048];
        while let Some(size) = self.core.poll(self.now(), &mut buffer) {
            self.write(&buffer[..size]).await;
        }
    }

    async fn write(&mut self, message: &[u8]) {
        match &mut self.way {
            Way::Udp(socket) => {
                // An ICMP error about an earlier datagram is none of this one's.
                let _ = socket.send(message).await;
            }
            Way::Stream { writer, .. } => {
                let _ = writer.write_all(message).await;
            }
        }
    }

    /// Takes in what comes, or waits for the core's deadline.
    async fn hear(&mut self) {
        let deadline = self.core.deadline().unwrap_or(Time::from_nanos(u64::MAX));
        let wait = deadline.since(self.now()).min(GUARD);
        let mut buffer = vec![0; 65_536];
        let read = async {
            match &mut self.way {
                Way::Udp(socket) => socket.recv(&mut buffer).await,
                Way::Stream { reader, .. } => reader.read(&mut buffer).await,
            }
        };
        let Ok(read) = timeout(wait, read).await else {
            return;
        };
        let size = read.unwrap_or_default();
        if size == 0 {
            // The stream has ended, or UDP has an error to tell; neither is worth spinning for.
            tokio::time::sleep(Duration::from_millis(1)).await;
            return;
        }
        let mut messages = vec![buffer[..size].to_vec()];
        if let Way::Stream {
            reader, pending, ..
        } = &mut self.way
            && !reader.is_datagrams()
        {
            pending.extend_from_slice(&buffer[..size]);
            messages.clear();
            while let Some(length) = frame(pending) {
                messages.push(pending.drain(..length).collect());
            }
        }
        for message in messages {
            if let Received::Data { peer, range } = self.core.handle(self.now(), &message) {
                self.inbox.push_back((peer, message[range].to_vec()));
            }
        }
    }
}

/// The length of the whole message at the start of a stream's bytes.
pub(crate) fn frame(bytes: &[u8]) -> Option<usize> {
    let start = *bytes.first_chunk::<4>()?;
    let length = if start[0] < 4 {
        nilas_stun::stream_message_length(bytes).unwrap()?
    } else {
        nilas_turn::ChannelData::stream_length(start)
    };
    (length <= bytes.len()).then_some(length)
}

/// Two clients that reach each other through both of their relays.
pub(crate) async fn echo(a: &mut Relayed, b: &mut Relayed) {
    let (at_a, at_b) = (a.allocate().await[0], b.allocate().await[0]);
    // By Send and Data indications first, by channels then.
    for round in 0..2 {
        if round == 1 {
            assert_eq!(a.bind(at_b).await, None);
            assert_eq!(b.bind(at_a).await, None);
        } else {
            permit(a, at_b).await;
            permit(b, at_a).await;
        }
        for size in [0, 1, 2, 3, 4, 1_200, 9_000] {
            let data: Vec<u8> = (0..size).map(|byte| byte as u8 ^ round).collect();
            a.send(at_b, &data).await;
            assert_eq!(b.receive().await, (at_a, data.clone()), "{size}");
            b.send(at_a, &data).await;
            assert_eq!(a.receive().await, (at_b, data), "{size}");
        }
    }
}

/// Asks for a permission, and waits until there is one. No event tells that, but that of a channel to a neighbour of the
/// peer's does: it is asked for afterwards, and comes with the same permission (RFC 8656 section 12.2).
async fn permit(client: &mut Relayed, peer: SocketAddr) {
    let now = client.now();
    client.core.permit(now, peer);
    assert_eq!(client.bind(SocketAddr::new(peer.ip(), 9)).await, None);
}
