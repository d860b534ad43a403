//! What a backbone says of itself before any weight is read.
//!
//! From a layout alone one can check a weights file strictly, count a method's parameters, draw a
//! random model and refuse a method that does not fit. Backbones write it; methods read it.

use tch::Tensor;

use crate::spec::init::Init;
use crate::spec::wiring::Anteriors;

/// What a projection is for; a method's selector speaks of roles, never of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Image patches to tokens, or a stem.
    PatchEmbed,
    /// Fewer tokens of more channels, between two stages.
    Downsample,
    /// Depthwise convolution.
    Dwconv,
    /// Query, key and value in one matrix.
    Qkv,
    /// Query.
    Q,
    /// Key.
    K,
    /// Value.
    V,
    /// Output of attention.
    Proj,
    /// Gate of a gated MLP.
    Gate,
    /// Gate and first linear of a gated MLP in one matrix.
    GateUp,
    /// First linear of an MLP.
    Up,
    /// Last linear of an MLP.
    Down,
    /// From the tokens of one model to those of another.
    Projector,
}

/// Rows of a fused projection that have a role of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Role of the rows.
    pub role: Role,
    /// First output row.
    pub start: i64,
    /// Number of rows.
    pub length: i64,
}

/// How a projection reads its input, channels last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// A linear map of the last dimension.
    Linear,
    /// A convolution whose stride is its kernel: a linear map of the pixels of each patch.
    Patches {
        /// Height and width of a patch.
        size: i64,
    },
    /// A convolution of each channel by itself, which keeps height and width.
    Depthwise {
        /// Height and width of the kernel, odd.
        kernel: i64,
    },
}

impl Projection {
    /// A weight `[outputs, inputs]` that reads its input's channels scaled by `p` `[channels]`.
    pub fn scale_inputs(self, weight: &Tensor, p: &Tensor) -> Tensor {
        match self {
            Self::Linear => weight * p,
            Self::Patches { size } => weight * p.repeat_interleave_self_int(size * size, 0, None),
            Self::Depthwise { .. } => weight * p.unsqueeze(1),
        }
    }
}

/// A frozen projection: weights `<name>.weight` of shape `[outputs, ...]` and `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSpec {
    /// Path of the projection, for example `blocks.3.attn.qkv`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How it reads its input.
    pub projection: Projection,
    /// Length of the vector that an output is a product with: channels, times the pixels of a patch;
    /// the pixels of the kernel for a depthwise convolution.
    pub inputs: i64,
    /// Length of the vector it writes.
    pub outputs: i64,
    /// Whether it has a bias.
    pub bias: bool,
    /// Rows with roles of their own; empty unless fused.
    pub parts: Vec<Part>,
    /// Where SAN's input scale comes from.
    pub anteriors: Anteriors,
}

impl SiteSpec {
    /// A linear projection with a bias that reads no other site's scales yet.
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

    /// A convolution whose stride is its kernel.
    pub fn patches(name: impl Into<String>, role: Role, channels: i64, size: i64, outputs: i64) -> Self {
        let projection = Projection::Patches { size };
        Self { projection, ..Self::linear(name, role, channels * size * size, outputs) }
    }

    /// A depthwise convolution.
    pub fn depthwise(name: impl Into<String>, channels: i64, kernel: i64) -> Self {
        let projection = Projection::Depthwise { kernel };
        Self { projection, ..Self::linear(name, Role::Dwconv, kernel * kernel, channels) }
    }

    /// Queries, keys and values in one projection.
    pub fn qkv(name: impl Into<String>, width: i64) -> Self {
        let part = |role, place| Part { role, start: place * width, length: width };
        let parts = vec![part(Role::Q, 0), part(Role::K, 1), part(Role::V, 2)];
        Self { parts, ..Self::linear(name, Role::Qkv, width, 3 * width) }
    }

    /// The same, reading other sites' scales.
    #[must_use]
    pub fn reading(self, anteriors: Anteriors) -> Self {
        Self { anteriors, ..self }
    }

    /// The same, with a bias or without.
    #[must_use]
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Channels of the input: the length of an input scale.
    pub fn channels(&self) -> i64 {
        match self.projection {
            Projection::Linear => self.inputs,
            Projection::Patches { size } => self.inputs / (size * size),
            Projection::Depthwise { .. } => self.outputs,
        }
    }

    /// Shape of the stored weight.
    pub fn weight_shape(&self) -> Vec<i64> {
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

/// A residual branch f of x + f(x); a bottleneck may stand behind it or beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchSpec {
    /// Path of the branch, for example `blocks.3.mlp`.
    pub name: String,
    /// What f computes.
    pub kind: BranchKind,
    /// Channels of x and of f(x).
    pub width: i64,
}

/// A place where the sequence of tokens enters a block; prompts may be put there.
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

/// A classification head that every task trains for itself: `<name>.weight` and `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// Path of the head, for example `head`.
    pub name: String,
    /// Length of the feature vector that it reads.
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
    /// How a random model draws it.
    pub init: Init,
}

/// The whole of a backbone, in the order of its forward pass; the head is apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Name for messages, for example `vit_micro`.
    pub backbone: String,
    /// Every tensor of the checkpoint, without head.
    pub tensors: Vec<TensorSpec>,
    /// Every frozen projection that a method may adapt.
    pub sites: Vec<SiteSpec>,
    /// Every norm.
    pub norms: Vec<NormSpec>,
    /// Every residual branch.
    pub branches: Vec<BranchSpec>,
    /// Every block that reads one sequence of tokens; empty where attention is local or absent.
    pub sequences: Vec<SequenceSpec>,
    /// The classification head; a language model has none, its output embedding is frozen like the rest.
    pub head: Option<HeadSpec>,
}

impl Layout {
    /// An empty layout of a model under a classification head.
    pub fn new(backbone: impl Into<String>, head: impl Into<String>, features: i64) -> Self {
        Self { head: Some(HeadSpec { name: head.into(), features }), ..Self::headless(backbone) }
    }

    /// An empty layout of a model without a classification head.
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

    /// Adds a tensor that is neither a site's nor a norm's.
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

    /// Adds a block that reads a sequence of tokens.
    pub fn sequence(&mut self, name: impl Into<String>, width: i64) {
        self.sequences.push(SequenceSpec { name: name.into(), width });
    }

    /// The site of that name.
    pub fn find_site(&self, name: &str) -> Option<&SiteSpec> {
        self.sites.iter().find(|site| site.name == name)
    }

    /// Number of parameters, without head.
    pub fn parameters(&self) -> i64 {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<i64>()).sum()
    }
}
