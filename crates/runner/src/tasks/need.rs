//! The memory that a group of runs needs, from its protocol and the shapes of its model.

use anyhow::Result;
use backbones::step_memory::{Need, Training};
use tch::Kind;

use crate::tasks::language::Memory;
use crate::tasks::{Run, Task};

/// A group, as far as memory depends on it.
#[derive(Debug, Clone, Copy)]
pub struct GroupShape {
    /// Number of runs.
    pub stack: usize,
    /// How a step is computed.
    pub memory: Memory,
    /// Whether it is computed on a GPU.
    pub on_gpu: bool,
}

/// Calls `act` with how the runs of a group are trained.
pub(super) fn with_training(
    run: &Run,
    task: &dyn Task,
    shape: GroupShape,
    act: impl FnOnce(&Training<'_>) -> Result<Need>,
) -> Result<Need> {
    let method = run.method()?;
    let modules = run.protocol.modules_to_save(&run.method).map_err(anyhow::Error::msg)?;
    let is_bf16 = run.protocol.precision.kind() == Kind::BFloat16;
    let copies = [run.protocol.ema.is_some(), task.keeps_best()];
    act(&Training {
        method: &*method,
        modules_to_save: &modules,
        stack: i64::try_from(shape.stack)?,
        kind: if is_bf16 { Kind::BFloat16 } else { Kind::Float },
        state: run.protocol.adamw.state.kind(),
        copies: copies.into_iter().map(i64::from).sum(),
        on_gpu: shape.on_gpu,
    })
}
