//! A parsed message: borrowed bytes whose structure has been checked (RFC 8489 section 5).

use core::fmt;

use crate::attribute::{ATTRIBUTE_HEADER_LENGTH, AttributeType, RawAttribute, TlvIterator, padded};
use crate::header::{
    Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, split_message_type,
};

/// A STUN message whose structure has been checked, borrowed from the datagram.
///
/// Parsing says nothing about who sent the message. Whatever changes state takes an
/// [`Authenticated`](crate::Authenticated) message, which only
/// [`authenticate`](Self::authenticate) makes.
///
/// ```
/// use nilas_stun::{Class, Message, MessageBuilder, Method, TransactionId};
///
/// let mut buffer = [0; 64];
/// let id = TransactionId::new([7; 12]);
/// let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)?;
/// builder.software("nilas")?;
/// let length = builder.finish();
///
/// let message = Message::parse(&buffer[..length])?;
/// assert_eq!(message.class(), Class::Request);
/// assert_eq!(message.software()?, Some("nilas"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Which types may be present, by their low six bits: most attributes asked for are absent,
    /// and are found to be so without a scan.
    present: u64,
    /// Where the attributes that carry meaning end: at the first of MESSAGE-INTEGRITY,
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, or at the end of the message.
    scope_end: u32,
    /// Offset of MESSAGE-INTEGRITY, or 0.
    message_integrity: u32,
    /// Offset of MESSAGE-INTEGRITY-SHA256, or 0.
    message_integrity_sha256: u32,
    /// Offset of FINGERPRINT, or 0.
    fingerprint: u32,
}

impl<'a> Message<'a> {
    /// Parses exactly one message: header, cookie, length and the structure of all attributes, in
    /// one pass and without an allocation. Values are looked at when they are asked for.
    ///
    /// # Errors
    /// Says which rule of RFC 8489 section 5 or 14 the bytes break.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, attributes) = bytes
            .split_first_chunk::<HEADER_LENGTH>()
            .ok_or(ParseError::TooShort)?;
        if header[0] & 0xC0 != 0 {
            return Err(ParseError::NotStun);
        }
        if header[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(ParseError::WrongCookie);
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length != attributes.len() || !length.is_multiple_of(4) {
            return Err(ParseError::WrongLength);
        }

        let mut message = Self {
            bytes,
            present: 0,
            scope_end: 0,
            message_integrity: 0,
            message_integrity_sha256: 0,
            fingerprint: 0,
        };
        let mut rest = attributes;
        // At most 65,532 bytes of attributes follow the header, so every offset fits into a u32.
        let mut offset = HEADER_LENGTH as u32;
        while let Some((tlv, tail)) = rest.split_first_chunk::<ATTRIBUTE_HEADER_LENGTH>() {
            let value_length = padded(usize::from(u16::from_be_bytes([tlv[2], tlv[3]])));
            rest = tail
                .get(value_length..)
                .ok_or(ParseError::TruncatedAttribute)?;
            message.note(AttributeType(u16::from_be_bytes([tlv[0], tlv[1]])), offset);
            offset += (ATTRIBUTE_HEADER_LENGTH + value_length) as u32;
        }
        if message.scope_end == 0 {
            message.scope_end = offset;
        }
        Ok(message)
    }

    /// Remembers what the structure of the message depends on.
    #[inline]
    fn note(&mut self, attribute_type: AttributeType, offset: u32) {
        // RFC 8489 section 14.7: FINGERPRINT is the last attribute; nothing behind it is looked at.
        if self.fingerprint != 0 {
            return;
        }
        let place = match attribute_type {
            AttributeType::MESSAGE_INTEGRITY => &mut self.message_integrity,
            AttributeType::MESSAGE_INTEGRITY_SHA256 => &mut self.message_integrity_sha256,
            AttributeType::FINGERPRINT => &mut self.fingerprint,
            _ => {
                // RFC 8489 section 9: ignore all other attributes behind the integrity.
                if self.scope_end == 0 {
                    self.present |= presence_bit(attribute_type);
                }
                return;
            }
        };
        // RFC 8489 section 14: of several, the first counts.
        if *place == 0 {
            *place = offset;
            if self.scope_end == 0 {
                self.scope_end = offset;
            }
        }
    }

