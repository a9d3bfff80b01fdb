//! A cluster whose leader is itself a standby, of a primary that belongs to another cluster (spec/ha.md 18).

use crate::{MemberName, Upstream};

/// What a standby cluster's leader streams from (section `standby_cluster` of the dynamic configuration).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandbyCluster {
    /// A host, or several separated by commas; `None`: there is only an archive to restore from.
    pub host: Option<String>,
    /// The port at each of them.
    pub port: u16,
}

impl StandbyCluster {
    /// The name that messages give the primary of the other cluster.
    pub const REMOTE: &str = "the remote primary";

    /// The remote primary, if it can be streamed from.
    pub fn upstream(&self) -> Option<Upstream> {
        let host = self.host.clone()?;
        Some(Upstream { member: MemberName(Self::REMOTE.to_owned()), host, port: self.port })
    }
}
