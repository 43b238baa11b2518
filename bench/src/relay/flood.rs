//! Requests of strangers: an Allocate without credentials, each from an address and port of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::Failure;

/// Sends them, and waits for none of the answers.
pub(crate) fn run(server: SocketAddr, count: u32) -> Result<(), Failure> {
    // RFC 8656 section 18: Allocate is method 0x003; REQUESTED-TRANSPORT is 0x0019, and 17 is UDP.
    let mut request = [0; 28];
    request[1] = 3;
    request[3] = 8;
    request[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
    request[20..25].copy_from_slice(&[0, 0x19, 0, 4, 17]);
    for number in 0..count {
        // 127.0.0.0/8 is all loopback: 127.1.0.0 and on.
        let from = Ipv4Addr::from(0x7F01_0000 + number);
        let socket = UdpSocket::bind((from, 0))?;
        request[16..20].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&request, server)?;
    }
    Ok(())
}
