//! A TURN server's clients, peers and time.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _reached = nilas_fuzz::turn_server::check(data);
});
