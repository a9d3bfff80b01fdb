//! The guard process: one thread that does everything but write the log, no runtime, no configuration.

use crate::log_file::Log;
use crate::message::{Answer, LEN, Request, answer, read_request};
use crate::place;
use crate::watch::{Step, Watch};
use pgherd_clock::{Alarm, boottime};
use pgherd_postgres::Killer;
use pgherd_types::FenceOrder;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How it is called, before the data directory.
pub(crate) const COMMAND: [&str; 2] = ["guard", "--data-dir"];
const KILL_PATIENCE: Duration = Duration::from_millis(200);
/// One agent at a time is connected; more are left over from what its predecessors had open.
const CONNECTIONS_MAX: usize = 8;

/// Does this command line ask for a guard, and of what? Agents write it, not people, so it is read before any other
/// reader of arguments has cost memory.
pub fn wanted(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.skip(1);
    let asked = COMMAND.iter().all(|word| arguments.next().is_some_and(|argument| argument == *word));
    arguments.next().filter(|_| asked).map(PathBuf::from)
}

/// Guards a data directory until it is told to quit, or guards nothing and is alone for a while.
pub fn run(data_dir: &Path) -> Result<(), String> {
    let path = place::log_path(data_dir);
    let log = Log::open(&path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    let ended = Guard::start(data_dir, &log).and_then(|mut guard| guard.watch());
    if let Err(why) = &ended {
        log.say(&format!("ended: {why}"));
    }
    log.close();
    ended
}

struct Guard<'a> {
    watch: Watch,
    killer: Killer,
    listener: OwnedFd,
    /// The agents, in the order in which they came.
    agents: Vec<OwnedFd>,
    alarm: Alarm,
    log: &'a Log,
    socket: PathBuf,
    quit: bool,
    _lock: File,
}

impl<'a> Guard<'a> {
    fn start(data_dir: &Path, log: &'a Log) -> Result<Self, String> {
        // A session of its own, so that nothing that is meant for the agent's terminal or group reaches it. It fails for
        // the leader of a session, which has what is wanted.
        let _ = rustix::process::setsid();
        let _ = std::fs::write("/proc/self/comm", "pgherd-guard");
        std::env::set_current_dir("/").map_err(|e| format!("cannot leave the working directory: {e}"))?;
        let lock = place::lock(data_dir)?;
        let listener = place::listening(data_dir)?;
        let (alarm, _) = Alarm::new().map_err(|e| format!("cannot make an alarm: {e}"))?;
        let guard = Self {
            watch: Watch::default(),
            killer: Killer::new(data_dir),
            listener,
            agents: Vec::new(),
            alarm,
            log,
            socket: place::socket_path(data_dir),
            quit: false,
            _lock: lock,
        };
        guard.say("on duty");
        Ok(guard)
    }

    fn watch(&mut self) -> Result<(), String> {
        loop {
            // Everything that was said comes before everything that is due: a guard that slept through its deadline may
            // have got a later one meanwhile.
            self.listen();
            let now = boottime();
            let step = if self.quit { Step::End } else { self.watch.step(now, !self.agents.is_empty()) };
            match step {
                Step::Wait(until) => {
                    let others: Vec<_> = std::iter::once(&self.listener).chain(&self.agents).map(AsFd::as_fd).collect();
                    self.alarm.wait_also(until, &others).map_err(|e| format!("the alarm failed: {e}"))?;
                }
                Step::Stop => {
                    if self.killer.stop_immediate() {
                        self.say("nobody extended the deadline: stopped PostgreSQL immediately");
                    }
                }
                Step::Kill => self.kill(),
                Step::End => {
                    let _ = std::fs::remove_file(&self.socket);
                    self.say("not needed any more");
                    return Ok(());
                }
            }
        }
    }

    fn kill(&mut self) {
        let anything = self.killer.anything_alive();
        if anything {
            match self.killer.kill_all(KILL_PATIENCE) {
                Ok(()) => self.say("nobody extended the deadline: killed PostgreSQL"),
                Err(e) => self.say(&format!("processes {:?} of PostgreSQL survive SIGKILL; trying again", e.0)),
            }
        }
        self.watch.killed(boottime(), anything);
    }

