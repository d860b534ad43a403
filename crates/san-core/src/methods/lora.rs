//! LoRA: a low-rank update W + s B A of selected projections (arXiv 2106.09685).
//!
//! s = alpha / rank, or alpha / sqrt(rank) if `scaling` is `rank_stabilised` (rsLoRA, arXiv 2312.03732). Names:
//! `<target>.lora_a` `[rank, inputs]`, Kaiming-uniform, and `.lora_b` `[rows, rank]`, zero. With `init: pissa`
//! (arXiv 2404.02948) both are initialised to the principal factors of the target's frozen rows; the residual
//! of W is never built: the update is s (B A - B0 A0) with constant B0 and A0.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

use crate::methods::host::{Host, Scaling};
use crate::methods::low_rank::{Block, LowRank};
use crate::methods::low_rank_peft::{low_rank_from_peft, peft_form};
use crate::methods::peft::{Imported, PeftFiles, PeftForm};
use crate::methods::row_norms::RowNorms;
use crate::methods::targets::{Target, Targeted, Targets};
use crate::methods::{Method, MethodInfo, bad_option, check_size, parse, san_lora};
use crate::nn::dropout::Dropout;
use crate::spec::effects::{Effects, SiteEffect, Update};
use crate::spec::init::{Factor, FrozenRows, Init};
use crate::spec::model::SiteSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "lora",
    label: "LoRA",
    summary: "a low-rank update of selected projections",
    inference_cost: "none when merged",
    source: "Hu et al., arXiv 2106.09685; rsLoRA 2312.03732; PiSSA 2404.02948",
    published_as: &["LoRA"],
    parse: parse::<Lora>,
    from_peft: Some(from_peft),
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lora {
    rank: i64,
    alpha: f64,
    targets: Targets,
    scaling: RankScaling,
    init: FactorInit,
    /// Dropout probability on the input of the factors.
    dropout: f64,
}

/// How the update is scaled with the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RankScaling {
    /// alpha / rank.
    #[default]
    Standard,
    /// alpha / sqrt(rank).
    RankStabilised,
}

/// How the factors are initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FactorInit {
    /// A Kaiming-uniform, B zero.
    #[default]
    Kaiming,
    /// The principal singular values and vectors of the frozen rows.
    Pissa,
}

impl Default for Lora {
    /// Rank 8 on the usual targets; alpha = rank; no dropout.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            targets: Targets::Usual,
            scaling: RankScaling::Standard,
            init: FactorInit::Kaiming,
            dropout: 0.0,
        }
    }
}

/// A site with the low-rank update of its targets.
pub(super) struct Updated {
    pub(super) site: SiteSpec,
    pub(super) targets: Vec<Target>,
    pub(super) update: Rc<LowRank>,
}

impl Lora {
    /// As published, without further options.
    pub(super) fn plain(rank: i64, alpha: f64, targets: Targets, dropout: f64) -> Self {
        Self { rank, alpha, targets, dropout, ..Self::default() }
    }

