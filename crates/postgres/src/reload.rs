//! Putting a configuration in force: files are written, the server is asked whether it agrees to them, and told to read
//! them; what it then refuses is logged.

use crate::access_files::{self, AccessFile, Replaced};
use crate::config_files::{Recovery, Written, write_in_place};
use crate::control_data;
use crate::error::{OperationError, Outcome, Tried};
use crate::process::find_postmaster;
use crate::queries;
use crate::server::Postgres;
use crate::sql::{Session, SqlError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// A reload is taken up within milliseconds; waited for only so that the next look shows it.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

/// When a running server is told to read its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reload {
    /// When one changed.
    IfChanged,
    /// In any case.
    Always,
}

/// Puts a dynamic configuration (the JSON text of the `config` key) in force: files are written if there is a data
/// directory, and a running server reads them if they changed. True if it was told to. One that cannot be used is
/// refused as a whole.
pub async fn apply_dynamic(server: &Arc<Postgres>, dynamic: String) -> Outcome<bool> {
    server.take_dynamic(&dynamic).map_err(|e| OperationError::failed(e.to_string()))?;
    in_background(server, Reload::IfChanged).await
}

/// Writes the files and makes a running server read them, whether they changed or not. True if it was told to.
pub async fn reload_config(server: &Arc<Postgres>) -> Outcome<bool> {
    in_background(server, Reload::Always).await
}

/// Files are written on a thread that may wait for the disk.
async fn in_background(server: &Arc<Postgres>, when: Reload) -> Outcome<bool> {
    let (server, runtime) = (server.clone(), Handle::current());
    let work = move || runtime.block_on(rewrite(&server, Recovery::Keep, when));
    tokio::task::spawn_blocking(work).await.tried(|| "write the configuration".to_owned())?
}

/// Writes the files of a data directory that is there, and reloads. True if a running server was told to. Blocks for the
/// disk.
pub(crate) async fn rewrite(server: &Postgres, recovery: Recovery<'_>, when: Reload) -> Outcome<bool> {
    if control_data::major_version(&server.options.data_dir).is_none() {
        return Ok(false);
    }
    let Written { changed, replaced } = write_in_place(server, recovery)?;
    if (!changed && when == Reload::IfChanged) || find_postmaster(&server.options.data_dir).is_none() {
        return Ok(false);
    }
    match queries::open(server).await {
        Ok(session) => {
            check_access(server, &session, &replaced).await?;
            reload_and_wait(server, &session).await;
        }
        Err(e) => {
            log::info!("PostgreSQL cannot be asked about its new configuration, it is told to read it: {e}");
            server.reload();
        }
    }
    Ok(true)
}

/// What the server would refuse is put back before it reads it.
async fn check_access(server: &Postgres, session: &Session, replaced: &[Replaced]) -> Outcome<()> {
    for replaced in replaced {
        let mistakes = match queries::mistakes(session, replaced.file, &replaced.path).await {
            Ok(mistakes) => mistakes,
            Err(e) => {
                log::warn!("PostgreSQL did not say whether {} is in order: {e}", replaced.path.display());
                continue;
            }
        };
        if mistakes.is_empty() {
            access_files::forget_refused(server, replaced.file);
            continue;
        }
        for (line, mistake) in &mistakes {
            log::error!("{} line {line}: {mistake}", replaced.path.display());
        }
        match access_files::put_back(server, replaced)? {
            true => log::error!("the last good {} was put back", replaced.path.display()),
            false => log::error!("there is no good {} to put back", replaced.path.display()),
        }
    }
    Ok(())
}

/// Afterwards every new connection shows what was read. An older one may lag behind, so none is kept.
async fn reload_and_wait(server: &Postgres, session: &Session) {
    let before = queries::config_load_time(session).await;
    server.reload();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE
        && matches!(queries::config_load_time(session).await, Ok(now) if Ok(&now) == before.as_ref())
    {
        tokio::time::sleep(STEP).await;
    }
    server.forget_monitoring();
    if let Err(e) = report_refused(server).await {
        log::debug!("PostgreSQL did not say what it refused of its configuration: {e}");
    }
}

/// What the server itself refuses to take from its files.
async fn report_refused(server: &Postgres) -> Result<(), SqlError> {
    let session = queries::open(server).await?;
    for (name, mistake) in queries::refused_settings(&session).await? {
        log::warn!("PostgreSQL does not take parameter {name} from its configuration: {mistake}");
    }
    Ok(())
}

impl AccessFile {
    /// The view in which the server says what is wrong with it, and the version it came with.
    pub(crate) const fn view(self) -> (&'static str, u32) {
        match self {
            Self::Hba => ("pg_hba_file_rules", 100_000),
            Self::Ident => ("pg_ident_file_mappings", 150_000),
        }
    }
}