    /// Takes whatever was said, in the order in which it was: what a dead agent sent last comes before its successor.
    fn listen(&mut self) {
        self.read_all();
        while let Ok(agent) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            self.say("an agent is connected");
            if self.agents.len() >= CONNECTIONS_MAX {
                self.agents.remove(0);
            }
            self.agents.push(agent);
            self.read_all();
        }
    }

    fn read_all(&mut self) {
        let before = self.agents.len();
        let mut agents = std::mem::take(&mut self.agents);
        agents.retain(|agent| self.read(agent));
        self.agents = agents;
        if before > 0 && self.agents.is_empty() {
            match self.watch.order() {
                FenceOrder::Disarmed => self.say("no agent is connected any more"),
                FenceOrder::Armed { stop_at, .. } => {
                    let left_ms = boottime().until(stop_at).as_millis();
                    self.say(&format!("no agent is connected any more; PostgreSQL may go on for {left_ms} ms"));
                }
            }
        }
    }

    /// False when this connection has ended.
    fn read(&mut self, agent: &OwnedFd) -> bool {
        let mut bytes = [0; LEN + 1];
        loop {
            let len = match recv(agent, &mut bytes, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) | Ok((0, _)) => return false,
                Ok((len, _)) => len,
            };
            let Some((number, request)) = read_request(&bytes[..len]) else {
                self.say("a message of another version was not understood");
                return false;
            };
            let reply = answer(number, self.obey(request));
            if send(agent, &reply, SendFlags::NOSIGNAL).is_err() {
                return false;
            }
        }
    }

    fn obey(&mut self, request: Request) -> Answer {
        match request {
            Request::Order(order) => {
                self.note(order);
                self.watch.take(order);
                Answer::Taken
            }
            Request::Quit if self.watch.order() != FenceOrder::Disarmed => Answer::Refused,
            Request::Quit | Request::Replaced => {
                self.quit = true;
                Answer::Taken
            }
        }
    }

    /// Says what changed, but not every extension.
    fn note(&self, order: FenceOrder) {
        match (self.watch.order(), order) {
            (FenceOrder::Disarmed, FenceOrder::Armed { .. }) => self.say("armed"),
            (FenceOrder::Armed { .. }, FenceOrder::Disarmed) => self.say("disarmed"),
            _ => {}
        }
    }

    fn say(&self, what: &str) {
        self.log.say(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{read_answer, request};

    #[test]
    fn a_command_line_asks_for_a_guard_or_for_something_else() {
        let wanted = |words: &[&str]| wanted(words.iter().map(OsString::from));
        assert_eq!(wanted(&["pgherd", "guard", "--data-dir", "/data"]), Some(PathBuf::from("/data")));
        for others in [&["pgherd", "guard", "--data-dir"][..], &["pgherd", "run", "--data-dir", "/data"], &["pgherd"]] {
            assert_eq!(wanted(others), None);
        }
    }

    fn asked(agent: &OwnedFd, number: u64, what: Request) -> Option<Answer> {
        send(agent, &request(number, what), SendFlags::NOSIGNAL).unwrap();
        let (alarm, _waker) = Alarm::new().unwrap();
        alarm.wait_also(Some(boottime() + Duration::from_secs(30)), &[agent.as_fd()]).unwrap();
        let mut bytes = [0; LEN];
        recv(agent, &mut bytes, RecvFlags::empty()).unwrap();
        read_answer(&bytes).filter(|(answered, _)| *answered == number).map(|(_, answer)| answer)
    }

    fn connected(data_dir: &Path) -> OwnedFd {
        let give_up_at = boottime() + Duration::from_secs(30);
        loop {
            match place::connected(data_dir) {
                Ok(agent) => return agent,
                Err(e) => assert!(boottime() < give_up_at, "{e}"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_is_alone_and_goes_only_when_it_is_disarmed_or_replaced() {
        let data_dir = std::env::temp_dir().join(format!("pgherd-guard-{}-{}", std::process::id(), "x".repeat(120)));
        let state = pgherd_postgres::state_dir(&data_dir);
        std::fs::create_dir(&state).unwrap();
        let far = boottime() + Duration::from_secs(3600);
        let armed = Request::Order(FenceOrder::Armed { lease: pgherd_types::LeaseId(1), stop_at: far, kill_at: far });
        for last in [Request::Quit, Request::Replaced] {
            let path = data_dir.clone();
            let guard = std::thread::spawn(move || run(&path));
            let agent = connected(&data_dir);
            assert_eq!(asked(&agent, 1, armed), Some(Answer::Taken));
            assert_eq!(asked(&agent, 2, Request::Quit), Some(Answer::Refused));
            assert_eq!(place::holder(&data_dir), i32::try_from(std::process::id()).ok());
            assert!(run(&data_dir).unwrap_err().contains("another guard is at work"));
            let number = if last == Request::Quit {
                assert_eq!(asked(&agent, 3, Request::Order(FenceOrder::Disarmed)), Some(Answer::Taken));
                4
            } else {
                0
            };
            assert_eq!(asked(&agent, number, last), Some(Answer::Taken));
            assert_eq!(guard.join().unwrap(), Ok(()));
            assert!(!place::socket_path(&data_dir).exists());
            assert_eq!(place::holder(&data_dir), None);
        }
        std::fs::remove_dir_all(&state).unwrap();
    }
}
