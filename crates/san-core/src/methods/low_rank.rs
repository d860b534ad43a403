//! A low-rank update of a frozen projection, and the resulting row norms.
//!
//! The targets of one site are computed together: one product with all A stacked and one with all B in a block
//! matrix.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::nn::dropout::Dropout;
use crate::nn::parameter::product;
use crate::nn::site::{Adapter, Merged};
use crate::spec::model::SiteSpec;
use crate::{Error, Weights};

/// Factors `a` `[K, rank, inputs]` and `b` `[K, rows, rank]` for the rows from `start`.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) a: Tensor,
    pub(super) b: Tensor,
    pub(super) start: i64,
}

/// The update: the sum of `factor * b a` over the blocks, each in its own rows.
#[derive(Debug)]
pub(super) struct LowRank {
    blocks: Vec<Block>,
    factor: f64,
    outputs: i64,
    dropout: Dropout,
}

impl LowRank {
    /// `blocks` must not be empty.
    pub(super) fn new(blocks: Vec<Block>, factor: f64, outputs: i64, dropout: Dropout) -> Self {
        Self { blocks, factor, outputs, dropout }
    }

    /// All A, stacked: `[K, ranks, inputs]`.
    pub(super) fn all_a(&self) -> Tensor {
        Tensor::cat(&self.blocks.iter().map(|block| block.a.shallow_clone()).collect::<Vec<_>>(), 1)
    }

    /// All B, scaled, in their rows and columns: `[K, outputs, ranks]`, zero elsewhere.
    pub(super) fn all_b(&self) -> Tensor {
        let ranks: i64 = self.blocks.iter().map(|block| block.b.size()[2]).sum();
        let mut column = 0;
        let columns: Vec<Tensor> = self
            .blocks
            .iter()
            .map(|block| {
                let [_, rows, rank] = block.b.size()[..] else {
                    unreachable!("factors have three dimensions")
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

    /// A `[ranks, inputs]`, B `[outputs, ranks]` and s of one run; the update is s B A.
    pub(super) fn factors(&self, run: i64) -> Result<(Tensor, Tensor, f64), Error> {
        Ok((self.all_a().f_get(run)?, self.all_b().f_get(run)?.f_div_scalar(self.factor)?, self.factor))
    }

    /// One run's update as a full matrix: `[outputs, inputs]`.
    pub(super) fn matrix(&self, run: i64) -> Result<Tensor, Error> {
        Ok(self.all_b().f_get(run)?.f_matmul(&self.all_a().f_get(run)?)?)
    }

    /// The update's input after dropout; `None` if nothing is dropped.
    pub(super) fn dropped(&self, x: &Tensor) -> Option<Tensor> {
        self.dropout.apply(x)
    }

    /// y + s B A x.
    pub(super) fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        let [a, b] = [self.all_a(), self.all_b()].map(|factor| factor.to_kind(x.kind()));
        let stack = a.size()[0];
        // On a GPU the sum is part of the second product, below.
        if stack == 1 && x.device() == Device::Cpu {
            let hidden = torch_ops::linear(x, &a.squeeze_dim(0), None);
            return y + torch_ops::linear(&hidden, &b.squeeze_dim(0), None);
        }
        let hidden = x.reshape([stack, -1, a.size()[2]]).matmul(&a.transpose(1, 2));
        let stacked = y.reshape([stack, -1, self.outputs]);
        stacked.baddbmm(&hidden, &b.transpose(1, 2), 1, 1).reshape(y.size())
    }
}

impl Adapter for LowRank {
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        self.add(self.dropped(x).as_ref().unwrap_or(x), &y)
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        Ok((weight + self.matrix(run)?, bias))
    }
}

/// Row norms of a projection before and after a low-rank update.
#[derive(Debug)]
pub(super) struct RowNorms {
    weight: Tensor,
    squared: Tensor,
    update: Rc<LowRank>,
}

impl RowNorms {
    /// Row norms for a site's frozen weight.
    ///
    /// # Errors
    /// If the weight is missing.
    pub(super) fn new(site: &SiteSpec, weights: &Weights, update: Rc<LowRank>) -> Result<Self, Error> {
        let weight = weights.get(&format!("{}.weight", site.name))?.f_flatten(1, -1)?;
        // Accumulated in f32 (or wider) whatever the weight's dtype.
        let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let norms = weight.f_norm_scalaropt_dim_dtype(2, [1].as_slice(), false, kind)?;
        let squared = norms.f_square()?;
        Ok(Self { weight, squared, update })
    }

    /// W x.
    pub(super) fn product(&self, x: &Tensor) -> Tensor {
        product(x, &self.weight)
    }

    /// ||W_i||, `[outputs]`.
    pub(super) fn before(&self) -> Tensor {
        self.squared.sqrt()
    }

    /// ||(W + B A)_i||, `[K, outputs]`, without a matrix of W's size: ||W_i||^2 + 2 B_i (W A^T)_i +
    /// B_i G B_i^T with the Gram matrix G = A A^T (docs/method.md, section 3).
    pub(super) fn after(&self) -> Tensor {
        let (a, b) = (self.update.all_a(), self.update.all_b());
        let transposed = a.transpose(1, 2);
        // (W A^T) as (A W^T)^T: the product is computed in the frozen weight's dtype.
        let frozen = product(&a, &self.weight).transpose(1, 2);
        let cross = frozen * 2.0 + b.matmul(&a.matmul(&transposed));
        let change = (&b * cross).sum_dim_intlist([2].as_slice(), false, None);
        (&self.squared + change).clamp_min(0.0).sqrt()
    }
}
