//! A complete copy takes the place of the data directory, and of the WAL directory and the tablespaces that belong to
//! it. What is to be done is written down first: whatever interrupts it, the next start brings it to its end.

use crate::aside::{External, externals, free_name, is_only_ours, relink, remove_plainly, rename_to_new};
use crate::error::{OperationError, Outcome, Tried};
use crate::process::{Alive, alive};
use crate::rewind_marker;
use crate::server::Postgres;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One directory that is exchanged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Where it belongs.
    pub place: PathBuf,
    /// What takes the place; `None` when the place is to be empty.
    pub fresh: Option<PathBuf>,
    /// Where the present one goes until it is removed.
    pub aside: PathBuf,
}

/// Everything that is exchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Exchange {
    /// The directories, the data directory last.
    pub parts: Vec<Part>,
    /// Links in the new data directory, relative to it, and where they must lead.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// What pg_basebackup must be told so that it leaves the present parts outside the data directory alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Detour {
    /// Options: name and value.
    pub options: Vec<(String, Option<String>)>,
    /// Present part and where its successor is made.
    pub made: Vec<(External, PathBuf)>,
}

type Options = [(String, Option<String>)];

/// The user's options, with other places for what is in use.
pub(crate) fn detour(dir: &Path, options: &Options) -> Outcome<Detour> {
    let mut detour = Detour { options: options.to_vec(), made: Vec::new() };
    for external in externals(dir).into_iter().filter(|e| e.target.is_dir()) {
        let target = external.target.display().to_string();
        let fresh = format!("{}.clone", target.trim_end_matches('/'));
        if external.is_wal() {
            let ours = |(name, value): &&mut (String, Option<String>)| {
                name == "waldir" && value.as_deref().is_some_and(|v| Path::new(v) == external.target)
            };
            if let Some((_, value)) = detour.options.iter_mut().find(ours) {
                *value = Some(fresh.clone());
            }
        } else {
            if !is_only_ours(dir, &external.target) {
                return Err(OperationError::failed(format!(
                    "the tablespace directory {target} holds more than files of this server, so it cannot be replaced; \
                     move the others away"
                )));
            }
            let mapped = |(name, value): &&mut (String, Option<String>)| {
                let to = value.as_deref().and_then(|v| v.rsplit_once('=')).map(|(_, to)| Path::new(to));
                name == "tablespace-mapping" && to == Some(&external.target)
            };
            match detour.options.iter_mut().find(mapped) {
                Some((_, Some(value))) => *value = value.replace(&format!("={target}"), &format!("={fresh}")),
                _ => detour.options.push(("tablespace-mapping".to_owned(), Some(format!("{target}={fresh}")))),
            }
        }
        detour.made.push((external, PathBuf::from(fresh)));
    }
    Ok(detour)
}

impl Detour {
    /// Removes what an interrupted copy left at these other places.
    pub fn clear(&self) -> Outcome<()> {
        self.made.iter().try_for_each(|(_, fresh)| remove_plainly(fresh))
    }
    /// The exchange of the data directory and of these parts.
    pub fn exchange(&self, place: &Path, staging: &Path) -> Exchange {
        let part = |place: &Path, fresh: &Path| Part {
            place: place.to_owned(),
            fresh: fresh.exists().then(|| fresh.to_owned()),
            aside: free_name(place, "old"),
        };
        let made = |link: &Path| fs::read_link(staging.join(link)).ok();
        let mut exchange = Exchange::default();
        for (external, fresh) in &self.made {
            exchange.parts.push(part(&external.target, fresh));
            // A tablespace may have another number now, so every link that leads to the other place counts.
            for link in externals(staging).into_iter().filter(|e| made(&e.link).as_ref() == Some(fresh)) {
                exchange.links.push((link.link, external.target.clone()));
            }
        }
        exchange.parts.push(part(place, staging));
        exchange
    }
}

/// The removal of the data directory and of all that belongs to it.
pub(crate) fn removal(dir: &Path) -> Exchange {
    let places = externals(dir).into_iter().filter(|e| e.target.is_dir()).map(|e| e.target).chain([dir.to_owned()]);
    let part = |place: PathBuf| Part { aside: free_name(&place, "old"), fresh: None, place };
    Exchange { parts: places.map(part).collect(), links: Vec::new() }
}

fn record(server: &Postgres) -> PathBuf {
    server.state.path().join("exchange")
}

/// Does it: after this the new directories are in place and the old ones are gone.
pub(crate) fn carry_out(server: &Postgres, exchange: &Exchange) -> Outcome<()> {
    let text = serde_json::to_string(exchange).tried(|| "write down the exchange of directories".to_owned())?;
    server.state.write(&record(server), &text)?;
    if let Err(e) = go_forward(exchange) {
        go_back(exchange);
        forget(server)?;
        return Err(e);
    }
    finish(server, exchange)
}

/// Brings an interrupted exchange to its end.
pub(crate) fn resume(server: &Postgres) -> Outcome<()> {
    let Ok(text) = fs::read_to_string(record(server)) else { return Ok(()) };
    let path = record(server);
    let exchange: Exchange = serde_json::from_str(&text).tried(|| format!("read {}", path.display()))?;
    if alive(&server.options.data_dir) != Alive::Nothing {
        return Err(OperationError::failed(format!(
            "a server runs in {}, whose exchange for a new copy was interrupted; stop it first",
            server.options.data_dir.display()
        )));
    }
    log::warn!("the exchange of the data directory for a new copy was interrupted and is brought to its end");
    go_forward(&exchange)?;
    finish(server, &exchange)
}

