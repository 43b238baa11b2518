//! What the fuzz targets check, as ordinary functions: each takes any bytes and panics where something does not hold.
//!
//! | room | what lives there |
//! |---|---|
//! | `choices` | bytes read as decisions, and decisions written as bytes |
//! | `relay` | a TURN server's core, driven without sockets, and users that sign |
//! | `turn_server`, `turn_client`, `stream_framing` | the relay's two ends |
//! | `agent` | the ICE agent's whole input: two of them, their network, and an attacker |
//! | `recording` | recordings of sessions, changed by somebody |
//! | `candidate_lines`, `signaling` | text from the other side, and from users |
//! | `seeds` | the seed corpora |

pub mod agent;
pub mod candidate_lines;
pub mod choices;
pub mod recording;
pub mod relay;
pub mod seeds;
pub mod signaling;
pub mod stream_framing;
pub mod turn_client;
pub mod turn_server;
