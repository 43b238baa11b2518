//! Names of candidates that hide an address from a page or a peer's signaling (draft-ietf-mmusic-mdns-ice-candidates),
//! found by multicast DNS (RFC 6762).
//!
//! A browser tells `<uuid>.local` in place of a host's address, and answers for that name on the link. Here such names
//! are resolved: by multicast only, since a name server has no business with them.
//!
//! | room | what lives there |
//! |---|---|
//! | `resolver` | which questions go out when, and what an answer means; no I/O |
//! | `message` | bytes to questions and answers, and back |
//! | `task` | the sockets |

mod message;
mod resolver;
mod task;

pub use task::MdnsResolver;
