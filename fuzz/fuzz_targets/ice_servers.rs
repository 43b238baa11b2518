//! Lists of STUN and TURN servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nilas_fuzz::signaling::check_servers(data));
