//! Making a router forget every flow: one netlink message, so that no further program is needed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`; without a tuple it deletes everything.
const DELETE_FLOWS: u16 = 0x0102;
/// `NLM_F_REQUEST | NLM_F_ACK`
const REQUEST_WITH_ANSWER: u16 = 0x0005;
/// `NLMSG_ERROR`, which is also the type of a good answer: its error number is 0 then.
const ANSWER: u16 = 0x0002;

/// Deletes every flow of the calling thread's namespace.
pub(crate) fn flush() -> io::Result<()> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    // Length, type, flags, sequence, port; then family, version and resource, all of them "any".
    let mut request = Vec::with_capacity(20);
    request.extend_from_slice(&20_u32.to_ne_bytes());
    request.extend_from_slice(&DELETE_FLOWS.to_ne_bytes());
    request.extend_from_slice(&REQUEST_WITH_ANSWER.to_ne_bytes());
    request.extend_from_slice(&[0; 12]);
    sendto(
        fd.as_raw_fd(),
        &request,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 4096];
    let length = File::from(fd).read(&mut answer)?;
    let kind = answer
        .get(4..6)
        .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    if length < 20 || kind != Some(ANSWER) {
        return Err(io::Error::other("the kernel's answer is not one"));
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
