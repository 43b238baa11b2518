//! Writing a message into the caller's buffer (RFC 8489 sections 5, 6.1 and 14).

use core::fmt;

use crate::attribute::{ATTRIBUTE_HEADER_LENGTH, AttributeType, padded};
use crate::header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, join_message_type};
use crate::integrity::{
    Covered, IntegrityAlgorithm, Key, SHA1_LENGTH, SHA256_LENGTH, SHA256_MINIMUM_LENGTH,
};
use crate::message::fingerprint_of;

/// The longest message: a header and what its 16-bit length field can count in steps of four.
const MAX_MESSAGE_LENGTH: usize = HEADER_LENGTH + 0xFFFC;

/// Length of the value of FINGERPRINT in bytes.
const FINGERPRINT_LENGTH: usize = 4;

/// Writes one message into a borrowed buffer, attribute by attribute, without an allocation.
///
/// Every method writes its attribute at once, so the order of calls is the order on the wire:
/// first what the message says, then [`message_integrity`](Self::message_integrity),
/// [`message_integrity_sha256`](Self::message_integrity_sha256),
/// [`fingerprint`](Self::fingerprint). A method that fails leaves the message as it was.
///
/// ```
/// use nilas_stun::{Class, Fingerprint, Key, Message, MessageBuilder, Method, TransactionId};
///
/// let key = Key::short_term("VOkJxbRl1RmTxUk/WvJxBt")?;
/// let mut buffer = [0; 128];
/// let id = TransactionId::new(*b"not so randm");
/// let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)?;
/// builder
///     .username_pair("evtj", "h6vY")?
///     .priority(1_845_494_271)?
///     .ice_controlled(0x932f_f9b1_5126_3b36)?
///     .message_integrity(&key)?
///     .fingerprint()?;
/// let length = builder.finish();
///
/// let message = Message::parse(&buffer[..length])?;
/// assert_eq!(message.fingerprint(), Fingerprint::Valid);
/// let request = message.authenticate(&key)?;
/// assert_eq!(request.username()?, Some("evtj:h6vY"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MessageBuilder<'b> {
    buffer: &'b mut [u8],
    length: usize,
    id: TransactionId,
    stage: Stage,
}

/// How far the message has come; attributes about integrity have a fixed order at its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Attributes,
    MessageIntegrity,
    MessageIntegritySha256,
    Fingerprint,
}

impl<'b> MessageBuilder<'b> {
    /// Begins a message at the start of `buffer`.
    ///
    /// # Errors
    /// [`BuildError::BufferTooSmall`] below 20 bytes.
    pub fn new(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        id: TransactionId,
    ) -> Result<Self, BuildError> {
        let header = buffer
            .first_chunk_mut::<HEADER_LENGTH>()
            .ok_or(BuildError::BufferTooSmall)?;
        header[..2].copy_from_slice(&join_message_type(class, method).to_be_bytes());
        header[2..4].copy_from_slice(&[0, 0]);
        header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        header[8..].copy_from_slice(id.as_bytes());
        Ok(Self {
            buffer,
            length: HEADER_LENGTH,
            id,
            stage: Stage::Attributes,
        })
    }

    /// Adds an attribute of any type with the value as given: for attributes that this crate does
    /// not know, or values echoed as they came.
    ///
    /// # Errors
    /// [`BuildError::InvalidValue`] for the three attributes about integrity, which have methods of
    /// their own; otherwise as every method: no room, too long, behind the integrity.
    pub fn raw(
        &mut self,
        attribute_type: impl Into<AttributeType>,
        value: &[u8],
    ) -> Result<&mut Self, BuildError> {
        let attribute = attribute_type.into();
        if matches!(
            attribute,
            AttributeType::MESSAGE_INTEGRITY
                | AttributeType::MESSAGE_INTEGRITY_SHA256
                | AttributeType::FINGERPRINT
        ) {
            return Err(BuildError::InvalidValue { attribute });
        }
        self.append(attribute, value.len())?.copy_from_slice(value);
        Ok(self)
    }

