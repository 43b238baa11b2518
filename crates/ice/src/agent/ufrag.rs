//! A username fragment, as every check and every answer to one needs it.

use core::ops::Deref;
use std::sync::Arc;

/// Text that candidates share, with a copy in place where it is short: to read it then touches no memory
/// but the session's own. RFC 8445 section 5.3 makes it at least 4 characters, and most make it as short.
#[derive(Clone, Debug)]
pub(super) struct Ufrag {
    length: u8,
    start: [u8; 15],
    text: Arc<str>,
}

impl Ufrag {
    /// Reads a little of it: see [`Agent::fetch`](super::Agent::fetch).
    pub(super) const fn peek(&self) -> u8 {
        self.length
    }

    /// For candidates, one text for all.
    pub(super) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

impl From<&str> for Ufrag {
    fn from(text: &str) -> Self {
        let mut start = [0; 15];
        let length = match start.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                text.len() as u8
            }
            None => 0,
        };
        Self {
            length,
            start,
            text: text.into(),
        }
    }
}

impl Deref for Ufrag {
    type Target = str;

    fn deref(&self) -> &str {
        match core::str::from_utf8(&self.start[..usize::from(self.length)]) {
            Ok(text) if self.length > 0 => text,
            _ => &self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_of_any_length_is_itself() {
        for length in [0, 1, 4, 14, 15, 16, 256] {
            let text = "aB+/".repeat(64)[..length].to_owned();
            let ufrag = Ufrag::from(text.as_str());
            assert_eq!((&*ufrag, &*ufrag.shared()), (&*text, &*text));
        }
    }
}
