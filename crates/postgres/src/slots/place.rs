//! Putting the state of a slot in its place below `pg_replslot`, as the server itself does: under a temporary name, flushed,
//! then renamed. The server must be down.

use crate::error::{Outcome, Tried};
use crate::server::Postgres;
use crate::state_dir::give_to;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Puts it there, in the place of what is there.
pub(super) fn put(server: &Postgres, name: &str, state: &[u8]) -> Outcome<()> {
    let all = server.options.data_dir.join("pg_replslot");
    let (place, temporary) = (all.join(name), all.join(format!("{name}.tmp")));
    let for_group = fs::metadata(&server.options.data_dir).is_ok_and(|meta| meta.permissions().mode() & 0o040 != 0);
    let (dir_mode, file_mode) = if for_group { (0o750, 0o640) } else { (0o700, 0o600) };
    let owner = server.options.run_as;
    remove(&temporary)?;
    let shown = temporary.display().to_string();
    DirBuilder::new().mode(dir_mode).create(&temporary).tried(|| format!("create {shown}"))?;
    give_to(&temporary, owner)?;
    let file = temporary.join("state");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(file_mode).open(&file)?;
        file.write_all(state)?;
        file.sync_all()
    };
    write().tried(|| format!("write {}", file.display()))?;
    give_to(&file, owner)?;
    flush(&temporary)?;
    remove(&place)?;
    fs::rename(&temporary, &place).tried(|| format!("rename {shown}"))?;
    flush(&place)?;
    flush(&all)
}

/// Is there a slot of this name?
pub(super) fn is_there(server: &Postgres, name: &str) -> bool {
    server.options.data_dir.join("pg_replslot").join(name).exists()
}

fn remove(path: &Path) -> Outcome<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", path.display())),
        _ => Ok(()),
    }
}

fn flush(directory: &Path) -> Outcome<()> {
    File::open(directory).and_then(|dir| dir.sync_all()).tried(|| format!("flush {}", directory.display()))
}
