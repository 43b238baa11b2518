//! Names of candidates that hide an address from a page or a peer's signaling (draft-ietf-mmusic-mdns-ice-candidates),
//! found by multicast DNS (RFC 6762).
//!
//! A browser tells `<uuid>.local` in place of a host's address, and answers for that name on the link. Here such names
//! are resolved, by multicast only, since a name server has no business with them; and this machine's own are answered for.
//!
//! | room | what lives there |
//! |---|---|
//! | `resolver` | which questions go out when, and what an answer means; no I/O |
//! | `responder` | which answers go out when, and to whom; no I/O |
//! | `message` | bytes to questions and answers, and back |
//! | `links` | the sockets and interfaces |
//! | `task` | [`Mdns`]: who waits for a name, and who hears |

mod links;
mod message;
mod resolver;
mod responder;
mod task;

pub use task::Mdns;
