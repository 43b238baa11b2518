//! What signaling carries between strangers: messages of the rendezvous, tickets, codes; and users' lists of servers.
//!
//! The sources of these are taken in as they are, not with their crate: it brings a runtime and TLS, which an
//! instrumented build would compile for minutes and none of this touches.

// The front pages of these modules point to neighbours that are not here.
#[allow(rustdoc::broken_intra_doc_links)]
#[path = "../../crates/net/src/signaling"]
pub mod parts {
    pub mod code;
    pub mod message;
    pub mod signal;
    pub mod ticket;
    mod words;
}
#[path = "../../crates/net/src/ice_servers.rs"]
pub mod ice_servers;

use parts::code::{Code, MAX_CODE_LENGTH, MIN_CODE_LENGTH};
use parts::message::{ClientMessage, MAX_MESSAGE_BYTES, ServerMessage};
use parts::signal::Signal;
use parts::ticket::{MAX_TICKET_CHARACTERS, Ticket};

/// A message of the rendezvous, in either direction, and the signal in it.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(message) = ClientMessage::parse(text) {
        assert!(text.len() <= MAX_MESSAGE_BYTES);
        let written = message.to_json();
        let again = ClientMessage::parse(&written).expect("what is written can be read");
        assert_eq!(again.to_json(), written, "of {text}");
        if let ClientMessage::Signal(raw) = message {
            signal(raw.get());
        }
    }
    if let Ok(message) = ServerMessage::parse(text)
        && !matches!(message, ServerMessage::Unknown)
    {
        let written = message.to_json();
        let again = ServerMessage::parse(&written).expect("what is written can be read");
        assert_eq!(again.to_json(), written, "of {text}");
        if let ServerMessage::Signal(raw) = message {
            signal(raw.get());
        }
    }
    signal(text);
    if let Ok(code) = text.parse::<Code>() {
        assert!(
            (MIN_CODE_LENGTH..=MAX_CODE_LENGTH).contains(&code.as_str().len()),
            "{}",
            code.as_str()
        );
        assert_eq!(
            code.as_str().parse().as_ref(),
            Ok(&code),
            "a code is written as it is read"
        );
    }
}

fn signal(text: &str) {
    let Ok(signal) = serde_json::from_str::<Signal>(text) else {
        return;
    };
    let written = serde_json::to_string(&signal).expect("plain fields are always JSON");
    if signal != Signal::Unknown {
        assert_eq!(
            serde_json::from_str::<Signal>(&written).ok(),
            Some(signal),
            "{written}"
        );
    }
}

/// A ticket, whole, or its inside: what a fuzzer cannot know is the checksum.
pub fn check_ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(ticket) = text.parse::<Ticket>() {
        again(&ticket);
    }
    if let Ok(ticket) = serde_json::from_str::<Ticket>(text) {
        let line = ticket.to_string();
        if line.len() <= MAX_TICKET_CHARACTERS {
            again(&ticket);
            // One wrong character anywhere is noticed.
            let place = data.iter().fold(0, |sum: usize, byte| {
                sum.wrapping_mul(31) + usize::from(*byte)
            }) % line.len();
            let mut wrong = line.into_bytes();
            wrong[place] = if wrong[place] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).expect("a ticket is ASCII");
            assert!(wrong.parse::<Ticket>().is_err(), "{wrong}");
        } else {
            assert!(
                line.parse::<Ticket>().is_err(),
                "longer than terminals take"
            );
        }
    }
}

fn again(ticket: &Ticket) {
    let line = ticket.to_string();
    assert_eq!(line.parse().as_ref(), Ok(ticket), "{line}");
    assert!(!line.contains(char::is_whitespace));
}

/// A list of servers, in any of its shapes.
pub fn check_servers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match ice_servers::parse(text) {
        Ok(servers) => {
            assert!((1..=100).contains(&servers.len()));
            assert!(servers.iter().all(|server| !server.urls.is_empty()));
            let written = ice_servers::to_json(&servers);
            assert!(ice_servers::parse(&written) == Ok(servers), "{written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
