//! The vision tower of CLIP (arXiv 2103.00020) in Hugging Face's form: `CLIPVisionModel`.
//!
//! A ViT with a norm before the first block, quick-GELU, separate queries, keys and values, and no bias in the
//! patch embedding. Key names are those of the published files (`vision_model.embeddings...`; `pre_layrnorm` is
//! their spelling), configuration fields those of their `config.json`. LLaVA uses the patch tokens of an
//! intermediate block. SAN's wiring is the ViT's, with q, k and v as separate sites (docs/method.md, section
//! 2).

use san_core::Weights;
use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::Parameter;
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, NormSpec, Role, SiteSpec};
use san_core::spec::wiring::Anteriors;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::vision::Named;
use crate::vision::activation::Activation;
use crate::workload::Workload;
use crate::{Architecture, Backbone, Error};

/// Fields of a published `config.json` (of `CLIPVisionModel`, or its `vision_config` section) under their
/// names; others are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Image height and width, pixels.
    pub image_size: i64,
    /// Patch height and width, pixels.
    pub patch_size: i64,
    /// Channels of a token.
    pub hidden_size: i64,
    /// Width of the MLP.
    pub intermediate_size: i64,
    /// Number of blocks.
    pub num_hidden_layers: i64,
    /// Attention heads.
    pub num_attention_heads: i64,
    /// The activation function.
    #[serde(default = "default_activation")]
    pub hidden_act: Activation,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    /// Which hidden states [`Backbone::tokens`] returns, counted from the end: -1 for the last block's output,
    /// -2 (LLaVA's choice) for its input. A field of LLaVA's configuration.
    #[serde(default = "default_feature_layer")]
    pub vision_feature_layer: i64,
}

fn default_activation() -> Activation {
    Activation::QuickGelu
}

fn default_epsilon() -> f64 {
    1e-5
}

fn default_feature_layer() -> i64 {
    -2
}

const MODEL: &str = "vision_model";
const PATCH_EMBED: &str = "vision_model.embeddings.patch_embedding";

impl Config {
    /// A model with the options of OpenAI's weights.
    pub fn new(image_size: i64, patch_size: i64, hidden_size: i64, layers: i64, heads: i64) -> Self {
        Self {
            image_size,
            patch_size,
            hidden_size,
            intermediate_size: 4 * hidden_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: default_epsilon(),
            vision_feature_layer: default_feature_layer(),
        }
    }

    /// Rows of the position embedding: the class token and the patches.
    fn positions(&self) -> i64 {
        self.patches() + 1
    }

    fn patches(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2)
    }

    fn patch_embed(&self) -> SiteSpec {
        SiteSpec::patches(PATCH_EMBED, Role::PatchEmbed, 3, self.patch_size, self.hidden_size)
            .with_bias(false)
    }

    /// The sites of a block with their anteriors, in order: q, k, v, output, and the two of the MLP.
    fn block_sites(&self, index: i64) -> [SiteSpec; 6] {
        let (dim, mlp) = (self.hidden_size, self.intermediate_size);
        let path = |what: &str| format!("{MODEL}.encoder.layers.{index}.{what}");
        let before = match index {
            0 => PATCH_EMBED.to_owned(),
            _ => format!("{MODEL}.encoder.layers.{}.mlp.fc2", index - 1),
        };
        let projection = |what: &str, role| {
            SiteSpec::linear(path(what), role, dim, dim)
                .with_anteriors(Anteriors::block_input(PATCH_EMBED, &before))
        };
        let (value, output) = (path("self_attn.v_proj"), path("self_attn.out_proj"));
        let (up, down) = (path("mlp.fc1"), path("mlp.fc2"));
        // The authors' code has no scale before the output; with separate values, no resizing is needed.
        let output_reads = Anteriors { authors: None, ..Anteriors::always(value) };
        [
            projection("self_attn.q_proj", Role::Q),
            projection("self_attn.k_proj", Role::K),
            projection("self_attn.v_proj", Role::V),
            SiteSpec::linear(&output, Role::Proj, dim, dim).with_anteriors(output_reads),
            SiteSpec::linear(&up, Role::Up, dim, mlp).with_anteriors(Anteriors::always(output)),
            SiteSpec::linear(down, Role::Down, mlp, dim).with_anteriors(Anteriors::always(up)),
        ]
    }

    /// Number of blocks after which the tokens are taken; `None` if there are fewer blocks.
    fn blocks_before_tokens(&self) -> Option<usize> {
        let index = match self.vision_feature_layer {
            // Hidden states are counted from the embedding.
            from_end if from_end < 0 => self.num_hidden_layers + 1 + from_end,
            from_start => from_start,
        };
        usize::try_from(index).ok().filter(|_| index <= self.num_hidden_layers)
    }
}

