//! ERROR-CODE: what went wrong with a request (RFC 8489 section 14.8).

use crate::attribute::{AttributeError, AttributeType};

/// The code and the reason phrase of an error response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorCode<'a> {
    code: u16,
    reason: &'a str,
}

/// Defines each code once: constant, number, recommended reason phrase, where it is defined.
macro_rules! error_codes {
    ($($constant:ident = $code:literal, $reason:literal, $section:literal;)*) => {
        impl ErrorCode<'static> {
            $(
                #[doc = concat!($code, " ", $reason, " (", $section, ").")]
                pub const $constant: Self = Self { code: $code, reason: $reason };
            )*
        }
    };
}

error_codes! {
    TRY_ALTERNATE = 300, "Try Alternate", "RFC 8489 section 14.8";
    BAD_REQUEST = 400, "Bad Request", "RFC 8489 section 14.8";
    UNAUTHENTICATED = 401, "Unauthenticated", "RFC 8489 section 14.8";
    FORBIDDEN = 403, "Forbidden", "RFC 8656 section 19";
    MOBILITY_FORBIDDEN = 405, "Mobility Forbidden", "RFC 8016 section 3.4";
    UNKNOWN_ATTRIBUTE = 420, "Unknown Attribute", "RFC 8489 section 14.8";
    ALLOCATION_MISMATCH = 437, "Allocation Mismatch", "RFC 8656 section 19";
    STALE_NONCE = 438, "Stale Nonce", "RFC 8489 section 14.8";
    ADDRESS_FAMILY_NOT_SUPPORTED = 440, "Address Family not Supported", "RFC 8656 section 19";
    WRONG_CREDENTIALS = 441, "Wrong Credentials", "RFC 8656 section 19";
    UNSUPPORTED_TRANSPORT_PROTOCOL = 442, "Unsupported Transport Protocol", "RFC 8656 section 19";
    PEER_ADDRESS_FAMILY_MISMATCH = 443, "Peer Address Family Mismatch", "RFC 8656 section 19";
    CONNECTION_ALREADY_EXISTS = 446, "Connection Already Exists", "RFC 6062 section 6.3";
    CONNECTION_TIMEOUT_OR_FAILURE = 447, "Connection Timeout or Failure", "RFC 6062 section 6.3";
    ALLOCATION_QUOTA_REACHED = 486, "Allocation Quota Reached", "RFC 8656 section 19";
    ROLE_CONFLICT = 487, "Role Conflict", "RFC 8445 section 16.2";
    SERVER_ERROR = 500, "Server Error", "RFC 8489 section 14.8";
    INSUFFICIENT_CAPACITY = 508, "Insufficient Capacity", "RFC 8656 section 19";
}

impl<'a> ErrorCode<'a> {
    /// Reads the last two bytes of the fixed part and the reason phrase behind them.
    pub(crate) fn decode(
        attribute: AttributeType,
        class: u8,
        number: u8,
        reason: &'a [u8],
    ) -> Result<Self, AttributeError> {
        // RFC 8489 section 14.8: the class is in the low three bits; the reserved bits are ignored.
        let class = class & 0x07;
        if !(3..=6).contains(&class) || number > 99 {
            return Err(AttributeError::ErrorCode { attribute });
        }
        // RFC 8489 section 14.8: a reason phrase has at most 763 bytes when it is decoded.
        if reason.len() > 763 {
            return Err(AttributeError::Length {
                attribute,
                length: reason.len() + 4,
            });
        }
        let reason =
            core::str::from_utf8(reason).map_err(|_| AttributeError::NotUtf8 { attribute })?;
        Ok(Self {
            code: u16::from(class) * 100 + u16::from(number),
            reason,
        })
    }

    /// The code, from 300 to 699.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The reason phrase, for people: nothing may depend on it.
    #[must_use]
    pub const fn reason(&self) -> &'a str {
        self.reason
    }
}
