//! (to be written)

pub mod etcd;
pub mod eventually;
pub mod postgres;
pub mod proxy;
