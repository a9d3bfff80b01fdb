//! What of the local configuration may change while the agent runs. The rest needs its restart and stays as it was.

use crate::options::PostgresOptions;

/// `new` with what cannot change taken from `opened`, and the names of those keys that would.
pub(crate) fn changeable(opened: &PostgresOptions, new: PostgresOptions) -> (PostgresOptions, Vec<&'static str>) {
    let fixed: [(&str, bool); 10] = [
        ("name", opened.name != new.name),
        ("scope", opened.scope != new.scope),
        ("postgresql.data_dir", opened.data_dir != new.data_dir),
        ("postgresql.bin_dir", opened.bin_dir != new.bin_dir || opened.bin_name != new.bin_name),
        ("postgresql.config_dir", opened.config_dir != new.config_dir),
        ("postgresql.config_base_name", opened.config_base_name != new.config_base_name),
        ("postgresql.listen", (&opened.listen_hosts, opened.listen_port) != (&new.listen_hosts, new.listen_port)),
        (
            "postgresql.connect_address",
            (&opened.connect_host, opened.connect_port) != (&new.connect_host, new.connect_port),
        ),
        ("postgresql.database", opened.database != new.database),
        ("postgresql.pgpass", opened.pgpass != new.pgpass),
    ];
    let waiting = fixed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect();
    let opened = opened.clone();
    let merged = PostgresOptions {
        name: opened.name,
        scope: opened.scope,
        data_dir: opened.data_dir,
        bin_dir: opened.bin_dir,
        bin_name: opened.bin_name,
        config_dir: opened.config_dir,
        config_base_name: opened.config_base_name,
        listen_hosts: opened.listen_hosts,
        listen_port: opened.listen_port,
        connect_host: opened.connect_host,
        connect_port: opened.connect_port,
        database: opened.database,
        pgpass: opened.pgpass,
        run_as: opened.run_as,
        ..new
    };
    (merged, waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn parameters_change_and_addresses_wait() {
        let opened = PostgresOptions::new("a".into(), "demo", Path::new("/data"));
        let mut new = opened.clone();
        assert!(changeable(&opened, new.clone()).1.is_empty());
        new.listen_port = 1;
        new.data_dir = "/other".into();
        new.pg_hba = vec!["local all all peer".to_owned()];
        let (merged, waiting) = changeable(&opened, new);
        assert_eq!(waiting, ["postgresql.data_dir", "postgresql.listen"]);
        assert_eq!((merged.listen_port, merged.data_dir.as_path()), (5432, Path::new("/data")));
        assert_eq!(merged.pg_hba, ["local all all peer"]);
    }
}
