//! A backbone's description of itself, available before any weight is loaded.
//!
//! A model spec alone is enough to check a weights file strictly, count a method's parameters, initialise a random
//! model and reject a method that does not fit. Backbones produce it; methods consume it.

use tch::Tensor;

use crate::spec::init::Init;
use crate::spec::wiring::Anteriors;

/// The role of a projection; methods select projections by role, never by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Image patches to tokens, or a stem.
    PatchEmbed,
    /// Downsampling between two stages: fewer tokens, more channels.
    Downsample,
    /// Depthwise convolution.
    Dwconv,
    /// Fused query, key and value.
    Qkv,
    /// Query.
    Q,
    /// Key.
    K,
    /// Value.
    V,
    /// Attention output.
    Proj,
    /// Gate of a gated MLP.
    Gate,
    /// Fused gate and first linear of a gated MLP.
    GateUp,
    /// First linear of an MLP.
    Up,
    /// Last linear of an MLP.
    Down,
    /// From one model's tokens to another's.
    Projector,
}

/// Rows of a fused projection with their own role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Role of the rows.
    pub role: Role,
    /// First output row.
    pub start: i64,
    /// Number of rows.
    pub length: i64,
}

/// How a projection acts on its input, channels last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// A linear map over the last dimension.
    Linear,
    /// A convolution with stride equal to its kernel size: a linear map over the pixels of each patch.
    Patches {
        /// Height and width of a patch.
        size: i64,
    },
    /// A depthwise convolution that preserves height and width.
    Depthwise {
        /// Height and width of the kernel, odd.
        kernel: i64,
    },
}

impl Projection {
    /// A weight `[outputs, inputs]` with its input channels scaled by `p` `[channels]`.
    pub(crate) fn scale_inputs(self, weight: &Tensor, p: &Tensor) -> Tensor {
        match self {
            Self::Linear => weight * p,
            Self::Patches { size } => weight * p.repeat_interleave_self_int(size * size, 0, None),
            Self::Depthwise { .. } => weight * p.unsqueeze(1),
        }
    }
}

/// A frozen projection with weight `<name>.weight` of shape `[outputs, ...]` and bias `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSpec {
    /// Path of the projection, for example `blocks.3.attn.qkv`.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// How it acts on its input.
    pub projection: Projection,
    /// Fan-in of one output: channels times the pixels of a patch; for a depthwise convolution, the pixels of
    /// the kernel.
    pub inputs: i64,
    /// Output channels.
    pub outputs: i64,
    /// Whether it has a bias.
    pub bias: bool,
    /// Rows with their own roles; empty unless fused.
    pub parts: Vec<Part>,
    /// Where SAN's input scale comes from.
    pub anteriors: Anteriors,
}

impl SiteSpec {
    /// A linear projection with bias and without anterior sites.
    pub fn linear(name: impl Into<String>, role: Role, inputs: i64, outputs: i64) -> Self {
        Self {
            name: name.into(),
            role,
            projection: Projection::Linear,
            inputs,
            outputs,
            bias: true,
            parts: Vec::new(),
            anteriors: Anteriors::default(),
        }
    }

    /// A convolution with stride equal to its kernel size.
    pub fn patches(name: impl Into<String>, role: Role, channels: i64, size: i64, outputs: i64) -> Self {
        let projection = Projection::Patches { size };
        Self { projection, ..Self::linear(name, role, channels * size * size, outputs) }
    }

    /// A depthwise convolution.
    pub fn depthwise(name: impl Into<String>, channels: i64, kernel: i64) -> Self {
        let projection = Projection::Depthwise { kernel };
        Self { projection, ..Self::linear(name, Role::Dwconv, kernel * kernel, channels) }
    }

    /// Fused queries, keys and values.
    pub fn qkv(name: impl Into<String>, width: i64) -> Self {
        let part = |role, index| Part { role, start: index * width, length: width };
        let parts = vec![part(Role::Q, 0), part(Role::K, 1), part(Role::V, 2)];
        Self { parts, ..Self::linear(name, Role::Qkv, width, 3 * width) }
    }

    /// Sets the anterior sites.
    #[must_use]
    pub fn with_anteriors(self, anteriors: Anteriors) -> Self {
        Self { anteriors, ..self }
    }

    /// Sets whether there is a bias.
    #[must_use]
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Input channels: the length of an input scale.
    pub fn channels(&self) -> i64 {
        match self.projection {
            Projection::Linear => self.inputs,
            Projection::Patches { size } => self.inputs / (size * size),
            Projection::Depthwise { .. } => self.outputs,
        }
    }

    /// Shape of the stored weight.
    fn weight_shape(&self) -> Vec<i64> {
        match self.projection {
            Projection::Linear => vec![self.outputs, self.inputs],
            Projection::Patches { size } => vec![self.outputs, self.channels(), size, size],
            Projection::Depthwise { kernel } => vec![self.outputs, 1, kernel, kernel],
        }
    }
}

