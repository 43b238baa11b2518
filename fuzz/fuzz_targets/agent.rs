//! Two ICE agents, their network, and an attacker.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _connected = nilas_fuzz::agent::check(data);
});
