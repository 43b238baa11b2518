//! A message that was changed in place, made whole again.

use core::ops::Range;

use crate::integrity::{Covered, Key, SHA1_LENGTH, SHA256_LENGTH, SHA256_MINIMUM_LENGTH};
use crate::message::{Message, ParseError, fingerprint_of};

/// Writes MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT anew, as far as the message has
/// them: for one whose values were changed in place, or that another key is to vouch for. A recording
/// without secrets is made so.
///
/// Without a key, and for MESSAGE-INTEGRITY-SHA256 with a key that was not made for it, the integrity stays
/// as it is. Values of a length that no verifier accepts stay, too.
///
/// ```
/// use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId, reseal};
///
/// let (real, stand_in) = (Key::short_term("the real password......")?, Key::short_term("another")?);
/// let mut buffer = [0; 64];
/// let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId::new([7; 12]))?;
/// builder.message_integrity(&real)?.fingerprint()?;
/// let length = builder.finish();
///
/// reseal(&mut buffer[..length], Some(&stand_in))?;
/// let message = Message::parse(&buffer[..length])?;
/// assert!(message.authenticate(&stand_in).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ParseError`] for what is no message; nothing is changed then.
pub fn reseal(bytes: &mut [u8], key: Option<&Key>) -> Result<(), ParseError> {
    let message = Message::parse(bytes)?;
    let place = |found: Option<(&[u8], &[u8])>| -> Option<(usize, Range<usize>)> {
        let (before, value) = found?;
        let start = before.len() + 4;
        Some((before.len(), start..start + value.len()))
    };
    let sha1 = place(message.message_integrity());
    let sha256 = place(message.message_integrity_sha256());
    let fingerprint = place(message.fingerprint_value());
    // In this order: each covers the ones before it.
    if let (Some(key), Some((before, value))) = (key, sha1)
        && value.len() == SHA1_LENGTH
    {
        let mac = key.hmac_sha1(Covered::new(&bytes[..before], SHA1_LENGTH));
        bytes[value].copy_from_slice(&mac);
    }
    if let (Some(key), Some((before, value))) = (key, sha256)
        && (SHA256_MINIMUM_LENGTH..=SHA256_LENGTH).contains(&value.len())
        && let Some(mac) = key.hmac_sha256(Covered::new(&bytes[..before], value.len()))
    {
        let length = value.len();
        bytes[value].copy_from_slice(&mac[..length]);
    }
    if let Some((before, value)) = fingerprint
        && value.len() == 4
    {
        let crc = fingerprint_of(&bytes[..before]).to_be_bytes();
        bytes[value].copy_from_slice(&crc);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Fingerprint, MessageBuilder, Method, TransactionId};

    /// A message with all three, and its length.
    fn sealed(key: &Key, buffer: &mut [u8]) -> usize {
        let id = TransactionId::new([7; 12]);
        let mut builder = MessageBuilder::new(buffer, Class::Request, Method::SEND, id).unwrap();
        builder.data(b"secret data").unwrap();
        builder.message_integrity(key).unwrap();
        builder.message_integrity_sha256(key, 20).unwrap();
        builder.fingerprint().unwrap();
        builder.finish()
    }

    #[test]
    fn a_changed_message_is_whole_again_under_another_key() {
        let real = Key::short_term_with_sha256("real").unwrap();
        let other = Key::short_term_with_sha256("other").unwrap();
        let mut buffer = [0; 128];
        let length = sealed(&real, &mut buffer);
        let bytes = &mut buffer[..length];
        bytes[24..35].fill(0);
        reseal(bytes, Some(&other)).unwrap();
        let message = Message::parse(bytes).unwrap();
        assert_eq!(message.fingerprint(), Fingerprint::Valid);
        assert_eq!(message.data(), Some(&[0; 11][..]));
        assert!(message.authenticate_truncated(&other, 20).is_ok());
        // MESSAGE-INTEGRITY as well, for a verifier that knows no SHA-256.
        let sha1 = Key::short_term("other").unwrap();
        assert!(message.authenticate(&sha1).is_ok());
        assert!(message.authenticate_truncated(&real, 20).is_err());
    }

    #[test]
    fn without_a_key_the_integrity_stays() {
        let real = Key::short_term_with_sha256("real").unwrap();
        let mut buffer = [0; 128];
        let length = sealed(&real, &mut buffer);
        let before = buffer;
        reseal(&mut buffer[..length], None).unwrap();
        assert_eq!(buffer, before);
        assert!(reseal(&mut buffer[..length - 1], Some(&real)).is_err());
        assert_eq!(buffer, before);
    }
}
