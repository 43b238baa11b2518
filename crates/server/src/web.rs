//! HTTP: the rendezvous over WebSocket, and `/health`.

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nilas_net::signaling::message::{MAX_MESSAGE_BYTES, PATH, PING_INTERVAL};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::admission::{Admission, Permit};
use crate::counters::Counters;
use crate::hub::{Client, Hub, Inbox};
use crate::monitor::health_of;
use crate::server::Phase;

/// A client that takes longer to take a message is gone.
const SEND_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to say farewell.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Plenty for a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// After an error of the listener, such as no more file descriptors, so that it cannot keep a core busy.
pub(crate) const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What the HTTP side of a server shares.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) hub: Arc<Hub>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) phase: Arc<watch::Sender<Phase>>,
    pub(crate) admission: Admission,
    /// Whether peers may meet here.
    pub(crate) meets: bool,
    /// From a connection's beginning to the end of its request's head.
    pub(crate) head_time: Duration,
    /// Its sender lives as long as the server runs, and nothing is ever sent.
    pub(crate) running: watch::Receiver<()>,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    permit: Arc<Permit>,
}

/// Accepts and serves, for as long as it is polled.
pub(crate) async fn run(listener: TcpListener, web: Web) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    let web = web.clone();
                    connections.spawn(async move { web.admit(stream, address).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                    sleep(ERROR_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Web {
    /// Serves a connection, in the clear or inside TLS, unless there are too many.
    pub(crate) async fn admit(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
    ) {
        let Some(permit) = self.admission.admit(address.ip().into()) else {
            self.counters.http_refused.add(1);
            return;
        };
        self.counters.http_accepted.add(1);
        let peer = Peer {
            address,
            permit: Arc::new(permit),
        };
        let head_time = self.head_time;
        let mut router = Router::new().route("/health", get(health));
        if self.meets {
            router = router.route(PATH, get(rendezvous));
        }
        let router = router
            .with_state(self)
            .layer(map_response(one_request_each))
            .layer(Extension(peer));
        serve(stream, router, head_time).await;
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    head_time: Duration,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended in an error");
    }
}

/// What comes often is a WebSocket; everything else is done after one answer. So a connection that is no
/// WebSocket lasts no longer than the time for a request's head.
pub(crate) async fn one_request_each(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn health(State(web): State<Web>) -> Response {
    health_of(&web.hub.counts(), *web.phase.borrow() >= Phase::Draining)
}

async fn rendezvous(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Infallible> {
    Ok(upgrade
        // Twice what is allowed, so that the rules can say what was wrong.
        .max_message_size(2 * MAX_MESSAGE_BYTES)
        .max_frame_size(2 * MAX_MESSAGE_BYTES)
        .read_buffer_size(4096)
        .on_upgrade(move |socket| converse(socket, web, peer)))
}

/// Carries messages between a client and the rules until either is done.
async fn converse(mut socket: WebSocket, web: Web, peer: Peer) {
    let Web {
        hub, mut running, ..
    } = web;
    let (client, mut inbox) = hub.open(peer.address.ip());
    tracing::debug!(address = %peer.address, "a rendezvous client connected");
    let ended = tokio::select! {
        ended = exchange(&mut socket, &client, &mut inbox) => ended,
        // The sender is gone: the server was dropped.
        _ = running.changed() => Ended::Gone,
    };
    drop(client);
    if matches!(ended, Ended::Refused) {
        let _ = timeout(CLOSE_TIME, farewell(&mut socket)).await;
    }
    tracing::debug!(address = %peer.address, "a rendezvous client left");
    drop(peer.permit);
}

enum Ended {
    /// The rules want the connection closed.
    Refused,
    /// The client closed it, or is gone.
    Gone,
}

async fn exchange(socket: &mut WebSocket, client: &Client, inbox: &mut Inbox) -> Ended {
    let mut ping = interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick of an interval is at once.
    ping.tick().await;
    let mut heard = Instant::now();
    loop {
        let outgoing = tokio::select! {
            text = inbox.recv() => match text {
                Some(text) => Message::Text(text.into()),
                None => return Ended::Refused,
            },
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => client.text(&text),
                    Some(Ok(Message::Binary(_))) => client.not_text(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ended::Gone,
                }
                continue;
            }
            _ = ping.tick() => {
                if heard.elapsed() > PING_INTERVAL * 3 {
                    return Ended::Gone;
                }
                Message::Ping(Default::default())
            }
        };
        if !matches!(timeout(SEND_TIME, socket.send(outgoing)).await, Ok(Ok(()))) {
            return Ended::Gone;
        }
    }
}

/// Closes in good order: bytes of the client that are not read would turn the close into a reset, and the
/// last message might never be seen.
async fn farewell(socket: &mut WebSocket) {
    if socket.send(Message::Close(None)).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
