//! The attributes of third-party authorization (RFC 7635 section 6) and of mobility (RFC 8016 section 3.3):
//! values that a server or its authorization server made, opaque to everybody else.

use crate::attribute::{AttributeError, AttributeType};
use crate::builder::{BuildError, MessageBuilder};
use crate::message::Message;

impl<'a> Message<'a> {
    /// ACCESS-TOKEN: what an authorization server gave the client.
    #[must_use]
    pub fn access_token(&self) -> Option<&'a [u8]> {
        self.ordinary_value(AttributeType::ACCESS_TOKEN)
    }

    /// THIRD-PARTY-AUTHORIZATION: the name under which authorization servers know the server.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn third_party_authorization(&self) -> Result<Option<&'a str>, AttributeError> {
        let attribute = AttributeType::THIRD_PARTY_AUTHORIZATION;
        self.ordinary_value(attribute)
            .map(|value| {
                core::str::from_utf8(value).map_err(|_| AttributeError::NotUtf8 { attribute })
            })
            .transpose()
    }

    /// MOBILITY-TICKET: empty where a client asks for one.
    #[must_use]
    pub fn mobility_ticket(&self) -> Option<&'a [u8]> {
        self.ordinary_value(AttributeType::MOBILITY_TICKET)
    }
}

impl MessageBuilder<'_> {
    /// Adds ACCESS-TOKEN.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn access_token(&mut self, token: &[u8]) -> Result<&mut Self, BuildError> {
        self.append(AttributeType::ACCESS_TOKEN, token.len())?
            .copy_from_slice(token);
        Ok(self)
    }

    /// Adds THIRD-PARTY-AUTHORIZATION.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn third_party_authorization(&mut self, name: &str) -> Result<&mut Self, BuildError> {
        self.append(AttributeType::THIRD_PARTY_AUTHORIZATION, name.len())?
            .copy_from_slice(name.as_bytes());
        Ok(self)
    }

    /// Adds MOBILITY-TICKET; an empty one asks for a ticket.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn mobility_ticket(&mut self, ticket: &[u8]) -> Result<&mut Self, BuildError> {
        self.append(AttributeType::MOBILITY_TICKET, ticket.len())?
            .copy_from_slice(ticket);
        Ok(self)
    }
}
