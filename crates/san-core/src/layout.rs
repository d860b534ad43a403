//! What a backbone says of itself before any weight is read.
//!
//! From a layout alone one can check a weights file strictly, count a method's parameters, draw a
//! random model and refuse a method that does not fit. Backbones write it; methods read it.

use crate::trainables::Init;

/// What a projection is for; a method's selector speaks of roles, never of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Image patches to tokens.
    PatchEmbed,
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
    /// First linear of an MLP.
    Up,
    /// Last linear of an MLP.
    Down,
}

/// How a scaling vector of one site is read by another of other width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelMap {
    /// Channel by channel.
    Identity,
    /// The channels `start..start + length`.
    Slice {
        /// First channel.
        start: i64,
        /// Number of channels.
        length: i64,
    },
    /// Linear interpolation to the reader's width (first on first, last on last channel).
    Interpolate,
}

/// The site whose scaling vector reaches another site's input, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anterior {
    /// Name of the site before.
    pub site: String,
    /// How its channels are read.
    pub map: ChannelMap,
}

/// Which anterior sites SAN propagates from (facts: san.md sections 2 and 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wiring {
    /// As the authors' public code has it.
    #[default]
    Authors,
    /// Every site reads the site that feeds it; this project's own reading.
    Full,
}

/// A site's anterior under each wiring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Anteriors {
    /// Under [`Wiring::Authors`].
    pub authors: Option<Anterior>,
    /// Under [`Wiring::Full`].
    pub full: Option<Anterior>,
}

impl Anteriors {
    /// The same anterior, channel by channel, under every wiring.
    pub fn always(site: impl Into<String>) -> Self {
        let anterior = Anterior { site: site.into(), map: ChannelMap::Identity };
        Self { authors: Some(anterior.clone()), full: Some(anterior) }
    }

    /// The anterior under `wiring`.
    pub fn under(&self, wiring: Wiring) -> Option<&Anterior> {
        match wiring {
            Wiring::Authors => self.authors.as_ref(),
            Wiring::Full => self.full.as_ref(),
        }
    }
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

/// A frozen projection: weights `<name>.weight` of shape `[outputs, ...]` and `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSpec {
    /// Path of the projection, for example `blocks.3.attn.qkv`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Length of the vector it reads (patch pixels for a patch embedding).
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

/// A layer norm with parameters `<name>.weight` and `<name>.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormSpec {
    /// Path of the norm.
    pub name: String,
    /// Number of channels.
    pub width: i64,
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
    /// Path of the classification head, for example `head`.
    pub head: String,
    /// Length of the feature vector that the head reads.
    pub features: i64,
}

impl Layout {
    /// An empty layout.
    pub fn new(backbone: impl Into<String>, head: impl Into<String>, features: i64) -> Self {
        Self {
            backbone: backbone.into(),
            tensors: Vec::new(),
            sites: Vec::new(),
            norms: Vec::new(),
            head: head.into(),
            features,
        }
    }

    /// Adds a tensor that is neither a site's nor a norm's.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[i64], init: Init) {
        self.tensors.push(TensorSpec { name: name.into(), shape: shape.to_vec(), init });
    }

    /// Adds a norm.
    pub fn norm(&mut self, name: impl Into<String>, width: i64) {
        let name = name.into();
        self.tensor(format!("{name}.weight"), &[width], Init::Ones);
        self.tensor(format!("{name}.bias"), &[width], Init::Zeros);
        self.norms.push(NormSpec { name, width });
    }

    /// Adds a site whose weight is stored as `[outputs, inputs]`.
    pub fn linear(&mut self, site: SiteSpec) {
        let shape = [site.outputs, site.inputs];
        self.site(site, &shape);
    }

    /// Adds a site whose weight is stored in `weight_shape`, of `outputs * inputs` elements.
    pub fn site(&mut self, site: SiteSpec, weight_shape: &[i64]) {
        self.tensor(format!("{}.weight", site.name), weight_shape, Init::TruncatedNormal { deviation: 0.02 });
        if site.bias {
            self.tensor(format!("{}.bias", site.name), &[site.outputs], Init::Zeros);
        }
        self.sites.push(site);
    }

    /// Number of parameters, without head.
    pub fn parameters(&self) -> i64 {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<i64>()).sum()
    }
}
