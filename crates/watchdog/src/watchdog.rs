//! Keeps the device as the fence's order demands. Never waits; called whenever the order changes and when it said.

use crate::device::{Device, Unstoppable, is_running, is_writable};
use crate::held::Held;
use crate::options::{WatchdogMode, WatchdogOptions};
use crate::running::Running;
use crate::span::Span;
use pgherd_types::{FenceOrder, Instant};
use std::time::Duration;

/// What the device shall be kept by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The order that is in force.
    pub order: FenceOrder,
    /// The lease's time to live.
    pub ttl: Duration,
    /// How often the lease is renewed at least.
    pub loop_wait: Duration,
    /// Maintenance mode: nobody is fenced.
    pub paused: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    options: WatchdogOptions,
    running: Option<Running>,
    /// It is not needed, and cannot be stopped.
    held: Option<Held>,
    /// The log knows that it cannot be stopped.
    held_logged: bool,
    /// Somebody before this agent may have left it armed.
    maybe_left: bool,
    /// The order for which it was last tried to start it, or to ping it.
    served: Option<Instant>,
    /// Why it cannot be used.
    problem: Option<String>,
    /// The problem that the log knows of.
    logged: Option<String>,
}

impl Watchdog {
    /// A watchdog that was not opened yet.
    pub fn new(options: WatchdogOptions) -> Self {
        Self {
            options,
            running: None,
            held: None,
            held_logged: false,
            maybe_left: true,
            served: None,
            problem: None,
            logged: None,
        }
    }

    /// Is a primary without it forbidden?
    pub fn is_required(&self) -> bool {
        self.options.mode == WatchdogMode::Required
    }

    /// Is the device armed?
    pub fn is_armed(&self) -> bool {
        self.running.is_some()
    }

    /// Why it cannot be used, as far as it was tried.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Makes the device what it shall be; when to be called again if nothing changes.
    pub fn tend(&mut self, wish: &Wish, now: Instant) -> Option<Instant> {
        if self.options.mode == WatchdogMode::Off {
            return None;
        }
        if wish.paused || wish.order == FenceOrder::Disarmed {
            self.disarm(wish, now);
            (self.served, self.problem) = (None, None);
            return self.ping_on(now);
        }
        // once the deadline has passed it is not pinged any more, but goes on
        let span = Span::of(wish.order, now)?;
        if self.served != Some(span.stop_at) {
            self.served = Some(span.stop_at);
            self.renewed(wish, &span, now);
        } else {
            self.stretch(now);
        }
        self.plan_stretch(&span, now).or_else(|| self.ping_on(now))
    }

    /// The agent leaves: nobody pings any more what cannot be stopped.
    pub fn leave(&mut self) {
        if let Some(held) = self.held.take() {
            let timeout_s = held.let_go();
            let device = self.options.device.display();
            log::error!(
                "the watchdog {device} cannot be stopped: it resets this machine in {timeout_s} s, unless an agent is started before"
            );
        }
    }

    /// Could it be used, if it had to be? Leaves the device alone.
    pub fn check(&mut self, wish: &Wish) {
        let usable = is_writable(&self.options.device).and_then(|()| self.fits(wish).map(drop));
        self.set_problem(usable.err());
    }

    /// The timeout, if pings will come often enough for it.
    fn fits(&self, wish: &Wish) -> Result<u64, String> {
        let timeout_s = self.options.timeout_s(wish.ttl);
        // renewals come as often at least, whatever loop_wait is
        let between = wish.loop_wait.min(wish.ttl * 2 / 5);
        if timeout_s == 0 || Duration::from_secs(timeout_s) < between {
            return Err(format!(
                "its timeout of {timeout_s} s (ttl of {} s without watchdog.safety_margin) is shorter than the time between two renewals",
                wish.ttl.as_secs()
            ));
        }
        Ok(timeout_s)
    }

    /// A renewal was proven, or the first order came.
    fn renewed(&mut self, wish: &Wish, span: &Span, now: Instant) {
        let kept = match &mut self.running {
            Some(running) => {
                let seconds = self.options.timeout_s(wish.ttl).min(span.seconds_left(now));
                running.ping(seconds, now)
            }
            None => self.start(wish, span, now),
        };
        if kept.is_err() {
            self.running = None; // what still runs fires
        }
        self.set_problem(kept.err());
    }