    /// The whole message as it was parsed.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Request, indication, success or error.
    #[must_use]
    pub fn class(&self) -> Class {
        split_message_type(self.message_type()).0
    }

    /// Binding, Allocate and so on.
    #[must_use]
    pub fn method(&self) -> Method {
        split_message_type(self.message_type()).1
    }

    /// The id that a response shares with its request.
    #[must_use]
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_LENGTH]);
        TransactionId::new(id)
    }

    /// The attributes in scope, in their order: nothing behind MESSAGE-INTEGRITY or
    /// MESSAGE-INTEGRITY-SHA256 but these two and FINGERPRINT (RFC 8489 section 9).
    ///
    /// Several attributes of one type are all reported; the typed accessors read the first.
    pub fn attributes(&self) -> impl Iterator<Item = RawAttribute<'a>> + use<'a> {
        let mut trailer = [
            self.message_integrity,
            self.message_integrity_sha256,
            self.fingerprint,
        ];
        trailer.sort_unstable();
        let bytes = self.bytes;
        self.ordinary_attributes().chain(
            trailer
                .into_iter()
                .filter(|offset| *offset != 0)
                .filter_map(move |offset| TlvIterator::new(&bytes[offset as usize..]).next()),
        )
    }

    /// The comprehension-required attributes in scope that this crate does not know: what a 420
    /// response lists in UNKNOWN-ATTRIBUTES (RFC 8489 section 6.3.1).
    pub fn unknown_comprehension_required(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.ordinary_attributes()
            .map(|attribute| attribute.attribute_type)
            .filter(|kind| kind.is_comprehension_required() && !kind.is_known())
            .map(|kind| kind.0)
    }

    /// The comprehension-required attributes in scope that are not in `understood`: for a server
    /// that implements less than this crate can read, and must answer 420 to the rest.
    pub fn comprehension_required_beyond(
        &self,
        understood: &'a [AttributeType],
    ) -> impl Iterator<Item = u16> + use<'a> {
        self.ordinary_attributes()
            .map(|attribute| attribute.attribute_type)
            .filter(|kind| kind.is_comprehension_required() && !understood.contains(kind))
            .map(|kind| kind.0)
    }

    /// Whether FINGERPRINT is there and right.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let offset = self.fingerprint as usize;
        if offset == 0 {
            return Fingerprint::Absent;
        }
        // RFC 8489 section 14.7: FINGERPRINT is the last attribute. Being last, the length field of
        // the header already counts it, as the CRC demands.
        let expected = fingerprint_of(&self.bytes[..offset]);
        match self.bytes[offset..] {
            [_, _, 0, 4, a, b, c, d] if u32::from_be_bytes([a, b, c, d]) == expected => {
                Fingerprint::Valid
            }
            _ => Fingerprint::Invalid,
        }
    }

    /// The value of the first attribute of this type in scope, without padding; of
    /// MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT too.
    #[must_use]
    pub fn value(&self, attribute_type: AttributeType) -> Option<&'a [u8]> {
        let offset = match attribute_type {
            AttributeType::MESSAGE_INTEGRITY => self.message_integrity,
            AttributeType::MESSAGE_INTEGRITY_SHA256 => self.message_integrity_sha256,
            AttributeType::FINGERPRINT => self.fingerprint,
            _ => return self.ordinary_value(attribute_type),
        };
        if offset == 0 {
            return None;
        }
        TlvIterator::new(&self.bytes[offset as usize..])
            .next()
            .map(|attribute| attribute.value)
    }

    /// [`value`](Self::value) of an attribute that is not about integrity: the accessors' way.
    #[inline]
    pub(crate) fn ordinary_value(&self, attribute_type: AttributeType) -> Option<&'a [u8]> {
        if self.present & presence_bit(attribute_type) == 0 {
            return None;
        }
        self.ordinary_attributes()
            .find(|attribute| attribute.attribute_type == attribute_type)
            .map(|attribute| attribute.value)
    }

    /// All attributes in scope but the three about integrity.
    pub(crate) fn ordinary_attributes(&self) -> TlvIterator<'a> {
        TlvIterator::new(&self.bytes[HEADER_LENGTH..self.scope_end as usize])
    }

    /// Offset of MESSAGE-INTEGRITY, if any.
    pub(crate) fn message_integrity_offset(&self) -> Option<usize> {
        (self.message_integrity != 0).then_some(self.message_integrity as usize)
    }

    /// Offset of MESSAGE-INTEGRITY-SHA256, if any.
    pub(crate) fn message_integrity_sha256_offset(&self) -> Option<usize> {
        (self.message_integrity_sha256 != 0).then_some(self.message_integrity_sha256 as usize)
    }

    fn message_type(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }
}

