//! STUN over TCP (RFC 8489 section 6.2.2): messages one after the other, without further framing.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use nilas_stun::stream_message_length;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admission::{Admission, Permit};
use crate::binding::{MAX_ANSWER, answer};
use crate::counters::Counters;

/// A Binding request that is longer than this asks for nothing that this server has.
const MAX_REQUEST: usize = 2048;
/// After an error of the listener, such as no more file descriptors, so that it cannot keep a core busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StunTcpTimes {
    /// Between two messages.
    pub(crate) idle: Duration,
    /// From the first byte of a message to its last: more than a slow link needs, less than an idler wants.
    pub(crate) message: Duration,
}

/// Accepts and answers, for as long as it is polled.
pub(crate) async fn run(
    listener: TcpListener,
    admission: Admission,
    times: StunTcpTimes,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, source)) => match admission.admit(source.ip().into()) {
                    Some(permit) => {
                        counters.tcp_accepted.add(1);
                        connections.spawn(serve(stream, source, times, Arc::clone(&counters), permit));
                    }
                    None => counters.tcp_refused.add(1),
                },
                Err(error) => {
                    tracing::warn!(%error, "accepting a STUN connection failed");
                    sleep(ERROR_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection until it ends, one way or another: there is nothing to report about a stranger's.
async fn serve(
    mut stream: TcpStream,
    source: SocketAddr,
    times: StunTcpTimes,
    counters: Arc<Counters>,
    _permit: Permit,
) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; MAX_REQUEST];
    let mut filled = 0;
    loop {
        // RFC 8489 section 6.2.2: the client may send the next request without waiting for the answer, so
        // there may be a whole one already.
        let message = loop {
            match stream_message_length(&buffer[..filled]) {
                Ok(Some(length)) if length > MAX_REQUEST => return,
                Ok(Some(length)) if length <= filled => break length,
                Ok(_) => {}
                Err(_) => return,
            }
            if filled > 0 {
                // The rest of a message, all of it under one deadline.
                match timeout(
                    times.message,
                    read_rest(&mut stream, &mut buffer, &mut filled),
                )
                .await
                {
                    Ok(Some(())) => continue,
                    _ => return,
                }
            }
            match timeout(times.idle, stream.read(&mut buffer)).await {
                Ok(Ok(count)) if count > 0 => filled = count,
                _ => return,
            }
        };
        let mut answer_bytes = [0; MAX_ANSWER];
        if let Some(length) = answer(&buffer[..message], source, &mut answer_bytes) {
            match timeout(times.message, stream.write_all(&answer_bytes[..length])).await {
                Ok(Ok(())) => counters.tcp_answered.add(1),
                _ => return,
            }
        }
        buffer.copy_within(message..filled, 0);
        filled -= message;
    }
}

/// Reads until the buffer begins with a whole message, or with something that will never be one.
async fn read_rest(
    stream: &mut TcpStream,
    buffer: &mut [u8; MAX_REQUEST],
    filled: &mut usize,
) -> Option<()> {
    loop {
        match stream_message_length(&buffer[..*filled]) {
            Ok(Some(length)) if length <= *filled || length > MAX_REQUEST => return Some(()),
            Err(_) => return Some(()),
            Ok(_) => {}
        }
        match stream.read(&mut buffer[*filled..]).await {
            Ok(count) if count > 0 => *filled += count,
            _ => return None,
        }
    }
}
