//! The 20-byte STUN header: class, method, transaction id (RFC 8489 section 5).

use core::fmt;

/// Length of the STUN header in bytes.
pub const HEADER_LENGTH: usize = 20;

/// The fixed value of the third to sixth byte of the header, in network byte order.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// What a message is for (RFC 8489 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Class {
    /// Asks for a response.
    Request,
    /// Wants no response.
    Indication,
    /// Answers a request that succeeded.
    SuccessResponse,
    /// Answers a request that failed; carries ERROR-CODE.
    ErrorResponse,
}

/// What a transaction does: a 12-bit number (RFC 8489 section 18.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Method(u16);

impl Method {
    /// Binding (RFC 8489 section 18.2).
    pub const BINDING: Self = Self(0x001);
    /// Allocate (RFC 8656 section 17).
    pub const ALLOCATE: Self = Self(0x003);
    /// Refresh (RFC 8656 section 17).
    pub const REFRESH: Self = Self(0x004);
    /// Send, an indication (RFC 8656 section 17).
    pub const SEND: Self = Self(0x006);
    /// Data, an indication (RFC 8656 section 17).
    pub const DATA: Self = Self(0x007);
    /// CreatePermission (RFC 8656 section 17).
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// ChannelBind (RFC 8656 section 17).
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// Connect (RFC 6062 section 6.1).
    pub const CONNECT: Self = Self(0x00A);
    /// ConnectionBind (RFC 6062 section 6.1).
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// ConnectionAttempt, an indication (RFC 6062 section 6.1).
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);

    /// The method of this number, or `None` above 0xFFF, which the header cannot hold.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number <= 0x0FFF {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number of the method, at most 0xFFF.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::BINDING => "Binding",
            Self::ALLOCATE => "Allocate",
            Self::REFRESH => "Refresh",
            Self::SEND => "Send",
            Self::DATA => "Data",
            Self::CREATE_PERMISSION => "CreatePermission",
            Self::CHANNEL_BIND => "ChannelBind",
            Self::CONNECT => "Connect",
            Self::CONNECTION_BIND => "ConnectionBind",
            Self::CONNECTION_ATTEMPT => "ConnectionAttempt",
            Self(number) => return write!(f, "method 0x{number:03x}"),
        })
    }
}

/// Correlates a response with its request: 96 bits.
///
/// RFC 8489 section 5: the id must be uniformly random and come from a cryptographic generator.
/// This crate has no source of randomness, so the bytes are the caller's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TransactionId([u8; 12]);

impl TransactionId {
    /// Wraps twelve bytes, as they stand in the header.
    #[must_use]
    pub const fn new(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The twelve bytes, as they stand in the header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether a datagram looks like a STUN message: the two zero bits, the magic cookie, and a length
/// that is a multiple of four and ends the datagram. Cheap enough to ask of every packet.
///
/// ```
/// let binding_request = [
///     0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
/// ];
/// assert!(nilas_stun::is_stun(&binding_request));
/// assert!(!nilas_stun::is_stun(b"RTP, DTLS or anything else"));
/// ```
#[must_use]
pub fn is_stun(bytes: &[u8]) -> bool {
    // RFC 8489 section 6.3: the first two bits, the cookie, a sensible length.
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    header[0] & 0xC0 == 0
        && header[4..8] == MAGIC_COOKIE.to_be_bytes()
        && length.is_multiple_of(4)
        && HEADER_LENGTH + length == bytes.len()
}

/// Splits the 14-bit message type into its interleaved class and method bits.
pub(crate) const fn split_message_type(message_type: u16) -> (Class, Method) {
    // RFC 8489 section 5: M11..M7 C1 M6..M4 C0 M3..M0.
    let method =
        (message_type & 0x000F) | ((message_type & 0x00E0) >> 1) | ((message_type & 0x3E00) >> 2);
    let class = match message_type & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::SuccessResponse,
        _ => Class::ErrorResponse,
    };
    (class, Method(method))
}

/// The inverse of [`split_message_type`].
pub(crate) const fn join_message_type(class: Class, method: Method) -> u16 {
    let class_bits = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::SuccessResponse => 0x0100,
        Class::ErrorResponse => 0x0110,
    };
    let method = method.0;
    class_bits | (method & 0x000F) | ((method & 0x0070) << 1) | ((method & 0x0F80) << 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_type_splits_and_joins_to_itself() {
        for message_type in 0..=0x3FFF_u16 {
            let (class, method) = split_message_type(message_type);
            assert_eq!(join_message_type(class, method), message_type);
            assert_eq!(Method::new(method.number()), Some(method));
        }
        assert_eq!(Method::new(0x1000), None);
    }

    #[test]
    fn binding_has_the_numbers_of_the_rfc() {
        // RFC 8489 section 5: "A Binding response has class=0b10 ... 0x0101".
        assert_eq!(join_message_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(
            join_message_type(Class::Indication, Method::BINDING),
            0x0011
        );
        assert_eq!(
            join_message_type(Class::SuccessResponse, Method::BINDING),
            0x0101
        );
        assert_eq!(
            join_message_type(Class::ErrorResponse, Method::BINDING),
            0x0111
        );
    }

    #[test]
    fn is_stun_asks_for_each_of_its_four_signs() {
        let good = [
            0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert!(is_stun(&good));
        assert!(!is_stun(&good[..19]));
        for (position, value) in [(0, 0x40), (0, 0x80), (3, 2), (3, 4), (4, 0x20), (7, 0x43)] {
            let mut bad = good;
            bad[position] = value;
            assert!(!is_stun(&bad), "byte {position} = {value:#x}");
        }
    }
}