/// What a residual branch computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchKind {
    /// Attention.
    Attention,
    /// An MLP.
    Mlp,
    /// A convolution and an MLP in one branch.
    Convolution,
}

/// A residual branch f of x + f(x); a bottleneck may be added after it or in parallel to it.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchSpec {
    /// Path of the branch, for example `blocks.3.mlp`.
    pub name: String,
    /// What f computes.
    pub kind: BranchKind,
    /// Channels of x and of f(x).
    pub width: i64,
}

/// The input of a block that takes a token sequence; prompts may be inserted there.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceSpec {
    /// Path of the block.
    pub name: String,
    /// Channels of a token.
    pub width: i64,
}

/// A norm with parameters `<name>.weight` and, in a layer norm, `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormSpec {
    /// Path of the norm.
    pub name: String,
    /// Number of channels.
    pub width: i64,
    /// Whether it has a bias; an RMS norm has none.
    pub bias: bool,
}

/// A classification head, trained for each task: `<name>.weight` and `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// Path of the head, for example `head`.
    pub name: String,
    /// Length of its input feature vector.
    pub features: i64,
}

impl HeadSpec {
    /// Names of its tensors.
    pub fn tensors(&self) -> [String; 2] {
        ["weight", "bias"].map(|part| format!("{}.{part}", self.name))
    }
}

/// One tensor of the published checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Key in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<i64>,
    /// How it is randomly initialised.
    pub init: Init,
}

/// The description of a whole backbone in forward order; the head is kept separate.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Name used in messages, for example `vit_micro`.
    pub backbone: String,
    /// Every tensor of the checkpoint except the head.
    pub tensors: Vec<TensorSpec>,
    /// Every frozen projection that a method may adapt.
    pub sites: Vec<SiteSpec>,
    /// Every norm.
    pub norms: Vec<NormSpec>,
    /// Every residual branch.
    pub branches: Vec<BranchSpec>,
    /// Every block that takes one token sequence; empty if attention is local or absent.
    pub sequences: Vec<SequenceSpec>,
    /// The classification head; `None` for a language model, whose output embedding is frozen like the rest.
    pub head: Option<HeadSpec>,
}

impl ModelSpec {
    /// An empty model spec of a model with a classification head.
    pub fn new(backbone: impl Into<String>, head: impl Into<String>, features: i64) -> Self {
        Self { head: Some(HeadSpec { name: head.into(), features }), ..Self::headless(backbone) }
    }

    /// An empty model spec of a model without a classification head.
    pub fn headless(backbone: impl Into<String>) -> Self {
        Self {
            backbone: backbone.into(),
            tensors: Vec::new(),
            sites: Vec::new(),
            norms: Vec::new(),
            branches: Vec::new(),
            sequences: Vec::new(),
            head: None,
        }
    }

    /// Adds a tensor that belongs neither to a site nor to a norm.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[i64], init: Init) {
        self.tensors.push(TensorSpec { name: name.into(), shape: shape.to_vec(), init });
    }

    /// Adds a layer norm.
    pub fn norm(&mut self, name: impl Into<String>, width: i64) {
        let name = name.into();
        self.tensor(format!("{name}.weight"), &[width], Init::Ones);
        self.tensor(format!("{name}.bias"), &[width], Init::Zeros);
        self.norms.push(NormSpec { name, width, bias: true });
    }

    /// Adds an RMS norm.
    pub fn rms_norm(&mut self, name: impl Into<String>, width: i64) {
        let name = name.into();
        self.tensor(format!("{name}.weight"), &[width], Init::Ones);
        self.norms.push(NormSpec { name, width, bias: false });
    }

    /// Adds a site.
    pub fn site(&mut self, site: SiteSpec) {
        let init = Init::TruncatedNormal { deviation: 0.02 };
        self.tensor(format!("{}.weight", site.name), &site.weight_shape(), init);
        if site.bias {
            self.tensor(format!("{}.bias", site.name), &[site.outputs], Init::Zeros);
        }
        self.sites.push(site);
    }

    /// Adds a residual branch.
    pub fn branch(&mut self, name: impl Into<String>, kind: BranchKind, width: i64) {
        self.branches.push(BranchSpec { name: name.into(), kind, width });
    }

    /// Adds a block that takes a token sequence.
    pub fn sequence(&mut self, name: impl Into<String>, width: i64) {
        self.sequences.push(SequenceSpec { name: name.into(), width });
    }

    /// The site of that name.
    pub fn find_site(&self, name: &str) -> Option<&SiteSpec> {
        self.sites.iter().find(|site| site.name == name)
    }

    /// Number of parameters, excluding the head.
    pub fn parameters(&self) -> i64 {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<i64>()).sum()
    }
}
