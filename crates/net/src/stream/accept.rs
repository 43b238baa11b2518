//! TLS from a client.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Stream;

/// The server's end of a TLS handshake on an accepted connection.
///
/// # Errors
/// When the client breaks off, speaks no TLS, or takes longer than `deadline` (`TimedOut`).
pub async fn accept_tls(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    deadline: std::time::Duration,
) -> io::Result<Stream> {
    let local = stream.local_addr()?;
    stream.set_nodelay(true)?;
    let secured = timeout(deadline, TlsAcceptor::from(config).accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Stream::from_tls(local, secured))
}
