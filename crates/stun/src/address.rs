//! Transport addresses in attributes, plain and XORed (RFC 8489 sections 14.1, 14.2 and 14.15).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::attribute::{AttributeError, AttributeType};
use crate::header::{MAGIC_COOKIE, TransactionId};

/// The longest value of an address attribute, in bytes.
pub(crate) const MAX_ADDRESS_LENGTH: usize = 20;

/// The address families of STUN (RFC 8489 section 14.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressFamily {
    /// 0x01.
    Ipv4,
    /// 0x02.
    Ipv6,
}

impl AddressFamily {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Ipv4 => 0x01,
            Self::Ipv6 => 0x02,
        }
    }

    pub(crate) const fn from_wire(
        family: u8,
        attribute: AttributeType,
    ) -> Result<Self, AttributeError> {
        match family {
            0x01 => Ok(Self::Ipv4),
            0x02 => Ok(Self::Ipv6),
            _ => Err(AttributeError::AddressFamily { attribute, family }),
        }
    }
}

/// Reads a MAPPED-ADDRESS.
pub(crate) fn decode(attribute: AttributeType, value: &[u8]) -> Result<SocketAddr, AttributeError> {
    let wrong_length = AttributeError::Length {
        attribute,
        length: value.len(),
    };
    // RFC 8489 section 14.1: the first byte is zero and ignored by receivers.
    let Some(([_, family, port_high, port_low], address)) = value.split_first_chunk::<4>() else {
        return Err(wrong_length);
    };
    let port = u16::from_be_bytes([*port_high, *port_low]);
    let address = match AddressFamily::from_wire(*family, attribute)? {
        AddressFamily::Ipv4 => {
            let octets: [u8; 4] = address.try_into().map_err(|_| wrong_length)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        AddressFamily::Ipv6 => {
            let octets: [u8; 16] = address.try_into().map_err(|_| wrong_length)?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    };
    Ok(SocketAddr::new(address, port))
}

/// Writes a MAPPED-ADDRESS and returns the bytes used of `value`.
pub(crate) fn encode(address: SocketAddr, value: &mut [u8; MAX_ADDRESS_LENGTH]) -> usize {
    value[0] = 0;
    value[1] = AddressFamily::of(address.ip()).to_wire();
    value[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[4..20].copy_from_slice(&ip.octets());
            20
        }
    }
}

/// Hides an address from NATs that rewrite what looks like one, or shows it again.
pub(crate) fn xor(address: SocketAddr, id: TransactionId) -> SocketAddr {
    // RFC 8489 section 14.2: the port with the upper half of the cookie, the address with the
    // cookie and, for IPv6, the transaction id behind it.
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(id.as_bytes());
            IpAddr::V6(Ipv6Addr::from_bits(
                ip.to_bits() ^ u128::from_be_bytes(mask),
            ))
        }
    };
    SocketAddr::new(ip, port)
}
