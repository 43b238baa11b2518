//! The attributes of STUN itself (RFC 8489 section 14); those about integrity are in
//! [`integrity`](crate::integrity) and [`message`](crate::message).

use core::net::SocketAddr;

use super::{MAX_TEXT_LENGTH_RECEIVED, check_text};
use crate::attribute::{
    ATTRIBUTE_HEADER_LENGTH, AttributeError, AttributeType, TlvIterator, padded,
};
use crate::builder::{BuildError, MessageBuilder};
use crate::error_code::ErrorCode;
use crate::message::Message;

/// RFC 8489 section 14.3: a user name has fewer than 509 bytes when it is sent.
const USERNAME_LIMIT: usize = 509;
/// RFC 8489 section 14.16: an ALTERNATE-DOMAIN has at most 255 characters.
const MAX_DOMAIN_LENGTH: usize = 255;

impl<'a> Message<'a> {
    /// MAPPED-ADDRESS: the client's reflexive address, in the clear, for clients of RFC 3489.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn mapped_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_address(AttributeType::MAPPED_ADDRESS)
    }

    /// XOR-MAPPED-ADDRESS: the client's reflexive address.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn xor_mapped_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_xor_address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    /// USERNAME: whose password protects the message.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn username(&self) -> Result<Option<&'a str>, AttributeError> {
        self.read_text(AttributeType::USERNAME, MAX_TEXT_LENGTH_RECEIVED)
    }

    /// USERHASH: the user's name and realm, hashed; see [`userhash`](crate::userhash).
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn userhash(&self) -> Result<Option<[u8; 32]>, AttributeError> {
        self.read_fixed(AttributeType::USERHASH)
    }

    /// ERROR-CODE: why the request failed.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn error_code(&self) -> Result<Option<ErrorCode<'a>>, AttributeError> {
        let attribute = AttributeType::ERROR_CODE;
        match self.ordinary_value(attribute) {
            None => Ok(None),
            Some([_, _, class, number, reason @ ..]) => {
                ErrorCode::decode(attribute, *class, *number, reason).map(Some)
            }
            Some(value) => Err(AttributeError::Length {
                attribute,
                length: value.len(),
            }),
        }
    }

    /// REALM: where the user is known.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn realm(&self) -> Result<Option<&'a str>, AttributeError> {
        self.read_text(AttributeType::REALM, MAX_TEXT_LENGTH_RECEIVED)
    }

    /// NONCE: the server's token against replay; see [`SecurityFeatures`](crate::SecurityFeatures)
    /// for what its start may say.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn nonce(&self) -> Result<Option<&'a str>, AttributeError> {
        self.read_text(AttributeType::NONCE, MAX_TEXT_LENGTH_RECEIVED)
    }

    /// PASSWORD-ALGORITHMS: how the server can derive keys from passwords, the best first.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn password_algorithms(&self) -> Result<Option<PasswordAlgorithms<'a>>, AttributeError> {
        let attribute = AttributeType::PASSWORD_ALGORITHMS;
        self.ordinary_value(attribute)
            .map(|value| PasswordAlgorithms::decode(attribute, value))
            .transpose()
    }

    /// PASSWORD-ALGORITHM: how the client derived its key from the password.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn password_algorithm(&self) -> Result<Option<PasswordAlgorithm<'a>>, AttributeError> {
        let attribute = AttributeType::PASSWORD_ALGORITHM;
        let Some(value) = self.ordinary_value(attribute) else {
            return Ok(None);
        };
        let mut list = PasswordAlgorithms::decode(attribute, value)?;
        match (list.next(), list.next()) {
            (Some(only), None) => Ok(Some(only)),
            _ => Err(AttributeError::Structure { attribute }),
        }
    }

    /// UNKNOWN-ATTRIBUTES: the types that the server did not understand.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn unknown_attributes(&self) -> Result<Option<UnknownAttributes<'a>>, AttributeError> {
        let attribute = AttributeType::UNKNOWN_ATTRIBUTES;
        match self.ordinary_value(attribute) {
            None => Ok(None),
            Some(value) if value.len().is_multiple_of(2) => {
                Ok(Some(UnknownAttributes { rest: value }))
            }
            Some(value) => Err(AttributeError::Length {
                attribute,
                length: value.len(),
            }),
        }
    }

    /// SOFTWARE: the sender's product and version, for people.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn software(&self) -> Result<Option<&'a str>, AttributeError> {
        self.read_text(AttributeType::SOFTWARE, MAX_TEXT_LENGTH_RECEIVED)
    }

    /// ALTERNATE-SERVER: the server to ask instead. RFC 8489 section 14.8: follow it only from an
    /// authenticated 300 response.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn alternate_server(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.read_address(AttributeType::ALTERNATE_SERVER)
    }

    /// ALTERNATE-DOMAIN: the name to verify the alternate server's certificate against.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn alternate_domain(&self) -> Result<Option<&'a str>, AttributeError> {
        let attribute = AttributeType::ALTERNATE_DOMAIN;
        match self.read_text(attribute, MAX_DOMAIN_LENGTH)? {
            // RFC 8489 section 14.16: "255 or fewer ASCII characters".
            Some(domain) if !domain.is_ascii() => Err(AttributeError::Structure { attribute }),
            domain => Ok(domain),
        }
    }
}

