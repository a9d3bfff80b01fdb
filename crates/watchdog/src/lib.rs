//! The watchdog device: a timer of the kernel or the hardware that resets this machine when nobody pings it. It does what
//! fence thread and guard process do for PostgreSQL when the machine itself gives neither of them any time.
//!
//! The rule: it is armed before PostgreSQL may become writable, and it never fires later than the lease ends. It is pinged when a
//! renewal was proven, and not otherwise, with one exception: a primary whose lease can not be renewed is ended by the fence
//! shortly before the lease ends; the device would fire before that, and reset a machine that is in order. So, shortly
//! before it would, it is set once to the time between the fence's last deadline and the end of the lease.
//!
//! Reading order: `options` (what is configured), `span` (the arithmetic), `device` and `linux` (what it is), `running`
//! (while it is needed), `held` (while it is not, and cannot be stopped), `watchdog`.

mod device;
mod held;
mod linux;
mod options;
mod running;
mod span;
mod watchdog;

pub use options::{WatchdogDriver, WatchdogMode, WatchdogOptions};
pub use watchdog::{Watchdog, Wish};
