//! The attributes of TURN (RFC 8656 section 18, RFC 6062 section 6.2), as messages only.

use core::net::SocketAddr;

use super::check_text;
use crate::address::AddressFamily;
use crate::attribute::{AttributeError, AttributeType};
use crate::builder::{BuildError, MessageBuilder};
use crate::error_code::ErrorCode;
use crate::message::Message;

/// RFC 8656 section 18.7: the flag R of EVEN-PORT.
const RESERVE_NEXT_PORT: u8 = 0x80;

/// Why one address family was not allocated (RFC 8656 section 18.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AddressErrorCode<'a> {
    /// The family that was asked for.
    pub family: AddressFamily,
    /// 440 or 508, and its reason.
    pub error: ErrorCode<'a>,
}

/// An ICMP error that a relay received for a datagram it sent (RFC 8656 section 18.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// The type, of ICMP or ICMPv6 after the family of the peer.
    pub icmp_type: u8,
    /// The code.
    pub code: u8,
    /// The MTU of the next hop in bytes if the datagram was too big, else zero.
    pub error_data: u32,
}

impl<'a> Message<'a> {
    /// CHANNEL-NUMBER.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn channel_number(&self) -> Result<Option<u16>, AttributeError> {
        // RFC 8656 section 18.1: two bytes reserved behind the number are ignored.
        Ok(self
            .read_fixed(AttributeType::CHANNEL_NUMBER)?
            .map(|[high, low, _, _]| u16::from_be_bytes([high, low])))
    }

    /// LIFETIME of the allocation, in seconds.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn lifetime(&self) -> Result<Option<u32>, AttributeError> {
        self.read_u32(AttributeType::LIFETIME)
    }

    /// XOR-PEER-ADDRESS: the peer as the relay sees it; the first of several.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn xor_peer_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_xor_address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// Every XOR-PEER-ADDRESS: CreatePermission may name several.
    pub fn xor_peer_addresses(
        &self,
    ) -> impl Iterator<Item = Result<SocketAddr, AttributeError>> + use<'a> {
        self.read_xor_addresses(AttributeType::XOR_PEER_ADDRESS)
    }

    /// DATA: application data to or from a peer.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.ordinary_value(AttributeType::DATA)
    }

    /// XOR-RELAYED-ADDRESS: the address allocated at the relay; the first of several.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn xor_relayed_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_xor_address(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// Every XOR-RELAYED-ADDRESS: an allocation of both families has two.
    pub fn xor_relayed_addresses(
        &self,
    ) -> impl Iterator<Item = Result<SocketAddr, AttributeError>> + use<'a> {
        self.read_xor_addresses(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// REQUESTED-ADDRESS-FAMILY.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn requested_address_family(&self) -> Result<Option<AddressFamily>, AttributeError> {
        self.read_family(AttributeType::REQUESTED_ADDRESS_FAMILY)
    }

    /// ADDITIONAL-ADDRESS-FAMILY.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn additional_address_family(&self) -> Result<Option<AddressFamily>, AttributeError> {
        self.read_family(AttributeType::ADDITIONAL_ADDRESS_FAMILY)
    }

    /// EVEN-PORT: an even port is wanted, and with `true` the next-higher one reserved.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn even_port(&self) -> Result<Option<bool>, AttributeError> {
        Ok(self
            .read_fixed(AttributeType::EVEN_PORT)?
            .map(|[flags]| flags & RESERVE_NEXT_PORT != 0))
    }

    /// REQUESTED-TRANSPORT: the number of the IP protocol between relay and peer, 17 for UDP.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn requested_transport(&self) -> Result<Option<u8>, AttributeError> {
        Ok(self
            .read_fixed(AttributeType::REQUESTED_TRANSPORT)?
            .map(|[protocol, _, _, _]| protocol))
    }

    /// DONT-FRAGMENT: whether the relay should set the DF bit. The attribute is a flag.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.ordinary_value(AttributeType::DONT_FRAGMENT).is_some()
    }

    /// RESERVATION-TOKEN.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn reservation_token(&self) -> Result<Option<[u8; 8]>, AttributeError> {
        self.read_fixed(AttributeType::RESERVATION_TOKEN)
    }

    /// ADDRESS-ERROR-CODE: the first of several.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn address_error_code(&self) -> Result<Option<AddressErrorCode<'a>>, AttributeError> {
        self.ordinary_value(AttributeType::ADDRESS_ERROR_CODE)
            .map(decode_address_error_code)
            .transpose()
    }

    /// ICMP: why the relay's datagram did not arrive.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn icmp(&self) -> Result<Option<Icmp>, AttributeError> {
        // Figure 11 of RFC 8656 section 18.13 draws type and code with seven and nine bits; they
        // are bytes, as in ICMP, and as implementations write them.
        Ok(self
            .read_fixed(AttributeType::ICMP)?
            .map(|[_, _, icmp_type, code, a, b, c, d]| Icmp {
                icmp_type,
                code,
                error_data: u32::from_be_bytes([a, b, c, d]),
            }))
    }

    /// CONNECTION-ID: a peer's TCP connection at the relay.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn connection_id(&self) -> Result<Option<u32>, AttributeError> {
        self.read_u32(AttributeType::CONNECTION_ID)
    }

    fn read_family(
        &self,
        attribute: AttributeType,
    ) -> Result<Option<AddressFamily>, AttributeError> {
        // RFC 8656 section 18.6: the three bytes behind the family are ignored.
        self.read_fixed(attribute)?
            .map(|[family, _, _, _]| AddressFamily::from_wire(family, attribute))
            .transpose()
    }
}

