//! Password files for libpq, one per purpose, so that no program overwrites what another one reads.

use crate::error::{OperationError, Outcome};
use crate::options::Credentials;
use crate::state_dir::write_private;
use std::path::Path;

/// Writes a password file with one line for this server; does nothing without a password.
pub(crate) fn write(
    path: &Path,
    host: &str,
    port: u16,
    user: &str,
    who: &Credentials,
    owner: Option<(u32, u32)>,
) -> Outcome<bool> {
    let Some(password) = &who.password else { return Ok(false) };
    if password.contains('\n') {
        return Err(OperationError::failed("a password with a line break cannot be put into a password file"));
    }
    if path.is_dir() {
        return Err(OperationError::failed(format!("the password file {} is a directory", path.display())));
    }
    let mut text = String::new();
    for host in host.split(',').map(str::trim) {
        text.push_str(&line(host, port, user, password));
        if host.starts_with('/') {
            text.push_str(&line("localhost", port, user, password));
        }
    }
    write_private(path, &text, owner)?;
    Ok(true)
}

fn line(host: &str, port: u16, user: &str, password: &str) -> String {
    format!("{}:{port}:*:{}:{}\n", escaped(host), escaped(user), escaped(password))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    #[test]
    fn separators_are_escaped() {
        assert_eq!(super::line("::1", 5432, "a:b", "c\\d"), "\\:\\:1:5432:*:a\\:b:c\\\\d\n");
    }
}
