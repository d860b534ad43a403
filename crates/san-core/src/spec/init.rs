//! Initialisation of trained or randomly initialised tensors; `weights::draw` computes the values.

/// How a tensor is initialised.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with this mean and standard deviation.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
    /// Normal with mean 0, resampled outside +-2 (the defaults of timm's `trunc_normal_`).
    TruncatedNormal {
        /// Standard deviation.
        deviation: f64,
    },
    /// Uniform in +-1/sqrt(inputs): torch's `kaiming_uniform_` with a = sqrt(5), its default.
    KaimingUniform {
        /// Number of inputs of the projection.
        inputs: i64,
    },
    /// Uniform in +-bound.
    Uniform {
        /// Largest value.
        bound: f64,
    },
    /// A copy of the frozen tensor of this name.
    Frozen(String),
    /// The norm of each of these rows of a frozen weight, viewed as `[outputs, inputs]`.
    RowNorms(FrozenRows),
    /// One factor of the best approximation of these rows by a product of this rank.
    Principal {
        /// The approximated rows.
        rows: FrozenRows,
        /// Rank of the product.
        rank: i64,
        /// Which factor.
        factor: Factor,
        /// Multiplier of the factor.
        scale: f64,
    },
}

/// Rows of a frozen weight, viewed as `[outputs, inputs]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenRows {
    /// Name of the weight.
    pub weight: String,
    /// First row.
    pub start: i64,
    /// Number of rows.
    pub length: i64,
}

/// A factor of U sqrt(S) * sqrt(S) V^T, truncated to the first singular values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// U sqrt(S), `[rows, rank]`.
    Left,
    /// sqrt(S) V^T, `[rank, inputs]`.
    Right,
}
