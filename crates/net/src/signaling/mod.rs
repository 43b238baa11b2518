//! How two peers tell each other their descriptions and candidates before any path between them exists.
//!
//! ICE leaves signaling to the application (RFC 8445 section 5.3). nilas brings two ways, and an
//! application may use a third:
//!
//! - **Rendezvous**: both peers connect to a server over WebSocket and name the same short [`Code`]. The
//!   server relays [`Signal`]s between them and sees nothing else: no application data ever passes it.
//!   [`Rendezvous`] is the client; the server lives in the crate `nilas-server` and shares the messages
//!   in [`message`].
//! - **Tickets**: no server at all. Each side prints one line, a [`Ticket`], which the other side pastes.
//!
//! # The rooms
//!
//! - [`code`]: what a code looks like, how strong it is, and why.
//! - [`signal`]: what peers tell each other; the server does not look into it.
//! - [`message`]: the envelopes between client and server, and their bounds.
//! - [`rendezvous`]: the client.
//! - [`rate`]: how often something may happen.
//! - [`ticket`]: the lines for copy and paste.
//!
//! # What a code protects
//!
//! Whoever names the code first becomes the other peer. A code is used once, expires, and cannot be tried
//! at speed; it is no cryptographic secret against the server itself, which could put itself between the
//! peers. Who must not trust the server compares keys in the session layer or uses tickets.

pub mod code;
pub mod message;
pub mod rate;
pub mod rendezvous;
pub mod signal;
pub mod ticket;
mod words;

pub use code::{Code, CodeError};
pub use message::{ClientMessage, MessageError, Refusal, ServerMessage};
pub use rendezvous::{Meeting, Rendezvous, RendezvousError, RendezvousEvent, RendezvousSender};
pub use signal::{CandidateInit, Description, Signal};
pub use ticket::{Ticket, TicketError};
