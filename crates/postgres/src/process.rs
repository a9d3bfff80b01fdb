//! Which processes belong to a data directory, read from `/proc`. A process belongs to it when its program is
//! `postgres` and its working directory is the data directory; a zombie is dead.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel's clock ticks a second in `/proc/<pid>/stat`; fixed on Linux.
const TICKS_PER_SECOND: u64 = 100;
/// How far the time in `postmaster.pid` may be from the kernel's when nothing else can be read.
const START_TIME_TOLERANCE_S: u64 = 3;

/// Line 8 of `postmaster.pid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PidFileStatus {
    /// `starting`, or not written yet.
    Starting,
    /// `stopping`.
    Stopping,
    /// `ready`: a primary accepts connections.
    Ready,
    /// `standby`: a hot standby accepts connections.
    Standby,
}

/// A living postmaster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Postmaster {
    /// Its process number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot: with the number it is unique.
    pub start_ticks: u64,
    /// What it says of itself.
    pub status: PidFileStatus,
}

impl Postmaster {
    /// By its own word.
    pub fn accepts_clients(&self) -> bool {
        matches!(self.status, PidFileStatus::Ready | PidFileStatus::Standby)
    }
}

/// What is alive of a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alive {
    /// Nothing.
    Nothing,
    /// A postmaster, perhaps with children.
    Postmaster(Postmaster),
    /// A server program that has not written `postmaster.pid` yet.
    JustSpawned(Vec<i32>),
    /// No postmaster, but backends.
    Orphans(Vec<i32>),
}

/// Looks for the processes of a data directory. A single-user server, which no client can reach, is not looked for.
pub fn alive(data_dir: &Path) -> Alive {
    if let Some(postmaster) = find_postmaster(data_dir) {
        return Alive::Postmaster(postmaster);
    }
    let pids: Vec<i32> = server_processes(data_dir).into_iter().filter(|pid| !is_single_user(*pid)).collect();
    let titles: Vec<_> = pids.iter().map(|pid| title(*pid)).collect();
    match find_postmaster(data_dir) {
        Some(postmaster) => Alive::Postmaster(postmaster),
        None if pids.is_empty() => Alive::Nothing,
        None if is_just_spawned(&titles) => Alive::JustSpawned(pids),
        None => Alive::Orphans(pids),
    }
}

/// Is one of the processes with these titles a server that begins? Children of a postmaster have a title that begins with
/// `postgres: `, and a process on its way out has none any more.
fn is_just_spawned(titles: &[Option<String>]) -> bool {
    let living = || titles.iter().flatten();
    living().next().is_some() && !living().any(|title| title.starts_with("postgres: "))
}

/// The postmaster named by `postmaster.pid`, if it lives and belongs to this directory.
pub fn find_postmaster(data_dir: &Path) -> Option<Postmaster> {
    let file = PidFile::read(data_dir)?;
    let stat = Stat::read(file.pid)?;
    let ours = match (is_server_program(file.pid), works_in(file.pid, data_dir)) {
        (Some(program), Some(directory)) => program && directory,
        (Some(false), None) => false,
        // The links cannot be read: rather believe in a server that is not there than overlook one.
        (Some(true) | None, _) => stat.started_near(file.started_epoch_s),
    };
    ours.then_some(Postmaster { pid: file.pid, start_ticks: stat.start_ticks, status: file.status })
}

/// Every living process of the data directory, the postmaster included.
pub fn server_processes(data_dir: &Path) -> Vec<i32> {
    let belongs = |pid: &i32| belongs_to(*pid, data_dir);
    all_pids().filter(belongs).collect()
}

/// Is this process, at this moment, a living server process of the data directory?
pub fn belongs_to(pid: i32, data_dir: &Path) -> bool {
    is_of(works_in(pid, data_dir), is_server_program(pid)) && Stat::read(pid).is_some()
}

/// A process that exits loses its program before it lets go of the shared memory, and its directory only after that: until
/// then no server can be started here.
fn is_of(works_here: Option<bool>, runs_server: Option<bool>) -> bool {
    works_here == Some(true) && runs_server != Some(false)
}

/// Living processes of these programs that were given the data directory as an argument.
pub(crate) fn programs_on(data_dir: &Path, programs: &[&str]) -> Vec<i32> {
    let runs = |pid: &i32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).map(without_deleted).unwrap_or_default();
        exe.file_name().is_some_and(|name| programs.iter().any(|known| name == OsStr::new(known)))
    };
    let directory = data_dir.as_os_str().as_bytes();
    all_pids().filter(|pid| runs(pid) && arguments(*pid).iter().any(|a| a == directory)).collect()
}

fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// `--single` is only taken as the first argument.
fn is_single_user(pid: i32) -> bool {
    arguments(pid).get(1).is_some_and(|first| first == b"--single")
}

