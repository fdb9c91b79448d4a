//! Network interfaces of this process's network namespace.

use super::bpf::RefusedCall;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`: interfaces whose packets begin with a header of Ethernet.
const WITH_ETHERNET: [u16; 2] = [1, 772];

/// `SIOCGIFINDEX`, `SIOCGIFHWADDR`
const GET_INDEX: libc::Ioctl = 0x8933;
const GET_ADDRESS: libc::Ioctl = 0x8927;

/// A network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which no other gets as long as the namespace exists.
    pub index: u32,
    /// Whether its packets begin with a header of Ethernet.
    pub is_ethernet: bool,
}

/// Looks up an interface by its name; an error of the kind `NotFound` or with `ENODEV` if there is none.
pub fn interface(name: &str) -> io::Result<Interface> {
    // SAFETY: numbers only; a socket of this family talks to nobody before it is bound or connected.
    let made = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if made < 0 {
        return Err(RefusedCall::last("socket").into());
    }
    // SAFETY: the kernel has just made it and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: the structure has only numbers and arrays of them, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the kernel reads the name, which ends with a NUL, and writes a number into the structure.
    if unsafe { libc::ioctl(socket.as_raw_fd(), GET_INDEX, &raw mut request) } != 0 {
        return Err(RefusedCall::last("SIOCGIFINDEX").into());
    }
    // SAFETY: it is what the kernel has just written.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    // SAFETY: as above; it writes an address and its family.
    if unsafe { libc::ioctl(socket.as_raw_fd(), GET_ADDRESS, &raw mut request) } != 0 {
        return Err(RefusedCall::last("SIOCGIFHWADDR").into());
    }
    // SAFETY: it is what the kernel has just written.
    let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
    let index = u32::try_from(index).map_err(io::Error::other)?;
    Ok(Interface { index, is_ethernet: WITH_ETHERNET.contains(&kind) })
}
