//! ConvNeXt (arXiv 2201.03545; version 2, arXiv 2301.00808) in timm's form: `timm/models/convnext.py`.
//!
//! Key names and configuration fields are timm's. Activations are channels last throughout, so that the MLP
//! consists of linear maps and norms are over the last dimension. SAN's wiring (docs/method.md, section 2):
//! each block is a chain depthwise -> first linear -> second linear, and the anterior of each block is the
//! previous one.

use san_core::Weights;
use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, scale, shift};
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, NormSpec, Role, SiteSpec};
use san_core::spec::wiring::Anteriors;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::sizes::{check_epsilon, check_sizes};
use crate::vision::Named;
use crate::vision::activation::Activation;
use crate::vision::timm::TimmConfig;
use crate::workload::Workload;
use crate::{Architecture, Backbone, Error};

const STAGES: usize = 4;
const STEM: &str = "stem.0";

/// Arguments of timm's `ConvNeXt`, under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Image height and width, pixels (timm's model accepts any; its checkpoints specify one).
    #[serde(default = "default_img_size")]
    pub img_size: i64,
    /// Patch height and width of the stem, pixels.
    #[serde(default = "default_patch_size")]
    pub patch_size: i64,
    /// Blocks of each stage.
    pub depths: [i64; STAGES],
    /// Channels of each stage.
    pub dims: [i64; STAGES],
    /// Kernel size of the depthwise convolutions.
    #[serde(default = "default_kernel_size")]
    pub kernel_sizes: i64,
    /// Initial LayerScale; `None` disables LayerScale.
    #[serde(default = "default_layer_scale")]
    pub ls_init_value: Option<f64>,
    /// The activation function of the MLP.
    #[serde(default)]
    pub act_layer: Activation,
    /// Whether the MLP normalises its hidden channels by their responses over the image (version 2).
    #[serde(default)]
    pub use_grn: bool,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub norm_eps: f64,
}

fn default_img_size() -> i64 {
    224
}

fn default_patch_size() -> i64 {
    4
}

fn default_kernel_size() -> i64 {
    7
}

#[allow(clippy::unnecessary_wraps)] // the type that serde asks for
fn default_layer_scale() -> Option<f64> {
    Some(1e-6)
}

fn default_epsilon() -> f64 {
    1e-6
}

impl Config {
    /// A model with timm's default options.
    pub fn new(img_size: i64, depths: [i64; STAGES], dims: [i64; STAGES]) -> Self {
        Self {
            img_size,
            patch_size: default_patch_size(),
            depths,
            dims,
            kernel_sizes: default_kernel_size(),
            ls_init_value: default_layer_scale(),
            act_layer: Activation::Gelu,
            use_grn: false,
            norm_eps: default_epsilon(),
        }
    }

    /// Whether a stage starts with downsampling: all but the first, and the first after a stem of patch size 2.
    fn downsamples(&self, stage: usize) -> bool {
        stage > 0 || self.patch_size == 2
    }

    /// Image pixels per pixel of the last stage, along one side.
    fn stride(&self) -> i64 {
        (0..STAGES).filter(|&stage| self.downsamples(stage)).fold(self.patch_size, |stride, _| 2 * stride)
    }

    fn stem(&self) -> SiteSpec {
        SiteSpec::patches(STEM, Role::PatchEmbed, 3, self.patch_size, self.dims[0])
    }

    /// The second linear of the last block before a stage, or the stem.
    fn before(&self, stage: usize) -> String {
        match stage.checked_sub(1) {
            Some(before) => format!("stages.{before}.blocks.{}.mlp.fc2", self.depths[before] - 1),
            None => STEM.into(),
        }
    }

    fn downsample(&self, stage: usize) -> SiteSpec {
        let channels = self.dims[stage.saturating_sub(1)];
        SiteSpec::patches(downsample(stage), Role::Downsample, channels, 2, self.dims[stage])
            .with_anteriors(Anteriors::always(self.before(stage)))
    }

