//! Connections from clients, and what they speak: the first byte tells TLS from STUN (RFC 7983 section 7), and inside
//! TLS what was agreed upon, or again the first byte, tells STUN from HTTP. So one port serves them all.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use nilas_net::stream::CertifiedKeyStore;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Worker;
use super::streams::{Conn, Visitor};
use crate::admission::Permit;

/// After an error of the listener, such as no more file descriptors, so that it cannot keep a core busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of TLS: a record of the handshake.
const TLS_HANDSHAKE: u8 = 22;
/// What can be agreed upon inside TLS (RFC 7443 section 4 has the first two).
pub(crate) const PROTOCOLS: [&[u8]; 3] = [b"stun.turn", b"stun.nat-discovery", HTTP];
const HTTP: &[u8] = b"http/1.1";

/// What TLS and DTLS need.
pub(crate) struct Tls {
    pub(crate) certificate: Arc<CertifiedKeyStore>,
    pub(crate) acceptor: TlsAcceptor,
}

impl Worker {
    /// Accepts for as long as it is polled.
    pub(super) async fn accept_streams(self: Rc<Self>, listener: TcpListener) {
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            match self.shared.admission.admit(client.ip().into()) {
                Some(permit) => {
                    self.shared.counters.tcp_accepted.add(1);
                    tokio::task::spawn_local(Rc::clone(&self).greet(stream, client, permit));
                }
                None => self.shared.counters.tcp_refused.add(1),
            }
        }
    }

    /// Finds out what a client speaks. There is nothing to report about a stranger that says nothing sensible.
    async fn greet(self: Rc<Self>, stream: TcpStream, client: SocketAddr, permit: Permit) {
        // A message waits for no other.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&self.shared);
        if let Some(tls) = &shared.tls {
            let mut first = [0];
            match timeout(self.shared.idle_time(), stream.peek(&mut first)).await {
                Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {
                    let handshake = tls.acceptor.accept(stream);
                    if let Ok(Ok(stream)) = timeout(self.shared.message_time, handshake).await {
                        self.greet_inside(stream, client, permit).await;
                    }
                    return;
                }
                Ok(Ok(1)) => {}
                _ => return,
            }
        }
        let visitor = Visitor {
            conn: Conn::Plain(stream),
            client,
            permit,
            pending: Vec::new(),
        };
        self.serve_stream(visitor).await;
    }

    async fn greet_inside(
        self: Rc<Self>,
        mut stream: TlsStream<TcpStream>,
        client: SocketAddr,
        permit: Permit,
    ) {
        let agreed = stream.get_ref().1.alpn_protocol().map(|name| name == HTTP);
        let is_http = match agreed {
            Some(is_http) => is_http,
            None => match timeout(self.shared.idle_time(), stream.fill_buf()).await {
                // RFC 8489 section 5: the first two bits of STUN are zero; no method of HTTP begins so.
                Ok(Ok([first, ..])) => first.is_ascii_uppercase(),
                _ => return,
            },
        };
        if is_http {
            // It is counted among those of HTTP from now on.
            drop(permit);
            let web = self.web.borrow().clone();
            if let Some(web) = web {
                web.admit(stream, client).await;
            }
            return;
        }
        let visitor = Visitor {
            conn: Conn::Tls(Box::new(stream)),
            client,
            permit,
            pending: Vec::new(),
        };
        self.serve_stream(visitor).await;
    }

    /// Goes on with a stream that another worker had.
    pub(super) fn welcome(self: &Rc<Self>, mut visitor: Visitor) -> io::Result<()> {
        if let Conn::Plain(stream) = visitor.conn {
            // From now on this thread is woken for it. TLS holds its connection, and is woken by the other.
            visitor.conn = Conn::Plain(TcpStream::from_std(stream.into_std()?)?);
        }
        tokio::task::spawn_local(Rc::clone(self).serve_stream(visitor));
        Ok(())
    }
}
