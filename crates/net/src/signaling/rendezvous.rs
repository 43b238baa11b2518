//! The client of a rendezvous server.

use core::fmt;
use core::time::Duration;
use std::io;

use futures_util::{SinkExt, StreamExt};
use serde_json::value::to_raw_value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::code::Code;
use super::message::{
    ClientMessage, MAX_MESSAGE_BYTES, MAX_QUEUED_MESSAGES, MESSAGE_BURST, MESSAGES_PER_SECOND,
    MessageError, PATH, PING_INTERVAL, Refusal, SCHEMA, ServerMessage,
};
use super::rate::{Bucket, Rate};
use super::signal::Signal;
use crate::dial::connect_any;
use crate::stream::{ClientTls, RootsError};

/// From the first byte to the server's answer to the code. A server that takes longer is of no use.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A little below what the server allows, so that clocks that disagree do no harm.
const SEND_RATE: Rate = Rate::new(
    MESSAGE_BURST - 16,
    Duration::from_micros(1_100_000 / MESSAGES_PER_SECOND as u64),
);

/// How to find the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meeting {
    /// The server makes up a code, which [`Rendezvous::code`] tells, and this side waits under it.
    Create,
    /// The peer waits under this code.
    Join(Code),
    /// Both sides name this code, and whoever comes first waits.
    JoinOrCreate(Code),
}

/// A connection to a rendezvous server, and through it to a peer.
///
/// It lives until it is dropped or [closed](Self::close); the peer is then told that this side has left.
///
/// ```no_run
/// use nilas_net::signaling::{Description, Meeting, Rendezvous, RendezvousEvent, Signal};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let code = "7-amber-canyon".parse()?;
/// let mut rendezvous = Rendezvous::connect("ws://rendezvous.example:3480", Meeting::JoinOrCreate(code)).await?;
/// rendezvous.send(&Signal::Description(Description::new("Uf7g", "a-password-of-22-chars")))?;
/// while let Some(event) = rendezvous.recv().await? {
///     match event {
///         RendezvousEvent::PeerJoined { controlling } => println!("the peer is there; controlling: {controlling}"),
///         RendezvousEvent::Signal(signal) => println!("{signal:?}"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Rendezvous {
    code: Code,
    expires_in: Option<Duration>,
    sender: RendezvousSender,
    events: mpsc::Receiver<Result<RendezvousEvent, RendezvousError>>,
    task: JoinHandle<()>,
}

/// What comes from the server.
#[derive(Debug)]
#[non_exhaustive]
pub enum RendezvousEvent {
    /// Both peers are there.
    PeerJoined {
        /// Whether this side begins as the controlling agent (RFC 8445 section 6.1.1).
        controlling: bool,
    },
    /// The peer tells something.
    Signal(Signal),
    /// The peer told something that is no [`Signal`]. It has been dropped, and the rest goes on.
    Malformed(MessageError),
    /// The peer has left the rendezvous, and nothing more will come. An ICE session with it may well go on.
    PeerLeft,
}

impl Rendezvous {
    /// Connects to the server at `url`, such as `ws://rendezvous.example:3480` or `wss://rendezvous.example`, and names the
    /// code. With `wss:` nobody on the way reads or changes signals; the server's certificate must be for the URL's host,
    /// and issued by a root that [`ClientTls::system`] trusts.
    ///
    /// The port is 80, or 443 with `wss:`, and the path [`PATH`] where the URL has none. Returns once the server has accepted
    /// the code, which is before the peer is there unless the peer has been waiting.
    ///
    /// # Errors
    /// [`RendezvousError::Refused`] when the server does not accept the code; the others when there is no
    /// such server within ten seconds.
    pub async fn connect(url: &str, meeting: Meeting) -> Result<Self, RendezvousError> {
        let server = Server::parse(url)?;
        let roots = match server.secure {
            true => Some(ClientTls::system().map_err(RendezvousError::Roots)?),
            false => None,
        };
        Self::connect_to(&server, meeting, roots.as_ref()).await
    }

