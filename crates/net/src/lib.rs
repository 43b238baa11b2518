//! The real network for nilas: what the sans-I/O crates leave out.

pub mod signaling;
