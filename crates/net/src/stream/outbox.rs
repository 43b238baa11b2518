//! The bytes that a stream's writer has taken and the network has not.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::sleep;

/// A writer takes no more than this beyond what is on its way already: about 40 messages of full size,
/// and half a second of a call at 1 Mbit/s.
const CAPACITY_BYTES: usize = 64 * 1024;
/// After the writer is gone, what it took may still take this long to leave.
const LINGER: Duration = Duration::from_secs(5);

/// A bounded queue of bytes between a writer that must not wait and a task that may.
pub(super) struct Outbox {
    state: Mutex<State>,
    /// There is something to write, or there will be no more.
    filled: Notify,
    /// There is room again, or the stream is lost.
    drained: Notify,
    /// The writer is gone.
    closed: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    closed: bool,
    failure: Option<(io::ErrorKind, String)>,
}

impl Outbox {
    /// The queue, and the task that empties it into `output` until it is closed.
    pub(super) fn start(output: impl AsyncWrite + Send + Unpin + 'static) -> Arc<Self> {
        let outbox = Arc::new(Self {
            state: Mutex::new(State::default()),
            filled: Notify::new(),
            drained: Notify::new(),
            closed: Notify::new(),
        });
        tokio::spawn(Arc::clone(&outbox).run(output));
        outbox
    }

    /// Takes as much of `bytes` as there is room for.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.check()?;
        let room = CAPACITY_BYTES - state.bytes.len().min(CAPACITY_BYTES);
        let taken = room.min(bytes.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(&bytes[..taken]);
        drop(state);
        self.filled.notify_one();
        Ok(taken)
    }

    /// Takes the whole message if there is any room, so that there is never a part of one.
    pub(super) fn try_write_message(&self, message: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        if state.bytes.len() >= CAPACITY_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(message);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is room, or nothing more can be written. Many may wait.
    pub(super) async fn writable(&self) -> io::Result<()> {
        loop {
            let mut drained = pin!(self.drained.notified());
            // From here on nothing is missed.
            drained.as_mut().enable();
            {
                let state = self.state();
                state.check()?;
                if state.bytes.len() < CAPACITY_BYTES {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Nothing more will be written; what was taken still leaves.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
        self.closed.notify_one();
        self.drained.notify_waiters();
    }

    async fn run(self: Arc<Self>, mut output: impl AsyncWrite + Unpin) {
        let mut batch = Vec::new();
        loop {
            let closed = {
                let mut state = self.state();
                std::mem::swap(&mut state.bytes, &mut batch);
                state.closed
            };
            if batch.is_empty() {
                if closed {
                    break;
                }
                self.filled.notified().await;
                continue;
            }
            self.drained.notify_waiters();
            let written = tokio::select! {
                biased;
                written = write(&mut output, &batch) => written,
                () = self.lingered() => Err(io::ErrorKind::TimedOut.into()),
            };
            if let Err(error) = written {
                self.state().failure = Some((error.kind(), error.to_string()));
                self.drained.notify_waiters();
                return;
            }
            batch.clear();
        }
        // The end of the stream is a courtesy: a peer that does not take it is left to find out.
        tokio::select! {
            _ = output.shutdown() => (),
            () = sleep(LINGER) => (),
        }
    }

    async fn lingered(&self) {
        self.closed.notified().await;
        // The permit stays for the next batch.
        self.closed.notify_one();
        sleep(LINGER).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the queue half changed: each change is one statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.failure {
            None if self.closed => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), batch: &[u8]) -> io::Result<()> {
    output.write_all(batch).await?;
    output.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_stops_is_felt_and_nothing_is_lost() {
        let (near, mut far) = tokio::io::duplex(1000);
        let outbox = Outbox::start(near);
        let mut sent = Vec::new();
        for number in 0_u32.. {
            let mut rest: &[u8] = &number.to_be_bytes();
            match outbox.try_write(rest) {
                Ok(taken) => {
                    sent.extend_from_slice(&rest[..taken]);
                    rest = &rest[taken..];
                    if !rest.is_empty() {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
            // The task takes its share.
            tokio::task::yield_now().await;
        }
        assert!(sent.len() >= CAPACITY_BYTES);
        assert!(sent.len() <= 2 * CAPACITY_BYTES + 1000);
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
        outbox.writable().await.unwrap();
        assert_eq!(outbox.try_write(b"more").unwrap(), 4);
        outbox.close();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"more");
    }

    #[tokio::test]
    async fn a_message_is_taken_whole_or_not_at_all() {
        let (near, mut far) = tokio::io::duplex(1000);
        let outbox = Outbox::start(near);
        let message = [7; CAPACITY_BYTES - 1];
        outbox.try_write_message(&message).unwrap();
        outbox.try_write_message(&message).unwrap();
        let full = outbox.try_write_message(b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        // Everyone who waits is told.
        let (first, second) = (outbox.writable(), outbox.writable());
        let mut received = vec![0; 2 * message.len()];
        let (first, second, read) = tokio::join!(first, second, far.read_exact(&mut received));
        first.and(second).unwrap();
        read.unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
        outbox.try_write_message(b"x").unwrap();
        outbox.close();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"x");
    }

    #[tokio::test]
    async fn a_lost_stream_says_so_to_the_writer() {
        let (near, far) = tokio::io::duplex(10);
        let outbox = Outbox::start(near);
        outbox.try_write(&[7; CAPACITY_BYTES]).unwrap();
        while outbox.try_write(&[7; CAPACITY_BYTES]).is_ok() {
            tokio::task::yield_now().await;
        }
        drop(far);
        let error = outbox.writable().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(outbox.try_write(b"x").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_does_not_keep_the_task() {
        let (near, far) = tokio::io::duplex(10);
        let outbox = Outbox::start(near);
        outbox.try_write(&[7; 100]).unwrap();
        outbox.close();
        // The task ends, and with it goes its end of the pipe: the peer sees what got through, then the end.
        let weak = Arc::downgrade(&outbox);
        drop(outbox);
        while weak.strong_count() > 0 {
            sleep(Duration::from_secs(1)).await;
        }
        drop(far);
    }
}
