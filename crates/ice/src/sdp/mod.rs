//! ICE in session descriptions: RFC 8839, and the fragments of RFC 8840.
//!
//! | room | what lives there |
//! |---|---|
//! | `attribute` | one attribute of ICE, read and written |
//! | `text` | a description as text, cut at its `m=` lines, and how a line of it is exchanged |
//! | `section` | one `m=` section, read |
//! | `ice` | what a section says about ICE; default destinations; what a later description changes |
//! | `description` | an offer or answer, patched |
//! | `fragment` | candidates that trickle: `application/trickle-ice-sdpfrag` |
//!
//! What is none of ICE's business is kept byte for byte. Text from the other side is bounded, and nothing in it
//! can make one line of ours into two.

mod attribute;
mod description;
mod error;
mod fragment;
mod ice;
mod section;
mod text;

pub use attribute::{Attribute, AttributeError, RemoteCandidate, Secret};
pub use description::{SessionDescription, Trickled};
pub use error::SdpError;
pub use fragment::SdpFragment;
pub use ice::{Destination, IceChange, IceDescription};
pub use section::MediaSection;
