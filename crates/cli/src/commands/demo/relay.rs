//! The relay of a demo: who may use it, and how the peers reach it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nilas::{ClientTls, Config};
use nilas_server::{CertificateFiles, RelayAddress, ServerConfig, User};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::failure::Failure;

const USER: &str = "demo";

/// What the demo's own server asks of those who want a relay: fresh for each demo, and gone after it.
pub(super) struct Relay {
    password: String,
    certificate: Option<Certificate>,
}

/// A certificate for addresses, its own root, and the files that the server reads.
struct Certificate {
    directory: PathBuf,
    files: CertificateFiles,
    roots: ClientTls,
}

/// What a peer needs to use the relay.
#[derive(Clone)]
pub(super) struct Access {
    urls: Vec<String>,
    password: String,
    roots: Option<ClientTls>,
}

impl Relay {
    /// With a certificate for these addresses, if there are any.
    pub(super) fn new(tls_addresses: &[IpAddr]) -> Result<Self, Failure> {
        let certificate = match tls_addresses {
            [] => None,
            addresses => Some(Certificate::new(addresses)?),
        };
        Ok(Self {
            password: random()?,
            certificate,
        })
    }

    /// Lets the server relay on these addresses, to peers in these networks.
    pub(super) fn configure(
        &self,
        config: &mut ServerConfig,
        addresses: &[IpAddr],
        peers: &[String],
    ) -> Result<(), Failure> {
        config.access.users = vec![User::new(USER, self.password.as_str())];
        config.relay.addresses = addresses.iter().map(|ip| RelayAddress::from(*ip)).collect();
        for network in peers {
            let network = network.parse().map_err(Failure::internal)?;
            config.relay.allow_peers.push(network);
        }
        config.certificate = self
            .certificate
            .as_ref()
            .map(|certificate| certificate.files.clone());
        Ok(())
    }

    /// What a peer needs that reaches the server at these URLs.
    pub(super) fn access(&self, urls: Vec<String>) -> Access {
        Access {
            urls,
            password: self.password.clone(),
            roots: self
                .certificate
                .as_ref()
                .map(|certificate| certificate.roots.clone()),
        }
    }
}

impl Access {
    pub(super) fn add_to(&self, mut config: Config) -> Result<Config, nilas::ServerError> {
        for url in &self.urls {
            config = config.turn(url, USER, &self.password)?;
        }
        Ok(match &self.roots {
            Some(roots) => config.trust(roots.clone()),
            None => config,
        })
    }
}

/// The URL of a relay at this address.
pub(super) fn url(address: SocketAddr, transport: &str) -> String {
    match transport {
        "tls" => format!("turns:{address}?transport=tcp"),
        other => format!("turn:{address}?transport={other}"),
    }
}

impl Certificate {
    fn new(addresses: &[IpAddr]) -> Result<Self, Failure> {
        // A root and a leaf: many TLS stacks refuse one certificate as both.
        let root_key = KeyPair::generate().map_err(Failure::internal)?;
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name
            .push(DnType::CommonName, "nilas demo root");
        let root_certificate = root.self_signed(&root_key).map_err(Failure::internal)?;
        let names: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
        let key = KeyPair::generate().map_err(Failure::internal)?;
        let leaf = CertificateParams::new(names).map_err(Failure::internal)?;
        let leaf = leaf
            .signed_by(&key, &Issuer::from_params(&root, &root_key))
            .map_err(Failure::internal)?;
        let directory = std::env::temp_dir().join(format!("nilas-demo-{}", random()?));
        fs::create_dir(&directory)?;
        let (chain, private) = (directory.join("chain.pem"), directory.join("key.pem"));
        // From here on the directory is removed with the certificate, whatever fails.
        let certificate = Self {
            roots: ClientTls::from_pem(root_certificate.pem().as_bytes())
                .map_err(Failure::internal)?,
            files: CertificateFiles::new(&chain, &private),
            directory,
        };
        write_private(&chain, &leaf.pem())?;
        write_private(&private, &key.serialize_pem())?;
        Ok(certificate)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // It is in the directory of temporary files, which the system empties in the end.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// 128 bits that nobody can guess, as text.
fn random() -> Result<String, Failure> {
    let seed = nilas_net::os_seed().map_err(Failure::internal)?;
    Ok(seed[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_s_files_are_private_and_go_with_it() {
        let relay = Relay::new(&["192.0.2.1".parse().expect("an address")]).expect("a relay");
        let mut config = ServerConfig::loopback();
        relay
            .configure(&mut config, &[], &["192.0.2.0/24".to_owned()])
            .expect("it can be configured");
        let files = config.certificate.expect("a certificate");
        assert!(fs::read_to_string(&files.chain).is_ok_and(|text| text.contains("CERTIFICATE")));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&files.key)
                .expect("a file")
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0);
        }
        drop(relay);
        assert!(!files.key.exists());
    }
}