    /// The scaling factor s.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn factor(&self) -> f64 {
        match self.scaling {
            RankScaling::Standard => self.alpha / self.rank as f64,
            RankScaling::RankStabilised => self.alpha / (self.rank as f64).sqrt(),
        }
    }

    /// Rank, targets and dropout, where they differ from the defaults.
    pub(super) fn suffix(&self) -> String {
        let default = Self::default();
        let mut suffix = String::new();
        if self.rank != default.rank {
            suffix += &format!(" r={}", self.rank);
        }
        suffix += &self.targets.suffix();
        if self.dropout != default.dropout {
            suffix += &format!(" dropout {}", self.dropout);
        }
        suffix
    }

    /// The sites that the method updates.
    pub(super) fn targeted<'a>(
        &self,
        method: &str,
        model_spec: &'a ModelSpec,
    ) -> Result<Vec<Targeted<'a>>, Error> {
        check_size(method, "rank", self.rank)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(bad_option(method, "`dropout` must be 0 or more and below 1"));
        }
        self.targets.within(method, model_spec)
    }

    /// The two factors of one target.
    fn factors(&self, site: &SiteSpec, target: &Target) -> Result<[TrainableSpec; 2], Error> {
        let (a, b) = match self.init {
            FactorInit::Kaiming => (Init::KaimingUniform { inputs: site.inputs }, Init::Zeros),
            FactorInit::Pissa => {
                (self.principal(site, target, Factor::Right), self.principal(site, target, Factor::Left))
            }
        };
        if self.init == FactorInit::Pissa && self.rank > target.rows.min(site.inputs) {
            let reason = format!(
                "`rank` exceeds that of `{}`, whose principal factors `init: pissa` uses",
                target.path
            );
            return Err(bad_option("lora", &reason));
        }
        let spec = |what, shape, init| TrainableSpec {
            name: format!("{}.{what}", target.path),
            shape,
            init,
            group: Group::Method,
        };
        Ok([spec("lora_a", vec![self.rank, site.inputs], a), spec("lora_b", vec![target.rows, self.rank], b)])
    }

    fn principal(&self, site: &SiteSpec, target: &Target, factor: Factor) -> Init {
        let weight = format!("{}.weight", site.name);
        let rows = FrozenRows { weight, start: target.start, length: target.rows };
        // The product of both factors cancels s.
        Init::Principal { rows, rank: self.rank, factor, scale: self.factor().sqrt().recip() }
    }

    /// The specs of all factors.
    pub(super) fn specs(&self, method: &str, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let mut specs = Vec::new();
        for (site, targets) in self.targeted(method, model_spec)? {
            for target in &targets {
                specs.extend(self.factors(site, target)?);
            }
        }
        Ok(specs)
    }

    /// What the update adds to each site's forward pass.
    pub(super) fn update_effects(
        &self,
        method: &str,
        model_spec: &ModelSpec,
        is_rescaled: bool,
    ) -> Result<Effects, Error> {
        let blocks_per_target = if self.init == FactorInit::Pissa { 2 } else { 1 };
        let effect = |(site, targets): Targeted<'_>| {
            let ranks = self.rank * blocks_per_target * targets.len() as i64;
            let update = Some(Update::LowRank { ranks, is_rescaled, has_dropout: self.dropout > 0.0 });
            (site.name.clone(), SiteEffect { update, ..SiteEffect::default() })
        };
        let sites = self.targeted(method, model_spec)?.into_iter().map(effect);
        Ok(Effects { sites: sites.collect(), ..Effects::default() })
    }

    /// The update of each site.
    pub(super) fn updates(
        &self,
        method: &str,
        model_spec: &ModelSpec,
        trainables: &Trainables,
    ) -> Result<Vec<Updated>, Error> {
        let mut updates = Vec::new();
        for (site, targets) in self.targeted(method, model_spec)? {
            let mut blocks = Vec::new();
            for Target { path, start, .. } in &targets {
                let a = trainables.get(&format!("{path}.lora_a"))?;
                let b = trainables.get(&format!("{path}.lora_b"))?;
                if self.init == FactorInit::Pissa {
                    let for_all_runs = |constant: Tensor| {
                        constant.f_unsqueeze(0)?.f_expand([trainables.stack(), -1, -1], false)
                    };
                    let a = for_all_runs(trainables.constant(&initial(path, "lora_a"))?)?;
                    let b = for_all_runs(trainables.constant(&initial(path, "lora_b"))?)?.f_neg()?;
                    blocks.push(Block { a, b, start: *start });
                }
                blocks.push(Block { a, b, start: *start });
            }
            let dropout = Dropout::new(site.name.clone(), self.dropout, trainables.pass().clone());
            let update = Rc::new(LowRank::new(blocks, self.factor(), site.outputs, dropout));
            updates.push(Updated { site: site.clone(), targets, update });
        }
        Ok(updates)
    }
}

fn from_peft(files: &mut PeftFiles, model_spec: &ModelSpec) -> Result<Option<Imported>, String> {
    if files.kind() != "LORA" || files.flag("use_dora") {
        return Ok(None);
    }
    let mut imported = low_rank_from_peft(INFO.name, files, model_spec)?;
    if files.flag("use_rslora") {
        imported.options.insert("scaling".into(), json!("rank_stabilised"));
    }
    Ok(Some(imported))
}

/// Name of the constant that holds a factor's initial value.
fn initial(path: &str, what: &str) -> String {
    format!("{path}.initial.{what}")
}

impl Method for Lora {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        let name = match (self.scaling, self.init) {
            (RankScaling::Standard, FactorInit::Kaiming) => "LoRA",
            (RankScaling::RankStabilised, FactorInit::Kaiming) => "rsLoRA",
            (RankScaling::Standard, FactorInit::Pissa) => "PiSSA",
            (RankScaling::RankStabilised, FactorInit::Pissa) => "rsPiSSA",
        };
        format!("{name}{}", self.suffix())
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        self.specs("lora", model_spec)
    }

    fn constants(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        if self.init == FactorInit::Kaiming {
            return Ok(Vec::new());
        }
        let mut specs = Vec::new();
        for (site, targets) in self.targeted("lora", model_spec)? {
            for target in &targets {
                for (spec, what) in self.factors(site, target)?.into_iter().zip(["lora_a", "lora_b"]) {
                    specs.push(TrainableSpec { name: initial(&target.path, what), ..spec });
                }
            }
        }
        Ok(specs)
    }

    fn to_peft(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        peft_form("lora", &self.updates("lora", model_spec, trainables)?, self.dropout, run)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        self.update_effects("lora", model_spec, false)
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for Updated { site, update, .. } in self.updates("lora", model_spec, trainables)? {
            adapters.sites.insert(site.name, update);
        }
        Ok(adapters)
    }
}

impl Host for Lora {
    const SAN: &'static MethodInfo = &san_lora::INFO;

    fn scaled(&self, model_spec: &ModelSpec) -> Result<Vec<String>, Error> {
        Ok(self.targeted("lora", model_spec)?.into_iter().map(|(site, _)| site.name.clone()).collect())
    }

    /// ||(W + s B A)_i|| / ||W_i||.
    fn scalings(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<BTreeMap<String, Rc<dyn Scaling>>, Error> {
        let mut scalings: BTreeMap<String, Rc<dyn Scaling>> = BTreeMap::new();
        for Updated { site, update, .. } in self.updates("lora", model_spec, trainables)? {
            let norms = RowNorms::new(&site, weights, update)?;
            scalings.insert(site.name, Rc::new(norms));
        }
        Ok(scalings)
    }
}

impl Scaling for RowNorms {
    fn vector(&self) -> Tensor {
        self.after() / self.before()
    }
}
