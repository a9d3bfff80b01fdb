//! What a cluster of etcd is like that is started.

use std::path::PathBuf;

/// What a cluster of etcd is like.
#[derive(Clone, Debug)]
pub struct EtcdSetup {
    /// Where each member listens: an address of this machine.
    pub hosts: Vec<String>,
    /// More options for every member.
    pub args: Vec<String>,
    /// TLS towards clients.
    pub tls: Option<EtcdTls>,
}

/// With what etcd speaks TLS, and with what it is spoken to here.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// The authority of all certificates.
    pub authority: PathBuf,
    /// Certificate and key of the server.
    pub server: (PathBuf, PathBuf),
    /// Certificate and key of its clients, without which they are refused.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl EtcdTls {
    pub(super) fn args(&self) -> Vec<String> {
        let (certificate, key) = (self.server.0.display(), self.server.1.display());
        let mut args = vec![format!("--cert-file={certificate}"), format!("--key-file={key}")];
        if self.client.is_some() {
            args.push("--client-cert-auth".to_owned());
            args.push(format!("--trusted-ca-file={}", self.authority.display()));
        }
        args
    }
    pub(super) fn ctl_args(&self) -> Vec<String> {
        let files = self.client.iter();
        let own = files.flat_map(|(certificate, key)| {
            [format!("--cert={}", certificate.display()), format!("--key={}", key.display())]
        });
        own.chain([format!("--cacert={}", self.authority.display())]).collect()
    }
}

impl EtcdSetup {
    /// So many members at the usual address.
    pub fn members(n: usize) -> Self {
        Self { hosts: vec!["127.0.0.1".to_owned(); n], args: Vec::new(), tls: None }
    }
    /// With the v2 API beside the other.
    pub fn with_v2(self) -> Self {
        self.with("--enable-v2")
    }
    /// With this option for every member.
    pub fn with(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
}
