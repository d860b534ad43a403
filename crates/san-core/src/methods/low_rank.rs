//! A low-rank update of a frozen projection.
//!
//! The targets of one site are computed together: one product with all A stacked and one with all B in a block
//! matrix. A single target that has all rows is used as it is.

use tch::Tensor;

use crate::Error;
use crate::nn::dropout::Dropout;
use crate::nn::parameter::add_low_rank;
use crate::nn::site::{Adapter, Merged, OutputChange};

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
        match &self.blocks[..] {
            [only] => only.a.shallow_clone(),
            blocks => Tensor::cat(&blocks.iter().map(|block| &block.a).collect::<Vec<_>>(), 1),
        }
    }

    /// All B, scaled, in their rows and columns: `[K, outputs, ranks]`, zero elsewhere.
    pub(super) fn all_b(&self) -> Tensor {
        let ranks: i64 = self.blocks.iter().map(|block| block.b.size()[2]).sum();
        let mut column = 0;
        let mut padded = |block: &Block| {
            let [_, rows, rank] = block.b.size()[..] else { unreachable!("factors have three dimensions") };
            let below = self.outputs - block.start - rows;
            column += rank;
            if (rows, rank) == (self.outputs, ranks) {
                return block.b.shallow_clone();
            }
            block.b.constant_pad_nd([column - rank, ranks - column, block.start, below])
        };
        let first = padded(&self.blocks[0]);
        let sum = self.blocks.iter().skip(1).fold(first, |sum, block| sum + padded(block));
        if self.factor == 1.0 { sum } else { sum * self.factor }
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

    /// Both factors as part of a change of the output; `None` while dropout applies to their input only.
    pub(super) fn undropped(&self) -> Option<[Tensor; 2]> {
        (!self.dropout.is_active()).then(|| [self.all_a(), self.all_b()])
    }

    /// y + s B A x.
    pub(super) fn add(&self, x: &Tensor, y: &Tensor) -> Tensor {
        add_low_rank(x, y, &self.all_a(), &self.all_b())
    }
}

impl Adapter for LowRank {
    fn output_change(&self) -> Option<OutputChange> {
        Some(OutputChange { low_rank: Some(self.undropped()?), ..OutputChange::default() })
    }

    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        self.add(self.dropped(x).as_ref().unwrap_or(x), &y)
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        Ok((weight + self.matrix(run)?, bias))
    }
}
