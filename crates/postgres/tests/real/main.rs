//! What the crate does, on real servers; one program, so that the tests wait at the same time.

mod bootstrap;
mod config;
mod faults;
mod life;
mod methods;
mod replace;
mod rewind;
mod rewind_interrupted;
mod scene;
mod servers;
mod sync;