impl fmt::Debug for Message<'_> {
    /// Names the attributes; values stay out, since they hold user names and application data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Types<'a>(Message<'a>);
        impl fmt::Debug for Types<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list()
                    .entries(self.0.attributes().map(|a| a.attribute_type))
                    .finish()
            }
        }
        f.debug_struct("Message")
            .field("class", &self.class())
            .field("method", &format_args!("{}", self.method()))
            .field("transaction_id", &format_args!("{}", self.transaction_id()))
            .field("attributes", &Types(*self))
            .finish()
    }
}

/// Whether a message carries FINGERPRINT, and a correct one (RFC 8489 section 14.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth outcome")]
pub enum Fingerprint {
    /// No FINGERPRINT.
    Absent,
    /// FINGERPRINT is the last attribute and its CRC is right.
    Valid,
    /// The CRC is wrong, or FINGERPRINT is not the last attribute.
    Invalid,
}

/// The value of a FINGERPRINT that follows `bytes`.
pub(crate) fn fingerprint_of(bytes: &[u8]) -> u32 {
    // RFC 8489 section 14.7: XORed so that an application's own CRC-32 is no false positive.
    crc32fast::hash(bytes) ^ 0x5354_554E
}

/// The bit of [`Message::present`] for a type.
#[inline]
const fn presence_bit(attribute_type: AttributeType) -> u64 {
    1 << (attribute_type.0 & 0x3F)
}

/// The length of the STUN message that begins a byte stream, or `None` until its first four bytes
/// are there. Streams carry messages back to back (RFC 8489 section 6.2.2).
///
/// # Errors
/// [`ParseError::NotStun`] or [`ParseError::WrongLength`] if no STUN message begins this way.
pub fn stream_message_length(bytes: &[u8]) -> Result<Option<usize>, ParseError> {
    let Some(start) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    if start[0] & 0xC0 != 0 {
        return Err(ParseError::NotStun);
    }
    let length = usize::from(u16::from_be_bytes([start[2], start[3]]));
    if !length.is_multiple_of(4) {
        return Err(ParseError::WrongLength);
    }
    Ok(Some(HEADER_LENGTH + length))
}

/// Why bytes are not a STUN message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer than 20 bytes.
    TooShort,
    /// The first two bits are not zero.
    NotStun,
    /// The magic cookie is missing.
    WrongCookie,
    /// The length field is no multiple of four or does not end the datagram.
    WrongLength,
    /// An attribute extends beyond the end of the message.
    TruncatedAttribute,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "shorter than the 20-byte STUN header",
            Self::NotStun => "the first two bits are not zero, as those of every STUN message are",
            Self::WrongCookie => "the STUN magic cookie 0x2112A442 is missing",
            Self::WrongLength => "the STUN length field does not match the length of the datagram",
            Self::TruncatedAttribute => "a STUN attribute extends beyond the end of its message",
        })
    }
}

impl core::error::Error for ParseError {}
