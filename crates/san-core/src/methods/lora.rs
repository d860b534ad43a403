//! LoRA: W + (alpha / rank) B A beside chosen projections (arXiv 2106.09685).
//!
//! Targets are roles; in a fused projection the rows of a target have factors of their own, as if
//! the projection were not fused. Names: `<site>[.<part>].lora_a` `[rank, inputs]`, Kaiming-uniform,
//! and `.lora_b` `[rows, rank]`, zero. The parts of one site are computed together: one product
//! with all A stacked, one with all B in a block matrix.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::Method;
use crate::layout::{Role, SiteSpec};
use crate::site::{Adapter, Merged};
use crate::trainables::{Group, Init, TrainableSpec, Trainables};
use crate::{Attachment, Error, Layout, Weights};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lora {
    rank: i64,
    alpha: f64,
    targets: Vec<Role>,
}

impl Default for Lora {
    /// Rank 8 on queries and values, the paper's choice for attention; alpha = rank.
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, targets: vec![Role::Q, Role::V] }
    }
}

/// A run of output rows with factors of their own.
struct Target {
    path: String,
    start: i64,
    rows: i64,
}

impl Lora {
    /// The rows of `site` that the selector meets; empty if it does not.
    fn targets_in(&self, site: &SiteSpec) -> Vec<Target> {
        if self.targets.contains(&site.role) {
            return vec![Target { path: site.name.clone(), start: 0, rows: site.outputs }];
        }
        let parts = site.parts.iter().filter(|part| self.targets.contains(&part.role));
        let path = |role: Role| {
            format!(
                "{}.{}",
                site.name,
                serde_json::to_value(role).unwrap_or_default().as_str().unwrap_or("part")
            )
        };
        parts.map(|part| Target { path: path(part.role), start: part.start, rows: part.length }).collect()
    }
}

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn label(&self) -> String {
        let usual = Self::default();
        let mut label = String::from("LoRA");
        if self.rank != usual.rank {
            label += &format!(" r={}", self.rank);
        }
        if self.targets != usual.targets {
            let names = serde_json::to_value(&self.targets).unwrap_or_default();
            let names: Vec<_> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            label += &format!(" ({})", names.join(", "));
        }
        label
    }

    fn options(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let unfit = |reason: &str| Error::Unfit {
            method: "lora".into(),
            backbone: layout.backbone.clone(),
            reason: reason.into(),
        };
        if self.rank < 1 {
            return Err(Error::BadOption {
                method: "lora".into(),
                reason: "`rank` must be 1 or more".into(),
            });
        }
        let mut specs = Vec::new();
        for site in &layout.sites {
            for target in self.targets_in(site) {
                let spec = |what, shape, init| TrainableSpec {
                    name: format!("{}.{what}", target.path),
                    shape,
                    init,
                    group: Group::Method,
                };
                let uniform = Init::KaimingUniform { inputs: site.inputs };
                specs.push(spec("lora_a", vec![self.rank, site.inputs], uniform));
                specs.push(spec("lora_b", vec![target.rows, self.rank], Init::Zeros));
            }
        }
        if specs.is_empty() {
            return Err(unfit("it has no projection of the roles in `targets`"));
        }
        Ok(specs)
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        let mut attachment = Attachment::default();
        #[allow(clippy::cast_precision_loss)]
        let factor = self.alpha / self.rank as f64;
        for site in &layout.sites {
            let mut blocks = Vec::new();
            for target in self.targets_in(site) {
                let a = trainables.get(&format!("{}.lora_a", target.path))?;
                let b = trainables.get(&format!("{}.lora_b", target.path))?;
                blocks.push(Block { a, b, start: target.start });
            }
            if !blocks.is_empty() {
                let update = LowRank { blocks, factor, outputs: site.outputs };
                attachment.sites.insert(site.name.clone(), Rc::new(update));
            }
        }
        Ok(attachment)
    }
}

/// Factors `a` `[K, rank, inputs]` and `b` `[K, rows, rank]` of the rows from `start`.
#[derive(Debug)]
struct Block {
    a: Tensor,
    b: Tensor,
    start: i64,
}

#[derive(Debug)]
struct LowRank {
    blocks: Vec<Block>,
    factor: f64,
    outputs: i64,
}

impl LowRank {
    /// All A, one below the other: `[K, ranks, inputs]`.
    fn all_a(&self) -> Tensor {
        Tensor::cat(&self.blocks.iter().map(|block| block.a.shallow_clone()).collect::<Vec<_>>(), 1)
    }

    /// All B in their rows and columns, scaled: `[K, outputs, ranks]`, zero elsewhere.
    fn all_b(&self) -> Tensor {
        let ranks: i64 = self.blocks.iter().map(|block| block.b.size()[2]).sum();
        let mut column = 0;
        let columns: Vec<Tensor> = self
            .blocks
            .iter()
            .map(|block| {
                let [_, rows, rank] = block.b.size()[..] else {
                    unreachable!("a factor is a stack of matrices")
                };
                let below = self.outputs - block.start - rows;
                column += rank;
                let padding = [column - rank, ranks - column, block.start, below];
                block.b.constant_pad_nd(padding)
            })
            .collect();
        let sum = columns.iter().skip(1).fold(columns[0].shallow_clone(), |sum, next| sum + next);
        sum * self.factor
    }
}

impl Adapter for LowRank {
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        let (a, b) = (self.all_a(), self.all_b());
        let stack = a.size()[0];
        let hidden = x.reshape([stack, -1, a.size()[2]]).matmul(&a.transpose(1, 2));
        let stacked = y.reshape([stack, -1, self.outputs]);
        stacked.baddbmm(&hidden, &b.transpose(1, 2), 1, 1).reshape(y.size())
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let update = self.all_b().f_get(run)?.f_matmul(&self.all_a().f_get(run)?)?;
        Ok((weight + update, bias))
    }
}
