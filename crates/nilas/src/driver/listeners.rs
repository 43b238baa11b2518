//! The driver's TCP candidates: ports that accept connections of the peer (RFC 6544 section 7.2), and connections to its
//! ports.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{BindError, Input, RequestId, SocketId};
use nilas_net::stream::Stream;
use nilas_net::{bind_error, connect_from, listen_shared};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::Driver;

/// Connections that were accepted and wait for the driver; more wait in the system.
const MAX_ACCEPTED: usize = 16;
/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(100);

/// A connection that somebody has opened.
pub(super) struct Accepted {
    socket: SocketId,
    stream: Stream,
    remote: SocketAddr,
}

/// The ports that accept connections.
pub(super) struct Listeners {
    tasks: JoinSet<()>,
    handles: Vec<(SocketId, AbortHandle)>,
    inlet: mpsc::Sender<Accepted>,
    pub(super) accepted: mpsc::Receiver<Accepted>,
}

impl Default for Listeners {
    fn default() -> Self {
        let (inlet, accepted) = mpsc::channel(MAX_ACCEPTED);
        Self {
            tasks: JoinSet::new(),
            handles: Vec::new(),
            inlet,
            accepted,
        }
    }
}

impl Listeners {
    /// Closes the port, if it is one of these. Connections that were accepted stay.
    pub(super) fn close(&mut self, socket: SocketId) {
        self.handles.retain(|(known, handle)| {
            if *known == socket {
                handle.abort();
            }
            *known != socket
        });
        // What has ended is not remembered.
        while self.tasks.try_join_next().is_some() {}
    }
}

impl Driver {
    pub(super) fn listen(
        &mut self,
        address: SocketAddr,
    ) -> Result<(SocketId, SocketAddr), BindError> {
        let listener = listen_shared(address).map_err(|error| bind_error(&error))?;
        let local = listener.local_addr().map_err(|error| bind_error(&error))?;
        let socket = self.next_socket_id()?;
        let accepting = accept(socket, listener, self.listeners.inlet.clone());
        let handle = self.listeners.tasks.spawn(accepting);
        self.listeners.handles.push((socket, handle));
        Ok((socket, local))
    }

    pub(super) fn connect(&mut self, request: RequestId, local: SocketAddr, remote: SocketAddr) {
        self.opening
            .spawn(async move { (request, connect_from(local, remote).await) });
        self.control.enqueue();
    }

    /// Somebody has connected. The engine says whether it is welcome.
    pub(super) fn accepted(&mut self, accepted: Accepted) {
        let Accepted {
            socket,
            stream,
            remote,
        } = accepted;
        // Without a number for it, it is dropped, which closes it.
        if let Ok(stream) = self.add_stream(stream) {
            self.input(Input::StreamAccepted {
                socket,
                stream,
                remote,
            });
        }
    }
}

/// Accepts connections until the driver wants no more.
async fn accept(socket: SocketId, listener: TcpListener, inlet: mpsc::Sender<Accepted>) {
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, remote)) => Stream::from_tcp(stream).map(|stream| (stream, remote)),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((stream, remote)) => {
                let accepted = Accepted {
                    socket,
                    stream,
                    remote,
                };
                if inlet.send(accepted).await.is_err() {
                    return;
                }
            }
            // It was given up before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(REST).await,
        }
    }
}