impl MessageBuilder<'_> {
    /// Adds MAPPED-ADDRESS.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn mapped_address(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_address(AttributeType::MAPPED_ADDRESS, address)
    }

    /// Adds XOR-MAPPED-ADDRESS.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn xor_mapped_address(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_xor_address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    /// Adds USERNAME, to which [`opaque_string`](crate::opaque_string) has been applied.
    ///
    /// # Errors
    /// 509 bytes or more, no room, or behind the integrity.
    pub fn username(&mut self, username: &str) -> Result<&mut Self, BuildError> {
        let attribute = AttributeType::USERNAME;
        if username.len() >= USERNAME_LIMIT {
            return Err(BuildError::ValueTooLong { attribute });
        }
        self.append(attribute, username.len())?
            .copy_from_slice(username.as_bytes());
        Ok(self)
    }

    /// Adds the USERNAME `first:second`, as ICE composes it (RFC 8445 section 7.2.2).
    ///
    /// # Errors
    /// 509 bytes or more, no room, or behind the integrity.
    pub fn username_pair(&mut self, first: &str, second: &str) -> Result<&mut Self, BuildError> {
        let attribute = AttributeType::USERNAME;
        let length = first.len().saturating_add(1).saturating_add(second.len());
        if length >= USERNAME_LIMIT {
            return Err(BuildError::ValueTooLong { attribute });
        }
        let value = self.append(attribute, length)?;
        let (head, tail) = value.split_at_mut(first.len());
        head.copy_from_slice(first.as_bytes());
        tail[0] = b':';
        tail[1..].copy_from_slice(second.as_bytes());
        Ok(self)
    }

    /// Adds USERHASH.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn userhash(&mut self, hash: &[u8; 32]) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::USERHASH, *hash)
    }

    /// Adds ERROR-CODE with a code from 300 to 699.
    ///
    /// # Errors
    /// Another code, a reason of 128 characters or more, no room, or behind the integrity.
    pub fn error_code(&mut self, code: u16, reason: &str) -> Result<&mut Self, BuildError> {
        let attribute = AttributeType::ERROR_CODE;
        // RFC 8489 section 14.8: the class is between 3 and 6.
        if !(300..=699).contains(&code) {
            return Err(BuildError::InvalidValue { attribute });
        }
        check_text(attribute, reason)?;
        let value = self.append(attribute, 4 + reason.len())?;
        // Both fit: the code is below 700.
        value[..4].copy_from_slice(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
        value[4..].copy_from_slice(reason.as_bytes());
        Ok(self)
    }

    /// Adds ERROR-CODE from a code and reason held together, such as [`ErrorCode::ROLE_CONFLICT`].
    ///
    /// # Errors
    /// A reason of 128 characters or more, no room, or behind the integrity.
    pub fn error(&mut self, error: ErrorCode<'_>) -> Result<&mut Self, BuildError> {
        self.error_code(error.code(), error.reason())
    }

    /// Adds REALM, to which [`opaque_string`](crate::opaque_string) has been applied.
    ///
    /// # Errors
    /// 128 characters or more, no room, or behind the integrity.
    pub fn realm(&mut self, realm: &str) -> Result<&mut Self, BuildError> {
        self.write_text(AttributeType::REALM, realm)
    }

    /// Adds NONCE.
    ///
    /// # Errors
    /// 128 characters or more, no room, or behind the integrity.
    pub fn nonce(&mut self, nonce: &str) -> Result<&mut Self, BuildError> {
        self.write_text(AttributeType::NONCE, nonce)
    }

    /// Adds PASSWORD-ALGORITHMS, the best first. A client that returns the server's list copies
    /// its value with [`raw`](Self::raw) instead.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn password_algorithms(
        &mut self,
        algorithms: &[PasswordAlgorithm<'_>],
    ) -> Result<&mut Self, BuildError> {
        self.write_password_algorithms(AttributeType::PASSWORD_ALGORITHMS, algorithms)
    }

    /// Adds PASSWORD-ALGORITHM.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn password_algorithm(
        &mut self,
        algorithm: PasswordAlgorithm<'_>,
    ) -> Result<&mut Self, BuildError> {
        self.write_password_algorithms(AttributeType::PASSWORD_ALGORITHM, &[algorithm])
    }

    /// Adds UNKNOWN-ATTRIBUTES.
    ///
    /// # Errors
    /// Too long for a message, no room, or behind the integrity.
    pub fn unknown_attributes(&mut self, types: &[u16]) -> Result<&mut Self, BuildError> {
        let value = self.append(
            AttributeType::UNKNOWN_ATTRIBUTES,
            types.len().saturating_mul(2),
        )?;
        for (place, attribute_type) in value.chunks_exact_mut(2).zip(types) {
            place.copy_from_slice(&attribute_type.to_be_bytes());
        }
        Ok(self)
    }

    /// Adds SOFTWARE.
    ///
    /// # Errors
    /// 128 characters or more, no room, or behind the integrity.
    pub fn software(&mut self, software: &str) -> Result<&mut Self, BuildError> {
        self.write_text(AttributeType::SOFTWARE, software)
    }

    /// Adds ALTERNATE-SERVER.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn alternate_server(&mut self, address: SocketAddr) -> Result<&mut Self, BuildError> {
        self.write_address(AttributeType::ALTERNATE_SERVER, address)
    }

    /// Adds ALTERNATE-DOMAIN, a DNS name in ASCII (with A-labels).
    ///
    /// # Errors
    /// More than 255 bytes, not ASCII, no room, or behind the integrity.
    pub fn alternate_domain(&mut self, domain: &str) -> Result<&mut Self, BuildError> {
        let attribute = AttributeType::ALTERNATE_DOMAIN;
        if domain.len() > MAX_DOMAIN_LENGTH {
            return Err(BuildError::ValueTooLong { attribute });
        }
        if !domain.is_ascii() {
            return Err(BuildError::InvalidValue { attribute });
        }
        self.append(attribute, domain.len())?
            .copy_from_slice(domain.as_bytes());
        Ok(self)
    }

    fn write_password_algorithms(
        &mut self,
        attribute: AttributeType,
        algorithms: &[PasswordAlgorithm<'_>],
    ) -> Result<&mut Self, BuildError> {
        let mut length = 0_usize;
        for algorithm in algorithms {
            let parameters = algorithm.parameters.len();
            if parameters > usize::from(u16::MAX) {
                return Err(BuildError::ValueTooLong { attribute });
            }
            length = length.saturating_add(ATTRIBUTE_HEADER_LENGTH + padded(parameters));
        }
        let mut rest = self.append(attribute, length)?;
        for algorithm in algorithms {
            let parameters = algorithm.parameters;
            let (entry, tail) =
                rest.split_at_mut(ATTRIBUTE_HEADER_LENGTH + padded(parameters.len()));
            entry[..2].copy_from_slice(&algorithm.number.to_be_bytes());
            // Bounded by the check above.
            entry[2..4].copy_from_slice(&(parameters.len() as u16).to_be_bytes());
            let (value, padding) = entry[4..].split_at_mut(parameters.len());
            value.copy_from_slice(parameters);
            padding.fill(0);
            rest = tail;
        }
        Ok(self)
    }
}