    /// The sites of a block, in order.
    fn block_sites(&self, stage: usize, index: i64) -> [SiteSpec; 3] {
        let dim = self.dims[stage];
        let before = match index.checked_sub(1).filter(|&before| before >= 0) {
            Some(before) => format!("stages.{stage}.blocks.{before}.mlp.fc2"),
            None if self.downsamples(stage) => downsample(stage),
            None => self.before(stage),
        };
        let path = |what: &str| format!("stages.{stage}.blocks.{index}.{what}");
        let (dwconv, up, down) = (path("conv_dw"), path("mlp.fc1"), path("mlp.fc2"));
        [
            SiteSpec::depthwise(&dwconv, dim, self.kernel_sizes).with_anteriors(Anteriors::always(before)),
            SiteSpec::linear(&up, Role::Up, dim, 4 * dim).with_anteriors(Anteriors::always(dwconv)),
            SiteSpec::linear(down, Role::Down, 4 * dim, dim).with_anteriors(Anteriors::always(up)),
        ]
    }
}

fn downsample(stage: usize) -> String {
    format!("stages.{stage}.downsample.1")
}

impl Architecture for Config {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let last = self.dims[STAGES - 1];
        let mut model_spec = ModelSpec::new(name, "head.fc", last);
        model_spec.site(self.stem());
        model_spec.norm("stem.1", self.dims[0]);
        for (stage, &depth) in self.depths.iter().enumerate() {
            if self.downsamples(stage) {
                model_spec.norm(format!("stages.{stage}.downsample.0"), self.dims[stage.saturating_sub(1)]);
                model_spec.site(self.downsample(stage));
            }
            for index in 0..depth {
                let block = format!("stages.{stage}.blocks.{index}");
                let [dwconv, up, down] = self.block_sites(stage, index);
                model_spec.site(dwconv);
                model_spec.norm(format!("{block}.norm"), self.dims[stage]);
                model_spec.site(up);
                if self.use_grn {
                    for what in ["weight", "bias"] {
                        let zero = Init::Normal { mean: 0.0, deviation: 0.0 };
                        model_spec.tensor(format!("{block}.mlp.grn.{what}"), &[4 * self.dims[stage]], zero);
                    }
                }
                model_spec.site(down);
                if let Some(value) = self.ls_init_value {
                    let init = Init::Normal { mean: value, deviation: 0.0 };
                    model_spec.tensor(format!("{block}.gamma"), &[self.dims[stage]], init);
                }
                model_spec.branch(block, BranchKind::Convolution, self.dims[stage]);
            }
        }
        model_spec.norm("head.norm", last);
        model_spec
    }

    fn image_size(&self) -> i64 {
        self.img_size
    }

    fn token_count(&self) -> i64 {
        (self.img_size / self.stride()).pow(2)
    }

    #[allow(clippy::cast_precision_loss)]
    fn workload(&self) -> Workload {
        let mut work = Workload::default();
        let mut side = self.img_size / self.patch_size;
        work.apply([STEM], (side * side) as f64);
        for (stage, &depth) in self.depths.iter().enumerate() {
            if self.downsamples(stage) {
                side /= 2;
                work.apply([downsample(stage).as_str()], (side * side) as f64);
            }
            for index in 0..depth {
                let sites = self.block_sites(stage, index);
                work.apply(sites.iter().map(|site| site.name.as_str()), (side * side) as f64);
            }
        }
        work
    }

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        let stride = self.stride();
        if size < stride || size % stride != 0 {
            let reason = format!("it must be a multiple of the last stage's stride, {stride} px");
            return Err(Error::ImageSize { backbone: "this ConvNeXt".into(), size, reason });
        }
        Ok(Box::new(Self { img_size: size, ..self.clone() }))
    }

    /// Some of timm's models compute the MLP's linear maps as convolutions of one pixel (`conv_mlp`).
    fn fit(&self, weights: Weights) -> Result<Weights, Error> {
        let linear = |(name, tensor): (&str, &Tensor)| {
            let is_convolution = name.contains(".mlp.fc") && matches!(tensor.size()[..], [_, _, 1, 1]);
            let tensor = if is_convolution { tensor.f_flatten(1, 3)? } else { tensor.shallow_clone() };
            Ok((name.to_owned(), tensor))
        };
        Ok(Weights::new(weights.iter().map(linear).collect::<Result<_, Error>>()?))
    }

    fn trace_features(&self, layers: &Layers, images: &Value) -> Value {
        self.trace(layers, images)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(ConvNext::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
    }
}

