//! A stream of datagrams to a server: DTLS over UDP (RFC 7350).
//!
//! What the DTLS library (`dimpl`) can: DTLS 1.2 and 1.3 with ECDHE on P-256, P-384 and X25519, AES-GCM and
//! ChaCha20-Poly1305. What it cannot, and what follows:
//!
//! - RSA: a server whose certificate has an RSA key gives an error of the handshake. TLS takes both.
//! - Intermediate certificates: it hands over the server's own certificate only, so that one must be
//!   issued by a trusted root directly. Any other is refused as of unknown issuer.
//! - SNI and ALPN are not sent.
//! - An error during the handshake is final, though anyone who guesses the ports could have caused it:
//!   the stream has to be opened again. After the handshake nobody else can end it.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use dimpl::{Dtls, Output};
use rustls::pki_types::ServerName;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{ClientTls, Stream, StreamCause};

/// Datagrams that wait for their reader, or for the stream's task. More are lost, as on any network.
const QUEUED_DATAGRAMS: usize = 64;
/// A DTLS record holds no more (RFC 6347 takes it from TLS: 2^14 bytes).
const MAX_DATAGRAM_BYTES: usize = 1 << 14;
/// A record with everything around it.
const MAX_PACKET_BYTES: usize = MAX_DATAGRAM_BYTES + 256;
/// While the server is not known yet it gets no more room than this per packet. The library keeps at
/// most 30 of them, so that no certificate is larger than `OUTPUT_BYTES`, which it takes for granted.
const MAX_HANDSHAKE_PACKET_BYTES: usize = 2048;
const OUTPUT_BYTES: usize = 64 * 1024;

/// What arrives; a stream's reader.
pub(super) struct DatagramReader {
    datagrams: mpsc::Receiver<Vec<u8>>,
    end: Arc<End>,
}

/// What leaves; a stream's writer.
pub(super) struct DatagramWriter {
    datagrams: mpsc::Sender<Vec<u8>>,
    end: Arc<End>,
}

/// How the stream was lost, if it was not closed.
type End = OnceLock<(io::ErrorKind, String)>;

impl DatagramReader {
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(match ready!(self.datagrams.poll_recv(cx)) {
            Some(datagram) => {
                let length = datagram.len().min(buffer.len());
                buffer[..length].copy_from_slice(&datagram[..length]);
                Ok(length)
            }
            None => match self.end.get() {
                None => Ok(0),
                Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            },
        })
    }
}

