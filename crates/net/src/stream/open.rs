//! Opening a stream, stage by stage.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nilas_ice::ResolveError;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::proxy::Proxy;
use super::{
    ClientTls, Stream, StreamCause, StreamDeadlines, StreamError, StreamRemote, StreamRequest,
    StreamStage, StreamTransport, dtls_client,
};
use crate::dial::connect_any;
use crate::resolve;

/// Opens a stream.
///
/// # Errors
/// The stage that failed, with whom, and why.
pub async fn open(
    request: &StreamRequest,
    tls: &ClientTls,
    deadlines: &StreamDeadlines,
) -> Result<Stream, StreamError> {
    match &request.transport {
        StreamTransport::Tcp => open_plain(request, deadlines).await,
        StreamTransport::Tls { server_name } => {
            let fail = handshake_failure(request);
            let name = server_name_of(server_name).map_err(&fail)?;
            let tcp = open_tcp(request, deadlines).await?;
            let local = prepare(&tcp).map_err(|error| fail(StreamCause::Io(error)))?;
            let connector = TlsConnector::from(Arc::clone(tls.config()));
            let handshake = connector.connect(name, tcp);
            let secured = within(deadlines.handshake, handshake)
                .await
                .map_err(|cause| fail(tls_cause(cause)))?;
            Ok(Stream::from_tls(local, secured))
        }
        StreamTransport::Dtls { server_name } => {
            let fail = handshake_failure(request);
            let name = server_name_of(server_name).map_err(&fail)?;
            let connect =
                |cause| StreamError::new(StreamStage::Connect, request.remote.to_string(), cause);
            if request.proxy.is_some() {
                return Err(connect(StreamCause::DatagramsThroughProxy));
            }
            let StreamRemote::Address(remote) = request.remote else {
                return Err(connect(StreamCause::NameWithoutProxy));
            };
            let socket = dtls_client::bind(remote, request.local)
                .await
                .map_err(|error| connect(StreamCause::Io(error)))?;
            timeout(
                deadlines.handshake,
                dtls_client::handshake(socket, &name, tls),
            )
            .await
            .map_err(|_| fail(StreamCause::TimedOut))?
            .map_err(fail)
        }
    }
}

/// Opens a plain TCP stream, for which nobody need be trusted.
///
/// # Errors
/// As of [`open`]; and any other transport than TCP is one.
pub async fn open_plain(
    request: &StreamRequest,
    deadlines: &StreamDeadlines,
) -> Result<Stream, StreamError> {
    if request.transport != StreamTransport::Tcp {
        let why = String::from("it is to be secure, and there is nobody to trust");
        return Err(handshake_failure(request)(StreamCause::Protocol(why)));
    }
    let tcp = open_tcp(request, deadlines).await?;
    Stream::from_tcp(tcp).map_err(|error| {
        let cause = StreamCause::Io(error);
        StreamError::new(StreamStage::Connect, request.remote.to_string(), cause)
    })
}

/// A TCP connection to the server, through the proxy if there is one.
async fn open_tcp(
    request: &StreamRequest,
    deadlines: &StreamDeadlines,
) -> Result<TcpStream, StreamError> {
    let connect = |peer: String| move |cause| StreamError::new(StreamStage::Connect, peer, cause);
    let Some(proxy) = &request.proxy else {
        let StreamRemote::Address(remote) = request.remote else {
            let cause = StreamCause::NameWithoutProxy;
            return Err(connect(request.remote.to_string())(cause));
        };
        return within(deadlines.connect, connect_any([remote], request.local))
            .await
            .map_err(connect(remote.to_string()));
    };
    let mut stream = within(deadlines.connect, connect_proxy(proxy, request))
        .await
        .map_err(connect(proxy.address()))?;
    match timeout(
        deadlines.proxy,
        proxy.negotiate(&mut stream, &request.remote),
    )
    .await
    {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(cause)) => Err(StreamError::new(StreamStage::Proxy, proxy.address(), cause)),
        Err(_) => {
            let cause = StreamCause::TimedOut;
            Err(StreamError::new(StreamStage::Proxy, proxy.address(), cause))
        }
    }
}

async fn connect_proxy(proxy: &Proxy, request: &StreamRequest) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> =
        resolve(proxy.host(), proxy.port()).await.map_err(|error| {
            io::Error::other(match error {
                ResolveError::TimedOut => "the DNS did not answer for its name in time",
                _ => "there is no such host",
            })
        })?;
    connect_any(addresses, request.local).await
}

async fn within<T>(
    deadline: Duration,
    stage: impl Future<Output = io::Result<T>>,
) -> Result<T, StreamCause> {
    timeout(deadline, stage)
        .await
        .map_err(|_| StreamCause::TimedOut)?
        .map_err(StreamCause::Io)
}

fn prepare(tcp: &TcpStream) -> io::Result<SocketAddr> {
    // A message waits for no other: each is answered, so Nagle's algorithm would only add delay.
    tcp.set_nodelay(true)?;
    tcp.local_addr()
}

fn handshake_failure(request: &StreamRequest) -> impl Fn(StreamCause) -> StreamError {
    let peer = request.remote.to_string();
    move |cause| StreamError::new(StreamStage::Handshake, peer.clone(), cause)
}

fn server_name_of(text: &str) -> Result<ServerName<'static>, StreamCause> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    // A name that is written in full, with the DNS root's dot, is the same in a certificate without it.
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare)
        .map(|name| name.to_owned())
        .map_err(|_| StreamCause::ServerName(text.to_owned()))
}

/// rustls reports its errors as those of the operating system, wrapped.
fn tls_cause(cause: StreamCause) -> StreamCause {
    let StreamCause::Io(error) = cause else {
        return cause;
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => StreamCause::Certificate(why.to_string()),
        Some(error) => StreamCause::Protocol(error.to_string()),
        None => StreamCause::Io(error),
    }
}
