//! miniupnpd on a home router of a laboratory: the gateway that forwards ports on demand, by PCP, NAT-PMP and UPnP.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::{fs, thread};

use nilas_lab::{Node, Uplink};

use crate::HANG_GUARD;
use crate::scene::Scene;

/// What the router is called outside. Of the addresses that miniupnpd takes for public ones, which those of a laboratory
/// are not; nothing leads out of there.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);

/// A table of its own, with the chains that it fills.
const CHAINS: &str = "\
table inet upnp {
 chain forward { type filter hook forward priority 10; jump allowed; }
 chain allowed { }
 chain prerouting { type nat hook prerouting priority -100; jump forwarded; }
 chain forwarded { }
 chain postrouting { type nat hook postrouting priority 100; jump left; }
 chain left { }
}
";

/// What a gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// PCP and NAT-PMP, and no UPnP.
    Pcp,
    /// UPnP only.
    Upnp,
}

/// A running miniupnpd on A's home router. Dropped, it is killed.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    directory: PathBuf,
}

impl Gateway {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// A sentence that says what is wrong or missing.
    pub fn start(scene: &Scene, speaks: Speaks) -> Result<Self, String> {
        let home = Node::HomeA;
        scene.nft(home, CHAINS)?;
        let external = format!("{EXTERNAL}/32");
        scene.run(home, "ip", &["addr", "add", &external, "dev", "wan"])?;
        let public = scene.lab().public_address(Uplink::A);
        let public = public.ok_or("A has no public address")?;
        let via = public.to_string();
        scene.run(Node::Core, "ip", &["route", "add", &external, "via", &via])?;

        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nilas-gateway-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let written = fs::create_dir(&directory)
            .and_then(|()| fs::write(directory.join("conf"), configuration(speaks)));
        written.map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut command = scene.on(home, "miniupnpd")?;
        command.arg("-d").arg("-f").arg(directory.join("conf"));
        command.arg("-P").arg(directory.join("pid"));
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|error| {
            format!("miniupnpd (Debian's miniupnpd-nftables) does not start: {error}")
        })?;
        let output = child.stderr.take();
        let gateway = Self { child, directory };
        // The last thing that each of them says when it begins.
        let mark = match speaks {
            Speaks::Pcp => "Listening for NAT-PMP/PCP",
            Speaks::Upnp => "HTTP listening on port",
        };
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            // Read to the end, so that it never waits for a reader.
            let lines = output
                .into_iter()
                .flat_map(|output| BufReader::new(output).lines());
            for line in lines.map_while(Result::ok) {
                if line.contains(mark) {
                    // Told once; nobody waits for more.
                    let _ = ready.send(());
                }
            }
        });
        match is_ready.recv_timeout(HANG_GUARD) {
            Ok(()) => Ok(gateway),
            Err(_) => Err("miniupnpd ended, or does not listen".to_owned()),
        }
    }

    /// How many ports it forwards.
    ///
    /// # Errors
    /// A sentence that says why that cannot be told.
    pub fn forwarded(&self, scene: &Scene) -> Result<usize, String> {
        let rules = scene.nft(Node::HomeA, "list chain inet upnp forwarded")?;
        Ok(rules.matches("dnat").count())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already. A directory that stays is litter, no failure.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn configuration(speaks: Speaks) -> String {
    let yes = |speaks: bool| if speaks { "yes" } else { "no" };
    format!(
        "ext_ifname=wan
listening_ip=lanbr
ext_ip={EXTERNAL}
port=0
enable_upnp={}
enable_natpmp={}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000000
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=allowed
upnp_nat_chain=forwarded
upnp_nat_postrouting_chain=left
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
",
        yes(speaks == Speaks::Upnp),
        yes(speaks == Speaks::Pcp),
    )
}
