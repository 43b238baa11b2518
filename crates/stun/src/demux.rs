//! Which protocol a datagram belongs to, by its first byte (RFC 7983 section 7).
//!
//! These ranges rule where DTLS, SRTP and STUN share a port. A plain ICE data stream may begin with
//! any byte; there, [`is_stun`](crate::is_stun) and FINGERPRINT tell checks from data.

/// The protocols that share a port under DTLS-SRTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// First byte 0 to 3.
    Stun,
    /// First byte 16 to 19.
    Zrtp,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 64 to 79: ChannelData of TURN.
    TurnChannel,
    /// First byte 128 to 191: RTP or RTCP.
    Rtp,
    /// Any other first byte: the datagram must be dropped.
    Unknown,
}

/// Tells the protocol by the first byte.
///
/// ```
/// use nilas_stun::demux::{Kind, classify};
///
/// assert_eq!(classify(22), Kind::Dtls);
/// assert_eq!(classify(200), Kind::Unknown);
/// ```
#[must_use]
pub const fn classify(first_byte: u8) -> Kind {
    // RFC 7983 section 7, figure 3 of the new text.
    match first_byte {
        0..=3 => Kind::Stun,
        16..=19 => Kind::Zrtp,
        20..=63 => Kind::Dtls,
        64..=79 => Kind::TurnChannel,
        128..=191 => Kind::Rtp,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, classify};

    #[test]
    fn both_ends_of_every_range() {
        let ranges = [
            (0, 3, Kind::Stun),
            (4, 15, Kind::Unknown),
            (16, 19, Kind::Zrtp),
            (20, 63, Kind::Dtls),
            (64, 79, Kind::TurnChannel),
            (80, 127, Kind::Unknown),
            (128, 191, Kind::Rtp),
            (192, 255, Kind::Unknown),
        ];
        for (first, last, kind) in ranges {
            assert_eq!(classify(first), kind, "{first}");
            assert_eq!(classify(last), kind, "{last}");
        }
    }
}
