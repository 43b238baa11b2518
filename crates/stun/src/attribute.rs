//! Attribute types and the TLV form all attributes share (RFC 8489 section 14).

use core::fmt;

/// Length of an attribute's type and length fields in bytes.
pub(crate) const ATTRIBUTE_HEADER_LENGTH: usize = 4;

/// The number that names an attribute (RFC 8489 section 18.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u16);

/// Defines each attribute once: constant, number, the name used by the RFCs, where it is defined.
macro_rules! attribute_types {
    ($($constant:ident = $number:literal, $name:literal, $section:literal;)*) => {
        impl AttributeType {
            $(
                #[doc = concat!($name, " (", $section, ").")]
                pub const $constant: Self = Self($number);
            )*

            /// Every attribute that this crate can read and write.
            pub const KNOWN: &'static [Self] = &[$(Self::$constant),*];

            /// The name that the RFCs use, or `None` for a type not known here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

attribute_types! {
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS", "RFC 8489 section 14.1";
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST", "RFC 5780 section 7.2";
    USERNAME = 0x0006, "USERNAME", "RFC 8489 section 14.3";
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY", "RFC 8489 section 14.5";
    ERROR_CODE = 0x0009, "ERROR-CODE", "RFC 8489 section 14.8";
    UNKNOWN_ATTRIBUTES = 0x000A, "UNKNOWN-ATTRIBUTES", "RFC 8489 section 14.13";
    CHANNEL_NUMBER = 0x000C, "CHANNEL-NUMBER", "RFC 8656 section 18.1";
    LIFETIME = 0x000D, "LIFETIME", "RFC 8656 section 18.2";
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS", "RFC 8656 section 18.3";
    DATA = 0x0013, "DATA", "RFC 8656 section 18.4";
    REALM = 0x0014, "REALM", "RFC 8489 section 14.9";
    NONCE = 0x0015, "NONCE", "RFC 8489 section 14.10";
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS", "RFC 8656 section 18.5";
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY", "RFC 8656 section 18.6";
    EVEN_PORT = 0x0018, "EVEN-PORT", "RFC 8656 section 18.7";
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT", "RFC 8656 section 18.8";
    DONT_FRAGMENT = 0x001A, "DONT-FRAGMENT", "RFC 8656 section 18.9";
    ACCESS_TOKEN = 0x001B, "ACCESS-TOKEN", "RFC 7635 section 6.2";
    MESSAGE_INTEGRITY_SHA256 = 0x001C, "MESSAGE-INTEGRITY-SHA256", "RFC 8489 section 14.6";
    PASSWORD_ALGORITHM = 0x001D, "PASSWORD-ALGORITHM", "RFC 8489 section 14.12";
    USERHASH = 0x001E, "USERHASH", "RFC 8489 section 14.4";
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS", "RFC 8489 section 14.2";
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN", "RFC 8656 section 18.10";
    PRIORITY = 0x0024, "PRIORITY", "RFC 8445 section 16.1";
    USE_CANDIDATE = 0x0025, "USE-CANDIDATE", "RFC 8445 section 16.1";
    PADDING = 0x0026, "PADDING", "RFC 5780 section 7.6";
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT", "RFC 5780 section 7.5";
    CONNECTION_ID = 0x002A, "CONNECTION-ID", "RFC 6062 section 6.2.1";
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656 section 18.11";
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE", "RFC 8656 section 18.12";
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS", "RFC 8489 section 14.11";
    ALTERNATE_DOMAIN = 0x8003, "ALTERNATE-DOMAIN", "RFC 8489 section 14.16";
    ICMP = 0x8004, "ICMP", "RFC 8656 section 18.13";
    SOFTWARE = 0x8022, "SOFTWARE", "RFC 8489 section 14.14";
    ALTERNATE_SERVER = 0x8023, "ALTERNATE-SERVER", "RFC 8489 section 14.15";
    FINGERPRINT = 0x8028, "FINGERPRINT", "RFC 8489 section 14.7";
    ICE_CONTROLLED = 0x8029, "ICE-CONTROLLED", "RFC 8445 section 16.1";
    ICE_CONTROLLING = 0x802A, "ICE-CONTROLLING", "RFC 8445 section 16.1";
    RESPONSE_ORIGIN = 0x802B, "RESPONSE-ORIGIN", "RFC 5780 section 7.3";
    OTHER_ADDRESS = 0x802C, "OTHER-ADDRESS", "RFC 5780 section 7.4";
    THIRD_PARTY_AUTHORIZATION = 0x802E, "THIRD-PARTY-AUTHORIZATION", "RFC 7635 section 6.1";
    MOBILITY_TICKET = 0x8030, "MOBILITY-TICKET", "RFC 8016 section 3.3";
    NOMINATION = 0xC001, "NOMINATION", "draft-thatcher-ice-renomination-01 section 5";
}

impl AttributeType {
    /// Whether an agent that does not know the attribute must refuse the message.
    ///
    /// RFC 8489 section 14: 0x0000 to 0x7FFF are comprehension-required.
    #[must_use]
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// Whether this crate can read the attribute.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.name().is_some()
    }
}

impl From<u16> for AttributeType {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute 0x{:04x}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An attribute as it stands in the message, known or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RawAttribute<'a> {
    /// Its type.
    pub attribute_type: AttributeType,
    /// Its value, without padding.
    pub value: &'a [u8],
}

/// Walks whole TLVs; stops at the first that does not fit, which cannot occur in a parsed message.
#[derive(Clone, Debug)]
pub(crate) struct TlvIterator<'a> {
    rest: &'a [u8],
}

impl<'a> TlvIterator<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for TlvIterator<'a> {
    type Item = RawAttribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (header, tail) = self.rest.split_first_chunk::<ATTRIBUTE_HEADER_LENGTH>()?;
        let (attribute_type, length) = split_attribute_header(*header);
        let value = tail.get(..length)?;
        self.rest = tail.get(padded(length)..)?;
        Some(RawAttribute {
            attribute_type,
            value,
        })
    }
}

