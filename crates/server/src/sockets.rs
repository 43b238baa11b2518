//! Binding, and what its errors mean.

use core::net::SocketAddr;
use std::io;
use std::net::UdpSocket;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::error::ServerError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Room for datagrams that come in while the server is busy. The system may give less.
const UDP_BUFFER_BYTES: usize = 4 << 20;

/// Sockets for clients over UDP: for each address one for each worker, among which the system shares clients out.
pub(crate) fn bind_udp(
    addresses: &[SocketAddr],
    workers: u8,
) -> Result<Vec<(Vec<UdpSocket>, SocketAddr)>, ServerError> {
    bind_all("UDP", addresses, |address| {
        if workers == 1 {
            let socket = udp(address, false)?;
            let address = socket.local_addr()?;
            return Ok((vec![socket], address));
        }
        // Another server on the port that shares it, too, would go unnoticed: first see whether it is free.
        let address = udp(address, false)?.local_addr()?;
        let sockets: io::Result<Vec<_>> = (0..workers).map(|_| udp(address, true)).collect();
        Ok((sockets?, address))
    })
}

fn udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    // Without it, it works too.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(shared)?;
    #[cfg(not(target_os = "linux"))]
    let _ = shared;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Listeners for clients over TCP: for each address one for each worker, as over UDP.
pub(crate) fn bind_shared_tcp(
    addresses: &[SocketAddr],
    workers: u8,
) -> Result<Vec<(Vec<std::net::TcpListener>, SocketAddr)>, ServerError> {
    bind_all("TCP", addresses, |address| {
        if workers == 1 {
            let listener = tcp(address, false)?;
            let address = listener.local_addr()?;
            return Ok((vec![listener], address));
        }
        let address = tcp(address, false)?.local_addr()?;
        let listeners: io::Result<Vec<_>> = (0..workers).map(|_| tcp(address, true)).collect();
        Ok((listeners?, address))
    })
}

/// Listeners, each with the address that it got.
pub(crate) fn bind_tcp(
    addresses: &[SocketAddr],
) -> Result<Vec<(TcpListener, SocketAddr)>, ServerError> {
    bind_all("TCP", addresses, |address| {
        let listener = TcpListener::from_std(tcp(address, false)?)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    })
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // On Unix this lets a server that restarts have its port back; on Windows it would share it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(shared)?;
    #[cfg(not(target_os = "linux"))]
    let _ = shared;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Else [::] and 0.0.0.0 could not both have the port.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds all, but for an IPv6 wildcard or loopback address on a machine without IPv6 where others remain.
fn bind_all<T>(
    protocol: &'static str,
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, ServerError> {
    let mut sockets = Vec::new();
    for &address in addresses {
        match bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if addresses.len() > 1 && is_lack_of_ipv6(address, &error) => {
                tracing::warn!(%address, protocol, "left out: this machine has no IPv6");
            }
            Err(error) => return Err(explain(protocol, address, error)),
        }
    }
    Ok(sockets)
}

/// Whether the address is one that every machine with IPv6 has, and this one has no IPv6.
fn is_lack_of_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let SocketAddr::V6(address) = address else {
        return false;
    };
    let can_make = |domain| Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).is_ok();
    (address.ip().is_unspecified() || address.ip().is_loopback())
        // Either no interface has IPv6, or the kernel does not know it: that error has no kind of its own.
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || (can_make(Domain::IPV4) && !can_make(Domain::IPV6)))
}

fn explain(protocol: &'static str, address: SocketAddr, source: io::Error) -> ServerError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::PortInUse { protocol, address },
        io::ErrorKind::AddrNotAvailable => ServerError::AddressNotAvailable { protocol, address },
        io::ErrorKind::PermissionDenied => ServerError::PermissionDenied { protocol, address },
        _ => ServerError::Socket {
            protocol,
            address,
            source,
        },
    }
}
