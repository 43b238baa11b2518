//! A TCP connection to a server that may have several addresses, some of them dead.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// RFC 8305 section 5: the recommended delay before the next address is tried as well.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// More addresses of one name are not tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to whichever address answers first, from the local address if one is given.
///
/// # Errors
/// The last failure when none does. There is no deadline in here but the operating system's.
pub(crate) async fn connect_any(
    addresses: impl IntoIterator<Item = SocketAddr>,
    local: Option<IpAddr>,
) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in interleave(addresses) {
        attempts.spawn(connect(address, local));
        let next = Instant::now() + ATTEMPT_DELAY;
        loop {
            tokio::select! {
                Some(attempt) = attempts.join_next() => match flatten(attempt) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = error,
                },
                () = sleep_until(next), if !attempts.is_empty() => break,
                // All attempts so far have failed: there is nothing to wait for.
                else => break,
            }
        }
    }
    while let Some(attempt) = attempts.join_next().await {
        match flatten(attempt) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn connect(remote: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else {
        return TcpStream::connect(remote).await;
    };
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "the local address and that of the server are of different families",
        ));
    }
    let socket = match local {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind(SocketAddr::new(local, 0))?;
    socket.connect(remote).await
}

fn flatten(
    attempt: Result<io::Result<TcpStream>, tokio::task::JoinError>,
) -> io::Result<TcpStream> {
    attempt.map_err(io::Error::other)?
}

/// RFC 8305 section 4: the families take turns, beginning with the family that the system put first.
pub(crate) fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<SocketAddr> = addresses.into_iter().take(MAX_ADDRESSES).collect();
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == v6_first);
    let mut second = second.into_iter();
    let mut order = Vec::new();
    for address in first {
        order.push(address);
        order.extend(second.next());
    }
    order.extend(second);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let all =
            ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(|text| text.parse().unwrap());
        let order: Vec<String> = interleave(all).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
    }

    #[tokio::test]
    async fn a_refusing_address_does_not_keep_the_next_from_answering() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = closed.local_addr().unwrap();
        drop(closed);
        let stream = connect_any([dead, alive], None).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert_eq!(
            connect_any([dead], None).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(
            connect_any([], None).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
