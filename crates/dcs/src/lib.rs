//! The distributed configuration store: the port [`Dcs`] that the actors use, and its adapters for etcd v3 and etcd v2.
//!
//! Reading order: `port` (what can be asked), `layout` (where each key lives), `codec` (keys and values to types and
//! back; whatever other programs put there, reading never fails), `etcd3` (the adapter), `etcd2` (the one for the old
//! API, which shares the client). Nothing here knows an actor, decides when to write, or keeps the lease: the caller
//! owns it.

pub mod codec;
pub mod etcd2;
pub mod etcd3;
pub mod layout;
pub mod options;
pub mod port;

pub use codec::Complaint;
pub use etcd2::Etcd2;
pub use etcd3::{Endpoint, Etcd3};
pub use layout::Layout;
pub use options::{EtcdApi, EtcdLogin, EtcdOptions, EtcdServer, EtcdTls, SharedServer, Srv};
pub use port::{Answer, Dcs, Reading, Watch, WatchEnded, WatchEvent};

/// The adapter for what the options name; connects to nothing yet. Make it on the thread that uses it.
pub fn open(options: &EtcdOptions) -> std::rc::Rc<dyn Dcs> {
    match options.api {
        EtcdApi::V3 => std::rc::Rc::new(Etcd3::new(options)),
        EtcdApi::V2 => std::rc::Rc::new(Etcd2::new(options)),
    }
}
