//! The roles of a new cluster (spec/bootstrap-and-replicas.md 2.3). The superuser was made by initdb.

use crate::error::{OperationError, Outcome, Tried};
use crate::options::Credentials;
use crate::server::Postgres;
use crate::sql::{STATEMENT_PATIENCE, Session, identifier, literal};

/// Keeps passwords out of the server's log.
const QUIET: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'log'; SET synchronous_commit = 'local'";
/// What rewinding needs beside LOGIN.
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Makes the replication and the rewind role.
pub(crate) async fn create(server: &Postgres, session: &Session) -> Outcome<()> {
    let options = &server.options;
    let superuser = options.user_of(&options.superuser);
    run(session, QUIET).await?;
    let replication = options.user_of(&options.replication);
    if replication != superuser {
        create_role(session, &replication, "REPLICATION LOGIN", &options.replication).await?;
    }
    let Some(who) = &options.rewind else { return Ok(()) };
    let rewind = options.user_of(who);
    if rewind == superuser {
        return Ok(());
    }
    let privileges = if rewind == replication { "REPLICATION LOGIN" } else { "LOGIN" };
    create_role(session, &rewind, privileges, who).await?;
    for function in REWIND_FUNCTIONS {
        run(session, &format!("GRANT EXECUTE ON FUNCTION {function} TO {}", identifier(&rewind))).await?;
    }
    Ok(())
}

async fn create_role(session: &Session, name: &str, privileges: &str, who: &Credentials) -> Outcome<()> {
    let query = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(name));
    let exists = session.rows(&query, STATEMENT_PATIENCE).await.tried(|| "look for a role".to_owned())?;
    let verb = if exists.is_empty() { "CREATE" } else { "ALTER" };
    let password = who.password.as_ref().map(|p| format!(" PASSWORD{}", literal(p))).unwrap_or_default();
    let made = run(session, &format!("{verb} ROLE {} WITH {privileges}{password}", identifier(name))).await;
    made.map_err(|e| OperationError::failed(format!("could not make role {name}: {e}")))
}

async fn run(session: &Session, text: &str) -> Outcome<()> {
    // The text may hold a password, so an error quotes only the server's words.
    session.rows(text, STATEMENT_PATIENCE).await.map(drop).tried(|| "set up the roles of the new cluster".to_owned())
}
