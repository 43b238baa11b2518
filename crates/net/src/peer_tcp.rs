//! TCP connections to the peer itself (RFC 6544): a port that accepts them and opens them as well.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use nilas_ice::StreamError;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::stream::Stream;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 16;
/// A peer that does not answer for so long cannot be reached.
const DEADLINE: Duration = Duration::from_secs(10);

/// Listens on an address, port 0 for any. Other connections may be opened from the same port: see [`connect_from`].
///
/// # Errors
/// As the operating system says.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    bound(address)?.listen(BACKLOG)
}

/// Connects from a local address, port 0 for any; otherwise one that listens, from which the peer may be connecting here
/// at the same time (RFC 6544 appendix B).
///
/// # Errors
/// Why there is no connection, after ten seconds at the latest.
pub async fn connect_from(local: SocketAddr, remote: SocketAddr) -> Result<Stream, StreamError> {
    let connecting = async {
        let socket = if local.port() == 0 {
            let socket = socket_for(local)?;
            socket.bind(local)?;
            socket
        } else {
            bound(local)?
        };
        Stream::from_tcp(socket.connect(remote).await?)
    };
    match timeout(DEADLINE, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(StreamError::Refused)
        }
        Ok(Err(_)) => Err(StreamError::Other),
        Err(_) => Err(StreamError::TimedOut),
    }
}

/// A socket at an address that it shares with others of this process.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = socket_for(address)?;
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_accepts_and_connects_at_once() {
        let [here, there] =
            [(); 2].map(|()| listen_shared("127.0.0.1:0".parse().unwrap()).unwrap());
        let [from, to] = [&here, &there].map(|listener| listener.local_addr().unwrap());
        let (opened, accepted) = tokio::join!(connect_from(from, to), there.accept());
        assert_eq!(opened.unwrap().local_address(), from);
        assert_eq!(accepted.unwrap().1, from);
        // And it goes on to accept.
        let any = "127.0.0.1:0".parse().unwrap();
        let (opened, accepted) = tokio::join!(connect_from(any, from), here.accept());
        assert_eq!(opened.unwrap().local_address(), accepted.unwrap().1);
    }

    #[tokio::test]
    async fn where_nobody_listens_the_connection_is_refused() {
        let closed = listen_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = closed.local_addr().unwrap();
        drop(closed);
        let refused = connect_from("127.0.0.1:0".parse().unwrap(), to).await;
        assert_eq!(refused.unwrap_err(), StreamError::Refused);
    }
}
