//! The relay on the loopback, as clients see it: the client's core over UDP, TCP, TLS and DTLS.

mod support;
mod udp;
