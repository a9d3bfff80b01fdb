//! Data directories that lose their place: where they go, what belongs to them outside, how they are removed. A copy of
//! a failed bootstrap is kept under a name with a time, so that a person can look into it; only so many, and only
//! copies that were made here are ever removed.

use crate::control_data::major_version;
use crate::error::{OperationError, Outcome, Tried};
use crate::server::Postgres;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// So many copies of failed bootstraps are kept.
const FAILED_MAX: usize = 3;

/// A part of a data directory that is elsewhere, behind a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct External {
    /// The link, relative to the data directory: `pg_wal` or `pg_tblspc/<oid>`.
    pub link: PathBuf,
    /// Where it leads to.
    pub target: PathBuf,
}

impl External {
    /// Is it the WAL?
    pub fn is_wal(&self) -> bool {
        self.link == Path::new("pg_wal")
    }
}

/// The parts of a data directory that are elsewhere.
pub(crate) fn externals(dir: &Path) -> Vec<External> {
    let mut links = vec![PathBuf::from("pg_wal")];
    for entry in fs::read_dir(dir.join("pg_tblspc")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.parse::<u32>().is_ok()) {
            links.push(Path::new("pg_tblspc").join(name));
        }
    }
    let external = |link: PathBuf| {
        let target = fs::read_link(dir.join(&link)).ok().filter(|target| target.is_absolute())?;
        Some(External { link, target })
    };
    links.into_iter().filter_map(external).collect()
}

/// The directories in a tablespace that belong to the server of this data directory.
fn version_directories(dir: &Path, tablespace: &Path) -> (Vec<PathBuf>, bool) {
    let prefix = major_version(dir).map_or("PG_".to_owned(), |version| format!("PG_{version}_"));
    let entries = fs::read_dir(tablespace).into_iter().flatten().flatten().map(|e| e.path());
    let ours = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
    let (ours, others): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(ours);
    (ours, others.is_empty())
}

/// Does the tablespace hold files of this server only?
pub(crate) fn is_only_ours(dir: &Path, tablespace: &Path) -> bool {
    version_directories(dir, tablespace).1
}

/// Removes a data directory and what belongs to it elsewhere.
pub(crate) fn remove_tree(dir: &Path) -> Outcome<()> {
    for external in externals(dir) {
        if dir.starts_with(&external.target) {
            log::warn!("{} leads to a directory around it and is not followed", external.link.display());
            continue;
        }
        let removed = if external.is_wal() {
            remove_contents(&external.target)
        } else {
            version_directories(dir, &external.target).0.iter().try_for_each(fs::remove_dir_all)
        };
        removed.tried(|| format!("remove what is in {}", external.target.display()))?;
        // Perhaps a mount point, or not ours to remove: being empty is enough.
        let _ = fs::remove_dir(&external.target);
    }
    remove_plainly(dir)
}

/// Removes a directory and follows no link: for what was moved aside, whose links lead to its successor's files.
pub(crate) fn remove_plainly(dir: &Path) -> Outcome<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", dir.display())),
        _ => Ok(()),
    }
}

fn remove_contents(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// `<path>.<word>.<time>`, a name that nothing has.
pub(crate) fn free_name(path: &Path, word: &str) -> PathBuf {
    let time = jiff::Timestamp::from_millisecond(pgherd_clock::wall().0).unwrap_or_default();
    let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let named = |end: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{word}.{stamp}{end}"));
        PathBuf::from(name)
    };
    let mut names = (0..).map(|n| named(if n == 0 { String::new() } else { format!("-{n}") }));
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| named("-x".to_owned()))
}

/// Flushes the directory that a name is in.
pub(crate) fn flush_parent(path: &Path) -> Outcome<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).tried(|| format!("flush {}", parent.display()))
}

/// Renames without ever taking the place of anything.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> Outcome<()> {
    if to.symlink_metadata().is_ok() {
        return Err(OperationError::failed(format!("{} exists already; nothing was moved there", to.display())));
    }
    fs::rename(from, to).tried(|| format!("rename {} to {}", from.display(), to.display()))?;
    flush_parent(to)
}

/// Lets a link lead elsewhere.
pub(crate) fn relink(link: &Path, target: &Path) -> Outcome<()> {
    let mut temporary = link.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let linked = std::os::unix::fs::symlink(target, &temporary).and_then(|()| fs::rename(&temporary, link));
    linked.tried(|| format!("let {} lead to {}", link.display(), target.display()))?;
    flush_parent(link)
}

