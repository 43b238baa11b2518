//! A certificate of the tests' own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nilas_net::stream::ClientTls;
use nilas_server::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;

/// A certificate for the loopback in files that are gone when this is dropped, and the client that trusts it.
pub(crate) struct Certificate {
    directory: PathBuf,
    pub(crate) client: ClientTls,
    roots: RootCertStore,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        Self::with_key(&KeyPair::generate().unwrap())
    }

    /// With this key of its own.
    pub(crate) fn with_key(key: &KeyPair) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nilas-server-test-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let client = ClientTls::from_pem(issuer.pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let names = vec![String::from("127.0.0.1"), String::from("localhost")];
        let own = CertificateParams::new(names).unwrap();
        let own = own.signed_by(key, &issuer).unwrap();
        std::fs::write(directory.join("chain.pem"), own.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        Self {
            directory,
            client,
            roots,
        }
    }

    pub(crate) fn files(&self) -> CertificateFiles {
        CertificateFiles::new(
            self.directory.join("chain.pem"),
            self.directory.join("key.pem"),
        )
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // A directory that stays is litter, no failure.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Certificate {
    /// Puts another's certificate in the place of this one.
    pub(crate) fn take_from(&self, other: &Self) {
        for name in ["chain.pem", "key.pem"] {
            std::fs::copy(other.directory.join(name), self.directory.join(name)).unwrap();
        }
    }

    /// A TLS connection that offers these protocols.
    pub(crate) async fn connect(
        &self,
        server: std::net::SocketAddr,
        alpn: &[Vec<u8>],
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.to_vec();
        let stream = tokio::net::TcpStream::connect(server).await.unwrap();
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }
}
