//! Outgoing streams to a STUN or TURN server: TCP, TLS and DTLS, also through a proxy; and the server's
//! end of the same.
//!
//! A stream is opened in stages (connect, proxy, handshake), each with its own deadline, so that a
//! server that swallows packets costs a known time and its error says where it was lost. What comes out
//! is a [`Stream`]: a reader and a writer that never make a driver wait unless it wants to.
//!
//! # The rooms
//!
//! - `request`: what to open, and how long each stage may take.
//! - `open`: the stages; `race`: several addresses of one server.
//! - `error`: why a stream did not open.
//! - `halves`: the reader and the writer; `outbox`: the bytes that a writer has taken.
//! - `client_tls`: which servers are trusted.
//! - `dtls_client`: a datagram stream; `dtls_server`: many clients on one UDP socket, admitted by
//!   `dtls_cookie` without keeping anything.
//! - `proxy`: HTTP CONNECT and SOCKS5.
//! - `accept`: TLS from a client; `certificates`: the server's certificate, read again when it changes.

mod accept;
mod certificates;
mod client_tls;
mod dtls_client;
mod dtls_cookie;
mod dtls_server;
mod error;
mod halves;
mod open;
mod outbox;
mod proxy;
mod race;
mod request;

pub use accept::accept_tls;
pub use certificates::{CertificateError, CertifiedKeyStore};
pub use client_tls::{ClientTls, RootsError};
pub use dtls_server::{DtlsClosed, DtlsLimits, DtlsOutput, DtlsServer, DtlsServerError};
pub use error::{StreamCause, StreamError, StreamStage};
pub use halves::{Stream, StreamReader, StreamWriter};
pub use open::{open, open_plain};
pub use proxy::{Proxy, ProxyError, ProxyRefusal};
pub use race::open_any;
pub use request::{StreamDeadlines, StreamRemote, StreamRequest, StreamTransport};

/// RFC 7443 section 2: the ALPN protocol of TURN over TLS and DTLS.
pub(crate) const ALPN_TURN: &[u8] = b"stun.turn";
