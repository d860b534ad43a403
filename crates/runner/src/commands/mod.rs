//! The commands, one file each: arguments, and the few calls that carry them out.

pub(crate) mod align;
pub(crate) mod datasets;
pub(crate) mod evaluate;
pub(crate) mod exchange;
pub(crate) mod fetch;
pub(crate) mod inspect;
mod items;
pub(crate) mod merge;
mod meter;
pub(crate) mod methods;
mod output;
pub(crate) mod pretrain;
pub(crate) mod regenerate;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod score;
mod sets;
mod shift;
mod slurm;
mod space;
pub(crate) mod task;
mod trackio;
mod trained_run;
pub(crate) mod verify;
pub(crate) mod wiring;
pub(crate) mod worker;
