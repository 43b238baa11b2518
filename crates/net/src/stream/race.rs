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
/// The same before the first address of the other family. RFC 8305 section 5 recommends 100 ms and allows 10 ms: a
/// network whose IPv6 leads nowhere must not make a relay late by more than a round trip, and a connection that turns
/// out not to be needed costs the server little.
const OTHER_FAMILY_DELAY: Duration = Duration::from_millis(20);

/// Opens a stream to whichever of a server's addresses has come through all stages first. The families
/// take turns; the next address is tried when the one before has failed, or has taken 250 ms, and the first of
/// the other family after 20 ms. `tls` is not needed for plain TCP. `None` where there is no address.
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
    let addresses = interleave(addresses);
    let mut tried = 0;
    loop {
        let next = addresses.get(tried);
        let started = next.is_some();
        if let Some(address) = next {
            tried += 1;
            let request = StreamRequest {
                remote: StreamRemote::Address(*address),
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
        let at = Instant::now() + delay_after(&addresses, tried);
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

/// How long the last of those that were tried is given before the next is tried as well.
fn delay_after(addresses: &[SocketAddr], tried: usize) -> Duration {
    match addresses {
        [first, second, ..] if tried == 1 && first.is_ipv4() != second.is_ipv4() => {
            OTHER_FAMILY_DELAY
        }
        _ => ATTEMPT_DELAY,
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

    #[test]
    fn a_dead_family_is_not_waited_for_as_long_as_a_dead_address() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            interleave(texts.iter().map(|text| text.parse().unwrap()))
        };
        let delays = |addresses: Vec<SocketAddr>| {
            let each = (1..=addresses.len()).map(|tried| delay_after(&addresses, tried));
            each.map(|delay| delay.as_millis()).collect::<Vec<_>>()
        };
        let both = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"];
        assert_eq!(delays(addresses(&both)), [20, 250, 250]);
        assert_eq!(delays(addresses(&both[..2])), [250, 250]);
        assert_eq!(delays(addresses(&both[2..])), [250]);
    }
}
