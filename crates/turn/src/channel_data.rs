//! The ChannelData message (RFC 8656 section 12.4): a channel number, a length, and data.

use core::ops::{Range, RangeInclusive};

/// Bytes in front of the data.
pub const CHANNEL_DATA_HEADER: usize = 4;

/// The numbers a client gives its channels (RFC 8656 section 12).
pub const CHANNEL_NUMBERS: RangeInclusive<u16> = 0x4000..=0x4FFF;

/// The numbers that a server takes. RFC 8656 section 12 allows fewer, so that a client can tell channels from DTLS
/// and SRTP on one socket, and says itself that this shuts out clients of RFC 5766, some of which choose at random
/// from all of these. A server's socket carries nothing that these could be taken for: they are let in.
pub const ACCEPTED_CHANNEL_NUMBERS: RangeInclusive<u16> = 0x4000..=0x7FFF;

/// A ChannelData message: where in the bytes its data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelData {
    /// The channel number, one of [`ACCEPTED_CHANNEL_NUMBERS`].
    pub number: u16,
    /// The data, without header and padding.
    pub data: Range<usize>,
}

impl ChannelData {
    /// Reads the message that a datagram is, or `None` if it is none. Bytes behind the data are padding.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let ([a, b, c, d], rest) = datagram.split_first_chunk::<CHANNEL_DATA_HEADER>()?;
        let number = u16::from_be_bytes([*a, *b]);
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        // RFC 8656 section 12.6: of a number in the reserved range, or longer than the datagram: discarded.
        if !ACCEPTED_CHANNEL_NUMBERS.contains(&number) || length > rest.len() {
            return None;
        }
        Some(Self {
            number,
            data: CHANNEL_DATA_HEADER..CHANNEL_DATA_HEADER + length,
        })
    }

    /// The header in front of `length` bytes of data, or `None` if a message cannot hold so many.
    #[must_use]
    pub fn header(number: u16, length: usize) -> Option<[u8; CHANNEL_DATA_HEADER]> {
        let [a, b] = number.to_be_bytes();
        let [c, d] = u16::try_from(length).ok()?.to_be_bytes();
        Some([a, b, c, d])
    }

    /// The length on a stream, padding included, of the message that begins with these bytes.
    #[must_use]
    pub const fn stream_length(start: [u8; CHANNEL_DATA_HEADER]) -> usize {
        let length = u16::from_be_bytes([start[2], start[3]]) as usize;
        // RFC 8656 section 12.5: on a stream, padded to a multiple of four bytes.
        CHANNEL_DATA_HEADER + length.next_multiple_of(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_checked() {
        let parsed = ChannelData::parse(&[0x40, 0, 0, 2, 7, 8, 0, 0]).unwrap();
        assert_eq!((parsed.number, parsed.data), (0x4000, 4..6));
        // RFC 8656 section 12.4: "Note that 0 is a valid length."
        assert_eq!(ChannelData::parse(&[0x4F, 0xFF, 0, 0]).unwrap().data, 4..4);
        for wrong in [
            &[0x40, 0, 0][..],
            &[0x40, 0, 0, 1],
            &[0x80, 0, 0, 0],
            &[0x3F, 0xFF, 0, 0],
        ] {
            assert_eq!(ChannelData::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_stream_carries_padding() {
        assert_eq!(ChannelData::header(0x4001, 5), Some([0x40, 1, 0, 5]));
        assert_eq!(ChannelData::header(0x4001, 1 << 16), None);
        for (length, whole) in [(0, 4), (1, 8), (4, 8), (5, 12), (0xFFFF, 4 + 0x10000)] {
            let header = ChannelData::header(0x4000, length).unwrap();
            assert_eq!(ChannelData::stream_length(header), whole);
        }
    }
}
