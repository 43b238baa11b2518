//! The one rule on the addresses of peers. CreatePermission, ChannelBind, Send, Connect and connections from
//! peers all ask it, so that no way around it exists (RFC 8656 sections 10.2, 11.2 and 12.2 leave it to the server).
//! Relays that lead into each other or into tunnels are kept out by it, too (RFC 8656 sections 21.1.7 and 21.4).

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;

use ipnet::IpNet;

use super::special_purpose::{embedded_ipv4, special_purpose};

/// Which peers a client may reach through the server.
///
/// An address is judged in every form it has: as it is spelled, and as the IPv4 address that it stands for where
/// it is IPv4-mapped, IPv4-compatible, 6to4, Teredo or NAT64. It is allowed if each form is. A form that
/// [`deny`](Self::deny) contains is refused, whatever else holds; one that [`allow`](Self::allow) contains is
/// allowed; the server's own relayed addresses are allowed; what is special in the IANA registries, other
/// addresses of this host, and other ports of the relayed addresses are refused; the rest is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRule {
    /// Networks that are allowed although they are special or this host's.
    pub allow: Vec<IpNet>,
    /// Networks that are refused, also where they are allowed or this server's.
    pub deny: Vec<IpNet>,
    /// Addresses of this host, such as those that it listens on. Nothing on them is a peer but relayed addresses.
    pub host: Vec<IpAddr>,
    /// The addresses that relayed transport addresses are on, as peers see them.
    pub relay: Vec<IpAddr>,
    /// The ports of relayed transport addresses.
    pub relay_ports: Option<RangeInclusive<u16>>,
}

impl PeerRule {
    /// Judges a peer's transport address.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, peer: SocketAddr) -> Result<(), Forbidden> {
        self.judge(peer.ip(), Some(peer.port()))
    }

    /// Judges a peer's IP address where the port does not matter yet: of a permission.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_address(&self, peer: IpAddr) -> Result<(), Forbidden> {
        self.judge(peer, None)
    }

    /// Whether relayed transport addresses are on this address.
    #[must_use]
    pub fn is_relay(&self, address: IpAddr) -> bool {
        self.relay.contains(&address)
    }

    fn judge(&self, peer: IpAddr, port: Option<u16>) -> Result<(), Forbidden> {
        let embedded = match peer {
            IpAddr::V6(address) => embedded_ipv4(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let forms = [Some(peer), embedded];
        // Deny beats everything, in each form, before any form can be allowed.
        for form in forms.into_iter().flatten() {
            if contains(&self.deny, form) {
                return Err(Forbidden::Denied);
            }
        }
        // Port zero is no port of anybody.
        if port == Some(0) {
            return Err(Forbidden::PortZero);
        }
        for form in forms.into_iter().flatten() {
            self.judge_form(form, port)?;
        }
        Ok(())
    }

    fn judge_form(&self, form: IpAddr, port: Option<u16>) -> Result<(), Forbidden> {
        if contains(&self.allow, form) {
            return Ok(());
        }
        if self.is_relay(form) {
            let relayed = port.is_none_or(|port| {
                self.relay_ports
                    .as_ref()
                    .is_some_and(|ports| ports.contains(&port))
            });
            return if relayed {
                Ok(())
            } else {
                Err(Forbidden::Host)
            };
        }
        if self.host.contains(&form) {
            return Err(Forbidden::Host);
        }
        match special_purpose(form) {
            Some(name) => Err(Forbidden::Special(name)),
            None => Ok(()),
        }
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forbidden {
    /// The operator denies its network.
    Denied,
    /// It is special in the IANA registries, which call it this.
    Special(&'static str),
    /// It is this host, and not a relayed transport address.
    Host,
    /// Its port is zero.
    PortZero,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the address is in a denied network"),
            Self::Special(name) => write!(
                f,
                "the address is special ({name}); to let clients reach it, allow its network"
            ),
            Self::Host => f.write_str("the address is this server's own and no relayed address"),
            Self::PortZero => f.write_str("a peer cannot have port zero"),
        }
    }
}

impl core::error::Error for Forbidden {}