    /// Adds MESSAGE-INTEGRITY over all that has been written.
    ///
    /// # Errors
    /// [`BuildError::OutOfOrder`] if it or one that follows it is there already; no room; too long.
    pub fn message_integrity(&mut self, key: &Key) -> Result<&mut Self, BuildError> {
        self.advance_from(Stage::MessageIntegrity)?;
        let (before, value) = self.append_last(
            AttributeType::MESSAGE_INTEGRITY,
            SHA1_LENGTH,
            Stage::MessageIntegrity,
        )?;
        value.copy_from_slice(&key.hmac_sha1(Covered::new(before, SHA1_LENGTH)));
        Ok(self)
    }

    /// Adds MESSAGE-INTEGRITY-SHA256 over all that has been written, truncated to
    /// `truncated_length` bytes: 32 unless the usage allows less.
    ///
    /// # Errors
    /// [`BuildError::InvalidValue`] if the length is not 16 to 32 and a multiple of four;
    /// [`BuildError::KeyWithoutSha256`]; [`BuildError::OutOfOrder`]; no room; too long.
    pub fn message_integrity_sha256(
        &mut self,
        key: &Key,
        truncated_length: usize,
    ) -> Result<&mut Self, BuildError> {
        const ATTRIBUTE: AttributeType = AttributeType::MESSAGE_INTEGRITY_SHA256;
        // RFC 8489 section 14.6: at least 16 bytes, at most 32, a multiple of four.
        if !(SHA256_MINIMUM_LENGTH..=SHA256_LENGTH).contains(&truncated_length)
            || !truncated_length.is_multiple_of(4)
        {
            return Err(BuildError::InvalidValue {
                attribute: ATTRIBUTE,
            });
        }
        if !key.has_sha256() {
            return Err(BuildError::KeyWithoutSha256);
        }
        self.advance_from(Stage::MessageIntegritySha256)?;
        let (before, value) =
            self.append_last(ATTRIBUTE, truncated_length, Stage::MessageIntegritySha256)?;
        let hmac = key
            .hmac_sha256(Covered::new(before, truncated_length))
            .ok_or(BuildError::KeyWithoutSha256)?;
        value.copy_from_slice(&hmac[..truncated_length]);
        Ok(self)
    }

    /// Adds the integrity attribute of `algorithm` at its full length: what a response does, which
    /// must use the algorithm of its request (RFC 8489 section 9.1.3).
    ///
    /// # Errors
    /// As the method of the attribute.
    pub fn integrity(
        &mut self,
        key: &Key,
        algorithm: IntegrityAlgorithm,
    ) -> Result<&mut Self, BuildError> {
        match algorithm {
            IntegrityAlgorithm::Sha1 => self.message_integrity(key),
            IntegrityAlgorithm::Sha256 => self.message_integrity_sha256(key, SHA256_LENGTH),
        }
    }

    /// Adds FINGERPRINT over all that has been written; nothing can follow it.
    ///
    /// # Errors
    /// [`BuildError::OutOfOrder`] if it is there already; no room; too long.
    pub fn fingerprint(&mut self) -> Result<&mut Self, BuildError> {
        self.advance_from(Stage::Fingerprint)?;
        let end = self.length + ATTRIBUTE_HEADER_LENGTH + FINGERPRINT_LENGTH;
        let (before, value) = self.append_last(
            AttributeType::FINGERPRINT,
            FINGERPRINT_LENGTH,
            Stage::Fingerprint,
        )?;
        // RFC 8489 section 14.7: the CRC covers the length field, with FINGERPRINT counted.
        write_length(before, end);
        value.copy_from_slice(&fingerprint_of(before).to_be_bytes());
        Ok(self)
    }

    /// Completes the header and returns the length of the message in bytes.
    #[must_use = "the message is the first so many bytes of the buffer"]
    pub fn finish(self) -> usize {
        write_length(self.buffer, self.length);
        self.length
    }

    /// The id of the message, with which XOR addresses are hidden.
    pub(crate) const fn transaction_id(&self) -> TransactionId {
        self.id
    }

