//! How the streams to TURN servers are opened: whom to trust, and through which proxy.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use nilas_ice::{ResolveError, StreamError, StreamTransport};
use nilas_net::stream::{
    self, ClientTls, Proxy, Stream, StreamCause, StreamDeadlines, StreamRemote, StreamRequest,
    StreamStage, open, open_any, open_plain,
};
use tokio::sync::OnceCell;

/// What an application chose for the streams of an agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connector {
    pub(crate) proxy: Option<Proxy>,
    /// `None` for the system's roots.
    pub(crate) tls: Option<ClientTls>,
}

/// The system's roots are read once in the life of a process, when the first server needs them: that takes
/// tens of milliseconds.
static SYSTEM: LazyLock<OnceCell<Option<ClientTls>>> = LazyLock::new(OnceCell::new);

/// A server to open a stream to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) transport: StreamTransport,
    /// A name or an address, which the server's certificate must be for.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where it is, if it is known already.
    pub(crate) address: Option<SocketAddr>,
}

impl Connector {
    /// Opens a stream to whichever of the server's addresses answers first. `addresses` finds them,
    /// unless a proxy is there to do it.
    pub(crate) async fn open(
        self: Arc<Self>,
        target: Target,
        addresses: impl Future<Output = Result<Vec<SocketAddr>, ResolveError>>,
    ) -> Result<Stream, StreamError> {
        let transport = match target.transport {
            StreamTransport::Tcp => stream::StreamTransport::Tcp,
            StreamTransport::Tls => stream::StreamTransport::Tls {
                server_name: target.host.clone(),
            },
            StreamTransport::Dtls => stream::StreamTransport::Dtls {
                server_name: target.host.clone(),
            },
            // The engine is of the same version and asks for nothing else.
            _ => return Err(StreamError::Other),
        };
        let datagrams = target.transport == StreamTransport::Dtls;
        let trusted = async {
            match target.transport {
                StreamTransport::Tcp => Ok(None),
                _ => self.tls().await.map(Some).ok_or(StreamError::Handshake),
            }
        };
        let deadlines = StreamDeadlines::default();
        // DTLS goes the way of all datagrams, which is not through a proxy.
        if let (Some(proxy), false) = (&self.proxy, datagrams) {
            let tls = trusted.await?;
            let request = StreamRequest {
                remote: match (target.address, target.host.parse()) {
                    (Some(address), _) => StreamRemote::Address(address),
                    (None, Ok(ip)) => StreamRemote::Address(SocketAddr::new(ip, target.port)),
                    (None, Err(_)) => StreamRemote::Name {
                        host: target.host,
                        port: target.port,
                    },
                },
                local: None,
                transport,
                proxy: Some(proxy.clone()),
            };
            let opened = match &tls {
                Some(tls) => open(&request, tls, &deadlines).await,
                None => open_plain(&request, &deadlines).await,
            };
            return opened.map_err(|error| sort(&error));
        }
        let (tls, addresses) = tokio::join!(trusted, addresses);
        let (tls, addresses) = (tls?, addresses.map_err(unresolved)?);
        match open_any(addresses, &transport, tls.as_ref(), deadlines).await {
            Some(opened) => opened.map_err(|error| sort(&error)),
            None => Err(StreamError::Unresolved),
        }
    }

    /// `None` where there are no roots that can be read, so that nobody can be trusted.
    async fn tls(&self) -> Option<ClientTls> {
        if let Some(tls) = &self.tls {
            return Some(tls.clone());
        }
        let read = || tokio::task::spawn_blocking(|| ClientTls::system().ok());
        SYSTEM
            .get_or_init(|| async { read().await.ok().flatten() })
            .await
            .clone()
    }
}

const fn unresolved(error: ResolveError) -> StreamError {
    match error {
        ResolveError::TimedOut => StreamError::TimedOut,
        _ => StreamError::Unresolved,
    }
}

/// Why a stream did not open, in the engine's terms.
const fn sort(error: &stream::StreamError) -> StreamError {
    match (error.stage, &error.cause) {
        (StreamStage::Proxy, _) => StreamError::Proxy,
        (_, StreamCause::TimedOut) => StreamError::TimedOut,
        (StreamStage::Connect, _) => StreamError::Refused,
        (StreamStage::Handshake, _) => StreamError::Handshake,
        _ => StreamError::Other,
    }
}