    fn start(&mut self, wish: &Wish, span: &Span, now: Instant) -> Result<(), String> {
        let seconds = self.fits(wish)?.min(span.seconds_left(now));
        if seconds == 0 {
            return Err("the lease ends too soon to arm it".to_owned());
        }
        let device = match self.held.take() {
            Some(held) => held.into_device(),
            None => Device::open(&self.options)?,
        };
        self.maybe_left = false;
        let in_force = device.set_timeout(seconds);
        let fitting = in_force.and_then(|timeout_s| match timeout_s {
            long if long > seconds && self.is_required() => {
                Err(format!("it cannot be set to {seconds} s, its timeout is {long} s"))
            }
            short if Duration::from_secs(short) < wish.loop_wait.min(wish.ttl * 2 / 5) => {
                Err(format!("it cannot be set to {seconds} s, its timeout is {short} s"))
            }
            fitting => Ok(fitting),
        });
        let timeout_s = match fitting {
            Ok(timeout_s) => timeout_s,
            Err(why) => {
                self.stop(device, wish, now);
                return Err(why);
            }
        };
        if timeout_s > seconds {
            log::warn!(
                "the watchdog fires after {timeout_s} s, later than the {seconds} s wanted: another node may lead before"
            );
        }
        let fires_at = now + Duration::from_secs(timeout_s);
        let mut running = Running { device, set_s: seconds, timeout_s, fires_at, stretch: None };
        running.ping(seconds, now)?;
        log::info!(
            "the watchdog {} is armed: it resets this machine {timeout_s} s after the last ping",
            self.options.device.display()
        );
        if running.device.has_no_way_out() {
            log::warn!(
                "the watchdog's driver was loaded with nowayout: it resets this machine after a planned stop of the agent, too"
            );
        }
        (self.running, self.held_logged) = (Some(running), false);
        Ok(())
    }

    /// The exception: see the crate.
    fn stretch(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let Some(due) = running.stretch.filter(|stretch| stretch.at <= now) else { return };
        log::warn!("the lease was not renewed: the watchdog fires in {} s, after the fence", due.seconds);
        let done = running.ping(due.seconds, now);
        // a device that cannot be set so fires earlier
        self.set_problem(done.err());
    }

    fn plan_stretch(&mut self, span: &Span, now: Instant) -> Option<Instant> {
        let running = self.running.as_mut()?;
        if running.stretch.is_none() {
            running.stretch = span.stretch(running.fires_at, running.timeout_s, now);
        }
        running.stretch.map(|stretch| stretch.at)
    }

    fn disarm(&mut self, wish: &Wish, now: Instant) {
        let device = match self.running.take() {
            Some(running) => Some(running.device),
            None => self.what_was_left(),
        };
        if device.is_some_and(|device| self.stop(device, wish, now)) {
            log::info!("the watchdog is disarmed");
        }
    }

    /// The device, if it runs and nobody has it open. The kernel is asked once: later nobody but this agent leaves it so.
    fn what_was_left(&mut self) -> Option<Device> {
        if !std::mem::take(&mut self.maybe_left) || !is_running(&self.options) {
            return None;
        }
        let name = self.options.device.display();
        match Device::open(&self.options) {
            Ok(device) => {
                log::warn!("the watchdog {name} was left armed, by an agent before this one or another program");
                Some(device)
            }
            Err(why) => {
                log::info!("the watchdog {name} runs and is left alone: {why}");
                None
            }
        }
    }

    /// True if it stands still; else it is pinged on.
    fn stop(&mut self, device: Device, wish: &Wish, now: Instant) -> bool {
        let Err(Unstoppable { device, why }) = device.disarm() else { return true };
        match Held::new(device, self.options.timeout_s(wish.ttl), now) {
            Ok(held) => {
                if !std::mem::replace(&mut self.held_logged, true) {
                    log::error!("the watchdog cannot be stopped: {why}; it is pinged on until the agent's end");
                }
                self.held = Some(held);
            }
            Err(e) => log::error!("the watchdog cannot be stopped and will reset this machine: {why}; {e}"),
        }
        false
    }

    /// When to ping next what cannot be stopped.
    fn ping_on(&mut self, now: Instant) -> Option<Instant> {
        match self.held.as_mut()?.tend(now) {
            Ok(ping_at) => Some(ping_at),
            Err(why) => {
                log::error!("the watchdog cannot be stopped and will reset this machine: {why}");
                self.held = None;
                None
            }
        }
    }

    fn set_problem(&mut self, problem: Option<String>) {
        if let Some(why) = problem.as_ref().filter(|why| self.logged.as_ref() != Some(*why)) {
            let device = self.options.device.display();
            match self.options.mode {
                WatchdogMode::Required => log::error!("the watchdog {device} is required and cannot be used: {why}"),
                WatchdogMode::Automatic => log::info!("the watchdog {device} is not used: {why}"),
                WatchdogMode::Off => {}
            }
        }
        if problem.is_some() {
            self.logged.clone_from(&problem);
        }
        self.problem = problem;
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
