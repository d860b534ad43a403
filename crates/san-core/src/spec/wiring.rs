//! SAN's wirings: which site's scaling vector is applied to which site's input (docs/method.md, section 2).
//!
//! A backbone lists the anterior of each of its sites under each wiring; methods that propagate take it from
//! the model spec.

use tch::Tensor;

/// How a site maps another site's scaling vector to its own input width.
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
    /// The whole vector, repeated `times` times.
    Tile {
        /// Number of repetitions.
        times: i64,
    },
    /// Linear interpolation to the target width (endpoints aligned).
    Interpolate,
    /// Each head's channels repeated `times` times: maps a value head to the query heads of its group.
    RepeatHeads {
        /// Channels per head.
        head: i64,
        /// Query heads per group.
        times: i64,
    },
}

impl ChannelMap {
    /// Maps `vector` `[K, channels]` to `[K, width]`.
    pub fn apply(self, vector: &Tensor, width: i64) -> Tensor {
        match self {
            Self::Identity => vector.shallow_clone(),
            Self::Slice { start, length } => vector.narrow(1, start, length),
            Self::Tile { times } => vector.repeat([1, times]),
            Self::RepeatHeads { head, times } => {
                let stack = vector.size()[0];
                vector.reshape([stack, -1, 1, head]).repeat([1, 1, times, 1]).reshape([stack, width])
            }
            Self::Interpolate => vector.unsqueeze(1).upsample_linear1d([width], true, None).squeeze_dim(1),
        }
    }
}

impl std::fmt::Display for ChannelMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity => write!(f, "channel by channel"),
            Self::Slice { start, length } => write!(f, "channels {start}..{}", start + length),
            Self::Tile { times } => write!(f, "tiled {times} times"),
            Self::Interpolate => write!(f, "interpolated"),
            Self::RepeatHeads { times, .. } => write!(f, "each head repeated {times} times"),
        }
    }
}

/// The site whose scaling vector is applied to another site's input, and how it is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anterior {
    /// Name of the anterior site.
    pub site: String,
    /// How its channels are mapped.
    pub map: ChannelMap,
}

/// Which anterior sites SAN propagates from (docs/method.md, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wiring {
    /// As in the authors' public code.
    #[default]
    Authors,
    /// Same as `Authors`, plus the attention output, which uses the fused projection's scales, interpolated.
    AuthorsResize,
    /// Every site uses the site that feeds it; this project's own interpretation.
    Full,
}

/// A site's anterior under each wiring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Anteriors {
    /// Under [`Wiring::Authors`].
    pub authors: Option<Anterior>,
    /// Under [`Wiring::AuthorsResize`].
    pub resized: Option<Anterior>,
    /// Under [`Wiring::Full`].
    pub full: Option<Anterior>,
}

impl Anteriors {
    /// The same anterior with identity mapping under every wiring.
    pub fn always(site: impl Into<String>) -> Self {
        Self::mapped(site, ChannelMap::Identity)
    }

    /// The same anterior under every wiring.
    pub fn mapped(site: impl Into<String>, map: ChannelMap) -> Self {
        let anterior = Some(Anterior { site: site.into(), map });
        Self { authors: anterior.clone(), resized: anterior.clone(), full: anterior }
    }

    /// The attention output: no anterior in the authors' wiring, the interpolated scales of the fused
    /// projection in the resized one, those of the values in the full one.
    pub fn attention_output(qkv: &str, width: i64) -> Self {
        let anterior = |map| Some(Anterior { site: qkv.into(), map });
        Self {
            authors: None,
            resized: anterior(ChannelMap::Interpolate),
            full: anterior(ChannelMap::Slice { start: 2 * width, length: width }),
        }
    }

    /// The first projection of a block: in the authors' wiring its anterior is the one before all blocks, in
    /// the full one the projection just before.
    pub fn block_input(entry: &str, before: &str) -> Self {
        let anterior = |site: &str| Some(Anterior { site: site.into(), map: ChannelMap::Identity });
        Self { authors: anterior(entry), resized: anterior(entry), full: anterior(before) }
    }

    /// The anterior under `wiring`.
    pub fn under(&self, wiring: Wiring) -> Option<&Anterior> {
        match wiring {
            Wiring::Authors => self.authors.as_ref(),
            Wiring::AuthorsResize => self.resized.as_ref(),
            Wiring::Full => self.full.as_ref(),
        }
    }
}