/// A kept copy: its paths, and by which number of its directory it is recognised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    inode: u64,
    more: Vec<PathBuf>,
}

impl Kept {
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|m| m.is_dir() && m.ino() == self.inode)
    }
}

/// Keeps what a failed bootstrap left, as `<data directory>.failed.<time>`; nothing if it left nothing. The oldest copies
/// beyond the limit are removed.
pub(crate) fn keep_failed(server: &Postgres, dir: &Path) -> Outcome<Option<PathBuf>> {
    if crate::control_data::is_empty(dir).unwrap_or(false) {
        return Ok(None);
    }
    let path = free_name(&server.place(), "failed");
    let mut more = Vec::new();
    for external in externals(dir).into_iter().filter(|e| e.target.is_dir() && !dir.starts_with(&e.target)) {
        if !external.is_wal() && !is_only_ours(dir, &external.target) {
            continue;
        }
        let to = free_name(&external.target, "failed");
        match rename_to_new(&external.target, &to).and_then(|()| relink(&dir.join(&external.link), &to)) {
            Ok(()) => more.push(to),
            Err(e) => log::warn!("a part of the failed data directory stays where it is: {e}"),
        }
    }
    rename_to_new(dir, &path)?;
    let inode = fs::symlink_metadata(&path).map_or(0, |m| m.ino());
    let list = server.state.path().join("failed_copies");
    let text = fs::read_to_string(&list).unwrap_or_default();
    let mut kept: Vec<Kept> = serde_json::from_str(&text).unwrap_or_default();
    kept.retain(Kept::is_there);
    kept.push(Kept { path: path.clone(), inode, more });
    while kept.len() > FAILED_MAX {
        let oldest = kept.remove(0);
        oldest.more.iter().chain([&oldest.path]).try_for_each(|path| remove_plainly(path))?;
    }
    let text = serde_json::to_string(&kept).tried(|| "write the list of failed copies".to_owned())?;
    server.state.write(&list, &text)?;
    log::error!("what the failed bootstrap left is kept in {}", path.display());
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::PostgresOptions;

    fn temporary(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pgherd-aside-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn only_so_many_failed_copies_are_kept_and_others_are_never_removed() {
        let dir = temporary("failed");
        let server = Postgres::open(PostgresOptions::new("a".into(), "s", &dir.join("data"))).unwrap();
        let stranger = dir.join("data.failed.20200101T000000Z");
        fs::create_dir(&stranger).unwrap();
        let mut made = Vec::new();
        for n in 0..5 {
            fs::create_dir(dir.join("x")).unwrap();
            fs::write(dir.join("x/PG_VERSION"), n.to_string()).unwrap();
            made.push(keep_failed(&server, &dir.join("x")).unwrap().unwrap());
        }
        let names = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        let mut numbers: Vec<_> = names.filter_map(|p| fs::read_to_string(p.join("PG_VERSION")).ok()).collect();
        numbers.sort();
        assert_eq!(numbers, ["2", "3", "4"]);
        assert_eq!(fs::read_to_string(made[4].join("PG_VERSION")).unwrap(), "4");
        assert!(stranger.exists());
        fs::create_dir(dir.join("x")).unwrap();
        assert_eq!(keep_failed(&server, &dir.join("x")).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_belongs_to_a_data_directory_elsewhere_goes_with_it_and_nothing_else() {
        let dir = temporary("tree");
        for part in ["data/pg_tblspc", "wal", "space/PG_15_1/5", "space/PG_14_1"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::write(dir.join("data/PG_VERSION"), "15\n").unwrap();
        fs::write(dir.join("wal/000000010000000000000001"), "x").unwrap();
        std::os::unix::fs::symlink(dir.join("wal"), dir.join("data/pg_wal")).unwrap();
        std::os::unix::fs::symlink(dir.join("space"), dir.join("data/pg_tblspc/16400")).unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("data/pg_tblspc/16401")).unwrap();
        assert_eq!(externals(&dir.join("data")).len(), 3);
        assert!(!is_only_ours(&dir.join("data"), &dir.join("space")));
        remove_tree(&dir.join("data")).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["space"]);
        assert!(dir.join("space/PG_14_1").exists() && !dir.join("space/PG_15_1").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
