//! Any bytes: parsed, read by every accessor, written again, compared.

#![no_main]

#[path = "../src/stun_message.rs"]
mod stun_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stun_message::check(data));
