//! Messages of the rendezvous.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nilas_fuzz::signaling::check(data));
