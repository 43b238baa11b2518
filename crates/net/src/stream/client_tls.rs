//! Which servers are trusted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dimpl::DtlsCertificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ALPN_TURN;

/// WebSocket begins with HTTP/1.1.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// The client's side of TLS and DTLS: whom it trusts. Made once and shared by all streams.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    dtls: Arc<dimpl::Config>,
    dtls_certificate: DtlsCertificate,
}

impl ClientTls {
    /// Trusts the system's roots, or those in the file that `SSL_CERT_FILE` and the directory that
    /// `SSL_CERT_DIR` name instead.
    ///
    /// # Errors
    /// When there is not one root that can be read: no server could ever be trusted.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // The stores of systems hold some that no current library reads; the others still count.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let why = found.errors.first().map(ToString::to_string);
            return Err(RootsError::System { why });
        }
        Self::new(roots)
    }

    /// Trusts the certificates in a PEM file, and no others.
    ///
    /// # Errors
    /// When the file cannot be read, or a certificate in it cannot, or there is none.
    pub fn from_file(path: &Path) -> Result<Self, RootsError> {
        let failed = |why: String| RootsError::File {
            path: path.to_owned(),
            why,
        };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        Self::from_pem(&text).map_err(|error| match error {
            RootsError::Pem { why } => failed(why),
            other => other,
        })
    }

    /// Trusts the certificates in PEM text, and no others.
    ///
    /// # Errors
    /// When a certificate cannot be read, or there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            certificate
                .map_err(|error| error.to_string())
                .and_then(|der| roots.add(der).map_err(|error| error.to_string()))
                .map_err(|why| RootsError::Pem { why })?;
        }
        if roots.is_empty() {
            let why = String::from("there is no certificate in it");
            return Err(RootsError::Pem { why });
        }
        Self::new(roots)
    }

    fn new(roots: RootCertStore) -> Result<Self, RootsError> {
        let failed = |why: String| RootsError::Library { why };
        let provider = provider();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| failed(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_webpki_verifier(Arc::clone(&verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_TURN.to_vec()];
        let dtls = dimpl::Config::builder()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            config: Arc::new(config),
            verifier,
            dtls: Arc::new(dtls),
            // A client has to have one, for servers that ask, and TURN servers do not look at it.
            dtls_certificate: dimpl::certificate::generate_self_signed_certificate()
                .map_err(|error| failed(error.to_string()))?,
        })
    }

    /// Speaks TLS with an HTTP server of this name or address, which may share its port with TURN (RFC 7301).
    pub(crate) async fn connect_http(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    pub(super) const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(super) const fn dtls(&self) -> &Arc<dimpl::Config> {
        &self.dtls
    }

    pub(super) fn dtls_certificate(&self) -> DtlsCertificate {
        self.dtls_certificate.clone()
    }

    /// Whether a certificate that a DTLS server showed is trusted and for this name. RFC 8489 section
    /// 6.2.3 asks the same of DTLS as of TLS.
    pub(super) fn verify(&self, der: &[u8], name: &ServerName<'_>) -> Result<(), String> {
        let end_entity = CertificateDer::from(der);
        self.verifier
            .verify_server_cert(&end_entity, &[], name, &[], UnixTime::now())
            .map(|_| ())
            .map_err(|error| match error {
                rustls::Error::InvalidCertificate(why) => why.to_string(),
                other => other.to_string(),
            })
    }
}

/// One provider for all of TLS, named and not taken from a process-wide default that others may set.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Why there are no roots to trust.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RootsError {
    /// The system has none that can be read.
    System {
        /// The first error, if it was one and not emptiness.
        why: Option<String>,
    },
    /// The file has none that can be read.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The text has none that can be read.
    Pem {
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library did not take them.
    Library {
        /// What it says.
        why: String,
    },
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { why } => {
                f.write_str("no root certificates to verify TLS servers with")?;
                if let Some(why) = why {
                    write!(f, " ({why})")?;
                }
                f.write_str(
                    "; install the system's (ca-certificates), or name a PEM file in SSL_CERT_FILE",
                )
            }
            Self::File { path, why } => {
                write!(f, "no root certificates in {}: {why}", path.display())
            }
            Self::Pem { why } => write!(f, "no root certificates in the PEM text: {why}"),
            Self::Library { why } => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for RootsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_an_error() {
        for text in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = ClientTls::from_pem(text.as_bytes()).unwrap_err();
            assert!(matches!(error, RootsError::Pem { .. }), "{text}: {error}");
        }
        let missing = ClientTls::from_file(Path::new("/nonexistent/roots.pem")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/roots.pem"));
    }
}