/// All living descendants of a process.
pub fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all_pids().filter_map(|p| Some((p, Stat::read(p)?.parent))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// The start time of a living process, in clock ticks since boot; `None` once it is dead or a zombie.
pub fn start_ticks(pid: i32) -> Option<u64> {
    Stat::read(pid).map(|s| s.start_ticks)
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Is this the name of a server program: `postgres`, `postmaster`, or what packagers make of it (`postgres-15`,
/// `edb-postgres`)? A server of another name would not be recognised.
pub fn is_server_name(name: &str) -> bool {
    let version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.'));
    name == "postmaster" || name.ends_with("-postgres") || name.strip_prefix("postgres").is_some_and(version)
}

fn is_server_program(pid: i32) -> Option<bool> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let exe = without_deleted(exe);
    // `setsid` becomes the server a moment after it was spawned.
    Some(exe.file_name().and_then(OsStr::to_str).is_some_and(|name| name == "setsid" || is_server_name(name)))
}

/// Compared by inode, because paths have aliases, and by text, because the directory may have been removed.
fn works_in(pid: i32, data_dir: &Path) -> Option<bool> {
    let link = PathBuf::from(format!("/proc/{pid}/cwd"));
    let target = fs::read_link(&link).ok()?;
    let same_inode = match (fs::metadata(&link), fs::metadata(data_dir)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    };
    Some(same_inode || without_deleted(target) == data_dir)
}

fn without_deleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(kept) => PathBuf::from(OsStr::from_bytes(kept)),
        None => path,
    }
}

/// What a process calls itself; `None` once it is dead.
pub(crate) fn title(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    Some(String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " "))
}

struct Stat {
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    /// `None` for a process that does not exist or is a zombie.
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name stands in parentheses and may itself contain some.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X" | "x") {
            return None;
        }
        Some(Self { parent: fields.get(1)?.parse().ok()?, start_ticks: fields.get(19)?.parse().ok()? })
    }

    fn started_near(&self, epoch_s: u64) -> bool {
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot_s = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<u64>().ok()).unwrap_or(0);
        (boot_s + self.start_ticks / TICKS_PER_SECOND).abs_diff(epoch_s) <= START_TIME_TOLERANCE_S
    }
}

struct PidFile {
    pid: i32,
    started_epoch_s: u64,
    status: PidFileStatus,
}

impl PidFile {
    /// `None` when there is none, or when it belongs to a single-user server (negative number).
    fn read(data_dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
        let line = |n: usize| text.lines().nth(n).map(str::trim);
        let pid = line(0)?.parse().ok().filter(|pid| *pid > 1)?;
        let status = match line(7) {
            Some("ready") => PidFileStatus::Ready,
            Some("standby") => PidFileStatus::Standby,
            Some("stopping") => PidFileStatus::Stopping,
            _ => PidFileStatus::Starting,
        };
        Some(Self { pid, started_epoch_s: line(2).and_then(|l| l.parse().ok()).unwrap_or(0), status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_alive_and_not_a_server() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(me).is_some());
        let here = std::env::current_dir().unwrap();
        assert_eq!(works_in(me, &here), Some(true));
        assert!(!belongs_to(me, &here));
    }

    #[test]
    fn what_works_here_and_runs_the_server_or_is_on_its_way_out_belongs_here() {
        assert!(is_of(Some(true), Some(true)));
        assert!(is_of(Some(true), None), "it may still be attached to the shared memory");
        assert!(!is_of(Some(true), Some(false)), "a shell in the directory");
        assert!(!is_of(Some(false), Some(true)) && !is_of(Some(false), None), "another server");
        assert!(!is_of(None, Some(true)) && !is_of(None, None), "it has let go of everything, or is not ours to see");
    }

    #[test]
    fn processes_that_exit_are_no_server_that_begins() {
        let titles = |titles: &[Option<&str>]| titles.iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>();
        assert!(is_just_spawned(&titles(&[Some("/usr/bin/postgres -D /data")])));
        assert!(is_just_spawned(&titles(&[Some("setsid postgres -D /data"), None])));
        assert!(!is_just_spawned(&titles(&[Some("postgres: demo: checkpointer"), None])));
        assert!(!is_just_spawned(&titles(&[None, None])), "a second would be lost until the next look");
    }

    #[test]
    fn a_child_is_a_descendant_and_a_zombie_is_dead() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(descendants(i32::try_from(std::process::id()).unwrap()).contains(&pid));
        let exit = crate::exit_watch::PidFd::open(pid).unwrap();
        child.kill().unwrap();
        assert!(exit.wait(std::time::Duration::from_secs(30)));
        assert_eq!(start_ticks(pid), None);
        child.wait().unwrap();
    }
}