    /// The same, and with `wss:` these roots are trusted and no others.
    ///
    /// # Errors
    /// As of [`connect`](Self::connect).
    pub async fn connect_trusting(
        url: &str,
        meeting: Meeting,
        roots: &ClientTls,
    ) -> Result<Self, RendezvousError> {
        let server = Server::parse(url)?;
        Self::connect_to(&server, meeting, server.secure.then_some(roots)).await
    }

    async fn connect_to(
        server: &Server,
        meeting: Meeting,
        roots: Option<&ClientTls>,
    ) -> Result<Self, RendezvousError> {
        let (socket, accepted) = timeout(CONNECT_TIMEOUT, open(server, &meeting, roots))
            .await
            .map_err(|_| RendezvousError::Timeout {
                server: server.authority.clone(),
            })??;
        let (outgoing, to_send) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (to_report, events) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (code, expires_in, joined) = match (accepted, meeting) {
            (Accepted::Waiting { code, expires_in }, _) => (code, Some(expires_in), None),
            (
                Accepted::Joined { controlling },
                Meeting::Join(code) | Meeting::JoinOrCreate(code),
            ) => (code, None, Some(controlling)),
            (Accepted::Joined { .. }, Meeting::Create) => return Err(RendezvousError::Protocol),
        };
        let session = Session {
            socket,
            to_send,
            to_report,
            joined: joined.is_some(),
            began: Instant::now(),
        };
        let task = tokio::spawn(session.run(joined));
        Ok(Self {
            code,
            expires_in,
            sender: RendezvousSender { outgoing },
            events,
            task,
        })
    }

    /// Tells the peer something. What is sent before the peer is there waits for it, here.
    ///
    /// # Errors
    /// As of [`RendezvousSender::send`].
    pub fn send(&self, signal: &Signal) -> Result<(), RendezvousError> {
        self.sender.send(signal)
    }

    /// Waits for what comes next: `None` when the connection has ended in good order.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`RendezvousError::Refused`] when the server ends the connection for a reason, such as an expired
    /// code, and [`RendezvousError::Lost`] when the connection breaks.
    pub async fn recv(&mut self) -> Result<Option<RendezvousEvent>, RendezvousError> {
        self.events.recv().await.transpose()
    }

    /// The code of this meeting.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// How long the code held when the server gave it: `None` when the peer had been waiting.
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Another handle for sending.
    pub fn sender(&self) -> RendezvousSender {
        self.sender.clone()
    }

    /// Sends what has been queued, closes the connection, and waits until that is done, two seconds at most.
    pub async fn close(self) {
        let Self {
            events,
            task,
            sender,
            ..
        } = self;
        drop((events, sender));
        // The task ends by itself, and a panic in it has nothing to tell whoever closes.
        let _ = task.await;
    }
}

/// Sends to the peer of a [`Rendezvous`], for as long as that lives.
#[derive(Clone, Debug)]
pub struct RendezvousSender {
    outgoing: mpsc::Sender<String>,
}

impl RendezvousSender {
    /// Tells the peer something; never waits.
    ///
    /// # Errors
    /// [`RendezvousError::TooLarge`] or [`RendezvousError::QueueFull`] when the signal does not fit, and
    /// [`RendezvousError::Closed`] when the connection has ended.
    pub fn send(&self, signal: &Signal) -> Result<(), RendezvousError> {
        // Strings, numbers and booleans only: nothing of it can fail to be written.
        let signal = to_raw_value(signal).expect("plain fields are always JSON");
        let text = ClientMessage::Signal(&signal).to_json();
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(RendezvousError::TooLarge);
        }
        self.outgoing.try_send(text).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RendezvousError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => RendezvousError::Closed,
        })
    }
}

struct Server {
    /// Host and port as the user wrote them, for errors.
    authority: String,
    host: String,
    port: u16,
    /// Whether it is spoken to over TLS.
    secure: bool,
    url: String,
}

