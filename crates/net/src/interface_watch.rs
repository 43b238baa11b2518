//! Changes of the machine's interfaces and addresses, as soon as the operating system tells of them.

use std::io;
use std::time::Duration;

use nilas_ice::Interface;

use crate::interfaces;

/// Changes come in bursts: a link, its addresses, one by one. The listing waits until they have settled.
const SETTLING: Duration = Duration::from_millis(20);
/// Where the system does not tell of changes, or stops to, it is asked so often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches the machine's interfaces.
///
/// On Linux a netlink socket tells that something has changed, and what there is then is listed anew. On
/// other systems it is listed every second.
#[derive(Debug)]
pub struct InterfaceWatch {
    #[cfg(target_os = "linux")]
    netlink: Option<linux::Netlink>,
    known: Vec<Interface>,
    /// Whether the listing after the latest change failed.
    owed: bool,
}

impl InterfaceWatch {
    /// Begins to watch. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses to list the interfaces.
    pub fn new() -> io::Result<Self> {
        // Opened first, so that no change between it and the listing is missed.
        #[cfg(target_os = "linux")]
        let netlink = linux::Netlink::open().ok();
        Ok(Self {
            #[cfg(target_os = "linux")]
            netlink,
            known: interfaces()?,
            owed: false,
        })
    }

    /// The interfaces as they were listed last.
    pub fn interfaces(&self) -> &[Interface] {
        &self.known
    }

    /// Waits until they are others, and gives them. May be cancelled without losing a change.
    pub async fn changed(&mut self) -> &[Interface] {
        loop {
            match self.owed {
                true => tokio::time::sleep(INTERVAL).await,
                false => self.wait().await,
            }
            let listing = interfaces();
            // Out of descriptors for a moment, for example: nobody tells of the same change twice.
            self.owed = listing.is_err();
            match listing {
                Ok(now) if now != self.known => {
                    self.known = now;
                    return &self.known;
                }
                // Nothing that matters here.
                Ok(_) | Err(_) => {}
            }
        }
    }

    #[cfg(target_os = "linux")]
    async fn wait(&mut self) {
        match &self.netlink {
            Some(netlink) => {
                if netlink.told().await.is_err() {
                    self.netlink = None;
                }
                tokio::time::sleep(SETTLING).await;
                if let Some(netlink) = &self.netlink {
                    netlink.drain();
                }
            }
            None => tokio::time::sleep(INTERVAL).await,
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn wait(&mut self) {
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    //! A netlink socket that is told of links, addresses and routes (rtnetlink(7)). What its messages say is not read:
    //! the listing says it better, and cannot be out of step.

    use std::io;
    use std::os::fd::AsRawFd;

    use nix::libc;
    use nix::sys::socket::{
        AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
    };
    use tokio::net::UdpSocket;

    /// A socket of datagrams like any other to who only waits and receives, which is all that is done here: the
    /// type for UDP does both without `unsafe`, where the one for any descriptor does not.
    #[derive(Debug)]
    pub(super) struct Netlink(UdpSocket);

    impl Netlink {
        pub(super) fn open() -> io::Result<Self> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let protocol = SockProtocol::NetlinkRoute;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            // The default route says which addresses some policies use (RFC 8828 section 5.2, modes 2 and 3).
            let groups = libc::RTMGRP_LINK
                | libc::RTMGRP_IPV4_IFADDR
                | libc::RTMGRP_IPV6_IFADDR
                | libc::RTMGRP_IPV4_ROUTE
                | libc::RTMGRP_IPV6_ROUTE;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
            UdpSocket::from_std(socket.into()).map(Self)
        }

        /// Waits until something was told. What was told stays, for `drain`.
        pub(super) async fn told(&self) -> io::Result<()> {
            self.0.readable().await
        }

        /// Takes what was told. An error may say that more was told than could be kept; then something has
        /// changed for certain, and is found by the listing that follows.
        pub(super) fn drain(&self) {
            let mut buffer = [0; 8192];
            loop {
                match self.0.try_recv(&mut buffer) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(_) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_is_known_and_nothing_changes_by_itself() {
        let mut watch = InterfaceWatch::new().expect("a listing");
        assert_eq!(watch.interfaces(), interfaces().expect("a listing"));
        let waited = tokio::time::timeout(Duration::from_millis(100), watch.changed());
        assert!(
            waited.await.is_err(),
            "the machine's interfaces stay as they are in this test"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_failed_is_made_up_for_without_another_change() {
        let mut watch = InterfaceWatch::new().expect("a listing");
        let there = std::mem::take(&mut watch.known);
        watch.owed = true;
        assert_eq!(watch.changed().await, there);
        assert!(!watch.owed);
    }
}
