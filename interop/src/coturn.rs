//! coturn on loopback: the TURN server that is everywhere, and so what a client has to live with.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::HANG_GUARD;

/// The user of a server that is not started with a secret.
pub const USER: &str = "ann";
/// And the password.
pub const PASSWORD: &str = "secret of ann";

/// A running coturn on 127.0.0.1 and ::1, one port for UDP, TCP, TLS and DTLS. Dropped, it is killed.
#[derive(Debug)]
pub struct Coturn {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    certificates: Certificates,
}

/// A certificate for localhost in files, and the authority that issued it. The files are gone when it is dropped.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes new ones.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn make() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nilas-interop-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let made = Self { directory };
        made.write()
            .map_err(|error| format!("no certificate: {error}"))?;
        Ok(made)
    }

    fn write(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the server's: OpenSSL takes a certificate whose issuer has its own name as self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "interop authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        fs::write(self.authority(), issuer.pem())?;
        fs::write(self.certificate(), certificate.pem())?;
        fs::write(self.key(), key.serialize_pem())?;
        Ok(())
    }

    /// The authority's certificate, for clients to trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    /// Where other files may lie that are gone with these.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // A directory that stays is litter, no failure.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Coturn {
    /// Starts it with these arguments beside its addresses and certificates, and waits until it serves.
    ///
    /// # Errors
    /// A sentence, when it does not start.
    pub fn start(arguments: &[&str]) -> Result<Self, String> {
        let certificates = Certificates::make()?;
        let port = free_port()?;
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, &arguments, &certificates)?;
        Ok(Self {
            child,
            port,
            arguments,
            certificates,
        })
    }

    /// With the user [`USER`], and peers on loopback allowed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_user(arguments: &[&str]) -> Result<Self, String> {
        let user = format!("--user={USER}:{PASSWORD}");
        let mut all = vec!["--lt-cred-mech", &user, "--allow-loopback-peers"];
        all.extend_from_slice(arguments);
        Self::start(&all)
    }

    /// Kills it and starts it again, on the same port and without memory of its clients.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.child = spawn(self.port, &self.arguments, &self.certificates)?;
        Ok(())
    }

    /// The port of all transports.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its URL without a transport.
    #[must_use]
    pub fn url(&self) -> String {
        format!("turn:127.0.0.1:{}", self.port)
    }

    /// The authority to trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    fn kill(&mut self) {
        // It may have exited already; then there is nothing to kill and the status is collected.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, arguments: &[String], certificates: &Certificates) -> Result<Child, String> {
    let mut command = Command::new("turnserver");
    command
        .args(["-n", "--no-cli", "--simple-log", "--log-file=/dev/null"])
        .args([
            "-L",
            "127.0.0.1",
            "-L",
            "::1",
            "-E",
            "127.0.0.1",
            "-E",
            "::1",
        ])
        .arg(format!("--listening-port={port}"))
        .arg(format!("--tls-listening-port={port}"))
        .arg(format!("--cert={}", certificates.certificate().display()))
        .arg(format!("--pkey={}", certificates.key().display()))
        .arg(format!(
            "--pidfile={}",
            certificates.directory().join("pid").display()
        ))
        .args(["--realm=interop", "--relay-threads=1"])
        .args(arguments);
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = spawned.map_err(|error| {
        format!("coturn (turnserver, Debian's package coturn) does not start: {error}")
    })?;
    // What it prints into a pipe comes late or never, so it is asked whether it serves.
    let served = ["127.0.0.1", "::1"]
        .iter()
        .all(|host| answers(host, port, &mut child));
    if served {
        return Ok(child);
    }
    drop(child.kill());
    drop(child.wait());
    Err(format!("coturn never served: {command:?}"))
}

/// Whether a STUN server answers there before the guard, and before its process ends.
fn answers(host: &str, port: u16, child: &mut Child) -> bool {
    // RFC 8489 section 5: a Binding request without attributes.
    let mut request = [0; 20];
    request[1] = 1;
    request[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    let began = Instant::now();
    while began.elapsed() < HANG_GUARD && matches!(child.try_wait(), Ok(None)) {
        let asked = || {
            let socket = UdpSocket::bind((host, 0))?;
            socket.connect((host, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            socket.send(&request)?;
            socket.recv(&mut [0; 500])?;
            TcpStream::connect((host, port))
        };
        match asked() {
            Ok(_) => return true,
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
    false
}

/// A port that is free for UDP and TCP on loopback, as far as can be known beforehand.
///
/// # Errors
/// A sentence, when there is none.
pub fn free_port() -> Result<u16, String> {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("::1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free for both UDP and TCP".to_owned())
}
