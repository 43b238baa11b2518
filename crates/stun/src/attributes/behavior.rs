//! The attributes of NAT behavior discovery (RFC 5780 section 7).

use core::net::SocketAddr;

use crate::attribute::{ATTRIBUTE_HEADER_LENGTH, AttributeError, AttributeType};
use crate::builder::{BuildError, MessageBuilder};
use crate::message::Message;

const CHANGE_IP: u32 = 0x0000_0004;
const CHANGE_PORT: u32 = 0x0000_0002;

/// From where a server is asked to respond (RFC 5780 section 7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChangeRequest {
    /// From another IP address than the one the request came to.
    pub change_ip: bool,
    /// From another port than the one the request came to.
    pub change_port: bool,
}

impl<'a> Message<'a> {
    /// CHANGE-REQUEST: from where the client wants the response to come.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn change_request(&self) -> Result<Option<ChangeRequest>, AttributeError> {
        Ok(self
            .read_u32(AttributeType::CHANGE_REQUEST)?
            .map(|flags| ChangeRequest {
                change_ip: flags & CHANGE_IP != 0,
                change_port: flags & CHANGE_PORT != 0,
            }))
    }

    /// RESPONSE-ORIGIN: from where the server sent this response.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn response_origin(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_address(AttributeType::RESPONSE_ORIGIN)
    }

    /// OTHER-ADDRESS: from where a response with both flags of CHANGE-REQUEST would come.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn other_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_address(AttributeType::OTHER_ADDRESS)
    }

    /// RESPONSE-PORT: the port to which the client wants the response.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn response_port(&self) -> Result<Option<u16>, AttributeError> {
        // RFC 5780 section 7.5 counts two bytes of padding to the definition: senders write a
        // length of two or of four.
        let attribute = AttributeType::RESPONSE_PORT;
        match self.ordinary_value(attribute) {
            None => Ok(None),
            Some(&([high, low] | [high, low, _, _])) => Ok(Some(u16::from_be_bytes([high, low]))),
            Some(value) => Err(AttributeError::Length {
                attribute,
                length: value.len(),
            }),
        }
    }

    /// PADDING: bytes without meaning that make the message longer than the path's MTU.
    #[must_use]
    pub fn padding(&self) -> Option<&'a [u8]> {
        self.ordinary_value(AttributeType::PADDING)
    }
}

impl MessageBuilder<'_> {
    /// Adds CHANGE-REQUEST.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn change_request(&mut self, change: ChangeRequest) -> Result<&mut Self, BuildError> {
        let ip = if change.change_ip { CHANGE_IP } else { 0 };
        let port = if change.change_port { CHANGE_PORT } else { 0 };
        self.write_fixed(AttributeType::CHANGE_REQUEST, (ip | port).to_be_bytes())
    }

    /// Adds RESPONSE-ORIGIN.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn response_origin(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_address(AttributeType::RESPONSE_ORIGIN, address)
    }

    /// Adds OTHER-ADDRESS.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn other_address(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_address(AttributeType::OTHER_ADDRESS, address)
    }

    /// Adds RESPONSE-PORT.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn response_port(&mut self, port: u16) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::RESPONSE_PORT, port.to_be_bytes())
    }

    /// Adds PADDING for a probe of the path (RFC 8899 section 4.1): as long as the buffer has room for, but for so many bytes for what follows, such as the integrity. Both
    /// are counted in steps of four bytes.
    ///
    /// # Errors
    /// As of [`padding`](Self::padding).
    pub fn padding_before(&mut self, reserved: usize) -> Result<&mut Self, BuildError> {
        let room = self.room().saturating_sub(reserved) & !3;
        let length = room
            .checked_sub(ATTRIBUTE_HEADER_LENGTH)
            .ok_or(BuildError::BufferTooSmall)?;
        self.padding(length)
    }

    /// Adds PADDING of `length` zero bytes.
    ///
    /// # Errors
    /// No room, too long for a message, or behind the integrity.
    pub fn padding(&mut self, length: usize) -> Result<&mut Self, BuildError> {
        self.append(AttributeType::PADDING, length)?.fill(0);
        Ok(self)
    }
}
