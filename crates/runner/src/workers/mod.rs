//! Worker processes on this machine: the supervisor that starts and monitors them, and what each of them does.

pub mod device;
pub(crate) mod display;
pub mod gpus;
pub mod measuring;
pub mod memory;
mod out_of_memory;
pub mod pool;
pub mod recorder;
mod supervisor;
pub mod worker;
