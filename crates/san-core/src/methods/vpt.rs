//! Visual prompt tuning: learned tokens added to the image tokens (arXiv 2203.12119).
//!
//! Shallow: prompts are inserted before the first block and stay. Deep: every block has its own, replacing the
//! previous ones. As published they are initialised uniformly in +-sqrt(6 / (patch pixels + width)), so at the
//! first step the model differs from the frozen one. Names: `<block>.prompts`.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::methods::{Method, MethodInfo, check_size, parse};
use crate::nn::branch::Prompts;
use crate::spec::effects::Effects;
use crate::spec::init::Init;
use crate::spec::model::{Role, SequenceSpec};
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "vpt",
    label: "VPT",
    summary: "learned prompt tokens",
    inference_cost: "a longer sequence",
    source: "Jia et al., arXiv 2203.12119",
    published_as: &["VPT-Deep", "VPT-Shallow"],
    parse: parse::<Vpt>,
    from_peft: None,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Vpt {
    prompts: i64,
    deep: bool,
}

impl Default for Vpt {
    /// Ten prompts in every block.
    fn default() -> Self {
        Self { prompts: 10, deep: true }
    }
}

impl Vpt {
    fn blocks<'a>(&self, model_spec: &'a ModelSpec) -> &'a [SequenceSpec] {
        if self.deep { &model_spec.sequences } else { model_spec.sequences.get(..1).unwrap_or_default() }
    }
}

impl Method for Vpt {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn published_as(&self) -> &'static [&'static str] {
        if self.deep { &["VPT-Deep"] } else { &["VPT-Shallow"] }
    }

    fn title(&self) -> String {
        let name = if self.deep { "VPT-deep" } else { "VPT-shallow" };
        if self.prompts == Self::default().prompts { name.into() } else { format!("{name} {}", self.prompts) }
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        check_size("vpt", "prompts", self.prompts)?;
        let patch = model_spec.sites.iter().find(|site| site.role == Role::PatchEmbed);
        let (Some(patch), false) = (patch, model_spec.sequences.is_empty()) else {
            return Err(Error::Incompatible {
                method: "vpt".into(),
                backbone: model_spec.backbone.clone(),
                reason: "prompts require global attention over one token sequence".into(),
            });
        };
        #[allow(clippy::cast_precision_loss)]
        let spec = |block: &SequenceSpec| TrainableSpec {
            name: prompts(block),
            shape: vec![self.prompts, block.width],
            init: Init::Uniform { bound: (6.0 / (patch.inputs + block.width) as f64).sqrt() },
            group: Group::Method,
        };
        Ok(self.blocks(model_spec).iter().map(spec).collect())
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let prompts = self.blocks(model_spec).iter().map(|block| (block.name.clone(), self.prompts));
        Ok(Effects { prompts: prompts.collect(), ..Effects::default() })
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for block in self.blocks(model_spec) {
            let tokens = trainables.get(&prompts(block))?;
            adapters.prompts.insert(block.name.clone(), Rc::new(Prompts(tokens)));
        }
        Ok(adapters)
    }

    fn unmergeable(&self) -> Option<&'static str> {
        Some("prompts are tokens, not weights")
    }
}

fn prompts(block: &SequenceSpec) -> String {
    format!("{}.prompts", block.name)
}