fn go_forward(exchange: &Exchange) -> Outcome<()> {
    for part in &exchange.parts {
        let done = part.fresh.as_ref().is_some_and(|fresh| !fresh.exists());
        if done {
            continue;
        }
        if part.place.symlink_metadata().is_ok() {
            rename_to_new(&part.place, &part.aside)?;
        }
        if let Some(fresh) = &part.fresh {
            rename_to_new(fresh, &part.place)?;
        }
    }
    let Some(data) = exchange.parts.last() else { return Ok(()) };
    exchange.links.iter().try_for_each(|(link, target)| relink(&data.place.join(link), target))
}

/// As far as that is possible: everything as it was.
fn go_back(exchange: &Exchange) {
    for part in exchange.parts.iter().rev().filter(|part| part.aside.exists()) {
        let back = || {
            if let Some(fresh) = part.fresh.as_ref().filter(|_| part.place.symlink_metadata().is_ok()) {
                rename_to_new(&part.place, fresh)?;
            }
            rename_to_new(&part.aside, &part.place)
        };
        if let Err(e) = back() {
            log::error!("{} holds what belongs to {}: {e}", part.aside.display(), part.place.display());
        }
    }
}

fn finish(server: &Postgres, exchange: &Exchange) -> Outcome<()> {
    // What it says is about data that are not there any more.
    rewind_marker::remove(server)?;
    for part in &exchange.parts {
        if let Err(e) = remove_plainly(&part.aside) {
            log::warn!("the replaced directory {} was left: {e}", part.aside.display());
        }
    }
    forget(server)
}

fn forget(server: &Postgres) -> Outcome<()> {
    let path = record(server);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::PostgresOptions;

    /// Data, WAL and a tablespace, old and new, and the exchange of them.
    fn prepared(name: &str) -> (PathBuf, Exchange) {
        let dir = std::env::temp_dir().join(format!("pgherd-exchange-{name}-{}", std::process::id()));
        for part in ["data", "data.clone"] {
            fs::create_dir_all(dir.join(part).join("pg_tblspc")).unwrap();
            fs::write(dir.join(part).join("PG_VERSION"), "15\n").unwrap();
            fs::write(dir.join(part).join("which"), part).unwrap();
        }
        for (part, to) in [("data", ""), ("data.clone", ".clone")] {
            for (outside, link) in [("wal", "pg_wal"), ("space", "pg_tblspc/16400")] {
                let target = dir.join(format!("{outside}{to}"));
                fs::create_dir_all(target.join("PG_15_1")).unwrap();
                fs::write(target.join("PG_15_1/which"), part).unwrap();
                std::os::unix::fs::symlink(&target, dir.join(part).join(link)).unwrap();
            }
        }
        let options =
            vec![("waldir".to_owned(), Some(dir.join("wal").display().to_string())), ("verbose".to_owned(), None)];
        let detour = detour(&dir.join("data"), &options).unwrap();
        let text = |path: PathBuf| path.display().to_string();
        assert_eq!(detour.options[0].1, Some(text(dir.join("wal.clone"))));
        let (old, new) = (text(dir.join("space")), text(dir.join("space.clone")));
        assert_eq!(detour.options[2], ("tablespace-mapping".to_owned(), Some(format!("{old}={new}"))));
        let exchange = detour.exchange(&dir.join("data"), &dir.join("data.clone"));
        (dir, exchange)
    }

    fn assert_new(dir: &Path) {
        for file in ["data/which", "data/pg_wal/PG_15_1/which", "data/pg_tblspc/16400/PG_15_1/which"] {
            assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), "data.clone", "{file}");
        }
        let mut left: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["data", "data.pgherd", "space", "wal"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn everything_is_exchanged_wherever_it_is_interrupted() {
        let (dir, exchange) = prepared("whole");
        let options = PostgresOptions::new("a".into(), "s", &dir.join("data"));
        carry_out(&Postgres::open(options).unwrap(), &exchange).unwrap();
        assert_new(&dir);
        // Six renames and two links: the record alone, and after each of the renames.
        for steps in 0..=6 {
            let (dir, exchange) = prepared(&format!("after-{steps}"));
            let options = PostgresOptions::new("a".into(), "s", &dir.join("data"));
            let server = Postgres::open(options.clone()).unwrap();
            server.state.write(&record(&server), &serde_json::to_string(&exchange).unwrap()).unwrap();
            let renames = exchange
                .parts
                .iter()
                .flat_map(|p| [(p.place.clone(), p.aside.clone()), (p.fresh.clone().unwrap(), p.place.clone())]);
            renames.take(steps).for_each(|(from, to)| fs::rename(from, to).unwrap());
            drop(server);
            drop(Postgres::open(options).unwrap());
            assert_new(&dir);
        }
    }

    #[test]
    fn what_cannot_be_done_is_undone() {
        let (dir, mut exchange) = prepared("undone");
        let server = Postgres::open(PostgresOptions::new("a".into(), "s", &dir.join("data"))).unwrap();
        exchange.parts[2].aside = dir.join("no such directory").join("old");
        let why = carry_out(&server, &exchange).unwrap_err().to_string();
        assert!(why.contains("rename"), "{why}");
        for file in ["data/which", "data/pg_wal/PG_15_1/which", "data/pg_tblspc/16400/PG_15_1/which"] {
            assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), "data", "{file}");
        }
        assert!(!record(&server).exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_shared_tablespace_directory_is_not_replaced() {
        let (dir, _) = prepared("shared");
        fs::create_dir(dir.join("space/PG_14_1")).unwrap();
        let why = detour(&dir.join("data"), &[]).unwrap_err().to_string();
        assert!(why.contains("holds more than files of this server"), "{why}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