impl Server {
    fn parse(url: &str) -> Result<Self, RendezvousError> {
        let invalid = || RendezvousError::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let secure = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        // Credentials in the URL would be sent to nobody: better to say so than to seem to use them.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(invalid());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // `host:` without a number, or with one that is none.
            None if authority.as_str() != authority.host() => return Err(invalid()),
            None if secure => 443,
            None => 80,
        };
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => PATH,
            path => path,
        };
        Ok(Self {
            authority: authority.to_string(),
            host,
            port,
            secure,
            url: format!("{}://{authority}{path}", if secure { "wss" } else { "ws" }),
        })
    }
}

/// A connection that carries the WebSocket, secured or not.
trait Carrier: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Carrier for T {}

type Socket = WebSocketStream<Box<dyn Carrier>>;

enum Accepted {
    Waiting { code: Code, expires_in: Duration },
    Joined { controlling: bool },
}

async fn open(
    server: &Server,
    meeting: &Meeting,
    roots: Option<&ClientTls>,
) -> Result<(Socket, Accepted), RendezvousError> {
    let addresses = lookup_host((server.host.as_str(), server.port))
        .await
        .map_err(|source| RendezvousError::Resolve {
            host: server.host.clone(),
            source,
        })?;
    let stream =
        connect_any(addresses, None)
            .await
            .map_err(|source| RendezvousError::Unreachable {
                server: server.authority.clone(),
                source,
            })?;
    // Candidates are small and urgent.
    stream.set_nodelay(true).map_err(RendezvousError::Lost)?;
    let stream: Box<dyn Carrier> = match roots {
        Some(roots) => {
            let secured = roots.connect_http(&server.host, stream).await;
            Box::new(secured.map_err(|source| RendezvousError::Tls {
                server: server.authority.clone(),
                source,
            })?)
        }
        None => Box::new(stream),
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(4096);
    let (mut socket, _) = client_async_with_config(&server.url, stream, Some(config))
        .await
        .map_err(|error| match error {
            tungstenite::Error::Io(source) => RendezvousError::Unreachable {
                server: server.authority.clone(),
                source,
            },
            _ => RendezvousError::NotARendezvous {
                server: server.authority.clone(),
            },
        })?;
    let hello = ClientMessage::Hello {
        schema: SCHEMA.into(),
    };
    let first = match meeting {
        Meeting::Create => ClientMessage::Create,
        Meeting::Join(code) => ClientMessage::Join {
            code: code.clone(),
            create: false,
        },
        Meeting::JoinOrCreate(code) => ClientMessage::Join {
            code: code.clone(),
            create: true,
        },
    };
    // The server may refuse and close before it has read all of this. What it said then counts for more
    // than the failure to send.
    let sent = async {
        socket.feed(Message::text(hello.to_json())).await?;
        socket.send(Message::text(first.to_json())).await
    }
    .await;
    loop {
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(sent.err().unwrap_or(error).into()),
            None => {
                return Err(sent
                    .err()
                    .unwrap_or(tungstenite::Error::ConnectionClosed)
                    .into());
            }
        };
        let Message::Text(text) = message else {
            continue;
        };
        match ServerMessage::parse(&text).map_err(|_| RendezvousError::Protocol)? {
            ServerMessage::Hello { schema } if schema == SCHEMA => {}
            ServerMessage::Hello { .. } => {
                return Err(RendezvousError::Refused(Refusal::UnsupportedSchema));
            }
            ServerMessage::Created { code, expires_in } => {
                return Ok((socket, Accepted::Waiting { code, expires_in }));
            }
            ServerMessage::PeerJoined { controlling } => {
                return Ok((socket, Accepted::Joined { controlling }));
            }
            ServerMessage::Error(refusal) => return Err(RendezvousError::Refused(refusal)),
            ServerMessage::Unknown => {}
            ServerMessage::Signal(_) | ServerMessage::PeerLeft => {
                return Err(RendezvousError::Protocol);
            }
        }
    }
}

