//! Candidate lines, attributes, and their JSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nilas_fuzz::candidate_lines::check(data));
