//! The roles of a new cluster (spec/bootstrap-and-replicas.md 2.3).

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

/// A role's password as it is stored.
pub(crate) enum Password {
    /// None.
    None,
    /// What `pg_authid` says.
    Stored(String),
}

/// From now on no statement of this session is logged.
pub(crate) async fn begin_quietly(session: &Session) -> Outcome<()> {
    run(session, QUIET).await
}

/// Makes or changes the superuser.
pub(crate) async fn make_superuser(session: &Session, name: &str, password: &str) -> Outcome<()> {
    let who = Credentials { password: Some(password.to_owned()), ..Credentials::default() };
    create_role(session, name, "SUPERUSER LOGIN", &who).await
}

/// The password a role has.
pub(crate) async fn stored_password(session: &Session, name: &str) -> Outcome<Password> {
    let query = format!("SELECT rolpassword FROM pg_authid WHERE rolname = {}", literal(name));
    let rows = session.rows(&query, STATEMENT_PATIENCE).await.tried(|| "read a role".to_owned())?;
    Ok(rows.first().and_then(|r| r.get(0)).map_or(Password::None, |stored| Password::Stored(stored.to_owned())))
}

/// Gives a role this password.
pub(crate) async fn set_password(session: &Session, name: &str, password: &Password) -> Outcome<()> {
    let password = match password {
        Password::None => " NULL".to_owned(),
        Password::Stored(stored) => literal(stored),
    };
    run(session, &format!("ALTER ROLE {} PASSWORD{password}", identifier(name))).await
}

/// Drops the role that this session logged in as, by the superuser's authority.
pub(crate) async fn drop_as(session: &Session, superuser: &str, name: &str) -> Outcome<()> {
    run(session, &format!("SET SESSION AUTHORIZATION {}", identifier(superuser))).await?;
    run(session, &format!("DROP ROLE {}", identifier(name))).await
}

/// Makes the replication and the rewind role.
pub(crate) async fn create(server: &Postgres, session: &Session) -> Outcome<()> {
    let options = server.current();
    let superuser = options.user_of(&options.superuser);
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
