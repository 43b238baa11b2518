//! The project's own server as a relay on loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nilas::{ClientTls, Config, Role};
use nilas_server::{
    CertificateFiles, LocalAddresses, RelayAddress, Server, ServerConfig, ServerError,
    ServerHandle, User,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::soon;

/// A server that relays for one user between loopback addresses.
pub(crate) struct Relay {
    config: ServerConfig,
    pub(crate) addresses: LocalAddresses,
    handle: ServerHandle,
    running: JoinHandle<Result<(), ServerError>>,
    pub(crate) roots: ClientTls,
    directory: PathBuf,
}

impl Relay {
    pub(crate) async fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("nilas-relay-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (certificate, roots) = certificate(&directory);
        let mut config = ServerConfig::loopback();
        config.access.users = vec![User::new("user", "password")];
        config.relay.addresses = vec![RelayAddress::from(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        config.relay.allow_peers = vec!["127.0.0.0/8".parse().unwrap()];
        config.certificate = Some(certificate);
        config.tls = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let (addresses, handle, running) = run(config.clone()).await;
        Self {
            config,
            addresses,
            handle,
            running,
            roots,
            directory,
        }
    }

    /// Ends the server without a word to anybody.
    pub(crate) async fn kill(&mut self) {
        self.handle.stop();
        soon("the server's end", &mut self.running)
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits until nobody has anything relayed. It counts a moment after it answers.
    pub(crate) async fn is_idle(&self) {
        let idle = async {
            while self.handle.stats().turn.allocations > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the last allocation's end", idle).await;
    }

    /// Starts it again at the same addresses, with nothing left of what it knew.
    pub(crate) async fn come_back(&mut self) {
        self.config.stun_udp.clone_from(&self.addresses.stun_udp);
        self.config.stun_tcp.clone_from(&self.addresses.stun_tcp);
        self.config.tls.clone_from(&self.addresses.tls);
        self.config
            .rendezvous
            .clone_from(&self.addresses.rendezvous);
        (_, self.handle, self.running) = run(self.config.clone()).await;
    }

    pub(crate) fn url(&self, transport: &str) -> String {
        let port = |addresses: &[SocketAddr]| {
            let of_family = addresses.iter().find(|address| address.is_ipv4());
            of_family.expect("an IPv4 address").port()
        };
        match transport {
            "udp" => format!("turn:127.0.0.1:{}", port(&self.addresses.stun_udp)),
            "tcp" => format!(
                "turn:127.0.0.1:{}?transport=tcp",
                port(&self.addresses.stun_tcp)
            ),
            "tls" => format!(
                "turns:localhost:{}?transport=tcp",
                port(&self.addresses.tls)
            ),
            "dtls" => format!(
                "turns:127.0.0.1:{}?transport=udp",
                port(&self.addresses.tls)
            ),
            other => panic!("no transport {other}"),
        }
    }

    /// An agent that uses nothing but this relay.
    pub(crate) fn only(&self, role: Role, transport: &str) -> Config {
        super::config(role)
            .turn(&self.url(transport), "user", "password")
            .unwrap()
            .trust(self.roots.clone())
            .relay_only(true)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

async fn run(
    config: ServerConfig,
) -> (
    LocalAddresses,
    ServerHandle,
    JoinHandle<Result<(), ServerError>>,
) {
    // Where it comes back to its addresses, another program may have been given one of them meanwhile.
    let server = soon("free ports", async {
        loop {
            match Server::bind(config.clone()).await {
                Err(ServerError::PortInUse { .. }) => sleep(Duration::from_millis(20)).await,
                server => break server.unwrap(),
            }
        }
    })
    .await;
    let (addresses, handle) = (server.local_addresses().clone(), server.handle());
    let running = tokio::spawn(server.run(std::future::pending()));
    (addresses, handle, running)
}

/// A certificate for loopback, and the root that issued it.
fn certificate(directory: &std::path::Path) -> (CertificateFiles, ClientTls) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let roots = root.self_signed(&root_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &Issuer::from_params(&root, &root_key))
        .unwrap();
    let (chain, private) = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&chain, leaf.pem()).unwrap();
    fs::write(&private, key.serialize_pem()).unwrap();
    (
        CertificateFiles::new(chain, private),
        ClientTls::from_pem(roots.as_bytes()).unwrap(),
    )
}
