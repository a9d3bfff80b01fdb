//! The agent's end: hands every order to the guard and notes when it was taken. It belongs to the fence thread, so
//! nothing here waits: sending and receiving return at once, and finding or starting a guard is done by a short-lived
//! thread, because a disk may be needed for it.

use crate::message::{Answer, LEN, Request, read_answer, request};
use crate::{log_file, place, process};
use pgherd_clock::{Waker, boottime};
use pgherd_postgres::{GuardedUntil, PidFd};
use pgherd_types::{FenceOrder, Instant};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt::socket_peercred};
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A guard that did not answer for so long counts as gone; it may come back.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// Between two attempts to find or start a guard.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long a new guard may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(5);
const START_STEP: Duration = Duration::from_millis(5);
/// After so many silences in a row it is killed: it could wake up with an old order at any time.
const SILENCES_MAX: u32 = 4;

/// How a guard is started.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// This program.
    pub program: PathBuf,
    /// What it shall guard.
    pub data_dir: PathBuf,
}

/// See the module.
pub struct Link {
    program: GuardProgram,
    waker: Waker,
    guarded: GuardedUntil,
    connection: Option<Connection>,
    search: Arc<Mutex<Search>>,
    try_at: Instant,
    silences: u32,
    /// The log has said that there is no guard.
    complained: bool,
}

struct Connection {
    socket: OwnedFd,
    guard: i32,
    number: u64,
    said: Option<Request>,
    /// When the request was sent that has not been answered yet.
    unanswered_since: Option<Instant>,
    /// It has answered before.
    known: bool,
}

enum Search {
    Idle,
    Running,
    Ended(Result<OwnedFd, String>),
}

impl Link {
    /// A link that is woken with `waker` when there is something to tend to, and keeps `guarded` true.
    pub fn new(program: GuardProgram, waker: Waker, guarded: GuardedUntil) -> Self {
        let search = Arc::new(Mutex::new(Search::Idle));
        let (connection, try_at) = (None, Instant::default());
        Self { program, waker, guarded, connection, search, try_at, silences: 0, complained: false }
    }

