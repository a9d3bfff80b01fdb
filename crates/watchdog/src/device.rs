//! An open watchdog device. From its opening on it runs; only `disarm` stops it, and that is not always possible.

use crate::linux;
use crate::options::{WatchdogDriver, WatchdogOptions};
use rustix::fs::{Access, Mode, OFlags, Stat, access, major, minor};
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
    /// What it answers to the order to stop.
    Testing(Result<(), Errno>),
}

/// A device that goes on, and why.
#[derive(Debug)]
pub(crate) struct Unstoppable {
    pub device: Device,
    pub why: String,
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
            WatchdogDriver::Testing => Driver::Testing(Ok(())),
            #[cfg(test)]
            WatchdogDriver::Played { nowayout, .. } => {
                Driver::Testing(if nowayout { Err(Errno::BUSY) } else { Ok(()) })
            }
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
    pub fn set_timeout(&self, seconds: u64) -> Result<u64, String> {
        match &self.driver {
            Driver::Testing(_) => write_all(&self.file, format!("Ctimeout={seconds}\n").as_bytes())
                .map(|()| seconds)
                .map_err(|e| format!("cannot set the timeout: {e}")),
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

    /// Stops and closes it, or gives it back.
    pub fn disarm(self) -> Result<(), Unstoppable> {
        let (stopped, features) = match self.driver {
            Driver::Linux(features) => (linux::stop(&self.file), features),
            Driver::Testing(answer) => (answer, linux::Features { can_set_timeout: true, can_be_stopped: true }),
        };
        if let Some(why) = unstoppable(stopped, features) {
            return Err(Unstoppable { device: self, why: why.to_owned() });
        }
        // also when it stands already: some drivers start it again when they are closed without
        write_all(&self.file, MAGIC_CLOSE).map_err(|e| Unstoppable { device: self, why: e.to_string() })
    }

    /// Does its driver let nobody stop it, as far as the kernel says so?
    pub fn has_no_way_out(&self) -> bool {
        match &self.driver {
            Driver::Linux(_) => rustix::fs::fstat(&self.file).is_ok_and(|file| says(&file, "nowayout", "1")),
            Driver::Testing(answer) => answer.is_err(),
        }
    }
}

/// Why the magic close will not stop it, judged by what the driver answered to the order to stop.
fn unstoppable(stopped: Result<(), Errno>, features: linux::Features) -> Option<&'static str> {
    match stopped {
        Ok(()) => None,
        // the driver would take the magic close, and ignore it
        Err(Errno::BUSY) => Some("its driver was loaded with nowayout"),
        Err(_) if features.can_be_stopped => None,
        Err(_) => Some("its driver knows no magic close"),
    }
}

/// Does the kernel say that it runs? Leaves it alone. What is no watchdog, or cannot be asked, does not.
pub(crate) fn is_running(options: &WatchdogOptions) -> bool {
    match options.driver {
        WatchdogDriver::Linux => rustix::fs::stat(&options.device).is_ok_and(|file| says(&file, "state", "active")),
        WatchdogDriver::Testing => false,
        #[cfg(test)]
        WatchdogDriver::Played { left_armed, .. } => left_armed,
    }
}

fn says(file: &Stat, attribute: &str, wanted: &str) -> bool {
    let path = format!("{}/{attribute}", sysfs(major(file.st_rdev), minor(file.st_rdev)));
    std::fs::read_to_string(path).is_ok_and(|said| said.trim() == wanted)
}

fn sysfs(major: u32, minor: u32) -> String {
    match (major, minor) {
        // the old number of /dev/watchdog is another name of the first device
        (10, 130) => "/sys/class/watchdog/watchdog0".to_owned(),
        _ => format!("/sys/dev/char/{major}:{minor}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stopped_is_known_by_the_drivers_answer() {
        let knows = |can_be_stopped| linux::Features { can_set_timeout: true, can_be_stopped };
        assert_eq!(unstoppable(Ok(()), knows(true)), None);
        assert_eq!(unstoppable(Ok(()), knows(false)), None, "closing it is enough");
        assert_eq!(unstoppable(Err(Errno::BUSY), knows(true)), Some("its driver was loaded with nowayout"));
        assert_eq!(unstoppable(Err(Errno::OPNOTSUPP), knows(true)), None, "the magic close is left");
        assert_eq!(unstoppable(Err(Errno::OPNOTSUPP), knows(false)), Some("its driver knows no magic close"));
    }

    #[test]
    fn the_kernel_is_asked_by_the_devices_number() {
        assert_eq!(sysfs(10, 130), "/sys/class/watchdog/watchdog0");
        assert_eq!(sysfs(247, 1), "/sys/dev/char/247:1");
        for none in ["/dev/null", "/no/such/watchdog"] {
            assert!(!is_running(&WatchdogOptions { device: none.into(), ..WatchdogOptions::default() }), "{none}");
        }
    }
}
