//! The listening sockets.

use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

/// One socket for each address the host has. One that this machine does not have (IPv6 may be switched off) is left out
/// if another works; one in use is an error, or half of the clients would reach somebody else.
pub fn bind_sockets(host: &str, port: u16, backlog: u32) -> io::Result<Vec<TcpListener>> {
    let mut bound = Vec::new();
    let mut left_out = None;
    for address in resolve(host, port)? {
        match bind(address, backlog) {
            Ok(listener) => {
                bound.push(listener);
                // The IPv6 wildcard takes IPv4 clients too.
                if address.ip() == Ipv6Addr::UNSPECIFIED {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {
                left_out = Some(e)
            }
            Err(e) if e.raw_os_error() == Some(EAFNOSUPPORT) => left_out = Some(e),
            Err(e) => return Err(e),
        }
    }
    match left_out {
        Some(e) if bound.is_empty() => Err(e),
        _ => Ok(bound),
    }
}

/// "Address family not supported": a kernel without IPv6.
const EAFNOSUPPORT: i32 = 97;

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if matches!(host, "" | "*" | "::") {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

/// So many connections may wait to be taken.
fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // an agent that comes back must not wait until the connections of its predecessor are forgotten
    socket.set_reuse_address(true)?;
    // its connections inherit it: a small answer that follows another would wait for the client's acknowledgement
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
