//! Recordings, played back and explained.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _whole = nilas_fuzz::recording::check(data);
});
