//! A TURN client, its server, and somebody between them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _reached = nilas_fuzz::turn_client::check(data);
});