impl Architecture for Config {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let dim = self.hidden_size;
        let mut model_spec = ModelSpec::new(name, "head", dim);
        let small = Init::TruncatedNormal { deviation: 0.02 };
        model_spec.tensor(format!("{MODEL}.embeddings.class_embedding"), &[dim], small.clone());
        model_spec.site(self.patch_embed());
        let positions = format!("{MODEL}.embeddings.position_embedding.weight");
        model_spec.tensor(positions, &[self.positions(), dim], small);
        model_spec.norm(format!("{MODEL}.pre_layrnorm"), dim);
        for index in 0..self.num_hidden_layers {
            let block = format!("{MODEL}.encoder.layers.{index}");
            let [q, k, v, output, up, down] = self.block_sites(index);
            model_spec.norm(format!("{block}.layer_norm1"), dim);
            for site in [q, k, v, output] {
                model_spec.site(site);
            }
            model_spec.branch(format!("{block}.self_attn"), BranchKind::Attention, dim);
            model_spec.norm(format!("{block}.layer_norm2"), dim);
            model_spec.site(up);
            model_spec.site(down);
            model_spec.branch(format!("{block}.mlp"), BranchKind::Mlp, dim);
        }
        model_spec.norm(format!("{MODEL}.post_layernorm"), dim);
        model_spec
    }

    fn image_size(&self) -> i64 {
        self.image_size
    }

    fn token_count(&self) -> i64 {
        self.patches()
    }

    /// With all blocks, also those after the one that tokens are taken from.
    #[allow(clippy::cast_precision_loss)]
    fn workload(&self) -> Workload {
        let mut work = Workload::default();
        work.apply([PATCH_EMBED], self.patches() as f64);
        let tokens = self.positions() as f64;
        for index in 0..self.num_hidden_layers {
            work.apply(self.block_sites(index).iter().map(|site| site.name.as_str()), tokens);
        }
        let pairs = tokens * tokens * self.num_hidden_layers as f64;
        Workload { attention: 2.0 * pairs * self.hidden_size as f64, ..work }
    }

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        if size == self.image_size {
            return Ok(Box::new(self.clone()));
        }
        let reason = format!("its position embedding has a fixed size, for {} px", self.image_size);
        Err(Error::ImageSize { backbone: "this CLIP tower".into(), size, reason })
    }

    /// Drops the text tower, the projections into the joint space and the stored position ids.
    fn fit(&self, weights: Weights) -> Result<Weights, Error> {
        let position_ids = format!("{MODEL}.embeddings.position_ids");
        let in_tower = |name: &str| name != position_ids && !outside_tower(name);
        let kept = weights.iter().filter(|(name, _)| in_tower(name));
        Ok(Weights::new(kept.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect()))
    }

    fn trace_features(&self, layers: &Layers, images: &Value) -> Value {
        self.trace(layers, images)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Clip::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
    }
}

/// Whether a tensor of a published CLIP file is not part of the vision tower.
fn outside_tower(name: &str) -> bool {
    let others = ["text_model.", "text_projection.", "visual_projection."];
    name == "logit_scale" || others.iter().any(|other| name.starts_with(other))
}

/// The forward pass on a tape.
impl Config {
    fn trace(&self, layers: &Layers, images: &Value) -> Value {
        let dim = self.hidden_size;
        let norm = |name: &str| NormSpec { name: format!("{MODEL}.{name}"), width: dim, bias: true };
        let batch = images.elements / (3 * self.image_size.pow(2));
        let patches = layers.forward(&self.patch_embed(), images);
        let tokens = layers.copied(&patches, batch * self.positions() * dim);
        let table = format!("{MODEL}.embeddings.position_embedding.weight");
        let tokens = layers.shifted(&tokens, layers.gradient_of(&table, self.positions() * dim));
        let tokens = layers.norm(&norm("pre_layrnorm"), &tokens);
        let last = (0..self.num_hidden_layers).fold(tokens, |x, index| self.trace_block(layers, index, &x));
        layers.norm(&norm("post_layernorm"), &layers.copied(&last, batch * dim))
    }

    fn trace_block(&self, layers: &Layers, index: i64, x: &Value) -> Value {
        let dim = self.hidden_size;
        let block = format!("{MODEL}.encoder.layers.{index}");
        let norm = |what: &str| NormSpec { name: format!("{block}.{what}"), width: dim, bias: true };
        let [q, k, v, output, up, down] = self.block_sites(index);
        let heads = {
            let qkv = layers.norm_then(&norm("layer_norm1"), x, &[&q, &k, &v]);
            let queries = x.elements / dim * self.num_attention_heads;
            layers.attention(&[&qkv[0], &qkv[1], &qkv[2]], x.elements, queries)
        };
        let x = layers.branch(&format!("{block}.self_attn"), x, layers.forward(&output, &heads));
        let hidden = {
            let hidden = layers.norm_then(&norm("layer_norm2"), &x, &[&up]).remove(0);
            self.hidden_act.trace(layers, &hidden)
        };
        layers.branch(&format!("{block}.mlp"), &x, layers.forward(&down, &hidden))
    }
}

