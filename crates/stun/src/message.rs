//! A parsed message: borrowed bytes whose structure has been checked (RFC 8489 section 5),
//! and what FINGERPRINT says about it (RFC 8489 section 7).

use core::fmt;

use crate::attribute::{
    ATTRIBUTE_HEADER_LENGTH, AttributeType, RawAttribute, TlvIterator, padded,
    split_attribute_header,
};
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
    scope_end: Place,
    message_integrity: Place,
    message_integrity_sha256: Place,
    fingerprint: Place,
}

/// Where an attribute begins, in words of four bytes, on which attributes are aligned: a message
/// has at most 16,388 of them. Zero, where the header is, stands for an absent attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u16);

impl Place {
    const ABSENT: Self = Self(0);

    const fn at(offset: usize) -> Self {
        Self((offset / 4) as u16)
    }

    const fn offset(self) -> usize {
        self.0 as usize * 4
    }
}

impl<'a> Message<'a> {
    /// Parses exactly one message: header, cookie, length and the structure of all attributes, in
    /// one pass and without an allocation. Values are looked at when they are asked for.
    ///
    /// # Errors
    /// Says which rule of RFC 8489 section 5 or RFC 8489 section 14 the bytes break.
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
            scope_end: Place::at(bytes.len()),
            message_integrity: Place::ABSENT,
            message_integrity_sha256: Place::ABSENT,
            fingerprint: Place::ABSENT,
        };
        let mut rest = attributes;
        while let Some((attribute_type, tail)) = split_tlv(rest)? {
            if is_about_integrity(attribute_type) {
                message.scope_end = Place::at(bytes.len() - rest.len());
                message.note_trailer(rest)?;
                break;
            }
            message.present |= presence_bit(attribute_type);
            rest = tail;
        }
        Ok(message)
    }

    /// Notes the attributes about integrity in what follows the scope, and checks its structure.
    fn note_trailer(&mut self, mut rest: &[u8]) -> Result<(), ParseError> {
        while let Some((attribute_type, tail)) = split_tlv(rest)? {
            let place = match attribute_type {
                AttributeType::MESSAGE_INTEGRITY => &mut self.message_integrity,
                AttributeType::MESSAGE_INTEGRITY_SHA256 => &mut self.message_integrity_sha256,
                AttributeType::FINGERPRINT => &mut self.fingerprint,
                // RFC 8489 section 9: ignore all other attributes behind the integrity.
                _ => &mut Place::at(0),
            };
            // RFC 8489 section 14: of several, the first counts.
            if *place == Place::ABSENT {
                *place = Place::at(self.bytes.len() - rest.len());
            }
            rest = tail;
            // RFC 8489 section 14.7: FINGERPRINT is the last attribute; of what is behind it only
            // the structure counts.
            if self.fingerprint != Place::ABSENT {
                break;
            }
        }
        while let Some((_, tail)) = split_tlv(rest)? {
            rest = tail;
        }
        Ok(())
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
        let message = *self;
        self.ordinary_attributes().chain(
            trailer
                .into_iter()
                .filter_map(move |place| message.attribute_at(place)),
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
        if self.fingerprint == Place::ABSENT {
            return Fingerprint::Absent;
        }
        let (before, attribute) = self.bytes.split_at(self.fingerprint.offset());
        // RFC 8489 section 14.7: FINGERPRINT is the last attribute. Being last, the length field of
        // the header already counts it, as the CRC demands.
        match *attribute {
            [_, _, 0, 4, a, b, c, d]
                if u32::from_be_bytes([a, b, c, d]) == fingerprint_of(before) =>
            {
                Fingerprint::Valid
            }
            _ => Fingerprint::Invalid,
        }
    }

    /// The value of the first attribute of this type in scope, without padding; of
    /// MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT too.
    #[must_use]
    pub fn value(&self, attribute_type: AttributeType) -> Option<&'a [u8]> {
        let place = match attribute_type {
            AttributeType::MESSAGE_INTEGRITY => self.message_integrity,
            AttributeType::MESSAGE_INTEGRITY_SHA256 => self.message_integrity_sha256,
            AttributeType::FINGERPRINT => self.fingerprint,
            _ => return self.ordinary_value(attribute_type),
        };
        self.attribute_at(place).map(|attribute| attribute.value)
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
        TlvIterator::new(&self.bytes[HEADER_LENGTH..self.scope_end.offset()])
    }

    /// MESSAGE-INTEGRITY, if any: the message before it and its value.
    pub(crate) fn message_integrity(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.split_before(self.message_integrity)
    }

    /// MESSAGE-INTEGRITY-SHA256, if any: the message before it and its value.
    pub(crate) fn message_integrity_sha256(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.split_before(self.message_integrity_sha256)
    }

    /// FINGERPRINT, if any, right or wrong: the message before it and its value.
    pub(crate) fn fingerprint_value(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.split_before(self.fingerprint)
    }

    fn split_before(&self, place: Place) -> Option<(&'a [u8], &'a [u8])> {
        let attribute = self.attribute_at(place)?;
        Some((&self.bytes[..place.offset()], attribute.value))
    }

    fn attribute_at(&self, place: Place) -> Option<RawAttribute<'a>> {
        if place == Place::ABSENT {
            return None;
        }
        TlvIterator::new(&self.bytes[place.offset()..]).next()
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
pub enum Fingerprint {
    /// No FINGERPRINT.
    Absent,
    /// FINGERPRINT is the last attribute and its CRC is right.
    Valid,
    /// The CRC is wrong, or FINGERPRINT is not the last attribute.
    Invalid,
}

/// The type of the attribute at the start of `bytes` and what follows the attribute, or `None` at
/// the end. The length of `bytes` is a multiple of four.
#[inline]
fn split_tlv(bytes: &[u8]) -> Result<Option<(AttributeType, &[u8])>, ParseError> {
    let Some((header, tail)) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_LENGTH>() else {
        return Ok(None);
    };
    let (attribute_type, length) = split_attribute_header(*header);
    let rest = tail
        .get(padded(length)..)
        .ok_or(ParseError::TruncatedAttribute)?;
    Ok(Some((attribute_type, rest)))
}

/// Whether the attribute ends the scope of the ordinary ones.
#[inline]
const fn is_about_integrity(attribute_type: AttributeType) -> bool {
    matches!(
        attribute_type,
        AttributeType::MESSAGE_INTEGRITY
            | AttributeType::MESSAGE_INTEGRITY_SHA256
            | AttributeType::FINGERPRINT
    )
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