impl TimmConfig for Config {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("img_size", self.img_size),
            ("patch_size", self.patch_size),
            ("kernel_sizes", self.kernel_sizes),
        ])?;
        check_epsilon("norm_eps", self.norm_eps)?;
        self.depths
            .iter()
            .zip(&self.dims)
            .try_for_each(|(&depth, &dim)| check_sizes(&[("depths", depth), ("dims", dim)]))?;
        if self.kernel_sizes % 2 == 0 {
            return Err("`kernel_sizes` must be odd".into());
        }
        Ok(())
    }
}

/// The forward pass on a tape.
impl Config {
    fn trace(&self, layers: &Layers, images: &Value) -> Value {
        let last = self.dims[STAGES - 1];
        let batch = images.elements / (3 * self.img_size.pow(2));
        let stem = layers.norm(&norm("stem.1", self.dims[0]), &layers.forward(&self.stem(), images));
        let map = (0..STAGES).fold(stem, |x, stage| self.trace_stage(layers, stage, x));
        layers.norm(&norm("head.norm", last), &layers.copied(&map, batch * last))
    }

    fn trace_stage(&self, layers: &Layers, stage: usize, x: Value) -> Value {
        let x = if self.downsamples(stage) {
            let before = norm(&format!("stages.{stage}.downsample.0"), self.dims[stage.saturating_sub(1)]);
            layers.norm_then(&before, &x, &[&self.downsample(stage)]).remove(0)
        } else {
            x
        };
        (0..self.depths[stage]).fold(x, |x, index| self.trace_block(layers, (stage, index), &x))
    }

    fn trace_block(&self, layers: &Layers, (stage, index): (usize, i64), x: &Value) -> Value {
        let block = format!("stages.{stage}.blocks.{index}");
        let [dwconv, fc1, fc2] = self.block_sites(stage, index);
        let hidden = {
            let y = layers.forward(&dwconv, x);
            let y =
                layers.norm_then(&norm(&format!("{block}.norm"), self.dims[stage]), &y, &[&fc1]).remove(0);
            self.act_layer.trace(layers, &y)
        };
        let hidden = if self.use_grn {
            // x + scale(x * relative), shifted: both products keep their input, and the norm of x keeps x.
            let relative = layers.multiply(&hidden, &hidden);
            let scaled = layers.scaled_by(&relative, &format!("{block}.mlp.grn.weight"));
            layers.shifted(&layers.add(&hidden, &scaled), 0)
        } else {
            hidden
        };
        let y = layers.forward(&fc2, &hidden);
        let y = match self.ls_init_value {
            Some(_) => layers.scaled_by(&y, &format!("{block}.gamma")),
            None => y,
        };
        layers.branch(&block, x, y)
    }
}

fn norm(name: &str, width: i64) -> NormSpec {
    NormSpec { name: name.into(), width, bias: true }
}

/// The model.
#[derive(Debug)]
struct ConvNext {
    stem: Site,
    stem_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
}

impl ConvNext {
    fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let stages = (0..STAGES).map(|stage| Stage::new(config, stage, builder));
        Ok(Self {
            stem: builder.site(&config.stem())?,
            stem_norm: builder.norm("stem.1", config.norm_eps)?,
            stages: stages.collect::<Result<_, _>>()?,
            norm: builder.norm("head.norm", config.norm_eps)?,
        })
    }
}

impl ConvNext {
    /// Output of the last stage, `[batch, height, width, channels]`.
    fn last_feature_map(&self, images: &Tensor) -> Tensor {
        let stem = self.stem_norm.forward(&self.stem.forward(&images.permute([0, 2, 3, 1])));
        self.stages.iter().fold(stem, |x, stage| stage.forward(&x))
    }
}

impl Backbone for ConvNext {
    fn features(&self, images: &Tensor) -> Tensor {
        self.norm.forward(&self.last_feature_map(images).mean_dim([1, 2].as_slice(), false, None))
    }

