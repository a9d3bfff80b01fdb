//! An open watchdog device. From its opening on it runs; only `disarm` stops it, and that is not always possible.

use crate::linux;
use crate::options::{WatchdogDriver, WatchdogOptions};
use rustix::fs::{Access, Mode, OFlags, access};
use rustix::io::{Errno, write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Any byte but the magic one is a ping.
const PING: &[u8] = b"1";
/// Written last, it says that the device is closed on purpose.
const MAGIC_CLOSE: &[u8] = b"V";

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    file: OwnedFd,
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    Linux(linux::Features),
    /// The timeout that was written last.
    Testing(u64),
}

/// Could it be opened for writing?
pub(crate) fn is_writable(path: &Path) -> Result<(), String> {
    access(path, Access::WRITE_OK).map_err(|e| no_access(path, e))
}

fn no_access(path: &Path, e: Errno) -> String {
    let hint = match e {
        Errno::NOENT => ": there is no such device; load a driver, softdog where there is no hardware",
        Errno::ACCESS | Errno::PERM => ": make it writable for the user of the agent, for example with a udev rule",
        Errno::BUSY => ": another program uses it",
        Errno::NXIO => ": nobody reads from it",
        _ => "",
    };
    format!("cannot open {} for writing: {e}{hint}", path.display())
}

impl Device {
    pub fn open(options: &WatchdogOptions) -> Result<Self, String> {
        let path = &options.device;
        // never waits, also where it is a FIFO
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| no_access(path, e))?;
        let driver = match options.driver {
            WatchdogDriver::Testing => Driver::Testing(0),
            WatchdogDriver::Linux => match linux::features(&file) {
                Ok(features) => Driver::Linux(features),
                Err(e) => {
                    // what has no features has no timer that the closing could leave running
                    return Err(format!("{} is no watchdog device: {e}", path.display()));
                }
            },
        };
        Ok(Self { file, driver })
    }

    /// Sets the timeout as near as the device can; the one in force.
    pub fn set_timeout(&mut self, seconds: u64) -> Result<u64, String> {
        match &mut self.driver {
            Driver::Testing(timeout) => {
                write_all(&self.file, format!("Ctimeout={seconds}\n").as_bytes())
                    .map_err(|e| format!("cannot set the timeout: {e}"))?;
                *timeout = seconds;
                Ok(seconds)
            }
            Driver::Linux(features) => {
                if features.can_set_timeout {
                    linux::set_timeout(&self.file, seconds)
                        .map_err(|e| format!("cannot set a timeout of {seconds} s: {e}"))?;
                }
                linux::timeout(&self.file).map_err(|e| format!("cannot read the timeout in force: {e}"))
            }
        }
    }

    /// Begins the timeout anew.
    pub fn ping(&self) -> Result<(), String> {
        write_all(&self.file, PING).map_err(|e| format!("cannot ping: {e}"))
    }

    /// Stops and closes it. An error means that it goes on and will fire.
    pub fn disarm(self) -> Result<(), String> {
        let stoppable = match &self.driver {
            Driver::Testing(_) => true,
            Driver::Linux(features) => features.can_be_stopped,
        };
        if !stoppable {
            let _ = self.ping();
            return Err("it cannot be stopped once it runs (its driver knows no magic close)".to_owned());
        }
        write_all(&self.file, MAGIC_CLOSE).map_err(|e| e.to_string())
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    loop {
        match write(file, bytes) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::AGAIN),
        }
    }
}