/// The model.
#[derive(Debug)]
struct Clip {
    class_embedding: Parameter,
    patch_embed: Site,
    position_embedding: Parameter,
    pre_norm: Norm,
    blocks: Vec<Block>,
    post_norm: Norm,
    blocks_before_tokens: usize,
}

impl Clip {
    fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let builder = builder.at(MODEL);
        let embeddings = builder.at("embeddings");
        let dim = config.hidden_size;
        let norm = |name| builder.norm(name, config.layer_norm_eps);
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::new(config, index, &builder.at("encoder.layers").at(index)));
        Ok(Self {
            class_embedding: embeddings.parameter("class_embedding")?.reshape(&[1, dim]),
            patch_embed: builder.site(&config.patch_embed())?,
            position_embedding: embeddings.parameter("position_embedding.weight")?,
            pre_norm: norm("pre_layrnorm")?,
            blocks: blocks.collect::<Result<_, _>>()?,
            post_norm: norm("post_layernorm")?,
            blocks_before_tokens: config.blocks_before_tokens().ok_or_else(|| {
                san_core::Error::BadOption {
                    method: "clip".into(),
                    reason: format!(
                        "`vision_feature_layer` is {}, but a model of {} blocks has no such hidden state",
                        config.vision_feature_layer, config.num_hidden_layers
                    ),
                }
            })?,
        })
    }

    /// Maps images `[batch, 3, size, size]` to `[batch, 1 + patches, dim]`, the output of the first `blocks`
    /// blocks.
    fn hidden_states(&self, images: &Tensor, blocks: usize) -> Tensor {
        let patches = self.patch_embed.forward(&images.permute([0, 2, 3, 1])).flatten(1, 2);
        let [batch, _, dim] = patches.size()[..] else { unreachable!("tokens have three dimensions") };
        let class = self.class_embedding.per_sample(batch).expand([batch, 1, dim], false);
        let class = class.to_kind(patches.kind());
        let embedded = Tensor::cat(&[class, patches], 1) + self.position_embedding.per_sample(batch);
        let start = self.pre_norm.forward(&embedded);
        self.blocks.iter().take(blocks).fold(start, |x, block| block.forward(&x))
    }
}

impl Backbone for Clip {
    /// The class token after the last norm (`pooler_output`).
    fn features(&self, images: &Tensor) -> Tensor {
        self.post_norm.forward(&self.hidden_states(images, self.blocks.len()).select(1, 0))
    }

    /// The patch tokens of the chosen layer, without a final norm.
    fn tokens(&self, images: &Tensor) -> Tensor {
        let states = self.hidden_states(images, self.blocks_before_tokens);
        states.narrow(1, 1, states.size()[1] - 1)
    }
}

#[derive(Debug)]
struct Block {
    heads: i64,
    activation: Activation,
    norm1: Norm,
    queries_keys_values: [Site; 3],
    output: Site,
    attention: Branch,
    norm2: Norm,
    fc1: Site,
    fc2: Site,
    mlp: Branch,
}

impl Block {
    fn new(config: &Config, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let [q, k, v, output, fc1, fc2] = config.block_sites(index);
        Ok(Self {
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            norm1: builder.norm("layer_norm1", config.layer_norm_eps)?,
            queries_keys_values: [builder.site(&q)?, builder.site(&k)?, builder.site(&v)?],
            output: builder.site(&output)?,
            attention: builder.branch("self_attn", index, config.num_hidden_layers),
            norm2: builder.norm("layer_norm2", config.layer_norm_eps)?,
            fc1: builder.site(&fc1)?,
            fc2: builder.site(&fc2)?,
            mlp: builder.branch("mlp", index, config.num_hidden_layers),
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.attention.add(x, self.output.forward(&self.attend(x)));
        let hidden = self.norm2.then(&x, &self.fc1);
        self.mlp.add(&x, self.fc2.forward(&self.activation.apply(&hidden)))
    }

    /// Multi-head attention over the normalised tokens, `[batch, tokens, dim]`.
    fn attend(&self, x: &Tensor) -> Tensor {
        let [batch, tokens, dim] = x.size()[..] else { unreachable!("tokens have three dimensions") };
        let [q, k, v] = self
            .norm1
            .then_each(x, self.queries_keys_values.each_ref())
            .map(|y| y.reshape([batch, tokens, self.heads, dim / self.heads]).transpose(1, 2));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
        y.transpose(1, 2).reshape([batch, tokens, dim])
    }
}

/// LLaVA-1.5's tower under its publisher's model and tensor names (OpenAI, on Hugging Face).
pub(super) fn published() -> Vec<Named> {
    vec![("clip-vit-large-patch14-336", Box::new(Config::new(336, 14, 1024, 24, 16)))]
}
