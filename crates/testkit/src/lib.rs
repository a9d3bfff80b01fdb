//! (to be written)

pub mod etcd;
pub mod eventually;
pub mod proxy;
