//! The typed attributes: how each is read from a [`Message`] and written by a [`MessageBuilder`],
//! side by side, one file per group of RFCs.
//!
//! Every reader returns `Ok(None)` if the attribute is absent and an error if it is malformed, and
//! reads the first of several (RFC 8489 section 14).

mod authorization;
mod behavior;
mod ice;
mod stun;
mod turn;

pub use behavior::ChangeRequest;
pub use stun::{PasswordAlgorithm, PasswordAlgorithms, UnknownAttributes};
pub use turn::{AddressErrorCode, Icmp};

use core::net::SocketAddr;

use crate::address::{self, MAX_ADDRESS_LENGTH};
use crate::attribute::{AttributeError, AttributeType};
use crate::builder::{BuildError, MessageBuilder};
use crate::message::Message;

/// The longest text that a receiver has to take (RFC 8489 section 14.3, and those of other texts).
const MAX_TEXT_LENGTH_RECEIVED: usize = 763;
/// The longest text that a sender may send, in bytes.
const MAX_TEXT_LENGTH_SENT: usize = 509;
/// A text that is not a user name has fewer characters than this.
const MAX_TEXT_CHARACTERS: usize = 128;

impl<'a> Message<'a> {
    fn read_fixed<const LENGTH: usize>(
        &self,
        attribute: AttributeType,
    ) -> Result<Option<[u8; LENGTH]>, AttributeError> {
        let Some(value) = self.ordinary_value(attribute) else {
            return Ok(None);
        };
        match value.try_into() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(AttributeError::Length {
                attribute,
                length: value.len(),
            }),
        }
    }

    fn read_u32(&self, attribute: AttributeType) -> Result<Option<u32>, AttributeError> {
        Ok(self.read_fixed(attribute)?.map(u32::from_be_bytes))
    }

    fn read_u64(&self, attribute: AttributeType) -> Result<Option<u64>, AttributeError> {
        Ok(self.read_fixed(attribute)?.map(u64::from_be_bytes))
    }

    fn read_text(
        &self,
        attribute: AttributeType,
        longest: usize,
    ) -> Result<Option<&'a str>, AttributeError> {
        let Some(value) = self.ordinary_value(attribute) else {
            return Ok(None);
        };
        if value.len() > longest {
            return Err(AttributeError::Length {
                attribute,
                length: value.len(),
            });
        }
        match core::str::from_utf8(value) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(AttributeError::NotUtf8 { attribute }),
        }
    }

    fn read_address(&self, attribute: AttributeType) -> Result<Option<SocketAddr>, AttributeError> {
        self.ordinary_value(attribute)
            .map(|value| address::decode(attribute, value))
            .transpose()
    }

    fn read_xor_address(
        &self,
        attribute: AttributeType,
    ) -> Result<Option<SocketAddr>, AttributeError> {
        let hidden = self.read_address(attribute)?;
        Ok(hidden.map(|hidden| address::xor(hidden, self.transaction_id())))
    }

    /// All addresses of one type, for the attributes that may occur several times.
    fn read_xor_addresses(
        &self,
        attribute: AttributeType,
    ) -> impl Iterator<Item = Result<SocketAddr, AttributeError>> + use<'a> {
        let id = self.transaction_id();
        self.ordinary_attributes()
            .filter(move |raw| raw.attribute_type == attribute)
            .map(move |raw| Ok(address::xor(address::decode(attribute, raw.value)?, id)))
    }
}

impl MessageBuilder<'_> {
    fn write_fixed<const LENGTH: usize>(
        &mut self,
        attribute: AttributeType,
        value: [u8; LENGTH],
    ) -> Result<&mut Self, BuildError> {
        self.append(attribute, LENGTH)?.copy_from_slice(&value);
        Ok(self)
    }

    /// A text of fewer than 128 characters and at most 509 bytes.
    fn write_text(
        &mut self,
        attribute: AttributeType,
        text: &str,
    ) -> Result<&mut Self, BuildError> {
        check_text(attribute, text)?;
        self.append(attribute, text.len())?
            .copy_from_slice(text.as_bytes());
        Ok(self)
    }

    fn write_address(
        &mut self,
        attribute: AttributeType,
        address: SocketAddr,
    ) -> Result<&mut Self, BuildError> {
        let mut value = [0; MAX_ADDRESS_LENGTH];
        let length = address::encode(address, &mut value);
        self.append(attribute, length)?
            .copy_from_slice(&value[..length]);
        Ok(self)
    }

    fn write_xor_address(
        &mut self,
        attribute: AttributeType,
        address: SocketAddr,
    ) -> Result<&mut Self, BuildError> {
        self.write_address(attribute, address::xor(address, self.transaction_id()))
    }
}

fn check_text(attribute: AttributeType, text: &str) -> Result<(), BuildError> {
    let fits = text.len() < MAX_TEXT_CHARACTERS
        || (text.len() <= MAX_TEXT_LENGTH_SENT && text.chars().count() < MAX_TEXT_CHARACTERS);
    if fits {
        Ok(())
    } else {
        Err(BuildError::ValueTooLong { attribute })
    }
}