    /// The bytes of the buffer that are not written yet.
    pub(crate) const fn room(&self) -> usize {
        self.buffer.len() - self.length
    }

    /// Adds the header and padding of an ordinary attribute and returns the room for its value.
    #[inline]
    pub(crate) fn append(
        &mut self,
        attribute: AttributeType,
        value_length: usize,
    ) -> Result<&mut [u8], BuildError> {
        // RFC 8489 section 9: receivers ignore what stands behind the integrity.
        if self.stage != Stage::Attributes {
            return Err(BuildError::OutOfOrder);
        }
        let (_, value) = self.append_last(attribute, value_length, Stage::Attributes)?;
        Ok(value)
    }

    /// Adds the header and padding of an attribute; returns the message before it and the room for
    /// its value.
    #[inline]
    fn append_last(
        &mut self,
        attribute: AttributeType,
        value_length: usize,
        stage: Stage,
    ) -> Result<(&mut [u8], &mut [u8]), BuildError> {
        let start = self.length;
        if value_length > MAX_MESSAGE_LENGTH {
            return Err(BuildError::MessageTooLong);
        }
        let end = start + ATTRIBUTE_HEADER_LENGTH + padded(value_length);
        if end > MAX_MESSAGE_LENGTH {
            return Err(BuildError::MessageTooLong);
        }
        let message = self
            .buffer
            .get_mut(..end)
            .ok_or(BuildError::BufferTooSmall)?;
        let (before, tlv) = message.split_at_mut(start);
        let (header, value) = tlv
            .split_first_chunk_mut::<ATTRIBUTE_HEADER_LENGTH>()
            .ok_or(BuildError::BufferTooSmall)?;
        header[..2].copy_from_slice(&attribute.0.to_be_bytes());
        // Bounded by the check above, the length fits into its 16 bits.
        header[2..].copy_from_slice(&(value_length as u16).to_be_bytes());
        let (value, padding) = value.split_at_mut(value_length);
        // RFC 8489 section 14: "The padding bits MUST be set to zero on sending".
        for byte in padding {
            *byte = 0;
        }
        self.length = end;
        self.stage = stage;
        Ok((before, value))
    }

    /// Whether `stage` may come next.
    fn advance_from(&self, stage: Stage) -> Result<(), BuildError> {
        if self.stage < stage {
            Ok(())
        } else {
            Err(BuildError::OutOfOrder)
        }
    }
}

fn write_length(message: &mut [u8], end: usize) {
    // `end` is at most MAX_MESSAGE_LENGTH, so the difference fits.
    message[2..4].copy_from_slice(&((end - HEADER_LENGTH) as u16).to_be_bytes());
}

/// Why a message cannot be written as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The buffer has no room for the attribute.
    BufferTooSmall,
    /// The message would be longer than its length field can count.
    MessageTooLong,
    /// The attribute may not follow the integrity or FINGERPRINT attribute that is there already.
    OutOfOrder,
    /// The value is longer than the definition of the attribute allows.
    ValueTooLong {
        /// The attribute.
        attribute: AttributeType,
    },
    /// The value is one that the definition of the attribute excludes.
    InvalidValue {
        /// The attribute.
        attribute: AttributeType,
    },
    /// MESSAGE-INTEGRITY-SHA256 is asked for with a key that was not made for it.
    KeyWithoutSha256,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall => f.write_str("the buffer is too small for the STUN message"),
            Self::MessageTooLong => f.write_str("a STUN message holds at most 65,532 bytes of attributes"),
            Self::OutOfOrder => f.write_str(
                "nothing may follow the message integrity but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, in this order",
            ),
            Self::ValueTooLong { attribute } => write!(f, "the value is too long for {attribute}"),
            Self::InvalidValue { attribute } => write!(f, "{attribute} cannot have this value"),
            Self::KeyWithoutSha256 => f.write_str(
                "the key was prepared for MESSAGE-INTEGRITY only; prepare it with SHA-256",
            ),
        }
    }
}

impl core::error::Error for BuildError {}
