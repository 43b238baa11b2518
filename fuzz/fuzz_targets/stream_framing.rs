//! Streams of TURN messages, whole and in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nilas_fuzz::stream_framing::check(data));