/// The connection once the server has accepted the code.
struct Session {
    socket: Socket,
    to_send: mpsc::Receiver<String>,
    to_report: mpsc::Sender<Result<RendezvousEvent, RendezvousError>>,
    joined: bool,
    began: Instant,
}

impl Session {
    async fn run(mut self, joined: Option<bool>) {
        if let Some(controlling) = joined {
            self.report(Ok(RendezvousEvent::PeerJoined { controlling }))
                .await;
        }
        if let Err(error) = self.relay().await {
            self.report(Err(error)).await;
        }
        let _ = timeout(CLOSE_TIMEOUT, self.close()).await;
    }

    async fn relay(&mut self) -> Result<(), RendezvousError> {
        let mut sent = Bucket::default();
        let mut heard = Instant::now();
        loop {
            let pause = SEND_RATE.wait(sent, self.began.elapsed());
            tokio::select! {
                () = self.to_report.closed() => return Ok(()),
                () = sleep(pause), if self.joined && !pause.is_zero() => {}
                Some(text) = self.to_send.recv(), if self.joined && pause.is_zero() => {
                    // There is one: `pause` says so.
                    let _ = SEND_RATE.take(&mut sent, self.began.elapsed());
                    self.socket.send(Message::text(text)).await?;
                }
                message = timeout_at(heard + PING_INTERVAL * 3, self.socket.next()) => {
                    let message = message.map_err(|_| RendezvousError::Lost(io::ErrorKind::TimedOut.into()))?;
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match self.take(&text).await? {
                            true => {}
                            false => return Ok(()),
                        },
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Takes in a message; `false` when it was the last.
    async fn take(&mut self, text: &str) -> Result<bool, RendezvousError> {
        let event = match ServerMessage::parse(text).map_err(|_| RendezvousError::Protocol)? {
            ServerMessage::PeerJoined { controlling } => {
                self.joined = true;
                RendezvousEvent::PeerJoined { controlling }
            }
            ServerMessage::Signal(raw) => match serde_json::from_str(raw.get()) {
                Ok(Signal::Unknown) => return Ok(true),
                Ok(signal) => RendezvousEvent::Signal(signal),
                Err(error) => RendezvousEvent::Malformed(error.into()),
            },
            ServerMessage::PeerLeft => {
                self.report(Ok(RendezvousEvent::PeerLeft)).await;
                return Ok(false);
            }
            ServerMessage::Error(refusal) => return Err(RendezvousError::Refused(refusal)),
            ServerMessage::Hello { .. }
            | ServerMessage::Created { .. }
            | ServerMessage::Unknown => return Ok(true),
        };
        self.report(Ok(event)).await;
        Ok(true)
    }

    async fn report(&self, event: Result<RendezvousEvent, RendezvousError>) {
        // Nobody listens any more: `relay` notices by itself.
        let _ = self.to_report.send(event).await;
    }

    async fn close(&mut self) {
        self.to_send.close();
        if self.joined {
            while let Ok(text) = self.to_send.try_recv() {
                if self.socket.feed(Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
        if self.socket.close(None).await.is_ok() {
            // Until the server has answered the close, bytes in flight could turn it into a reset.
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }
}

/// Why a rendezvous does not come about, or ends. The text tells the user what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum RendezvousError {
    /// The text is no URL of a rendezvous server.
    Url {
        /// The text.
        url: String,
    },
    /// There is nobody to trust with `wss:`.
    Roots(RootsError),
    /// The server could not be spoken to over TLS, such as for a certificate that is not trusted.
    Tls {
        /// Its host and port.
        server: String,
        /// What the TLS library says.
        source: io::Error,
    },
    /// The host's name has no address.
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// No connection to the server.
    Unreachable {
        /// Its host and port.
        server: String,
        /// What the system says.
        source: io::Error,
    },
    /// The server did not answer in time.
    Timeout {
        /// Its host and port.
        server: String,
    },
    /// Something answers, but not a rendezvous server.
    NotARendezvous {
        /// Its host and port.
        server: String,
    },
    /// The server refuses.
    Refused(Refusal),
    /// The server said something out of place.
    Protocol,
    /// The connection broke.
    Lost(io::Error),
    /// The signal is larger than a message may be.
    TooLarge,
    /// More signals wait than can be kept.
    QueueFull,
    /// The connection has ended.
    Closed,
}

impl fmt::Display for RendezvousError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => {
                write!(
                    f,
                    "{url:?} is no address of a rendezvous server: write it like wss://rendezvous.example or ws://rendezvous.example:3480"
                )
            }
            Self::Roots(error) => error.fmt(f),
            Self::Tls { server, source } => {
                write!(f, "the rendezvous server {server} cannot be spoken to over TLS: {source}")
            }
            Self::Resolve { host, source } => {
                write!(f, "the rendezvous server's name {host} cannot be resolved: check its spelling ({source})")
            }
            Self::Unreachable { server, source } => {
                write!(f, "the rendezvous server {server} cannot be reached: check that it runs ({source})")
            }
            Self::Timeout { server } => {
                write!(f, "the rendezvous server {server} does not answer: check its address and the network")
            }
            Self::NotARendezvous { server } => {
                write!(f, "{server} answers, but it is no rendezvous server: check host, port and path")
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Protocol => {
                f.write_str("the rendezvous server said something unexpected: use the same version on both ends")
            }
            Self::Lost(source) => {
                write!(f, "the connection to the rendezvous server broke: connect again ({source})")
            }
            Self::TooLarge => {
                write!(f, "the signal is larger than {MAX_MESSAGE_BYTES} bytes, the most that a server relays")
            }
            Self::QueueFull => write!(
                f,
                "{MAX_QUEUED_MESSAGES} signals wait for the peer already: wait until it is there and has taken some"
            ),
            Self::Closed => f.write_str("the rendezvous has ended: connect again"),
        }
    }
}

impl core::error::Error for RendezvousError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Unreachable { source, .. }
            | Self::Tls { source, .. }
            | Self::Lost(source) => Some(source),
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<tungstenite::Error> for RendezvousError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(source) => Self::Lost(source),
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Lost(io::ErrorKind::ConnectionReset.into())
            }
            tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => Self::Lost(io::ErrorKind::ConnectionReset.into()),
            _ => Self::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let server = Server::parse("ws://[2001:db8::1]:3480").unwrap();
        assert_eq!((server.host.as_str(), server.port), ("2001:db8::1", 3480));
        assert_eq!(server.url, "ws://[2001:db8::1]:3480/v1/rendezvous");
        let server = Server::parse("WS://rendezvous.example/other/path").unwrap();
        assert_eq!(
            (server.host.as_str(), server.port),
            ("rendezvous.example", 80)
        );
        assert_eq!(server.url, "ws://rendezvous.example/other/path");
        for url in [
            "",
            "rendezvous.example:3480",
            "http://h",
            "ws://",
            "ws://h:99999",
            "ws://h:",
            "ws://u:p@h",
            "ws:// h",
        ] {
            assert!(
                matches!(Server::parse(url), Err(RendezvousError::Url { .. })),
                "{url:?}"
            );
        }
        let server = Server::parse("wss://h").unwrap();
        assert_eq!((server.secure, server.port), (true, 443));
        assert_eq!(server.url, "wss://h/v1/rendezvous");
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_unreachable() {
        // Bound, so that nobody else can listen there, and not listening.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = deaf.local_addr().unwrap();
        let error = Rendezvous::connect(&format!("ws://{address}"), Meeting::Create)
            .await
            .unwrap_err();
        assert!(
            matches!(error, RendezvousError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn something_else_on_the_port_is_no_rendezvous() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
        });
        let error = Rendezvous::connect(&url, Meeting::Create)
            .await
            .unwrap_err();
        assert!(
            matches!(error, RendezvousError::NotARendezvous { .. }),
            "{error:?}"
        );
    }
}