impl DatagramWriter {
    pub(super) fn try_write(&self, datagram: &[u8]) -> io::Result<usize> {
        if datagram.len() > MAX_DATAGRAM_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a datagram over DTLS is at most 16384 bytes",
            ));
        }
        match self.datagrams.try_reserve() {
            Ok(place) => {
                place.send(datagram.to_vec());
                Ok(datagram.len())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(io::ErrorKind::WouldBlock.into()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(self.lost()),
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.datagrams
            .reserve()
            .await
            .map(drop)
            .map_err(|_| self.lost())
    }

    fn lost(&self) -> io::Error {
        match self.end.get() {
            None => io::Error::new(io::ErrorKind::BrokenPipe, "the server closed the stream"),
            Some((kind, text)) => io::Error::new(*kind, text.clone()),
        }
    }
}

/// A UDP socket that talks with the server alone.
pub(super) async fn bind(remote: SocketAddr, local: Option<IpAddr>) -> io::Result<UdpSocket> {
    let unspecified = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((local.unwrap_or(unspecified), 0)).await?;
    socket.connect(remote).await?;
    // Until the runtime has heard of a socket, `try_send` takes it for full, and the first hello would be
    // sent only when it is repeated, a second later.
    socket.writable().await?;
    Ok(socket)
}

/// Makes the stream. The caller sets the deadline.
pub(super) async fn handshake(
    socket: UdpSocket,
    name: &ServerName<'_>,
    tls: &ClientTls,
) -> Result<Stream, StreamCause> {
    let local = socket.local_addr()?;
    let mut session = Session::new(socket, tls);
    session.establish(name, tls).await?;

    let (to_reader, from_session) = mpsc::channel(QUEUED_DATAGRAMS);
    let (to_session, from_writer) = mpsc::channel(QUEUED_DATAGRAMS);
    let end = Arc::new(End::new());
    let reader = DatagramReader {
        datagrams: from_session,
        end: Arc::clone(&end),
    };
    let writer = DatagramWriter {
        datagrams: to_session,
        end: Arc::clone(&end),
    };
    tokio::spawn(session.run(from_writer, to_reader, end));
    Ok(Stream::from_datagrams(local, reader, writer))
}

struct Session {
    dtls: Dtls,
    socket: UdpSocket,
    /// When the library wants to be called next.
    deadline: Instant,
    output: Vec<u8>,
}

/// What the library has to say besides packets and timers.
enum Happened {
    Certificate(Vec<u8>),
    Connected,
    Data(Vec<u8>),
    Closed,
}

impl Session {
    fn new(socket: UdpSocket, tls: &ClientTls) -> Self {
        let now = Instant::now();
        let mut dtls = Dtls::new_auto(
            Arc::clone(tls.dtls()),
            tls.dtls_certificate(),
            now.into_std(),
        );
        dtls.set_active(true);
        Self {
            dtls,
            socket,
            deadline: now,
            output: vec![0; OUTPUT_BYTES],
        }
    }

    async fn establish(
        &mut self,
        name: &ServerName<'_>,
        tls: &ClientTls,
    ) -> Result<(), StreamCause> {
        let mut trusted = false;
        let mut packet = [0; MAX_HANDSHAKE_PACKET_BYTES];
        loop {
            self.dtls
                .handle_timeout(Instant::now().into_std())
                .map_err(|error| protocol(&error))?;
            let mut connected = false;
            let mut refused = None;
            let mut closed = false;
            self.drain(|happened| match happened {
                Happened::Certificate(der) => match tls.verify(&der, name) {
                    Ok(()) => trusted = true,
                    Err(why) => refused = Some(why),
                },
                Happened::Connected => connected = true,
                // Nothing is heard from a server before it has proven who it is.
                Happened::Data(_) => (),
                Happened::Closed => closed = true,
            });
            if let Some(why) = refused {
                return Err(StreamCause::Certificate(why));
            }
            if closed {
                return Err(StreamCause::Protocol(String::from("the server closed it")));
            }
            if connected && !trusted {
                let why = String::from("the server showed none");
                return Err(StreamCause::Certificate(why));
            }
            if connected {
                return Ok(());
            }
            tokio::select! {
                received = self.socket.recv(&mut packet) => {
                    let length = received?;
                    self.dtls
                        .handle_timeout(Instant::now().into_std())
                        .and_then(|()| self.dtls.handle_packet(&packet[..length]))
                        .map_err(|error| protocol(&error))?;
                }
                () = sleep_until(self.deadline) => (),
            }
        }
    }

    /// Carries datagrams both ways until either side has had enough.
    async fn run(
        mut self,
        mut outgoing: mpsc::Receiver<Vec<u8>>,
        incoming: mpsc::Sender<Vec<u8>>,
        end: Arc<End>,
    ) {
        if let Err(error) = self.carry(&mut outgoing, &incoming).await {
            // Set once: there is one task, and it ends here.
            let _ = end.set((io::ErrorKind::ConnectionAborted, error.to_string()));
        }
    }

    async fn carry(
        &mut self,
        outgoing: &mut mpsc::Receiver<Vec<u8>>,
        incoming: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), dimpl::Error> {
        let mut packet = vec![0; MAX_PACKET_BYTES];
        loop {
            let mut closed = false;
            self.drain(|happened| match happened {
                // A reader that is behind loses datagrams, as with any socket.
                Happened::Data(datagram) => drop(incoming.try_send(datagram)),
                Happened::Closed => closed = true,
                Happened::Certificate(_) | Happened::Connected => (),
            });
            if closed {
                return Ok(());
            }
            tokio::select! {
                datagram = outgoing.recv() => {
                    self.dtls.handle_timeout(Instant::now().into_std())?;
                    match datagram {
                        Some(datagram) => {
                            self.dtls.send_application_data(&datagram)?;
                        }
                        None => {
                            // The writer is the stream's owner: when it goes, the server is told.
                            self.dtls.close()?;
                            self.drain(|_| ());
                            return Ok(());
                        }
                    }
                }
                received = self.socket.recv(&mut packet) => {
                    // An ICMP error is anybody's word; whether the server lives, TURN finds out.
                    let Ok(length) = received else { continue };
                    self.dtls.handle_timeout(Instant::now().into_std())?;
                    self.dtls.handle_packet(&packet[..length])?;
                }
                () = sleep_until(self.deadline) => {
                    self.dtls.handle_timeout(Instant::now().into_std())?;
                }
            }
        }
    }

    /// Takes everything the library has: packets go out, the deadline is set, the rest is told.
    fn drain(&mut self, mut tell: impl FnMut(Happened)) {
        loop {
            match self.dtls.poll_output(&mut self.output) {
                // A packet that the socket does not take now is lost, as it may be on its way; what
                // matters is sent again by the library.
                Output::Packet(packet) => drop(self.socket.try_send(packet)),
                Output::BufferTooSmall { needed } => self.output.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Instant::from_std(at);
                    return;
                }
                Output::Connected => tell(Happened::Connected),
                Output::PeerCert(der) => tell(Happened::Certificate(der.to_vec())),
                Output::ApplicationData(data) => tell(Happened::Data(data.to_vec())),
                Output::CloseNotify => tell(Happened::Closed),
                _ => (),
            }
        }
    }
}

fn protocol(error: &dimpl::Error) -> StreamCause {
    const HANDSHAKE_FAILURE: u8 = 40;
    StreamCause::Protocol(match error {
        dimpl::Error::SecurityError(dimpl::SecurityError::FatalAlert {
            description: HANDSHAKE_FAILURE,
        }) => String::from(
            "the server finds no cipher suite in common, as with an RSA certificate; DTLS needs one with an ECDSA key, TLS (`?transport=tcp`) works with both",
        ),
        other => other.to_string(),
    })
}
