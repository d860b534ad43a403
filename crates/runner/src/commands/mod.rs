//! One file a command: arguments, and the few calls that carry it out.

pub(crate) mod merge;
pub(crate) mod pretrain;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod wiring;
pub(crate) mod worker;
