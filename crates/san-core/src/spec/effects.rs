//! What a method adds to a model's forward pass, before any tensor is allocated: as much of it as memory depends on.
//!
//! Which tensors of the model a method trains in place follows from its trained tensors' names.

use std::collections::{BTreeMap, BTreeSet};

/// What a method adds to a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// By site.
    pub sites: BTreeMap<String, SiteEffect>,
    /// Norms that are followed by a trained scale.
    pub norms: BTreeSet<String>,
    /// By residual branch.
    pub branches: BTreeMap<String, BranchEffect>,
    /// Number of prompts inserted before a block, by block.
    pub prompts: BTreeMap<String, i64>,
}

/// What a method does at a projection; the counterpart of `nn::site::Adapter`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SiteEffect {
    /// Whether a trained vector scales the input.
    pub input_scale: bool,
    /// Whether a trained vector scales the output.
    pub output_scale: bool,
    /// Whether a trained vector is added to the output.
    pub shift: bool,
    /// What else is added to the output.
    pub update: Option<Update>,
}

/// What is added to a projection's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// B A x, with both factors trained.
    LowRank {
        /// Rows of all A together.
        ranks: i64,
        /// Whether the updated output is then scaled by row (DoRA).
        is_rescaled: bool,
        /// Whether dropout applies to x.
        has_dropout: bool,
    },
    /// A product with frozen factors and trained vectors between and after them (VeRA).
    Vectors {
        /// Rows of the first factor.
        rank: i64,
        /// Rows of the second factor, for each part of the output.
        rows: Vec<i64>,
    },
}

/// A bottleneck at a residual branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchEffect {
    /// Hidden channels.
    pub bottleneck: i64,
    /// Channels of the branch.
    pub width: i64,
    /// Whether it is computed from the branch's input and not from its output.
    pub is_parallel: bool,
}
