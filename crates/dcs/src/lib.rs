//! The distributed configuration store: the port [`Dcs`] that the actors use, and its etcd v3 adapter.
//!
//! Reading order: `port` (what can be asked), `layout` (where each key lives), `codec` (keys and values to types and
//! back; whatever other programs put there, reading never fails), `etcd3` (the adapter). Nothing here knows an actor,
//! decides when to write, or keeps the lease: the caller owns it.

pub mod codec;
pub mod etcd3;
pub mod layout;
pub mod options;
pub mod port;

pub use codec::Complaint;
pub use etcd3::{Endpoint, Etcd3};
pub use layout::Layout;
pub use options::{EtcdLogin, EtcdOptions, EtcdServer, EtcdTls, SharedServer, Srv};
pub use port::{Answer, Dcs, Reading, Watch, WatchEnded, WatchEvent};
