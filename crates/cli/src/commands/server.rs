//! `nilas server`: STUN and rendezvous for others.

use std::future::Future;
use std::net::SocketAddr;

use nilas_server::{Server, ServerConfig};
use serde::Serialize;

use crate::arguments;
use crate::failure::Failure;
use crate::output::json_line;

const SCHEMA: &str = "nilas.server/1";

/// What the server tells programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// It serves, at these addresses.
    Ready {
        stun_udp: &'a [SocketAddr],
        stun_tcp: &'a [SocketAddr],
        rendezvous: &'a [String],
    },
    /// It was asked to stop and has stopped.
    Stopped,
}

pub(crate) fn run(arguments: &arguments::Server) -> Result<(), Failure> {
    super::runtime()?.block_on(serve(arguments))
}

async fn serve(arguments: &arguments::Server) -> Result<(), Failure> {
    let mut config = ServerConfig::default();
    if !arguments.listen.is_empty() {
        config.stun_udp.clone_from(&arguments.listen);
        config.stun_tcp.clone_from(&arguments.listen);
    }
    if let Some(address) = arguments.signal_listen {
        config.rendezvous = vec![address];
    }
    // Before the first word, so that whoever reads `ready` can already stop it in good order.
    let stop = stop_signal()?;
    let server = Server::bind(config).await.map_err(Failure::usage)?;
    let addresses = server.local_addresses().clone();
    let rendezvous: Vec<_> = addresses
        .rendezvous
        .iter()
        .map(|address| format!("ws://{address}"))
        .collect();
    let (stun_udp, stun_tcp) = (addresses.stun_udp.as_slice(), addresses.stun_tcp.as_slice());
    if arguments.json {
        json_line(
            SCHEMA,
            &Event::Ready {
                stun_udp,
                stun_tcp,
                rendezvous: &rendezvous,
            },
        )?;
    } else {
        let list = |addresses: &[SocketAddr]| {
            addresses
                .iter()
                .map(SocketAddr::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let stun = if stun_udp == stun_tcp {
            format!("STUN over UDP and TCP at {}", list(stun_udp))
        } else {
            format!(
                "STUN over UDP at {}, over TCP at {}",
                list(stun_udp),
                list(stun_tcp)
            )
        };
        super::print_line(&format!(
            "ready: {stun}; rendezvous at {}",
            rendezvous.join(" ")
        ))?;
    }
    server.run(stop).await;
    if arguments.json {
        json_line(SCHEMA, &Event::Stopped)?;
    }
    Ok(())
}

/// Ready with Ctrl-C or SIGTERM. The signals are caught from the moment this returns.
#[cfg(unix)]
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::internal)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ready with Ctrl-C.
#[cfg(not(unix))]
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    Ok(async {
        // Without a handler there is nothing to wait for, and the system ends the process itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