    /// What a wait must also wait for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|c| c.socket.as_fd())
    }

    /// Makes sure that the guard has this order, or will have it; when to tend again.
    pub fn tend(&mut self, order: FenceOrder) -> Option<Instant> {
        self.find();
        self.hear();
        self.say(Request::Order(order));
        self.tend_again_at()
    }

    /// Sends the guard away, since everything is left in order. True when nothing is left to wait for.
    pub fn dismiss(&mut self) -> bool {
        self.take_found();
        self.hear();
        let disarmed = Request::Order(FenceOrder::Disarmed);
        if self.connection.as_ref().is_some_and(|c| c.said != Some(Request::Quit)) {
            self.say(disarmed);
            self.say(Request::Quit);
        }
        self.connection.is_none() && !matches!(*self.lock(), Search::Running)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to tend again, if nothing happens before.
    pub fn tend_again_at(&self) -> Option<Instant> {
        match &self.connection {
            Some(connection) => connection.unanswered_since.map(|since| since + ANSWER_PATIENCE),
            None if matches!(*self.lock(), Search::Running) => None,
            None => Some(self.try_at),
        }
    }

    fn find(&mut self) {
        self.take_found();
        let now = boottime();
        if self.connection.is_some() || now < self.try_at || matches!(*self.lock(), Search::Running) {
            return;
        }
        self.try_at = now + TRY_AGAIN;
        *self.lock() = Search::Running;
        let (program, search, waker) = (self.program.clone(), self.search.clone(), self.waker.clone());
        let work = move || {
            let found = find_or_start(&program);
            *search.lock().unwrap_or_else(PoisonError::into_inner) = Search::Ended(found);
            waker.wake();
        };
        if let Err(e) = std::thread::Builder::new().name("guard-start".to_owned()).stack_size(256 << 10).spawn(work) {
            *self.lock() = Search::Idle;
            self.complain(&format!("cannot start a thread: {e}"));
        }
    }

    fn take_found(&mut self) {
        let mut search = self.lock();
        if !matches!(*search, Search::Ended(_)) {
            return;
        }
        let found = std::mem::replace(&mut *search, Search::Idle);
        drop(search);
        match found {
            Search::Ended(Ok(socket)) => {
                let guard = socket_peercred(&socket).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
                let connection =
                    Connection { socket, guard, number: 0, said: None, unanswered_since: None, known: false };
                self.connection = Some(connection);
            }
            Search::Ended(Err(why)) => self.complain(&why),
            Search::Idle | Search::Running => {}
        }
    }

    fn say(&mut self, wanted: Request) {
        let Some(connection) = self.connection.as_mut().filter(|c| c.said != Some(wanted)) else { return };
        if let Request::Order(order) = wanted {
            self.guarded.limit(deadline(order));
        }
        connection.number += 1;
        connection.said = Some(wanted);
        connection.unanswered_since = Some(connection.unanswered_since.unwrap_or_else(boottime));
        let message = request(connection.number, wanted);
        match send(&connection.socket, &message, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::AGAIN) => self.lose("it does not read what it is told"),
            Err(_) => self.lose("it has ended"),
        }
    }

    fn hear(&mut self) {
        let mut bytes = [0; LEN + 1];
        while let Some(connection) = &mut self.connection {
            match recv(&connection.socket, &mut bytes, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) | Ok((0, _)) => return self.lose("it has ended"),
                Ok((len, _)) => match read_answer(&bytes[..len]) {
                    Some((number, Answer::Taken)) if number == connection.number => self.taken(),
                    // it is alive, and the last order is still to come
                    Some((_, Answer::Taken)) => connection.unanswered_since = Some(boottime()),
                    Some((_, Answer::Refused)) => return self.lose("it refused to go"),
                    None => return self.lose("its answer was not understood"),
                },
            }
        }
        let overdue = |c: &Connection| c.unanswered_since.is_some_and(|since| boottime() >= since + ANSWER_PATIENCE);
        if self.connection.as_ref().is_some_and(overdue) {
            self.silent();
        }
    }

    fn taken(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        connection.unanswered_since = None;
        if let Some(Request::Order(order)) = connection.said {
            self.guarded.set(deadline(order));
        }
        if !std::mem::replace(&mut connection.known, true) {
            log::info!("the guard process is on duty (pid {})", connection.guard);
            let data_dir = self.program.data_dir.clone();
            let thread = std::thread::Builder::new().name("guard-others".to_owned()).stack_size(256 << 10);
            let _ = thread.spawn(move || place::replace_others(&data_dir));
        }
        (self.silences, self.complained) = (0, false);
    }

    fn silent(&mut self) {
        self.silences += 1;
        let guard = self.connection.as_ref().map_or(0, |c| c.guard);
        if self.silences >= SILENCES_MAX && PidFd::open(guard).is_ok_and(|fd| fd.signal(Signal::KILL).is_ok()) {
            log::error!("killed the guard process (pid {guard}): it does not answer");
            self.silences = 0;
        }
        self.lose("it does not answer");
    }

    fn lose(&mut self, why: &str) {
        let leaving = self.connection.as_ref().is_some_and(|c| c.said == Some(Request::Quit));
        let guard = self.connection.take().map_or(0, |c| c.guard);
        self.guarded.set(None);
        if leaving {
            return log::debug!("the guard process (pid {guard}) is gone");
        }
        self.complain(&format!("lost the one with pid {guard}: {why}"));
    }

    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!("there is no guard process ({why}): only the agent itself fences now, and nothing is promoted");
        }
    }
}

/// When the guard will stop PostgreSQL.
fn deadline(order: FenceOrder) -> Option<Instant> {
    match order {
        FenceOrder::Disarmed => None,
        FenceOrder::Armed { stop_at, .. } => Some(stop_at),
    }
}

/// Blocks for a while.
fn find_or_start(program: &GuardProgram) -> Result<OwnedFd, String> {
    let data_dir = &program.data_dir;
    if let Ok(socket) = place::connected(data_dir) {
        return Ok(socket);
    }
    let mut child = spawn(program).map_err(|e| format!("cannot start {}: {e}", program.program.display()))?;
    let give_up_at = boottime() + START_PATIENCE;
    let found = loop {
        match place::connected(data_dir) {
            Ok(socket) => break Ok(socket),
            Err(e) if boottime() >= give_up_at => break Err(format!("a new one does not listen: {e}")),
            Err(_) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("a new one {status}: {}", log_file::last_line(&place::log_path(data_dir))));
        }
        std::thread::sleep(START_STEP);
    };
    // Reaped by a thread, so that it never stays a zombie while we live.
    let reaper = std::thread::Builder::new().name("guard-reaper".to_owned()).stack_size(64 << 10);
    reaper.spawn(move || drop(child.wait())).map_err(|e| format!("cannot start a thread: {e}"))?;
    found
}

/// Nothing of ours goes with it: no environment, which may hold passwords, and no open file.
fn spawn(program: &GuardProgram) -> std::io::Result<Child> {
    let mut command = Command::new(&program.program);
    command.arg0("pgherd").args(process::COMMAND).arg(&program.data_dir);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}
