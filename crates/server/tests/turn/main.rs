//! The relay on the loopback, as clients see it: the client's core over UDP, TCP, TLS and DTLS.

mod certificate;
mod life;
#[cfg(target_os = "linux")]
mod marks;
mod raw;
mod streams;
mod support;
mod tcp_peers;
mod udp;