/// The type and the length of the value.
#[inline]
pub(crate) const fn split_attribute_header(
    header: [u8; ATTRIBUTE_HEADER_LENGTH],
) -> (AttributeType, usize) {
    // One load and one swap of bytes; both halves have 16 bits.
    let word = u32::from_be_bytes(header);
    (AttributeType((word >> 16) as u16), (word & 0xFFFF) as usize)
}

/// A length rounded up to the 32-bit boundary on which every attribute ends.
#[inline]
pub(crate) const fn padded(length: usize) -> usize {
    (length + 3) & !3
}

/// Why an attribute that is present cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AttributeError {
    /// The value is shorter or longer than its definition allows.
    Length {
        /// The attribute.
        attribute: AttributeType,
        /// Length of the value received, in bytes.
        length: usize,
    },
    /// The value should be text and is not UTF-8.
    NotUtf8 {
        /// The attribute.
        attribute: AttributeType,
    },
    /// The address family is neither IPv4 (0x01) nor IPv6 (0x02).
    AddressFamily {
        /// The attribute.
        attribute: AttributeType,
        /// The family received.
        family: u8,
    },
    /// The class of an error code is outside 3 to 6 or its number is above 99.
    ErrorCode {
        /// The attribute.
        attribute: AttributeType,
    },
    /// A list inside the value does not add up to the length of the value.
    Structure {
        /// The attribute.
        attribute: AttributeType,
    },
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { attribute, length } => {
                write!(
                    f,
                    "{attribute} has a value of {length} bytes, which its definition does not allow"
                )
            }
            Self::NotUtf8 { attribute } => write!(f, "{attribute} is not UTF-8 text"),
            Self::AddressFamily { attribute, family } => {
                write!(
                    f,
                    "{attribute} has address family 0x{family:02x}, neither IPv4 (0x01) nor IPv6 (0x02)"
                )
            }
            Self::ErrorCode { attribute } => write!(f, "{attribute} holds no code from 300 to 699"),
            Self::Structure { attribute } => {
                write!(f, "{attribute} holds a list that does not fill its value")
            }
        }
    }
}

impl core::error::Error for AttributeError {}
