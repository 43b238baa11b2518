//! The server's certificate, which changes while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use dimpl::DtlsCertificate;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::client_tls::provider;

/// A certificate chain and its key from PEM files, which [`reload`](Self::reload) reads again: renewed
/// certificates serve the next client, and connections that stand are not disturbed.
pub struct CertifiedKeyStore {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<Loaded>>,
}

struct Loaded {
    tls: Arc<CertifiedKey>,
    dtls: DtlsCertificate,
}

impl CertifiedKeyStore {
    /// Reads a certificate chain, the server's own certificate first, and its private key.
    ///
    /// # Errors
    /// When a file cannot be read or holds no such thing, or the key is not that of the certificate.
    pub fn load(chain: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        let loaded = Loaded::read(chain, key)?;
        Ok(Arc::new(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(loaded)),
        }))
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let loaded = Arc::new(Loaded::read(&self.chain, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// A TLS server that shows this certificate and speaks these ALPN protocols (RFC 7443 section 2:
    /// `stun.turn`), in its order of preference. Without any it takes clients whatever they offer.
    ///
    /// # Errors
    /// When the TLS library has no protocol versions, which its default ones exclude.
    pub fn server_config(
        self: &Arc<Self>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| CertificateError::Library(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// The same for DTLS: the first certificate of the chain alone, which is all that the DTLS library
    /// sends. Whether its key will do, the DTLS server says.
    #[must_use]
    pub fn dtls_certificate(&self) -> DtlsCertificate {
        self.current().dtls.clone()
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Loaded {
    fn read(chain_path: &Path, key_path: &Path) -> Result<Self, CertificateError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |why: String| CertificateError::File { path, why }
        };
        let text = std::fs::read(chain_path).map_err(|e| file(chain_path)(e.to_string()))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| file(chain_path)(error.to_string()))?;
        let Some(own) = chain.first().cloned() else {
            let why = String::from("there is no certificate in it");
            return Err(file(chain_path)(why));
        };
        let text = std::fs::read(key_path).map_err(|e| file(key_path)(e.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| file(key_path)(format!("no private key in it ({error})")))?;
        let private_key = key.secret_der().to_vec();
        let tls = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
            other => file(key_path)(other.to_string()),
        })?;
        Ok(Self {
            tls: Arc::new(tls),
            dtls: DtlsCertificate {
                certificate: own.to_vec(),
                private_key,
            },
        })
    }
}

impl ResolvesServerCert for CertifiedKeyStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().tls))
    }
}

impl fmt::Debug for CertifiedKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedKeyStore")
            .field("chain", &self.chain)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Why a server has no certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read or holds something else.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is that of another certificate.
    Mismatch,
    /// The TLS library cannot be set up.
    Library(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Mismatch => f.write_str(
                "the private key does not belong to the certificate; the first certificate in the file must be the server's own",
            ),
            Self::Library(why) => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for CertificateError {}
