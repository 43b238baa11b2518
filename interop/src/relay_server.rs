//! The server of this source tree as a relay on loopback, within the test's own process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use nilas_server::{
    CertificateFiles, DiscoveryAddresses, Secret, Server, ServerConfig, ServerHandle, ServerStats,
    User,
};

use crate::HANG_GUARD;
use crate::coturn::{Certificates, PASSWORD, USER, free_port};

/// The secret from which time-limited credentials are made.
pub const SECRET: &str = "north";

/// A running relay on 127.0.0.1 and ::1. Dropped, it stops.
pub struct RelayServer {
    port: u16,
    tls_port: u16,
    certificates: Certificates,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl RelayServer {
    /// Starts it and waits until it serves. On IPv4 it also answers NAT discovery, with 127.0.0.2 as its other
    /// address.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn start() -> Result<Self, String> {
        let [port, tls_port, other_port] = [free_port()?, free_port()?, free_port()?];
        let certificates = Certificates::make()?;
        let config = config([port, tls_port, other_port], &certificates);
        let (ready, is_ready) = channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let served = runtime.map_err(|error| error.to_string()).map(|runtime| {
                runtime.block_on(async {
                    match Server::bind(config).await {
                        Ok(server) => {
                            // Whoever waits for it has not gone away.
                            let _ = ready.send(Ok(server.handle()));
                            // It never gets to its end, but for a bug that the test will tell.
                            let served = server.run(std::future::pending()).await;
                            served.expect("the relay runs");
                        }
                        Err(error) => drop(ready.send(Err(error.to_string()))),
                    }
                });
            });
            if let Err(error) = served {
                drop(ready.send(Err(error)));
            }
        });
        let handle = is_ready
            .recv_timeout(HANG_GUARD)
            .map_err(|_| "the server never served".to_owned())??;
        Ok(Self {
            port,
            tls_port,
            certificates,
            handle,
            thread: Some(thread),
        })
    }

    /// The port of UDP and TCP.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port of TLS and DTLS.
    #[must_use]
    pub const fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.handle.stats()
    }

    /// Whom to trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been told; a test that drops this may be about to fail already.
            drop(thread.join());
        }
    }
}

fn config([port, tls_port, other_port]: [u16; 3], certificates: &Certificates) -> ServerConfig {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let here: Vec<SocketAddr> = loopback
        .iter()
        .map(|ip| SocketAddr::new(*ip, port))
        .collect();
    let mut config = ServerConfig::default();
    config.stun_udp.clone_from(&here);
    config.stun_tcp.clone_from(&here);
    config.tls = loopback
        .iter()
        .map(|ip| SocketAddr::new(*ip, tls_port))
        .collect();
    config.certificate = Some(CertificateFiles::new(
        certificates.certificate(),
        certificates.key(),
    ));
    config.rendezvous = Vec::new();
    config.access.users = vec![User::new(USER, PASSWORD)];
    config.access.secrets = vec![Secret::from(SECRET)];
    config.relay.addresses = loopback.iter().map(|ip| (*ip).into()).collect();
    let allowed = ["127.0.0.0/8", "::1/128"];
    config.relay.allow_peers = allowed
        .iter()
        .filter_map(|network| network.parse().ok())
        .collect();
    // All of them come from one address, and each brings many connections.
    config.max_stun_connections_per_source = 1_000;
    config.discovery = Some(DiscoveryAddresses::new(
        here[0],
        SocketAddr::from(([127, 0, 0, 2], other_port)),
    ));
    config
}