impl MessageBuilder<'_> {
    /// Adds CHANNEL-NUMBER.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn channel_number(&mut self, channel: u16) -> Result<&mut Self, BuildError> {
        let [high, low] = channel.to_be_bytes();
        self.write_fixed(AttributeType::CHANNEL_NUMBER, [high, low, 0, 0])
    }

    /// Adds LIFETIME in seconds.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn lifetime(&mut self, seconds: u32) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::LIFETIME, seconds.to_be_bytes())
    }

    /// Adds XOR-PEER-ADDRESS; may be called several times.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn xor_peer_address(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_xor_address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    /// Adds DATA.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn data(&mut self, data: &[u8]) -> Result<&mut Self, BuildError> {
        self.append(AttributeType::DATA, data.len())?
            .copy_from_slice(data);
        Ok(self)
    }

    /// Adds XOR-RELAYED-ADDRESS; may be called several times.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn xor_relayed_address(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_xor_address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    /// Adds REQUESTED-ADDRESS-FAMILY.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn requested_address_family(
        &mut self,
        family: AddressFamily,
    ) -> Result<&mut Self, BuildError> {
        self.write_fixed(
            AttributeType::REQUESTED_ADDRESS_FAMILY,
            [family.to_wire(), 0, 0, 0],
        )
    }

    /// Adds ADDITIONAL-ADDRESS-FAMILY.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn additional_address_family(
        &mut self,
        family: AddressFamily,
    ) -> Result<&mut Self, BuildError> {
        self.write_fixed(
            AttributeType::ADDITIONAL_ADDRESS_FAMILY,
            [family.to_wire(), 0, 0, 0],
        )
    }

    /// Adds EVEN-PORT, with `reserve_next` also asking for the next-higher port.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn even_port(&mut self, reserve_next: bool) -> Result<&mut Self, BuildError> {
        let flags = if reserve_next { RESERVE_NEXT_PORT } else { 0 };
        self.write_fixed(AttributeType::EVEN_PORT, [flags])
    }

    /// Adds REQUESTED-TRANSPORT with the number of an IP protocol, 17 for UDP.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn requested_transport(&mut self, protocol: u8) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::REQUESTED_TRANSPORT, [protocol, 0, 0, 0])
    }

    /// Adds DONT-FRAGMENT.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn dont_fragment(&mut self) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::DONT_FRAGMENT, [])
    }

    /// Adds RESERVATION-TOKEN.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn reservation_token(&mut self, token: [u8; 8]) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::RESERVATION_TOKEN, token)
    }

    /// Adds ADDRESS-ERROR-CODE.
    ///
    /// # Errors
    /// A reason of 128 characters or more, no room, or behind the integrity.
    pub fn address_error_code(
        &mut self,
        family: AddressFamily,
        error: ErrorCode<'_>,
    ) -> Result<&mut Self, BuildError> {
        let attribute = AttributeType::ADDRESS_ERROR_CODE;
        check_text(attribute, error.reason())?;
        let value = self.append(attribute, 4 + error.reason().len())?;
        // An ErrorCode is between 300 and 699, so both parts fit.
        let (class, number) = ((error.code() / 100) as u8, (error.code() % 100) as u8);
        value[..4].copy_from_slice(&[family.to_wire(), 0, class, number]);
        value[4..].copy_from_slice(error.reason().as_bytes());
        Ok(self)
    }

    /// Adds ICMP.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn icmp(&mut self, icmp: Icmp) -> Result<&mut Self, BuildError> {
        let [a, b, c, d] = icmp.error_data.to_be_bytes();
        self.write_fixed(
            AttributeType::ICMP,
            [0, 0, icmp.icmp_type, icmp.code, a, b, c, d],
        )
    }

    /// Adds CONNECTION-ID.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn connection_id(&mut self, id: u32) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::CONNECTION_ID, id.to_be_bytes())
    }
}

fn decode_address_error_code(value: &[u8]) -> Result<AddressErrorCode<'_>, AttributeError> {
    let attribute = AttributeType::ADDRESS_ERROR_CODE;
    let [family, _, class, number, reason @ ..] = value else {
        return Err(AttributeError::Length {
            attribute,
            length: value.len(),
        });
    };
    Ok(AddressErrorCode {
        family: AddressFamily::from_wire(*family, attribute)?,
        error: ErrorCode::decode(attribute, *class, *number, reason)?,
    })
}
