//! Messages on a stream: STUN by its length, ChannelData by its own with padding (RFC 8656 section 12.5).

use nilas_turn::{CHANNEL_DATA_HEADER, ChannelData};

/// The longest message of either kind, with its header and padding.
const MAX_MESSAGE_BYTES: usize = 20 + 0xFFFF + 1;
const STUN_HEADER_BYTES: usize = 20;

/// What has arrived of a stream and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Framer {
    bytes: Vec<u8>,
    /// How much of `bytes` was given out.
    taken: usize,
}

/// The stream carries something else than STUN and ChannelData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotFramed;

impl Framer {
    /// Adds what was read. Call [`next`](Self::next) until it has no more before adding more: then what is
    /// kept is less than one message.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, NotFramed> {
        let rest = &self.bytes[self.taken..];
        let Some(start) = rest.first_chunk::<CHANNEL_DATA_HEADER>() else {
            return Ok(None);
        };
        // RFC 8489 section 5: the two first bits of STUN are zero; RFC 8656 section 12: those of a channel are 01.
        let length = match start[0] >> 6 {
            0 => STUN_HEADER_BYTES + usize::from(u16::from_be_bytes([start[2], start[3]])),
            1 => ChannelData::stream_length(*start),
            _ => return Err(NotFramed),
        };
        debug_assert!(length <= MAX_MESSAGE_BYTES);
        if rest.len() < length {
            return Ok(None);
        }
        let at = self.taken;
        self.taken += length;
        Ok(Some(&self.bytes[at..at + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let mut stun = [0; 24];
        stun[3] = 4;
        let channel = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
        let stream = [&stun[..], &channel, &[0x41, 0, 0, 0], &stun].concat();
        for cut in 1..stream.len() {
            let mut framer = Framer::default();
            let mut lengths = Vec::new();
            for part in stream.chunks(cut) {
                framer.push(part);
                while let Some(message) = framer.next().unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [24, 12, 4, 24], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_neither_stun_nor_a_channel_ends_the_stream() {
        let mut framer = Framer::default();
        framer.push(b"\x80abc");
        assert_eq!(framer.next(), Err(NotFramed));
    }
}
