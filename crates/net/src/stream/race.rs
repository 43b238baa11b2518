//! A stream to a server that has several addresses, some of them dead.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{
    ClientTls, Stream, StreamDeadlines, StreamError, StreamRemote, StreamRequest, StreamTransport,
    open, open_plain,
};
use crate::dial::interleave;

/// RFC 8305 section 5: the recommended delay before the next address is tried as well.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Opens a stream to whichever of a server's addresses has come through all stages first. The families
/// take turns; the next address is tried when the one before has failed, or has taken 250 ms. `tls` is
/// not needed for plain TCP. `None` where there is no address.
///
/// # Errors
/// That of the address that failed last, when all have.
pub async fn open_any(
    addresses: impl IntoIterator<Item = SocketAddr>,
    transport: &StreamTransport,
    tls: Option<&ClientTls>,
    deadlines: StreamDeadlines,
) -> Option<Result<Stream, StreamError>> {
    let mut attempts = JoinSet::new();
    let mut failure = None;
    let mut waiting = interleave(addresses).into_iter();
    loop {
        let next = waiting.next();
        let started = next.is_some();
        if let Some(address) = next {
            let request = StreamRequest {
                remote: StreamRemote::Address(address),
                local: None,
                transport: transport.clone(),
                proxy: None,
            };
            let tls = tls.cloned();
            attempts.spawn(async move {
                match tls {
                    Some(tls) => open(&request, &tls, &deadlines).await,
                    None => open_plain(&request, &deadlines).await,
                }
            });
        }
        let at = Instant::now() + ATTEMPT_DELAY;
        tokio::select! {
            biased;
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Some(Ok(stream)),
                Some(Ok(Err(error))) => failure = Some(error),
                // It has panicked, which has been told: it counts as one that failed.
                Some(Err(_)) => {}
                // All have been tried.
                None => return failure.map(Err),
            },
            () = sleep_until(at), if started => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_is_reached_at_the_address_that_lives() {
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = closed.local_addr().unwrap();
        drop(closed);
        let open = async |addresses: &[SocketAddr]| {
            let (tcp, all) = (StreamTransport::Tcp, addresses.to_vec());
            open_any(all, &tcp, None, StreamDeadlines::default()).await
        };
        let both = [dead, alive.local_addr().unwrap()];
        let (stream, accepted) = tokio::join!(open(&both), alive.accept());
        let (_, peer) = accepted.unwrap();
        assert_eq!(stream.unwrap().unwrap().local_address(), peer);
        assert!(matches!(open(&[dead, dead]).await, Some(Err(_))));
        assert!(open(&[]).await.is_none());
    }
}
