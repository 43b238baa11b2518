//! A UDP socket that the runtime watches.

use std::io;
use std::net::UdpSocket;
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};

/// A UDP socket that the runtime watches for what arrives, and for room only once there was none.
///
/// One that is watched for room, as tokio's own is, tells the runtime of it after each datagram that has left; and there is
/// nearly always room.
///
/// It must be made, and is awaited, inside a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct Watched(system::Watched);

impl Watched {
    /// Has this socket watched, which does not block.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        system::Watched::new(socket).map(Self)
    }

    /// The socket itself.
    pub fn socket(&self) -> &UdpSocket {
        self.0.socket()
    }

    /// Waits until it may be ready for this, which is reading, errors, or either.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.0.ready(interest).await
    }

    /// Whether there may be something to receive. One task at a time can wait for it.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_readable(cx)
    }

    /// Does `work` if the socket may be ready for it; where that would block, the next time is waited for.
    ///
    /// # Errors
    /// Those of `work`, and [`io::ErrorKind::WouldBlock`] where it is not ready.
    pub fn try_io<T>(
        &self,
        interest: Interest,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.try_io(interest, work)
    }

    /// Does `send`, at once or as soon as there is room.
    ///
    /// # Errors
    /// Those of `send`, but for [`io::ErrorKind::WouldBlock`].
    pub async fn when_writable<T>(&self, mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.0.when_writable(send).await
            }
            done => done,
        }
    }
}

#[cfg(unix)]
mod system {
    use std::sync::OnceLock;

    use tokio::io::unix::AsyncFd;

    use super::{Context, Interest, Poll, Ready, UdpSocket, io};

    #[derive(Debug)]
    pub(super) struct Watched {
        readable: AsyncFd<UdpSocket>,
        /// The same socket by another number, from when there was no room first.
        writable: OnceLock<Box<AsyncFd<UdpSocket>>>,
    }

    impl Watched {
        pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(Self {
                readable: watch(socket, Interest::READABLE)?,
                writable: OnceLock::new(),
            })
        }

        pub(super) fn socket(&self) -> &UdpSocket {
            self.readable.get_ref()
        }

        pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
            Ok(self.readable.ready(interest).await?.ready())
        }

        pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.readable.poll_read_ready(cx).map_ok(drop)
        }

        pub(super) fn try_io<T>(
            &self,
            interest: Interest,
            work: impl FnOnce() -> io::Result<T>,
        ) -> io::Result<T> {
            self.readable.try_io(interest, |_| work())
        }

        pub(super) async fn when_writable<T>(
            &self,
            mut send: impl FnMut() -> io::Result<T>,
        ) -> io::Result<T> {
            let writable = match self.writable.get() {
                Some(writable) => writable,
                None => {
                    let twin = watch(self.socket().try_clone()?, Interest::WRITABLE)?;
                    // Of two that find no room at once the first one's stands.
                    self.writable.get_or_init(|| Box::new(twin))
                }
            };
            writable.async_io(Interest::WRITABLE, |_| send()).await
        }
    }

    #[expect(
        deprecated,
        reason = "unsound only for what closes its file descriptor while it is watched, which a socket of std does not"
    )]
    fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }
}

#[cfg(not(unix))]
mod system {
    use super::{Context, Interest, Poll, Ready, UdpSocket, io};

    #[derive(Debug)]
    pub(super) struct Watched {
        watched: tokio::net::UdpSocket,
        /// The same socket.
        socket: UdpSocket,
    }

    impl Watched {
        pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(Self {
                watched: tokio::net::UdpSocket::from_std(socket.try_clone()?)?,
                socket,
            })
        }

        pub(super) fn socket(&self) -> &UdpSocket {
            &self.socket
        }

        pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
            self.watched.ready(interest).await
        }

        pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.watched.poll_recv_ready(cx)
        }

        pub(super) fn try_io<T>(
            &self,
            interest: Interest,
            work: impl FnOnce() -> io::Result<T>,
        ) -> io::Result<T> {
            self.watched.try_io(interest, work)
        }

        pub(super) async fn when_writable<T>(
            &self,
            send: impl FnMut() -> io::Result<T>,
        ) -> io::Result<T> {
            self.watched.async_io(Interest::WRITABLE, send).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_waited_for_once_there_was_none_and_what_arrives_is_told_as_before() {
        let [a, b] = [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            Watched::new(socket).unwrap()
        });
        let to = b.socket().local_addr().unwrap();
        for _ in 0..2 {
            let mut refuses = true;
            let sent = a.when_writable(|| {
                if std::mem::take(&mut refuses) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                a.socket().send_to(b"x", to)
            });
            assert_eq!(sent.await.unwrap(), 1);
            let ready = b.ready(Interest::READABLE).await.unwrap();
            assert!(ready.is_readable());
            let receive = || b.socket().recv(&mut [0; 8]);
            assert_eq!(b.try_io(Interest::READABLE, receive).unwrap(), 1);
        }
    }
}
