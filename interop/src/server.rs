//! `nilas server` in the middle of a laboratory.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use nilas_lab::{Lab, Node, SERVER_V4, SERVER_V6};

use crate::{HANG_GUARD, programs};

/// A user of the relays.
pub const USER: &str = "lab";
/// The user's password.
pub const PASSWORD: &str = "lab";

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Where it answers STUN over IPv4.
    #[must_use]
    pub fn stun_v4() -> String {
        format!("{}:3478", SERVER_V4[0])
    }

    /// Where it answers STUN over IPv6.
    #[must_use]
    pub fn stun_v6() -> String {
        format!("[{}]:3478", SERVER_V6[0])
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// A sentence, when it ends before that or does not start.
    pub fn start(lab: &Lab) -> Result<Self, String> {
        Self::start_with(
            lab,
            &["--listen", &Self::stun_v4(), "--listen", &Self::stun_v6()],
        )
    }

    /// Starts a relay at one of the server's addresses, which relays between all machines of the laboratory and takes
    /// [`USER`] with [`PASSWORD`]. Told to end, it does so a second later at the latest.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_relay(lab: &Lab, address: Ipv4Addr) -> Result<Self, String> {
        let address = address.to_string();
        Self::start_with(
            lab,
            &[
                "--listen",
                &format!("{address}:3478"),
                // What a firewall leaves open that lets only the web through.
                "--listen",
                &format!("{address}:443"),
                "--signal-listen",
                &format!("{address}:3480"),
                "--user",
                &format!("{USER}:{PASSWORD}"),
                "--relay-address",
                &address,
                "--allow-peer",
                "198.51.100.0/24",
                "--allow-peer",
                "203.0.113.0/24",
                "--drain-time",
                "1s",
            ],
        )
    }

    /// Starts a relay as strangers meet it, at the server's first address, with the same user.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_public_relay(lab: &Lab) -> Result<Self, String> {
        let user = format!("{USER}:{PASSWORD}");
        let listen = Self::stun_v4();
        Self::start_with(
            lab,
            &[
                "--listen",
                &listen,
                "--signal-listen",
                "none",
                "--user",
                &user,
            ],
        )
    }

    /// Asks it to end, as an operator does before maintenance.
    ///
    /// # Errors
    /// The operating system's.
    pub fn drain(&self) -> std::io::Result<()> {
        let mut kill = Command::new("kill");
        let told = kill
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        match told.success() {
            true => Ok(()),
            false => Err(std::io::Error::other("kill failed")),
        }
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn has_ended(&mut self) -> std::io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn start_with(lab: &Lab, arguments: &[&str]) -> Result<Self, String> {
        let mut command = lab
            .command(Node::Server, programs::nilas()?)
            .map_err(|error| error.to_string())?;
        command.arg("server").args(arguments);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("nilas server does not start: {error}"))?;
        let output = child.stdout.take();
        let server = Self { child };
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            // Read to the end, so that the server never waits for a reader.
            for line in output
                .into_iter()
                .flat_map(|output| BufReader::new(output).lines())
                .map_while(Result::ok)
            {
                if line.contains("ready") {
                    // Told once; later lines that say so again find nobody waiting.
                    let _ = ready.send(());
                }
            }
        });
        is_ready
            .recv_timeout(HANG_GUARD)
            .map_err(|_| "nilas server never said that it is ready".to_owned())?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already; then there is nothing to kill and the status is collected.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
