//! Linux's watchdog interface (`linux/watchdog.h`), as far as it goes beyond writing to a file.
//!
//! This module has the crate's only `unsafe`: a system call whose opcode and argument must agree. What makes each of them
//! sound: the opcodes are built from the argument's own type (`read::<T>`, `read_write::<T>`), so the kernel reads and
//! writes exactly one `T`; every bit pattern of these types is a valid value; and a file that is no watchdog
//! device answers `ENOTTY`.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};
use std::os::fd::OwnedFd;

/// `struct watchdog_info`.
#[repr(C)]
struct Info {
    options: u32,
    _firmware_version: u32,
    _identity: [u8; 32],
}

const GET_SUPPORT: Opcode = opcode::read::<Info>(b'W', 0);
const SET_OPTIONS: Opcode = opcode::read::<i32>(b'W', 4);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);
/// `WDIOS_DISABLECARD`.
const STOP: i32 = 1;
/// `WDIOF_SETTIMEOUT`.
const CAN_SET_TIMEOUT: u32 = 0x80;
/// `WDIOF_MAGICCLOSE`.
const CAN_BE_STOPPED: u32 = 0x100;

/// What a device can do.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Features {
    /// Its timeout can be changed.
    pub can_set_timeout: bool,
    /// It can be stopped.
    pub can_be_stopped: bool,
}

pub(crate) fn features(device: &OwnedFd) -> Result<Features, Errno> {
    // SAFETY: WDIOC_GETSUPPORT writes one `struct watchdog_info`; see the module
    let info = unsafe { ioctl(device, Getter::<GET_SUPPORT, Info>::new()) }?;
    Ok(Features {
        can_set_timeout: info.options & CAN_SET_TIMEOUT != 0,
        can_be_stopped: info.options & CAN_BE_STOPPED != 0,
    })
}

/// Stops it. `BUSY`: its driver lets nobody do that (`nowayout`); other errors: the driver knows only the magic close.
pub(crate) fn stop(device: &OwnedFd) -> Result<(), Errno> {
    let mut options = STOP;
    // SAFETY: WDIOC_SETOPTIONS reads one `int`; see the module
    unsafe { ioctl(device, Updater::<SET_OPTIONS, i32>::new(&mut options)) }
}

pub(crate) fn set_timeout(device: &OwnedFd, seconds: u64) -> Result<(), Errno> {
    let mut seconds = i32::try_from(seconds).map_err(|_| Errno::INVAL)?;
    // SAFETY: WDIOC_SETTIMEOUT reads and writes one `int`; see the module
    unsafe { ioctl(device, Updater::<SET_TIMEOUT, i32>::new(&mut seconds)) }
}

pub(crate) fn timeout(device: &OwnedFd) -> Result<u64, Errno> {
    // SAFETY: WDIOC_GETTIMEOUT writes one `int`; see the module
    let seconds = unsafe { ioctl(device, Getter::<GET_TIMEOUT, i32>::new()) }?;
    u64::try_from(seconds).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn opcodes_are_those_of_the_kernels_header() {
        assert_eq!((GET_SUPPORT, SET_OPTIONS), (0x8028_5700, 0x8004_5704));
        assert_eq!((SET_TIMEOUT, GET_TIMEOUT), (0xC004_5706, 0x8004_5707));
    }

    #[test]
    fn what_is_no_watchdog_says_so() {
        let file: OwnedFd = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into();
        assert_eq!(features(&file).err(), Some(Errno::NOTTY));
        assert_eq!(stop(&file), Err(Errno::NOTTY));
        assert_eq!(set_timeout(&file, 5), Err(Errno::NOTTY));
        assert_eq!(timeout(&file), Err(Errno::NOTTY));
    }
}
