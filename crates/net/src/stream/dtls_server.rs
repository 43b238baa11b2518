//! The server's end of DTLS: many clients on one UDP socket (RFC 7350 section 4.6).
//!
//! Like the cores, it is driven: datagrams and time go in, what is to be sent comes out. A client is
//! nobody until its cookie has come back (see `dtls_cookie`), so that a flood of hellos costs no memory.
//! DTLS 1.2 only: HelloVerifyRequest, by which nothing is kept, is a message of that version, and every
//! client of 1.3 that offers 1.2 follows it. The certificate's key must be ECDSA on P-256 or P-384, and
//! only that certificate is sent, without the chain (see `dtls_client`).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, DtlsCertificate, Output};

use super::dtls_cookie::{self, Admission, ClientHello};

/// What a DTLS server lets its clients take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DtlsLimits {
    /// The most sessions, in their handshake or past it.
    pub sessions: usize,
    /// The most of them in their handshake.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a session may bring nothing before it is forgotten.
    pub idle: Duration,
}

/// What a DTLS server has to say.
#[derive(PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DtlsOutput<'a> {
    /// Send this datagram to the client as it is.
    Transmit {
        /// The client.
        client: SocketAddr,
        /// The datagram.
        datagram: &'a [u8],
    },
    /// A client has completed its handshake. Its earlier session, if there is one, ended before.
    Opened {
        /// The client.
        client: SocketAddr,
    },
    /// A client sent this datagram.
    Data {
        /// The client.
        client: SocketAddr,
        /// The datagram, in the clear.
        datagram: &'a [u8],
    },
    /// A session that was [`Opened`](Self::Opened) is over.
    Closed {
        /// The client.
        client: SocketAddr,
        /// Why.
        reason: DtlsClosed,
    },
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DtlsClosed {
    /// The client closed it.
    ByClient,
    /// The client began anew from the same port.
    Replaced,
    /// It brought nothing for too long.
    Idle,
    /// It failed.
    Failed,
}

/// Why there is no DTLS server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DtlsServerError {
    /// The certificate's key is not one that DTLS works with here.
    Key,
    /// The library cannot be set up.
    Library(String),
}

/// The DTLS sessions on one UDP socket.
pub struct DtlsServer {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    admission: Admission,
    limits: DtlsLimits,
    sessions: HashMap<SocketAddr, Session>,
    handshakes: usize,
    /// When each session wants to be looked at.
    deadlines: BTreeSet<(Instant, SocketAddr)>,
    /// Hellos that brought their cookie and found no room.
    turned_away: u64,
    output: Vec<u8>,
}

struct Session {
    dtls: Dtls,
    random: [u8; 32],
    open: bool,
    deadline: Instant,
    last_heard: Instant,
}

/// A datagram or an expiry cannot make the library say more than this, but for application data, which
/// it limits to what fits a record.
const OUTPUT_BYTES: usize = 64 * 1024;

impl DtlsServer {
    /// A server with this certificate; `secret`, fresh from the operating system, keys its cookies.
    ///
    /// # Errors
    /// When the certificate's key will not do.
    pub fn new(
        certificate: DtlsCertificate,
        limits: DtlsLimits,
        secret: &[u8; 32],
        now: Instant,
    ) -> Result<Self, DtlsServerError> {
        let config = library(limits)?;
        check_key(&config, &certificate)?;
        Ok(Self {
            config: Arc::new(config),
            certificate,
            admission: Admission::new(secret, now),
            limits,
            sessions: HashMap::new(),
            handshakes: 0,
            deadlines: BTreeSet::new(),
            turned_away: 0,
            output: vec![0; OUTPUT_BYTES],
        })
    }

