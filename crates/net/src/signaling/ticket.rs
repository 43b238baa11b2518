//! Tickets: signaling by copy and paste, without any server.
//!
//! A ticket is one line of text with a description and its candidates. Each side prints its own and pastes
//! the other's. Trickling is out of reach here, so a ticket is made once gathering is complete.
//!
//! The line is `nilas1:` and then, in base64url without padding, JSON followed by its
//! CRC-32 in four bytes, big-endian. The checksum tells a broken paste from a whole one; it is no
//! protection against anybody. A ticket holds a password: send it the way you would send one.

use core::fmt;
use core::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::signal::Description;

/// The most characters of a ticket. Terminals take no more than 4,095 in one line.
pub const MAX_TICKET_CHARACTERS: usize = 4000;
const PREFIX: &str = "nilas1:";
const CHECKSUM_BYTES: usize = 4;

/// A description and its candidates, complete, as one line of text.
///
/// `Display` and `FromStr` are that line. Reading forgives blanks and line breaks that mail programs and
/// terminals put in.
///
/// ```
/// use nilas_net::signaling::{Description, Ticket};
///
/// let mut ticket = Ticket::new(Description::new("Uf7g", "a-password-of-22-chars"))?;
/// ticket.push_candidate("candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host")?;
/// let line = ticket.to_string();
/// assert!(line.starts_with("nilas1:"));
/// assert_eq!(line.parse::<Ticket>()?, ticket);
/// # Ok::<_, nilas_net::signaling::TicketError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(flatten)]
    description: Description,
    #[serde(default)]
    candidates: Vec<String>,
}

impl Ticket {
    /// A ticket without candidates.
    ///
    /// # Errors
    /// [`TicketError::TooLong`] when the description alone does not fit.
    pub fn new(description: Description) -> Result<Self, TicketError> {
        let ticket = Self {
            description,
            candidates: Vec::new(),
        };
        ticket.check_length()?;
        Ok(ticket)
    }

    /// Adds a candidate, `candidate:…`. Add the best first, so that what does not fit is the least useful.
    ///
    /// # Errors
    /// [`TicketError::TooLong`] when it does not fit any more; the ticket is then as it was.
    pub fn push_candidate(&mut self, candidate: impl Into<String>) -> Result<(), TicketError> {
        self.candidates.push(candidate.into());
        let fits = self.check_length();
        if fits.is_err() {
            self.candidates.pop();
        }
        fits
    }

    /// The description.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The candidates, `candidate:…` each, in the order they were added.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    fn check_length(&self) -> Result<(), TicketError> {
        let bytes = self.to_json().len() + CHECKSUM_BYTES;
        if PREFIX.len() + BASE64URL_NOPAD.encode_len(bytes) > MAX_TICKET_CHARACTERS {
            return Err(TicketError::TooLong);
        }
        Ok(())
    }

    fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and booleans only: nothing of it can fail to be written.
        serde_json::to_vec(self).expect("plain fields are always JSON")
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_json();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode_display(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        // Twice the length leaves room for whatever breaks lines on the way.
        if text.len() > 2 * MAX_TICKET_CHARACTERS {
            return Err(TicketError::TooLong);
        }
        let text: String = text.split_ascii_whitespace().collect();
        let Some(body) = text.strip_prefix(PREFIX) else {
            return Err(
                match text
                    .strip_prefix("nilas")
                    .and_then(|rest| rest.split_once(':'))
                {
                    Some((version, _))
                        if !version.is_empty()
                            && version.bytes().all(|byte| byte.is_ascii_digit()) =>
                    {
                        TicketError::Version
                    }
                    _ => TicketError::NotATicket,
                },
            );
        };
        if text.len() > MAX_TICKET_CHARACTERS {
            return Err(TicketError::TooLong);
        }
        let bytes = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| TicketError::Broken)?;
        let (json, checksum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(TicketError::Broken)?;
        if crc32fast::hash(json) != u32::from_be_bytes(*checksum) {
            return Err(TicketError::Broken);
        }
        // A whole ticket that cannot be read was not written by this version.
        serde_json::from_slice(json).map_err(|_| TicketError::Version)
    }
}

impl fmt::Debug for Ticket {
    /// The credentials stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("description", &self.description)
            .field("candidates", &self.candidates.len())
            .finish()
    }
}