/// A way to derive a key from a password, with its parameters (RFC 8489 section 14.12, RFC 8489 section 18.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PasswordAlgorithm<'a> {
    /// The number in the registry.
    pub number: u16,
    /// The parameters, empty for both algorithms defined so far.
    pub parameters: &'a [u8],
}

impl<'a> PasswordAlgorithm<'a> {
    /// MD5: see [`Key::long_term_md5`](crate::Key::long_term_md5).
    pub const MD5: Self = Self {
        number: 0x0001,
        parameters: &[],
    };
    /// SHA-256: see [`Key::long_term_sha256`](crate::Key::long_term_sha256).
    pub const SHA_256: Self = Self {
        number: 0x0002,
        parameters: &[],
    };

    /// An algorithm of any number.
    #[must_use]
    pub const fn new(number: u16, parameters: &'a [u8]) -> Self {
        Self { number, parameters }
    }
}

/// The entries of PASSWORD-ALGORITHMS, in the server's order of preference.
#[derive(Clone, Debug)]
pub struct PasswordAlgorithms<'a> {
    entries: TlvIterator<'a>,
}

impl<'a> PasswordAlgorithms<'a> {
    fn decode(attribute: AttributeType, value: &'a [u8]) -> Result<Self, AttributeError> {
        // Entries have the form of attributes, padding included. A last entry without its padding
        // would be cut short by the iterator, so the sum is checked here.
        let entries = TlvIterator::new(value);
        let length: usize = entries
            .clone()
            .map(|entry| ATTRIBUTE_HEADER_LENGTH + padded(entry.value.len()))
            .sum();
        if length == value.len() {
            Ok(Self { entries })
        } else {
            Err(AttributeError::Structure { attribute })
        }
    }
}

impl<'a> Iterator for PasswordAlgorithms<'a> {
    type Item = PasswordAlgorithm<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(PasswordAlgorithm {
            number: entry.attribute_type.0,
            parameters: entry.value,
        })
    }
}

/// The types in UNKNOWN-ATTRIBUTES.
#[derive(Clone, Debug)]
pub struct UnknownAttributes<'a> {
    rest: &'a [u8],
}

impl Iterator for UnknownAttributes<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let (first, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*first))
    }
}