    /// The pixels of the last feature map, each after the norm that the head applies to their mean.
    fn tokens(&self, images: &Tensor) -> Tensor {
        self.norm.forward(&self.last_feature_map(images).flatten(1, 2))
    }
}

/// Blocks of one width.
#[derive(Debug)]
struct Stage {
    downsample: Option<(Norm, Site)>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(config: &Config, stage: usize, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let builder_of_stage = builder.at("stages").at(stage);
        let downsample = if config.downsamples(stage) {
            let norm = builder_of_stage.norm("downsample.0", config.norm_eps)?;
            Some((norm, builder.site(&config.downsample(stage))?))
        } else {
            None
        };
        let blocks = (0..config.depths[stage])
            .map(|index| Block::new(config, stage, index, &builder_of_stage.at("blocks").at(index)));
        Ok(Self { downsample, blocks: blocks.collect::<Result<_, _>>()? })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = match &self.downsample {
            Some((norm, convolution)) => norm.then(x, convolution),
            None => x.shallow_clone(),
        };
        self.blocks.iter().fold(x, |x, block| block.forward(&x))
    }
}

#[derive(Debug)]
struct Block {
    dwconv: Site,
    norm: Norm,
    fc1: Site,
    activation: Activation,
    grn: Option<[Parameter; 2]>,
    fc2: Site,
    gamma: Option<Parameter>,
    branch: Branch,
}

impl Block {
    fn new(config: &Config, stage: usize, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let [dwconv, fc1, fc2] = config.block_sites(stage, index);
        let before: i64 = config.depths[..stage].iter().sum();
        let grn = config.use_grn.then(|| {
            let builder = builder.at("mlp").at("grn");
            Ok::<_, Error>([builder.parameter("weight")?, builder.parameter("bias")?])
        });
        Ok(Self {
            dwconv: builder.site(&dwconv)?,
            norm: builder.norm("norm", config.norm_eps)?,
            fc1: builder.site(&fc1)?,
            activation: config.act_layer,
            grn: grn.transpose()?,
            fc2: builder.site(&fc2)?,
            gamma: builder.optional("gamma", config.ls_init_value.is_some())?,
            branch: builder.branch("", before + index, config.depths.iter().sum()),
        })
    }

    /// `x` is `[batch, height, width, channels]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.activation.apply(&self.norm.then(&self.dwconv.forward(x), &self.fc1));
        let hidden = match &self.grn {
            Some(grn) => normalise_responses(&hidden, grn),
            None => hidden,
        };
        let y = self.fc2.forward(&hidden);
        let y = match &self.gamma {
            Some(gamma) => scale(&y, &gamma.stacked()),
            None => y,
        };
        self.branch.add(x, y)
    }
}

/// Global response normalisation of `[batch, height, width, channels]`: each channel is scaled by its norm over the image,
/// relative to the mean of all channels' (timm's `GlobalResponseNorm`).
fn normalise_responses(x: &Tensor, [weight, bias]: &[Parameter; 2]) -> Tensor {
    const EPSILON: f64 = 1e-6;
    let response = x.norm_scalaropt_dim(2.0, [1, 2].as_slice(), true);
    let relative = &response / (response.mean_dim(-1, true, None) + EPSILON);
    shift(&(x + scale(&(x * relative), &weight.stacked())), &bias.stacked())
}

/// Published models under timm's names.
pub(super) fn published() -> Vec<Named> {
    let convnext = |name, depths, dims| -> Named { (name, Box::new(Config::new(224, depths, dims))) };
    vec![
        convnext("convnext_tiny.fb_in22k", [3, 3, 9, 3], [96, 192, 384, 768]),
        convnext("convnext_small.fb_in22k", [3, 3, 27, 3], [96, 192, 384, 768]),
        convnext("convnext_base.fb_in22k", [3, 3, 27, 3], [128, 256, 512, 1024]),
        convnext("convnext_large.fb_in22k", [3, 3, 27, 3], [192, 384, 768, 1536]),
        convnext("convnext_xlarge.fb_in22k", [3, 3, 27, 3], [256, 512, 1024, 2048]),
    ]
}