/// Why a text is no ticket, or a ticket no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketError {
    /// More than [`MAX_TICKET_CHARACTERS`].
    TooLong,
    /// The text does not begin like a ticket.
    NotATicket,
    /// A ticket of a version that this one cannot read.
    Version,
    /// Part of the ticket is missing or changed.
    Broken,
    /// There is no candidate to put into it.
    NoCandidates,
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => {
                write!(
                    f,
                    "the ticket is longer than {MAX_TICKET_CHARACTERS} characters: use fewer candidates"
                )
            }
            Self::NotATicket => write!(
                f,
                "that is no ticket: paste the whole line that begins with {PREFIX}"
            ),
            Self::Version => f.write_str(
                "the ticket was made by another version of nilas: use the same on both ends",
            ),
            Self::Broken => {
                f.write_str("the ticket is damaged: copy the whole line and paste it again")
            }
            Self::NoCandidates => f.write_str(
                "no candidate was found for the ticket: bring a network interface up, or allow loopback addresses",
            ),
        }
    }
}

impl core::error::Error for TicketError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let mut description = Description::new("Uf7g", "a-password-of-22-chars");
        description.options = vec!["ice2".into(), "trickle".into()];
        description.pacing = Some(20);
        let mut ticket = Ticket::new(description).unwrap();
        ticket
            .push_candidate("candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host")
            .unwrap();
        ticket
            .push_candidate("candidate:2 1 udp 2130706175 2001:db8::7 50001 typ host")
            .unwrap();
        ticket
    }

    #[test]
    fn one_line_there_and_back() {
        let line = ticket().to_string();
        assert!(!line.contains(char::is_whitespace));
        assert_eq!(line.parse(), Ok(ticket()));
    }

    #[test]
    fn the_format_stays() {
        // Written by hand from the description of the format, not by this code.
        let json = br#"{"ufrag":"abcd","pwd":"p","candidates":["candidate:x"],"later":1}"#;
        let mut bytes = json.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(json).to_be_bytes());
        let ticket: Ticket = format!("nilas1:{}", BASE64URL_NOPAD.encode(&bytes))
            .parse()
            .unwrap();
        assert_eq!(ticket.description(), &Description::new("abcd", "p"));
        assert_eq!(ticket.candidates(), ["candidate:x"]);
    }

    #[test]
    fn line_breaks_on_the_way_do_no_harm() {
        let line = ticket().to_string();
        let broken: Vec<&str> = line
            .as_bytes()
            .chunks(60)
            .map(|part| core::str::from_utf8(part).unwrap())
            .collect();
        assert_eq!(format!("  {}\n", broken.join("\r\n")).parse(), Ok(ticket()));
    }

    #[test]
    fn every_truncation_and_every_changed_character_is_noticed() {
        let line = ticket().to_string();
        for length in 0..line.len() {
            assert!(line[..length].parse::<Ticket>().is_err(), "{length}");
        }
        for place in PREFIX.len()..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(
                changed.parse::<Ticket>(),
                Err(TicketError::Broken),
                "{place}"
            );
        }
    }

    #[test]
    fn other_texts_get_a_fitting_error() {
        assert_eq!("hello".parse::<Ticket>(), Err(TicketError::NotATicket));
        assert_eq!("".parse::<Ticket>(), Err(TicketError::NotATicket));
        assert_eq!("nilas2:abc".parse::<Ticket>(), Err(TicketError::Version));
        assert_eq!("nilas1:".parse::<Ticket>(), Err(TicketError::Broken));
        assert_eq!("nilas1:ünïcode".parse::<Ticket>(), Err(TicketError::Broken));
        assert_eq!(
            "x".repeat(1 << 20).parse::<Ticket>(),
            Err(TicketError::TooLong)
        );
    }

    #[test]
    fn a_full_ticket_stays_as_it_was() {
        let mut ticket = ticket();
        let mut candidates = 2;
        while ticket
            .push_candidate("candidate:3 1 udp 1 198.51.100.20 50000 typ host")
            .is_ok()
        {
            candidates += 1;
        }
        assert!(candidates > 30, "{candidates}");
        assert_eq!(ticket.candidates().len(), candidates);
        let line = ticket.to_string();
        assert!(line.len() <= MAX_TICKET_CHARACTERS);
        assert_eq!(line.parse(), Ok(ticket));
    }

    #[test]
    fn debug_hides_credentials() {
        let text = format!("{:?}", ticket());
        assert!(
            !text.contains("Uf7g") && !text.contains("password"),
            "{text}"
        );
    }
}
