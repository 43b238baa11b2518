//! STUN messages (RFC 8489) with the attributes of ICE (RFC 8445), NAT behavior discovery
//! (RFC 5780) and TURN (RFC 8656, RFC 6062): bytes to messages and back, credentials, integrity.
//!
//! No sockets, no clocks, no randomness: what is done with a message is the business of the crates
//! above. Parsing borrows from the datagram and building writes into the caller's buffer; neither
//! allocates. Hostile bytes end in an error, never in a panic.
//!
//! A datagram goes through these rooms:
//!
//! 1. [`demux`] and [`is_stun`] tell whether it is STUN at all.
//! 2. [`Message::parse`] checks the structure of the whole; [`Message::fingerprint`] the CRC.
//! 3. [`Message::authenticate`] checks the integrity under a [`Key`] and hands out
//!    [`Authenticated`], the only kind of message that may change anybody's state.
//! 4. Typed accessors of [`Message`], one for every attribute, read what it says.
//! 5. [`MessageBuilder`] writes the answer.
//!
//! | file | what lives there |
//! |---|---|
//! | `header` | class, method, transaction id |
//! | `message` | the parser, scope of attributes, FINGERPRINT |
//! | `attribute` | types, TLV form, errors of reading |
//! | `attributes/` | every attribute's reader and writer, by group of RFCs |
//! | `address` | plain and XORed transport addresses |
//! | `error_code` | ERROR-CODE and its registry |
//! | `builder` | the writer, order at the end of a message |
//! | `integrity` | HMACs, keys, the proof of authentication |
//! | `credential` | passwords to keys, OpaqueString, USERHASH |
//! | `reseal` | a message that was changed in place, made whole again |
//! | `nonce` | the nonce cookie and its security features |
//! | `demux` | RFC 7983 |
//! | `uri` | `stun:`, `stuns:`, `turn:` and `turns:` URIs |
//!
//! The feature `std`, on by default, brings the Unicode tables that user names and passwords beyond
//! ASCII need. Without it the crate is `no_std` with `alloc`, and such credentials are an error.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod attribute;
mod attributes;
mod builder;
mod credential;
pub mod demux;
mod error_code;
mod header;
mod integrity;
mod message;
mod nonce;
mod reseal;
pub mod uri;

pub use address::AddressFamily;
pub use attribute::{AttributeError, AttributeType, RawAttribute};
pub use attributes::{
    AddressErrorCode, ChangeRequest, Icmp, PasswordAlgorithm, PasswordAlgorithms, UnknownAttributes,
};
pub use builder::{BuildError, MessageBuilder};
pub use credential::{CredentialError, opaque_string, userhash};
pub use error_code::ErrorCode;
pub use header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, is_stun};
pub use integrity::{Authenticated, IntegrityAlgorithm, IntegrityError, Key};
pub use message::{Fingerprint, Message, ParseError, stream_message_length};
pub use nonce::SecurityFeatures;
pub use reseal::reseal;