    /// Whether a server can have this certificate: see [`DtlsServerError`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check(certificate: &DtlsCertificate) -> Result<(), DtlsServerError> {
        check_key(&library(DtlsLimits::default())?, certificate)
    }

    /// Shows this certificate to the clients that come from now on.
    ///
    /// # Errors
    /// When its key will not do; then the certificate before it stays.
    pub fn set_certificate(&mut self, certificate: DtlsCertificate) -> Result<(), DtlsServerError> {
        check_key(&self.config, &certificate)?;
        self.certificate = certificate;
        Ok(())
    }

    /// Takes in a datagram that is DTLS by its first byte (RFC 7983 section 7: 20 to 63).
    pub fn handle(
        &mut self,
        now: Instant,
        client: SocketAddr,
        datagram: &[u8],
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) {
        let hello = ClientHello::parse(datagram);
        match (self.sessions.get(&client), hello) {
            // A hello from a client that has a session is a late copy of the one that began it, or the
            // client has lost its state and begins anew (RFC 6347 has both).
            (Some(session), Some(hello)) if hello.random != session.random => {
                self.greet(now, client, datagram, tell);
            }
            (Some(_), _) => self.handle_session(now, client, datagram, tell),
            (None, _) => self.greet(now, client, datagram, tell),
        }
    }

    /// Sends a datagram to a client. Whether one has an open session is the return value.
    pub fn send(
        &mut self,
        now: Instant,
        client: SocketAddr,
        datagram: &[u8],
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) -> bool {
        let Some(session) = self
            .sessions
            .get_mut(&client)
            .filter(|session| session.open)
        else {
            return false;
        };
        let sent = session
            .dtls
            .handle_timeout(now)
            .and_then(|()| session.dtls.send_application_data(datagram));
        match sent {
            Ok(_) => self.drain(now, client, tell),
            Err(_) => self.end(client, DtlsClosed::Failed, tell),
        }
        true
    }

    /// Closes a session; it is not told as closed.
    pub fn close(
        &mut self,
        now: Instant,
        client: SocketAddr,
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) {
        if let Some(session) = self.sessions.get_mut(&client) {
            let closed = session
                .dtls
                .handle_timeout(now)
                .and_then(|()| session.dtls.close());
            if closed.is_ok() {
                while let Output::Packet(datagram) = session.dtls.poll_output(&mut self.output) {
                    tell(DtlsOutput::Transmit { client, datagram });
                }
            }
            self.forget(client);
        }
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant, tell: &mut impl FnMut(DtlsOutput<'_>)) {
        while let Some(&(deadline, client)) = self.deadlines.first()
            && deadline <= now
        {
            // Every deadline is that of a session: both are set and taken away together.
            let Some(session) = self.sessions.get_mut(&client) else {
                self.deadlines.remove(&(deadline, client));
                continue;
            };
            if session.open && now.saturating_duration_since(session.last_heard) >= self.limits.idle
            {
                self.end(client, DtlsClosed::Idle, tell);
                continue;
            }
            match session.dtls.handle_timeout(now) {
                Ok(()) => self.drain(now, client, tell),
                Err(_) => self.end(client, DtlsClosed::Failed, tell),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many sessions there are, in their handshake or past it.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many clients that had proven their address were turned away because the server was full.
    #[must_use]
    pub const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// A datagram from somebody without a session, or who wants another: a hello is answered with its
    /// cookie, and one that brings its cookie gets a session. Anything else is nothing.
    fn greet(
        &mut self,
        now: Instant,
        client: SocketAddr,
        datagram: &[u8],
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) {
        let Some(hello) = ClientHello::parse(datagram) else {
            return;
        };
        if let Some(alert) = hello.too_old() {
            tell(DtlsOutput::Transmit {
                client,
                datagram: &alert,
            });
            return;
        }
        let Some(admitted) = self.admission.check(now, client, &hello) else {
            let request = self.admission.request(now, client, &hello);
            if request.len() <= datagram.len() {
                tell(DtlsOutput::Transmit {
                    client,
                    datagram: &request,
                });
            }
            return;
        };
        if self.sessions.contains_key(&client) {
            self.end(client, DtlsClosed::Replaced, tell);
        }
        if self.sessions.len() >= self.limits.sessions || self.handshakes >= self.limits.handshakes
        {
            self.turned_away += 1;
            return;
        }
        let mut dtls = Dtls::new_12(Arc::clone(&self.config), self.certificate.clone(), now);
        let greeted = dtls
            .handle_timeout(now)
            .and_then(|()| admitted.greet(&mut dtls, datagram));
        if greeted.is_err() {
            return;
        }
        self.sessions.insert(
            client,
            Session {
                dtls,
                random: hello.random,
                open: false,
                deadline: now,
                last_heard: now,
            },
        );
        self.deadlines.insert((now, client));
        self.handshakes += 1;
        self.drain(now, client, tell);
    }

    fn handle_session(
        &mut self,
        now: Instant,
        client: SocketAddr,
        datagram: &[u8],
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let handled = session
            .dtls
            .handle_timeout(now)
            .and_then(|()| session.dtls.handle_packet(datagram));
        match handled {
            Ok(()) => self.drain(now, client, tell),
            Err(_) => self.end(client, DtlsClosed::Failed, tell),
        }
    }

    /// Takes everything a session has to say, and notes when it wants to be looked at next.
    fn drain(&mut self, now: Instant, client: SocketAddr, tell: &mut impl FnMut(DtlsOutput<'_>)) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let mut closed = false;
        let wanted = loop {
            match session.dtls.poll_output(&mut self.output) {
                Output::Packet(datagram) => tell(DtlsOutput::Transmit { client, datagram }),
                Output::BufferTooSmall { needed } => self.output.resize(needed, 0),
                Output::Timeout(at) => break at,
                Output::Connected if !session.open => {
                    session.open = true;
                    self.handshakes -= 1;
                    tell(DtlsOutput::Opened { client });
                }
                Output::ApplicationData(datagram) => {
                    session.last_heard = now;
                    tell(DtlsOutput::Data { client, datagram });
                }
                Output::CloseNotify => closed = true,
                _ => (),
            }
        };
        if closed {
            self.end(client, DtlsClosed::ByClient, tell);
            return;
        }
        let limit = if session.open {
            session.last_heard + self.limits.idle
        } else {
            wanted
        };
        // At least a moment later, so that a session cannot be due for ever.
        let next = wanted.min(limit).max(now + Duration::from_millis(1));
        self.deadlines.remove(&(session.deadline, client));
        session.deadline = next;
        self.deadlines.insert((next, client));
    }

    fn end(
        &mut self,
        client: SocketAddr,
        reason: DtlsClosed,
        tell: &mut impl FnMut(DtlsOutput<'_>),
    ) {
        if self.forget(client) {
            tell(DtlsOutput::Closed { client, reason });
        }
    }

    /// Forgets a session and says whether it was open.
    fn forget(&mut self, client: SocketAddr) -> bool {
        let Some(session) = self.sessions.remove(&client) else {
            return false;
        };
        self.deadlines.remove(&(session.deadline, client));
        if !session.open {
            self.handshakes -= 1;
        }
        session.open
    }
}

fn library(limits: DtlsLimits) -> Result<dimpl::Config, DtlsServerError> {
    dimpl::Config::builder()
        .with_crypto_provider(dtls_cookie::provider())
        .require_client_certificate(false)
        .use_server_cookie(true)
        .handshake_timeout(limits.handshake)
        .build()
        .map_err(|error| DtlsServerError::Library(error.to_string()))
}

/// The library would panic at the first client over a key that it cannot use.
fn check_key(config: &dimpl::Config, certificate: &DtlsCertificate) -> Result<(), DtlsServerError> {
    config
        .crypto_provider()
        .key_provider
        .load_private_key(&certificate.private_key)
        .map(drop)
        .map_err(|_| DtlsServerError::Key)
}

impl Default for DtlsLimits {
    /// 10,000 sessions, 1,000 of them in their handshake; 10 seconds for a handshake; 15 minutes of
    /// silence, which an allocation's refreshes break (RFC 8656 section 7.2: 10 minutes by default).
    fn default() -> Self {
        Self {
            sessions: 10_000,
            handshakes: 1_000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(15 * 60),
        }
    }
}

impl fmt::Debug for DtlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DtlsServer")
            .field("sessions", &self.sessions.len())
            .field("handshakes", &self.handshakes)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for DtlsClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByClient => "closed by the client",
            Self::Replaced => "the client began anew",
            Self::Idle => "idle",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for DtlsServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str(
                "DTLS needs a certificate with an ECDSA key on P-256 or P-384; TLS also works with this one",
            ),
            Self::Library(why) => write!(f, "DTLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for DtlsServerError {}
